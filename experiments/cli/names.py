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


def numbers_of(source: str, name: str) -> list[str]:
    """The fields of a dataclass that are whole numbers, as its source says. `source`: its path below the package."""
    tree = ast.parse((Path(clutr.__file__).parent / source).read_text(encoding="utf-8"))
    (kind,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    fields = (node for node in kind.body if isinstance(node, ast.AnnAssign))
    return [ast.unparse(field.target) for field in fields if ast.unparse(field.annotation) == "int"]


@cache
def kept() -> Mapping[str, Any]:
    """What is in `presets.json`: presets in words by name, and the names of manifolds' presets by domain."""
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
    from clutr.experiments.training.presets import MANIFOLD_PRESETS_BY_DOMAIN

    for module, _ in PRESETS.values():
        importlib.import_module(module)
    manifolds = {domain: list(presets) for domain, (_, presets) in MANIFOLD_PRESETS_BY_DOMAIN.items()}
    return json.dumps({**{shelf: presets(shelf) for shelf in PRESETS}, "manifold-presets": manifolds}, indent=1) + "\n"


if __name__ == "__main__":
    WORDS.write_text(current(), encoding="utf-8")
