"""TensorBoard's event files, written without a thread: a full disk must not end in tracebacks of one."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

Write = Callable[[Mapping[str, float], int], None]


@contextmanager
def event_file(directory: Path, purge_step: int | None, say: Callable[[str], None]) -> Iterator[Write]:
    """A new event file, opened when there is something to write; yields what writes values by name at a step.

    What cannot be written is said once, and left out from then on: training does without.

    Args:
        directory: of the run.
        purge_step: TensorBoard forgets what older files hold from this step on; None for a run that begins.
        say: receives a line for the user.
    """
    name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
    records: RecordWriter | None = None
    failed = False
    waiting = [Event(file_version="brain.Event:2")]
    if purge_step is not None:
        waiting.append(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def write(event: Event) -> None:
        nonlocal records, failed
        if failed:
            return
        try:
            if records is None:
                records = RecordWriter((directory / name).open("wb", buffering=0))
            for each in [*waiting, event]:
                each.wall_time = time.time()
                records.write(each.SerializeToString())
            waiting.clear()
        except OSError as error:
            failed = True
            say(f"TensorBoard's events cannot be written from here on: {error.strerror or error}")

    def write_values(values: Mapping[str, float], step: int) -> None:
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        write(Event(step=step, summary=Summary(value=scalars)))

    try:
        yield write_values
    finally:
        if records is not None:
            with suppress(OSError):
                records.close()
