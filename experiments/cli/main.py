"""The command line: find the command, call it, and say in one line what the user can mend.

Rooms that are heavy to import, such as those with torch, are imported where a command needs them: help comes at once.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from io import TextIOWrapper

from clutr.envs.registry import no_such
from clutr.experiments.cli import completion, evaluate, film, levels, listing, many, runs, world
from clutr.experiments.cli.arguments import Arguments, UsageError, catalogue, first_line

COMMANDS: dict[str, Callable[[Arguments], None]] = {
    "demo": runs.demo,
    "list": listing.list_names,
    "pretrain": runs.pretrain,
    "train": runs.train,
    "sweep": many.sweep,
    "resume": runs.resume,
    "eval": evaluate.evaluate,
    "compare": evaluate.compare,
    "report": runs.report,
    "models": listing.models,
    "film": film.film,
    "levels": levels.levels,
    "export": runs.export,
    "bench": listing.bench,
    "world": world.world,
    "probe": runs.probe,
    "inspect": runs.inspect,
    "completion": completion.completion,
}


def main(args: Arguments | None = None) -> int:
    """Run one command; an error that the user can mend is one line, and exit status 2."""
    args = sys.argv[1:] if args is None else args
    # Threads that wait spin otherwise, and where another program has the core they wait for long. Torch reads it once.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if os.environ.get("NO_COLOR"):  # rich knows it, the parser of options does not
        os.environ.setdefault("PYTHON_TYRO_ANSI_CODES", "False")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no sign for a letter is no reason to stop
    if not args or args[0] in ("-h", "--help"):
        print("usage: clutr COMMAND ...\n\ncommands:")
        print(catalogue((name, first_line(command)) for name, command in COMMANDS.items()))
        print("\n`clutr COMMAND --help` tells more.")
        print("--quiet leaves errors and JSON.\n--version is the version.")
        return 0 if args else 2
    if args[0] == "--version":
        print(f"clutr {version('clutr')}")
        return 0
    try:
        if args[0] not in COMMANDS:
            raise UsageError(no_such("command", args[0], COMMANDS))
        with _quiet() if "--quiet" in args else nullcontext():
            COMMANDS[args[0]]([arg for arg in args[1:] if arg != "--quiet"])
    except KeyboardInterrupt:
        print("clutr: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for what Python flushes at its end)
        return 0
    except Exception as error:
        if not _can_be_mended(error):
            raise
        print(_one_line(error), file=sys.stderr)
        return 2
    return 0


def _one_line(error: Exception) -> str:
    """An error as a line; a terminal that is narrower gets several, which end between words."""
    said = "not enough memory, ask for fewer or smaller parts: " if _is_memory(error) else ""
    line = f"clutr: {said}{' '.join(str(error).split())}"
    if not sys.stderr.isatty():
        return line
    import shutil

    from clutr.experiments.display import wrapped

    return wrapped(line, shutil.get_terminal_size().columns)


@contextmanager
def _quiet() -> Iterator[None]:
    """Print nothing but errors and JSON."""
    from clutr.experiments.display import console

    console.quiet = True
    try:
        yield
    finally:
        console.quiet = False


def _is_memory(error: Exception) -> bool:
    """Whether memory was too small for what was asked: Python's error and NumPy's, or one of torch's."""
    torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and torchs)


def _can_be_mended(error: Exception) -> bool:
    if isinstance(error, UsageError) or _is_memory(error):
        return True
    if isinstance(error, ImportError) and "pip install" in str(error):  # an extra that is not installed
        return True
    from clutr.experiments.files import RunError

    domain = sys.modules.get("clutr.envs.domain")  # without it nobody has read a level
    return isinstance(error, RunError) or (domain is not None and isinstance(error, domain.LevelError))
