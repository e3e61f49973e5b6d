"""Arguments of the command line: tyro parses them into a function's parameters; one line says what does not fit.

A command is a function: its parameters are the options, its docstring is the help. `tyro.extras.SubcommandApp`, which
collects such functions, is not used: it parses for all of them at once, so its start would import everything that any
option needs; its options cannot depend on an argument such as `train`'s preset; and its errors are framed paragraphs.
"""

import dataclasses
import inspect
import io
import itertools
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from contextvars import ContextVar
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from clutr.envs.registry import no_such
from clutr.experiments.files import expanded

Arguments = Sequence[str]

UNNAMED = ("options", "many")
"""Parameters whose options are offered as the command's own."""


class UsageError(Exception):
    """Arguments that do not fit; the message is one line."""


def command(name: str, options: str = "") -> Callable[[Callable[..., None]], Callable[[Arguments], None]]:
    """A decorator: the function becomes the command `name`, to be called with its arguments.

    Args:
        name: in help and errors.
        options: where the dataclass of its parameter `options` is, as `module:name`; imported when it is called.
    """

    def decorate(function: Callable[..., None]) -> Callable[[Arguments], None]:
        @wraps(function)
        def called(args: Arguments) -> None:
            module, _, kind = options.partition(":")
            run(name, function, args, **({"options": getattr(import_module(module), kind)()} if options else {}))

        return called

    return decorate


_asked: ContextVar[list[tuple[Callable[..., None], dict[str, Any]]] | None] = ContextVar("asked", default=None)


@contextmanager
def asking() -> Iterator[list[tuple[Callable[..., None], dict[str, Any]]]]:
    """Inside, a command that is called does nothing but tell its function and the dataclasses of its options."""
    told: list[tuple[Callable[..., None], dict[str, Any]]] = []
    token = _asked.set(told)
    try:
        yield told
    finally:
        _asked.reset(token)


def is_asked() -> bool:
    """Whether commands do nothing but tell, see `asking`."""
    return _asked.get() is not None


def run(name: str, function: Callable[..., None], args: Arguments, **defaults: Any) -> None:
    """Parse `args` into the parameters of `function`, then call it.

    Args:
        name: of the command, in help and errors.
        function: its positional-only parameters are arguments, all others options.
        args: what was typed after `name`.
        defaults: dataclasses, by parameter: the command line offers exactly the options of their parts. Those of the
            parameters `options` and `many` are offered as if they were the command's own.

    Raises:
        UsageError: if they do not fit.
    """
    if (told := _asked.get()) is not None:
        told.append((function, defaults))
        return
    import tyro
    from rich.text import Text

    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            deferred = _deferred(function, defaults)
            call = tyro.cli(deferred, prog=f"clutr {name}", description=_description(function), args=list(args))
    except ValueError as error:
        raise UsageError(str(error)) from error
    except SystemExit as end:
        if not end.code:  # after help
            raise
        box = Text.from_ansi(complaint.getvalue()).plain
        raise UsageError(f"{_first_paragraph(box)}{_meant(box)} (`clutr {name} --help` tells more)") from None
    call()


def _description(function: Callable[..., None]) -> str:
    """The documentation of a command up to its arguments, in lines that fit the terminal.

    The parser would join them again, but for those that do not begin with a letter: so they are indented.
    """
    words = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")[0].strip()
    width = max(shutil.get_terminal_size().columns, 20)
    paragraphs = (" ".join(paragraph.split()) for paragraph in words.split("\n\n"))
    lines = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n\n".join(lines.fill(paragraph) for paragraph in paragraphs)


