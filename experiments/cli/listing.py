"""`clutr list`, `clutr models` and `clutr bench`: what there is, how good it is, and how fast."""

import importlib
import shutil
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict
from json import dumps
from typing import Any

from clutr.envs.registry import no_such
from clutr.experiments.cli.arguments import Arguments, UsageError, catalogue, choose, command, first_line, run

BENCHES = (
    "maze-engine",
    "maze-train",
    "car-engine",
    "car-train",
    "buffers",
    "maze-scale",
    "scale",
    "side-by-side",
    "gpu",
    "world",
    "learning",
)


def _bench(name: str) -> Any:
    return importlib.import_module(f"clutr.experiments.benchmarks.{name.replace('-', '_')}")


def _registered(registry: str, module: str) -> Callable[[], Iterable[tuple[str, str]]]:
    """Names in a registry, each with a line about it."""

    def entries() -> Iterable[tuple[str, str]]:
        known = getattr(importlib.import_module(module), registry)
        return ((name, first_line(known[name])) for name in known)

    return entries


_NOTES = {"-debug-": "tiny, ends in seconds", "-paper-": "with the published options", "demo-": "small, for the demo"}


def preset_in_words(name: str) -> str:
    """A preset in a few words: what, by which method, for how long."""
    import clutr

    preset = clutr.PRESETS[name]
    method = first_line(type(preset.curriculum)).rstrip(".")
    notes = [note for end, note in _NOTES.items() if end in f"{name}-"]
    notes += ["in parallel"] if getattr(preset.curriculum, "parallel", False) else []
    domain = clutr.DOMAINS.name_of(type(preset.domain))
    return "; ".join([f"{domain}: {method}", *notes, f"{preset.total_steps:,} steps"])


def _presets() -> Iterable[tuple[str, str]]:
    import clutr

    return ((name, preset_in_words(name)) for name in clutr.PRESETS)


def _world_presets() -> Iterable[tuple[str, str]]:
    from clutr.envs.domain import DOMAINS
    from clutr.experiments.world_model.config import WORLD_PRESETS
    from clutr.world_model.backbones.base import BACKBONES
    from clutr.world_model.cores.base import CORES

    for name, preset in WORLD_PRESETS.items():
        parts = [
            f"{DOMAINS.name_of(type(preset.domain))}: {preset.record.episodes:,} episodes",
            f"{BACKBONES.name_of(type(preset.backbone))} backbone",
            f"{CORES.name_of(type(preset.memory.core))} core",
            f"{preset.training.epochs} passes",
            *(note for end, note in _NOTES.items() if end in f"{name}-"),
        ]
        yield name, "; ".join(parts)


def _suites() -> Iterable[tuple[str, str]]:
    import clutr

    return (
        (name, f"{domain}: {suite.about}") for domain in clutr.DOMAINS for name, suite in clutr.suites(domain).items()
    )


def _probes() -> Iterable[tuple[str, str]]:
    from clutr.experiments.cli.runs import probe

    yield from _registered("PROBES", "clutr.experiments.world_model.probing")()
    yield "students", first_line(probe)


def _models() -> Iterable[tuple[str, str]]:
    from clutr.experiments.pretrained import cards, in_words

    return ((name, f"{found.about}; {in_words(found.measured)}") for name, found in cards().items())


SHELVES: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {
    "domains": _registered("DOMAINS", "clutr.envs.domain"),
    "presets": _presets,
    "curricula": _registered("CURRICULA", "clutr.curricula.base"),
    "manifolds": _registered("MANIFOLDS", "clutr.manifold.base"),
    "students": _registered("STUDENTS", "clutr.agents.student"),
    "suites": _suites,
    "world-presets": _world_presets,
    "backbones": _registered("BACKBONES", "clutr.world_model.backbones.base"),
    "cores": _registered("CORES", "clutr.world_model.cores.base"),
    "probes": _probes,
    "models": _models,
    "backends": _registered("BACKENDS", "clutr.agents.backend"),
    "benches": lambda: ((name, first_line(_bench(name))) for name in BENCHES),
}


def list_names(args: Arguments) -> None:
    """What there is: domains, presets, curricula, manifolds, students, suites, backends, models, probes, benches."""
    as_json, args = "--json" in args, [arg for arg in args if arg != "--json"]
    if args and args[0] in ("-h", "--help"):
        print("usage: clutr list [SHELF] [--json]\n")
        shelves = f"shelves: {', '.join(SHELVES)}"
        print(textwrap.fill(shelves, shutil.get_terminal_size().columns, break_on_hyphens=False))
        return
    if args and args[0] not in SHELVES:
        raise UsageError(no_such("shelf", args[0], SHELVES))
    if as_json:
        print(dumps({shelf: dict(SHELVES[shelf]()) for shelf in args[:1] or SHELVES}))
        return
    from clutr.experiments.display import console

    for shelf in args[:1] or SHELVES:
        console.print(shelf, style="bold")
        console.print(catalogue(SHELVES[shelf]()), markup=False, soft_wrap=True)


@command("models")
def models(name: str | None = None, /, *, json: bool = False) -> None:
    """The pretrained task manifolds, students and world models that ship: what, how trained, how good.

    Args:
        name: Of one model: its whole card.
        json: Print one JSON object for machines: the cards by name.
    """
    from clutr.experiments.pretrained import card, cards

    found = cards() if name is None else {name: card(name)}
    if json:
        print(dumps({each: asdict(about) for each, about in found.items()}))
        return
    from clutr.experiments.cli.cards import cards_table, whole_card
    from clutr.experiments.display import console

    title = name or ("models that ship" if found else "no model is installed")
    console.print(title, style="bold")
    console.print(cards_table(found) if name is None else whole_card(found[name]), markup=False, soft_wrap=True)


def bench(args: Arguments) -> None:
    """The project's own measurements, each beside a peer in the same run."""
    name = choose("name", BENCHES, lambda known: first_line(_bench(known)), "bench", args)

    def measure(*, json: bool = False, minutes: float | None = None, only: tuple[str, ...] = ()) -> None:
        """The project's own measurements, each beside a peer in the same run.

        Args:
            json: Print one JSON object for machines.
            minutes: Of `learning`: how long each student trains; by default 10.
            only: Of `learning`: names of what is trained; by default everything.
        """
        from rich.table import Table

        from clutr.experiments.benchmarks.measurement import to_json
        from clutr.experiments.display import console, say

        options = {what: value for what, value in (("minutes", minutes), ("only", only)) if value}
        if options and name != "learning":
            raise UsageError(f"--{next(iter(options))} is an option of `clutr bench learning`, not of {name}")
        figures = _bench(name).run((lambda _: None) if json else say, **options)
        if json:
            print(dumps(to_json(name, figures)))
            return
        table = Table("what", "value", "unit", "peer", "peer's value", "ratio")
        for figure in figures:
            numbers = [figure.value, figure.peer_value, figure.ratio]
            value, peer_value, ratio = ("" if number is None else f"{number:,.4g}" for number in numbers)
            table.add_row(figure.what, value, figure.unit, figure.peer or "", peer_value, ratio)
        console.print(table)

    run(f"bench {name}", measure, args[1:])
