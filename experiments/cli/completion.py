"""`clutr completion`: a script that completes commands, presets and options in a shell. shtab writes it."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from inspect import Parameter, signature
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from clutr.experiments.cli.arguments import UNNAMED, Arguments, asking, choose, first_line

SHELLS = {"bash": "Bourne-again shell", "zsh": "Z shell", "tcsh": "TENEX C shell"}
GIVEN_FIRST = ("manifold", "student", "backend", "preset", "backbone", "core")
"""Options that are taken before the others are known, since they decide which there are."""


def completion(args: Arguments) -> None:
    """Print a script that completes commands, presets and options: `clutr completion bash > FILE`."""
    import shtab

    shell = choose("shell", SHELLS, lambda known: SHELLS[known], "completion", args)
    print(shtab.complete(command_line(), shell))


def command_line() -> argparse.ArgumentParser:
    """All commands with their first argument and their options, as shtab wants them."""
    from clutr.experiments.cli.main import COMMANDS

    parser = argparse.ArgumentParser("clutr")
    parser.add_argument("--version", action="store_true", help="the version")
    commands = parser.add_subparsers(dest="command")
    for name, command in COMMANDS.items():
        firsts = _firsts(name)
        entry = commands.add_parser(name, help=first_line(command), add_help=True)
        calls = [[first] for first in firsts] if name in _CHOSEN else [[]]
        calls += _MORE_CALLS.get(name, [])
        if firsts:
            entry.add_argument("what", choices=firsts)
        elif name not in ("demo", "completion"):
            entry.add_argument("path", nargs="*").complete = _files()  # type: ignore[attr-defined]
        _add_options(entry, name, command, calls)
    return parser


_CHOSEN = ("pretrain", "train", "bench", "world", "levels")
"""Commands whose first argument decides which options there are."""

_MORE_CALLS = {"eval": [["--sb3", ""]], "train": [["maze-dr", "--seeds", "1"]]}
"""Calls of commands that have other options if these are given."""


def _firsts(name: str) -> list[str]:
    """What the first argument of a command can be; nothing for commands that take runs."""
    import clutr
    from clutr.experiments.cli import levels, world
    from clutr.experiments.cli.listing import BENCHES, SHELVES
    from clutr.experiments.pretrained import cards

    known: dict[str, Iterable[str]] = {
        "list": SHELVES,
        "pretrain": clutr.DOMAINS,
        "train": clutr.PRESETS,
        "bench": BENCHES,
        "world": world.PARTS,
        "levels": levels.PARTS,
        "models": cards(),
        "completion": SHELLS,
    }
    return list(known.get(name, ()))


def _add_options(
    entry: argparse.ArgumentParser, name: str, command: Callable[[Arguments], None], calls: Sequence[list[str]]
) -> None:
    """Add the options of a command, those of all its calls together."""
    found: dict[str, tuple[str, ...] | None] = {"--quiet": None}
    if name in ("list", "completion"):  # they have a first argument only
        found |= {"--json": None} if name == "list" else {}
        calls = []
    for call in calls:
        with asking() as told:
            command(call)
        for function, defaults in told:
            found |= {option.spelt: option.choices for option in options_of(function, defaults)}
    found |= {f"--{option}": _named(option, name) for option in GIVEN_FIRST if _named(option, name)}
    found |= {"--from": ()} if name == "world" else {}  # whose options are the defaults of `world refit`
    for option, choices in found.items():
        if choices is None:
            entry.add_argument(option, action="store_true")
            continue
        argument: Any = entry.add_argument(option, choices=choices or None)
        if not choices:
            argument.complete = _files()


class Option(NamedTuple):
    """An option of a command."""

    spelt: str
    """As it is typed."""
    choices: tuple[str, ...] | None
    """The values that it may take: none if there are many, None if it takes no value."""
    kind: str
    """`int` or `float` where it takes a number, else nothing."""


def options_of(function: Callable[..., None], defaults: dict[str, Any]) -> Iterator[Option]:
    """The options of a command's function."""
    hints = _hints(function)
    for parameter in signature(function).parameters.values():
        if parameter.kind is Parameter.POSITIONAL_ONLY:
            continue
        if parameter.name in defaults:
            prefix = "" if parameter.name in UNNAMED else f"{parameter.name}."
            yield from options_in(defaults[parameter.name], prefix)
        else:
            yield from _spelt(parameter.name, hints.get(parameter.name), parameter.default)


def options_in(value: Any, prefix: str) -> Iterator[Option]:
    """The options that a dataclass offers, spelt from `prefix` on."""
    hints = _hints(type(value))
    for field in fields(value):
        inside = getattr(value, field.name)
        if is_dataclass(inside):
            yield from options_in(inside, f"{prefix}{field.name}.")
        elif not getattr(hints.get(field.name), "_is_protocol", False):
            yield from _spelt(prefix + field.name, hints.get(field.name), inside)


def _spelt(name: str, hint: Any, default: Any) -> Iterator[Option]:
    """An option as it is typed; switches have two."""
    path, _, last = name.replace("_", "-").rpartition(".")
    prefix = f"--{path}." if path else "--"
    if isinstance(default, bool):
        yield Option(prefix + last, None, "")
        yield Option(f"{prefix}no-{last}", None, "")
    else:
        kind = hint.__name__ if hint in (int, float) else ""
        yield Option(prefix + last, _suites() if last.endswith("suite") else _literals(hint), kind)


def _literals(hint: Any) -> tuple[str, ...]:
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()


def _hints(of: Any) -> dict[str, Any]:
    try:
        return get_type_hints(of)
    except NameError:  # a type that is imported for the type checker alone
        return {}


def _suites() -> tuple[str, ...]:
    import clutr

    return tuple(suite for domain in clutr.DOMAINS for suite in clutr.suites(domain))


def _named(option: str, command: str) -> tuple[str, ...]:
    """What an option of `GIVEN_FIRST` can be called, if the command has it."""
    import clutr
    from clutr.agents.backend import BACKENDS
    from clutr.experiments.training.lookup import manifold_presets
    from clutr.experiments.world_model.config import WORLD_PRESETS
    from clutr.world_model.backbones.base import BACKBONES
    from clutr.world_model.cores.base import CORES

    pretrained = sorted({preset for domain in clutr.DOMAINS for preset in manifold_presets(domain)})
    known: dict[tuple[str, str], Iterable[str]] = {
        ("train", "manifold"): clutr.MANIFOLDS,
        ("train", "student"): clutr.STUDENTS,
        ("train", "backend"): BACKENDS,
        ("pretrain", "preset"): pretrained,
        ("world", "preset"): WORLD_PRESETS,
        ("world", "backbone"): BACKBONES,
        ("world", "core"): CORES,
    }
    return tuple(known.get((command, option), ()))


def _files() -> Any:
    import shtab

    return shtab.FILE
