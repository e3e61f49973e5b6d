"""Committed results as Markdown, for the pages of the parts that they are about."""

import csv
import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
STUDIES = ("mazes", "manifolds-in-clutr")
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 220, 48, 40
CURVES = {
    "protagonist/solved": ("solved by the student", "#0072b2"),
    "levels/solvable": ("that can be solved", "#d55e00"),
}
"""Columns that are drawn, each with its label and colour."""


@functools.cache
def _study(name: str) -> tuple[dict[str, Any], list[dict[str, str]], list[dict[str, str]]]:
    """A study's methods, its evaluated runs, and what its curricula proposed."""
    folder = RESULTS / name
    methods = yaml.safe_load((folder / "study.yaml").read_text())["methods"]

    def table(file: str) -> list[dict[str, str]]:
        return list(csv.DictReader((folder / file).read_text().splitlines()))

    return methods, table("runs.csv"), table("curriculum.csv")


def _method(kind: str) -> tuple[str, str] | None:
    """The study and the method of a curriculum, by its registered name; the first that there is."""
    for study in STUDIES:
        for method, options in _study(study)[0].items():
            if options["curriculum"]["kind"] == kind:
                return study, method
    return None


def _by_seed(rows: Sequence[dict[str, str]], method: str) -> list[float]:
    """Mean solve rates after equal steps, a number a seed."""
    seeds = defaultdict(list)
    for row in rows:
        if row["method"] == method and row["budget"] == "steps":
            seeds[row["seed"]].append(float(row["solved"]))
    return [mean(seeds[seed]) for seed in sorted(seeds)]


def curriculum(name: str) -> str:
    """Zero-shot results and what the curriculum proposed, from the committed studies."""
    if (found := _method(name)) is None:
        return "No result is committed yet."
    study, method = found
    _, runs, proposed = _study(study)
    beside = "" if name == "dr" else f" Domain randomisation: {_per_cent(_by_seed(runs, 'dr'))}."
    chart = _chart([row for row in proposed if row["method"] == method and row["budget"] == "steps"])
    file = f"`{method}` in `experiments/results/{study}/curriculum.csv`"
    return f"""Mean solve rates in per cent on the twelve mazes of the ACCEL set after two million steps on 9x9 mazes,
by seed: {_per_cent(_by_seed(runs, method))}.{beside} These runs are a hundredth of the published budgets, and were
made before changes that matter: read [Curricula compared](../curricula.md) before you conclude anything.

{chart}

*Levels that the curriculum proposed ({file}): the share that the student solved in training, and the share that can be
solved. Line: mean of the seeds; band: from the least to the greatest of them. Each curriculum proposes other levels, so
this is no comparison of methods.*"""


def _per_cent(rates: Sequence[float]) -> str:
    return ", ".join(f"{100 * rate:.0f}" for rate in rates)


def _across(share: float) -> float:
    return LEFT + (WIDTH - LEFT - 10) * share


def _up(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 10) * share


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{words}</text>'


def _chart(rows: Sequence[dict[str, str]]) -> str:
    """Both shares over environment steps as SVG."""
    points = sorted({int(row["point"]) for row in rows})
    drawn = []
    for place, (column, (label, colour)) in enumerate(CURVES.items()):
        seeds = {point: [float(row[column]) for row in rows if int(row["point"]) == point] for point in points}

        def path(reduce: Callable[[list[float]], float], order: int = 1, seeds: dict[int, list[float]] = seeds) -> str:
            at = [(_across(point / points[-1]), _up(reduce(seeds[point]))) for point in points[::order]]
            return " ".join(f"{x:.1f},{y:.1f}" for x, y in at)

        drawn.append(f'<polygon points="{path(min)} {path(max, -1)}" fill="{colour}" fill-opacity="0.2"/>')
        drawn.append(f'<polyline points="{path(mean)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn.append(_text(LEFT + 10 + 190 * place, HEIGHT - 4, label, f'fill="{colour}"'))
    for share in (0, 0.5, 1):
        ends = f'x1="{LEFT}" x2="{WIDTH - 10}" y1="{_up(share):.1f}" y2="{_up(share):.1f}"'
        drawn.append(f'<line {ends} stroke="currentColor" stroke-opacity="0.25"/>')
        drawn.append(_text(LEFT - 6, _up(share) + 4, f"{share:.0%}", 'text-anchor="end"'))
    drawn.append(_text(LEFT, HEIGHT - 22, "0", ""))
    drawn.append(_text(WIDTH - 10, HEIGHT - 22, f"{points[-1] / 1e6:g} M steps", 'text-anchor="end"'))
    label = "Shares of the proposed levels over environment steps"
    return f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _rows(table: Path, wanted: Callable[[str], bool]) -> str:
    """The rows of a Markdown table whose first cell is wanted, with its head; empty if there are none."""
    head, *rows = [line for line in table.read_text().splitlines() if line.startswith("|")]
    kept = [row for row in rows[1:] if wanted(row.split("|")[1].strip())]
    head = head if head.endswith("|") else f"{head} |"
    rule = "|" + "---|" * (head.count("|") - 1)
    return "\n".join([head, rule, *kept]) if kept else ""


def manifold(name: str) -> str:
    """Its health after pretraining."""
    names = {f"{domain}-{name}" for domain in ("maze", "car")}
    names |= {f"{each}-{variant}" for each in names for variant in ("shuffled", "softmax", "unsupervised")}
    found = _rows(RESULTS / "manifold" / "health.md", lambda row: row in names)
    source = "`experiments/results/manifold/health.md`"
    columns = "what the columns are: [Figures](../figures.md#task-manifolds)"
    about = f"After the presets' pretraining on one core, one seed ({source}); {columns}."
    return f"{about}\n\n{found}" if found else ""


PARTS = """On one recording of cars, half as many passes as the preset makes, one seed
(`experiments/results/world_model/parts.md`). What was measured:
[The world model](../world-model.md#which-backbone-which-core)."""


def backbone(name: str) -> str:
    """How it does under one core."""
    row = "ppca-residual" if name == "residual" else name
    wanted = {f"{row}-{latents}" for latents in (12, 16, 32, 64)}
    found = _rows(RESULTS / "world_model" / "parts.md", lambda each: each in wanted)
    return f"{PARTS}\n\n{found}" if found else ""


def core(name: str) -> str:
    """How it does over one backbone."""
    wanted = "vae-32" if name == "lstm" else f"vae-32-{name}"
    found = _rows(RESULTS / "world_model" / "parts.md", lambda each: each == wanted)
    return f"{PARTS}\n\n{found}" if found else ""
