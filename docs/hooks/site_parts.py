"""The parts that have a page each on the documentation site, and what of a page is made from the code.

A page is words by hand in `docs/FOLDER/NAME.md`; launch lines, options and results are appended to it here, so that
they cannot differ from what is registered.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import site_results as results

from clutr.agents.student import STUDENTS
from clutr.curricula.base import CURRICULA
from clutr.envs.registry import Registry
from clutr.experiments.training.lookup import manifold_presets
from clutr.experiments.training.presets import PRESETS
from clutr.manifold.base import MANIFOLDS
from clutr.world_model.backbones.base import BACKBONES
from clutr.world_model.cores.base import CORES

DOCS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Kind:
    """A kind of part: where its pages are, what is registered, and what is said of each."""

    folder: str
    registry: Registry[Any]
    launch: Callable[[str], Iterable[str]]
    """Shell lines that start it, by its name."""
    results: Callable[[str], str]
    """A section on committed results as Markdown, empty if there are none, by its name."""


def _presets_of(name: str) -> list[str]:
    """The presets that use a curriculum, without those that are only for tests and the demo."""
    kind = CURRICULA[name]
    used = [preset for preset, experiment in PRESETS.items() if type(experiment.curriculum) is kind]
    return [preset for preset in used if not preset.endswith("-debug") and not preset.startswith("demo-")]


def _launch_curriculum(name: str) -> list[str]:
    return [f"clutr train {preset}" for preset in _presets_of(name)]


def _launch_manifold(name: str) -> list[str]:
    lines = []
    for domain in ("maze", "car"):
        presets = [preset for preset, config in manifold_presets(domain).items() if type(config) is MANIFOLDS[name]]
        named = [preset for preset in presets if preset != "debug"] or [name]
        lines += [f"clutr pretrain {domain} --preset {preset}" for preset in named]
    return [*lines, f"clutr train maze-clutr --manifold {name}"]


def _launch_student(name: str) -> list[str]:
    only = {"ppo": "maze", "sb3-dqn": "maze", "pixel-ppo": "car", "recurrent-pixel-ppo": "car", "sb3-sac": "car"}
    domains = [only[name]] if name in only else ["maze", "car"]
    return [f"clutr train {domain}-dr --student {name}" for domain in domains]


CORE_OF = {"cells": "geometric", "spatial-vae": "conv-gru"}
"""Backbones whose latents lie in a grid, each with the core that is made for it."""


def _launch_backbone(name: str) -> list[str]:
    core = f" --core {CORE_OF[name]}" if name in CORE_OF else ""
    return [f"clutr world record --preset car --backbone {name}{core}", "clutr world train", "clutr world report"]


def _launch_core(name: str) -> list[str]:
    grid = {core: f" --backbone {backbone}" for backbone, core in CORE_OF.items()}.get(name, "")
    return [f"clutr world record --preset car --core {name}{grid}", "clutr world train", "clutr world report"]


KINDS = (
    Kind("curricula", CURRICULA, _launch_curriculum, results.curriculum),
    Kind("manifolds", MANIFOLDS, _launch_manifold, results.manifold),
    Kind("students", STUDENTS, _launch_student, lambda _: ""),
    Kind("backbones", BACKBONES, _launch_backbone, results.backbone),
    Kind("cores", CORES, _launch_core, results.core),
)
BY_FOLDER = {kind.folder: kind for kind in KINDS}


def registered(kind: Kind) -> list[str]:
    """Names that the library itself registers: an example or a test may have added others to the process."""
    return [name for name in kind.registry if kind.registry[name].__module__.startswith("clutr.")]


def missing_pages() -> list[str]:
    """Pages of registered parts that nobody has written, and pages of parts that are not registered."""
    expected = {f"{kind.folder}/{name}.md" for kind in KINDS for name in registered(kind)}
    found = {f"{kind.folder}/{path.name}" for kind in KINDS for path in (DOCS / kind.folder).glob("*.md")}
    return sorted(expected ^ (found - {f"{kind.folder}/index.md" for kind in KINDS}))


def field_docs(options: type) -> dict[str, str]:
    """The line of documentation under each field of a dataclass; a field without one has that of a base class."""
    found: dict[str, str] = {}
    for each in filter(is_dataclass, options.__mro__):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, below in zip(body.body, body.body[1:], strict=False):
            documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and documented:
                found.setdefault(statement.target.id, inspect.cleandoc(str(below.value.value)))  # type: ignore[attr-defined]
    return found


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return repr(field.default)
    return repr(field.default_factory()) if field.default_factory is not MISSING else ""


def options_table(options: type) -> str:
    """A Markdown table of a dataclass's options."""
    docs = field_docs(options)
    rows = [
        f"| `{field.name}` | `{_default(field)}` | {' '.join(docs.get(field.name, '').split())} |"
        for field in fields(options)
    ]
    return "\n".join(["| option | default | |", "|---|---|---|", *rows]) if rows else "It has no options."


def appendix(folder: str, name: str) -> str:
    """What is appended to the page of a part: how to launch it, its options and results, and where its code is."""
    kind = BY_FOLDER[folder]
    options = kind.registry[name]
    launch = "\n".join(kind.launch(name))
    sections = [f"## How to launch\n\n```\n{launch}\n```"] if launch else []
    if name.startswith("sb3-"):
        sections.append('It needs an extra: `pip install "clutr[sb3]"`.')
    sections.append(f"## Options\n\n{options_table(options)}")
    if found := kind.results(name):
        sections.append(f"## Results\n\n{found}")
    where = f"{options.__module__}.{options.__qualname__}"
    sections.append(f"## Code\n\n[`{options.__module__}`][{where}]: {options.__doc__.splitlines()[0]}")
    return "\n\n" + "\n\n".join(sections) + "\n"
