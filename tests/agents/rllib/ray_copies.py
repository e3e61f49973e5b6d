"""Ray's worker processes as copies of the tests' process, which has imported what takes each of them seconds.

This file stands for Ray's own `setup_worker.py`: a node runs it to start a worker. It asks for a copy, and lasts as
long as that. Ray itself reads variables of its process when it is imported, so each copy imports it anew.
"""

import argparse
import ctypes
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path

ADDRESS = "CLUTR_RAY_COPIES"
"""Environment variable: the socket at which copies are asked for."""
NETWORK = Path("/proc/self/ns/net")
"""The network namespace of a process: the second machine has one of its own."""


def ask() -> None:
    """In the process that Ray has started: have a copy do what this one was to do."""
    wanted = json.dumps([sys.argv[1:], dict(os.environ), str(Path.cwd())]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[ADDRESS])
        with NETWORK.open() as network:
            socket.send_fds(server, [struct.pack("!I", len(wanted))], [0, 1, 2, network.fileno()])
        server.sendall(wanted)
        server.recv(1)  # nothing ever comes: the copy has ended


def serve(listener: socket.socket) -> None:
    """Copy this process as often as it is asked to, until it is killed or the tests' process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that is for the tests, which end this
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a copy that has ended
    tests = os.getppid()
    listener.settimeout(5.0)
    while os.getppid() == tests:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            _become(connection)
        connection.close()


def _become(connection: socket.socket) -> None:
    """Do what a process that Ray has started was to do, with its output and environment."""
    import runpy  # noqa: PLC0415  # those who ask need not wait for it

    os.setsid()  # Ray ends a worker's whole group
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    head, (*files, network), _, _ = socket.recv_fds(connection, 4, 4)
    if os.fstat(network).st_ino != NETWORK.stat().st_ino and ctypes.CDLL(None).setns(network, 0) != 0:
        os._exit(1)  # Ray starts another one
    os.close(network)
    (size,) = struct.unpack("!I", head)
    arguments, environment, folder = json.loads(connection.recv(size, socket.MSG_WAITALL))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    parser = argparse.ArgumentParser()  # what Ray's own file takes for itself
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    known, arguments = parser.parse_known_args(arguments)
    os.environ.update(json.loads(known.serialized_runtime_env_context).get("env_vars", {}))
    sys.argv = [each for each in arguments if each not in ("-s", "-S")]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        os._exit(1)  # a worker ends by itself


if __name__ == "__main__":
    ask()