def _deferred(function: Callable[..., None], defaults: dict[str, Any]) -> Callable[..., Callable[[], None]]:
    """A function of the same parameters that only says what to call: parsing ends before the command begins."""
    import tyro

    signature = inspect.signature(function)
    parameters = dict(signature.parameters)
    for name, value in defaults.items():
        kind: Any = _narrowed(type(value), value)
        option = tyro.conf.arg(name="" if name in UNNAMED else None)
        default = kind(**{field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        parameters[name] = parameters[name].replace(annotation=Annotated[kind, option], default=default)

    def deferred(*args: Any, **kwargs: Any) -> Callable[[], None]:
        bound = signature.bind(*args, **kwargs)
        for name, value in defaults.items():
            given = bound.arguments[name]
            fields = {field.name: _expanded(getattr(given, field.name)) for field in dataclasses.fields(value)}
            bound.arguments[name] = type(value)(**fields)
        bound.arguments.update({name: _expanded(value) for name, value in bound.arguments.items()})
        return partial(function, *bound.args, **bound.kwargs)

    described: Any = deferred
    described.__signature__ = signature.replace(parameters=list(parameters.values()))
    described.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    described.__doc__, described.__name__ = function.__doc__, function.__name__
    return deferred


def _expanded(value: Any) -> Any:
    """A path, or each of several, with `~` expanded: a shell does that only where an argument begins. Others as is."""
    if isinstance(value, tuple):
        return tuple(map(_expanded, value))
    return expanded(value) if isinstance(value, Path) else value


def _narrowed(kind: type, value: Any) -> type:
    """A dataclass like `kind` with the types of the parts of `value`. A part that is absent offers no option."""
    import tyro

    nothing: Any = tyro.conf.Suppress
    parts = {name for name, hint in get_type_hints(kind).items() if _is_part(hint)}
    fields = [
        (name, nothing[None] if part is None else type(part), dataclasses.field(default=part))
        for name, part in ((field.name, getattr(value, field.name)) for field in dataclasses.fields(kind))
        if name in parts
    ]
    return dataclasses.make_dataclass(kind.__name__, fields, bases=(kind,), frozen=True) if fields else kind


def _is_part(hint: Any) -> bool:
    """Whether a field's type is a protocol, which the types of a part's values fulfil."""
    return any(getattr(each, "_is_protocol", False) for each in (hint, *get_args(hint)))


def _first_paragraph(box: str) -> str:
    """What the parser's framed error says between its title and the next rule, as one line."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    groups = itertools.groupby(lines, lambda line: line[:1] in ("╭", "╰") or set(line) <= set("─-"))
    paragraphs = [" ".join(group) for is_rule, group in groups if not is_rule]
    titled_in_frame = "╭" in box  # where the output has no such characters the title is a paragraph of its own
    return paragraphs[0 if titled_in_frame else 1].replace("options.", "").replace("many.", "")


def _meant(box: str) -> str:
    """The options that the parser's framed error proposes instead of unknown ones."""
    words = (
        line.strip("│ ").partition(" ")[0].rstrip(",") for line in box.partition("Perhaps you meant")[2].splitlines()
    )
    meant = list(dict.fromkeys(word for word in words if word.startswith("--") and word.strip("-")))
    return f"; did you mean {' or '.join(meant[:3])}?" if meant else ""


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


def choose(what: str, known: Iterable[str], about: Callable[[str], str], name: str, args: Arguments) -> str:
    """The first argument, which is one of `known`; help or one clear error otherwise."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: clutr {name} {what.upper()} [--option value ...]\n\n{what}s:")
        print(catalogue((entry, about(entry)) for entry in known))
        print(f"\n`clutr {name} {what.upper()} --help` lists the options.")
        raise SystemExit(0 if args else 2)
    if args[0] not in known:
        raise UsageError(no_such(what, args[0], known))
    return args[0]


BESIDE = 30
"""Columns that a line about something needs beside its name; in a narrower terminal it stands below."""


def catalogue(entries: Iterable[tuple[str, str]]) -> str:
    """Names with a line about each, as a list that is as wide as the terminal (80 columns where there is none).

    Lines end between words: what is longer than a line, such as a path, stays whole.
    """
    listed = list(entries)
    column = max((len(name) for name, _ in listed), default=0)
    width = shutil.get_terminal_size().columns
    beside = width >= column + 4 + BESIDE
    indent = " " * (column + 4 if beside else 4)
    fill = partial(textwrap.fill, width=max(width, 20), break_long_words=False, break_on_hyphens=False)
    if beside:
        lines = ((f"  {name:{column}}  ", about) for name, about in listed)
        return "\n".join(fill(f"{begin}{about}", subsequent_indent=indent) for begin, about in lines)
    below = partial(fill, initial_indent=indent, subsequent_indent=indent)
    pairs = ((f"  {name}" if name else "", below(about)) for name, about in listed)
    return "\n".join(line for pair in pairs for line in pair if line)


def first_line(value: Any) -> str:
    """The first line of the documentation of something that has a name."""
    return (getattr(value, "__doc__", None) or "").strip().partition("\n")[0]
