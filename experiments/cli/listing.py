"""`clutr list`, `clutr models` and `clutr bench`: what there is, how good it is, and how fast."""

import ast
import importlib
import shutil
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

from clutr.envs.registry import no_such
from clutr.experiments.cli.arguments import Arguments, UsageError, catalogue, choose, command, first_line, run
from clutr.experiments.cli.names import presets, registered

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


def _about_bench(name: str) -> str:
    """The first line of a bench's documentation; it is not imported."""
    source = Path(__file__).parents[1] / "benchmarks" / f"{name.replace('-', '_')}.py"
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _suites() -> Iterable[tuple[str, str]]:
    import clutr

    return (
        (name, f"{domain}: {suite.about}") for domain in clutr.DOMAINS for name, suite in clutr.suites(domain).items()
    )


def _probes() -> Iterable[tuple[str, str]]:
    from clutr.experiments.cli.runs import probe
    from clutr.experiments.world_model.probing import PROBES

    yield from ((name, first_line(known)) for name, known in PROBES.items())
    yield "students", first_line(probe)


def _models() -> Iterable[tuple[str, str]]:
    from clutr.experiments.pretrained import cards, in_words

    return ((name, f"{found.about}; {in_words(found.measured)}") for name, found in cards().items())


SHELVES: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {
    "domains": lambda: registered("domains").items(),
    "presets": lambda: presets().items(),
    "curricula": lambda: registered("curricula").items(),
    "manifolds": lambda: registered("manifolds").items(),
    "students": lambda: registered("students").items(),
    "suites": _suites,
    "world-presets": lambda: presets("world-presets").items(),
    "backbones": lambda: registered("backbones").items(),
    "cores": lambda: registered("cores").items(),
    "probes": _probes,
    "models": _models,
    "backends": lambda: registered("backends").items(),
    "benches": lambda: ((name, _about_bench(name)) for name in BENCHES),
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
    name = choose("name", BENCHES, _about_bench, "bench", args)

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
