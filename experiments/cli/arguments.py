"""Arguments of the command line: parsed into dataclasses, and one clear error where they do not fit."""

import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from typing import Annotated, Any

import tyro
from rich.text import Text

from clutr.curricula.base import CURRICULA
from clutr.envs.domain import DOMAINS
from clutr.experiments.config import Experiment
from clutr.experiments.display import say
from clutr.experiments.storage import RunError

Arguments = Sequence[str]


def _annotated(kind: Any, marker: Any) -> Any:
    """`Annotated[kind, marker]` for a type that is only known at run time."""
    return Annotated[kind, marker]


def options_of(command: str, args: Arguments, about: str, **fields: tuple[Any, Any, str]) -> Any:
    """Parse `args` into an object with `fields`, each given as (type, default or `...` if required, help).

    A field without help is a dataclass whose options are offered as if they were the command's own.
    """
    columns: list[Any] = []
    for name, (kind, default, text) in fields.items():
        help_ = tyro.conf.arg(help=text) if text else tyro.conf.arg(name="")
        if default is ...:
            columns.append((name, _annotated(_annotated(kind, help_), tyro.conf.Positional)))
        else:
            columns.append((name, _annotated(kind, help_), dataclasses.field(default=default)))
    kind = dataclasses.make_dataclass("Options", columns, frozen=True)
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(kind, prog=f"clutr {command}", description=about, args=list(args))
    except ValueError as error:
        raise RunError(str(error)) from error
    except SystemExit as end:
        if not end.code:  # after help
            raise
        raise RunError(f"{_first_paragraph(complaint.getvalue())} (`clutr {command} --help` tells more)") from None


def _first_paragraph(box: str) -> str:
    """What the parser's framed error says between its title and the next rule, as one line."""
    lines = [line.strip("│ ") for line in Text.from_ansi(box).plain.splitlines()]
    groups = itertools.groupby(lines, lambda line: line[:1] in ("╭", "╰") or set(line) <= set("─-"))
    paragraphs = [" ".join(group) for is_rule, group in groups if not is_rule]
    titled_in_frame = "╭" in box  # where the output has no such characters the title is a paragraph of its own
    return paragraphs[0 if titled_in_frame else 1].replace("experiment.", "")


def concrete(value: Any) -> type:
    """The class of a frozen dataclass, narrowed to the types of its present values.

    So the command line offers the options of exactly these parts. The fields' documentation is inherited.
    """
    fields = [
        (field.name, type(getattr(value, field.name)), dataclasses.field(default=getattr(value, field.name)))
        for field in dataclasses.fields(value)
    ]
    return dataclasses.make_dataclass(type(value).__name__, fields, bases=(type(value),), frozen=True)


def take(option: str, args: Arguments) -> tuple[str | None, list[str]]:
    """What `--option VALUE` or `--option=VALUE` says, and the arguments without it.

    None if it is not among them, and nothing (`""`) if no value follows.
    """
    rest = [part for arg in args for part in (arg.split("=", 1) if arg.startswith(f"--{option}=") else [arg])]
    if f"--{option}" not in rest:
        return None, list(args)
    at = rest.index(f"--{option}")
    value = "".join(rest[at + 1 : at + 2])
    del rest[at : at + 2]
    return value, rest


def choose(what: str, known: Mapping[str, Any], command: str, args: Arguments) -> Any:
    """The entry of `known` that the first argument names; help or one clear error otherwise."""
    if not args or args[0] in ("-h", "--help"):
        say(f"usage: clutr {command} {what.upper()} [--option value ...]\n\n{what}s:")
        for name, value in known.items():
            say(f"  {name:24} {about_of(value)}")
        say(f"\n`clutr {command} {what.upper()} --help` lists the options.")
        raise SystemExit(0 if args else 2)
    if args[0] not in known:
        raise RunError(f"no {what} is called {args[0]!r}; there are: {', '.join(known)}")
    return known[args[0]]


def about_of(value: Any) -> str:
    """A line about something that has a name: an experiment in a few words, or the first line of its documentation."""
    if isinstance(value, Experiment):
        curriculum = CURRICULA.name_of(type(value.curriculum))
        return f"{curriculum} on {DOMAINS.name_of(type(value.domain))}, {value.total_steps:,} steps"
    return (getattr(value, "__doc__", None) or "").strip().partition("\n")[0]
