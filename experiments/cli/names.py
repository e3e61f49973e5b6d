"""Names that the command line takes, with a line about each, without importing what they name: that takes seconds.

Parts are found in the sources of their rooms, where a decorator registers them. Presets are values that code makes:
their names and words are kept in `presets.json`, which `python -m clutr.experiments.cli.names` renews. What has been
imported already is asked itself, and so knows what was registered from elsewhere.
"""

import ast
import importlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import clutr
from clutr.experiments.cli.arguments import first_line

WORDS = Path(__file__).with_name("presets.json")


class Room(NamedTuple):
    """A registry, and where its parts live."""

    module: str
    registry: str
    parts: str
    """Their files, below the package."""


ROOMS = {
    "domains": Room("clutr.envs.domain", "DOMAINS", "envs/*/domain.py"),
    "curricula": Room("clutr.curricula.base", "CURRICULA", "curricula/*.py"),
    "manifolds": Room("clutr.manifold.base", "MANIFOLDS", "manifold/*.py"),
    "students": Room("clutr.agents.student", "STUDENTS", "agents/**/*.py"),
    "backends": Room("clutr.agents.backend", "BACKENDS", "agents/**/*.py"),
    "backbones": Room("clutr.world_model.backbones.base", "BACKBONES", "world_model/backbones/*.py"),
    "cores": Room("clutr.world_model.cores.base", "CORES", "world_model/cores/*.py"),
}
"""By shelf of `clutr list`."""

PRESETS = {
    "presets": ("clutr.experiments.training.presets", "PRESETS"),
    "world-presets": ("clutr.experiments.world_model.config", "WORLD_PRESETS"),
}
"""Where presets are, by shelf."""


def registered(shelf: str) -> dict[str, str]:
    """The parts of a shelf of `ROOMS` by name, with the first line of each one's documentation."""
    room = ROOMS[shelf]
    if room.module in sys.modules:
        known = getattr(importlib.import_module(room.module), room.registry)
        return {name: first_line(known[name]) for name in known}
    return in_sources(room)


def in_sources(room: Room) -> dict[str, str]:
    """The same as the sources say."""
    found: dict[str, str] = {}
    for path in Path(clutr.__file__).parent.glob(room.parts):
        text = path.read_text(encoding="utf-8")
        if f"@{room.registry}.register(" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                said = (ast.get_docstring(node) or "").partition("\n")[0]
                found |= {name: said for each in node.decorator_list for name in _registers(each, room.registry)}
    return dict(sorted(found.items()))


def _registers(decorator: ast.expr, registry: str) -> list[str]:
    """The names under which a decorator registers."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"{registry}.register":
        return [str(each.value) for each in decorator.args if isinstance(each, ast.Constant)]
    return []


@cache
def kept() -> Mapping[str, Any]:
    """What is in `presets.json`: presets in words, manifolds' presets and suites by domain, options of training."""
    words: Mapping[str, Any] = json.loads(WORDS.read_text(encoding="utf-8"))
    return words


def presets(shelf: str = "presets") -> Mapping[str, str]:
    """The presets of a shelf by name, in words."""
    module, name = PRESETS[shelf]
    if module not in sys.modules:
        words: Mapping[str, str] = kept()[shelf]
        return words
    known = getattr(importlib.import_module(module), name)
    return {preset: in_words(shelf, known[preset], preset) for preset in known}


def manifold_presets(domain: str) -> list[str]:
    """The names of a domain's presets of manifolds, and of other manifolds; none if that is not known here."""
    if "clutr.experiments.training.lookup" in sys.modules:
        from clutr.experiments.training.lookup import manifolds_of

        return list(manifolds_of(domain))
    named = kept()["manifold-presets"].get(domain)
    return [] if named is None else [*named, *(name for name in registered("manifolds") if name not in named)]


def suites() -> Mapping[str, list[str]]:
    """The names of suites by domain; none if more may have been registered."""
    known: Mapping[str, list[str]] = {} if "clutr.envs.domain" in sys.modules else kept()["suites"]
    return known


def training_options() -> Mapping[str, str]:
    """The options of `clutr train`, all parts' together, and the kind of number each takes: `int`, `float` or nothing.

    None if more may have been registered.
    """
    known: Mapping[str, str] = {} if PRESETS["presets"][0] in sys.modules else kept()["training-options"]
    return known


_NOTES = {"-debug-": "tiny, ends in seconds", "-paper-": "with the published options", "demo-": "small, for the demo"}


def in_words(shelf: str, preset: Any, name: str) -> str:
    """A preset in a few words: what, by which method, for how long."""
    from clutr.envs.domain import DOMAINS

    domain = DOMAINS.name_of(type(preset.domain))
    notes = [note for end, note in _NOTES.items() if end in f"{name}-"]
    if shelf == "presets":
        method = first_line(type(preset.curriculum)).rstrip(".")
        notes += ["in parallel"] if getattr(preset.curriculum, "parallel", False) else []
        return "; ".join([f"{domain}: {method}", *notes, f"{preset.total_steps:,} steps"])
    from clutr.world_model.backbones.base import BACKBONES
    from clutr.world_model.cores.base import CORES

    return "; ".join(
        [
            f"{domain}: {preset.record.episodes:,} episodes",
            f"{BACKBONES.name_of(type(preset.backbone))} backbone",
            f"{CORES.name_of(type(preset.memory.core))} core",
            f"{preset.training.epochs} passes",
            *notes,
        ]
    )


def current() -> str:
    """What `presets.json` should say."""
    from clutr.envs.domain import DOMAINS
    from clutr.experiments.training.presets import MANIFOLD_PRESETS_BY_DOMAIN

    for module, _ in PRESETS.values():
        importlib.import_module(module)
    words: dict[str, Any] = {shelf: presets(shelf) for shelf in PRESETS}
    words["manifold-presets"] = {domain: list(presets) for domain, (_, presets) in MANIFOLD_PRESETS_BY_DOMAIN.items()}
    words["suites"] = {domain: list(DOMAINS[domain]().suites()) for domain in DOMAINS}
    words["training-options"] = _training_options()
    return json.dumps(words, indent=1) + "\n"


def _training_options() -> dict[str, str]:
    """See `training_options`: of the command, and of every part that can be chosen."""
    from clutr.experiments.cli.arguments import asking
    from clutr.experiments.cli.completion import GIVEN_FIRST, options_in, options_of
    from clutr.experiments.cli.runs import SHORT, train

    with asking() as told:
        train(["maze-clutr"])
        train(["maze-clutr", "--seeds", "1"])
    found = [option for function, defaults in told for option in options_of(function, defaults)]
    parts = {"domain": "domains", "curriculum": "curricula", "manifold": "manifolds"}
    for part, shelf in (parts | {"student": "students", "backend": "backends"}).items():
        known = getattr(importlib.import_module(ROOMS[shelf].module), ROOMS[shelf].registry)
        kinds = [known[name] for name in known if known[name].__module__.startswith("clutr.")]  # tests register others
        found += [option for kind in kinds for option in options_in(kind(), f"{part}.")]
    numbers: dict[str, set[str]] = {f"--{name}": {""} for name in (*GIVEN_FIRST, *SHORT, "seeds", "help", "quiet")}
    for option in found:
        numbers.setdefault(option.spelt, set()).add(option.kind)
    # where parts differ nothing is said of the kind
    return {name: numbers[name].pop() if len(numbers[name]) == 1 else "" for name in sorted(numbers)}


if __name__ == "__main__":
    WORDS.write_text(current(), encoding="utf-8")
