"""The results of a study as CSV files, a page of tables, and pictures.

    python -m clutr.experiments.studies.curricula_tables STUDY.yaml [OUT]

With OUT, where `clutr.experiments.studies.curricula` trained, the runs' results are first collected into CSV files
beside the study's file: runs that are in OUT replace their rows, those of other machines stay. So whoever changes what
a method is removes its rows. Tables and pictures are made from those files alone.
"""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clutr.experiments.evaluation.compare import Comparison, compare
from clutr.experiments.evaluation.statistics import Interval, Sample, estimate, mean
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.studies.curricula import Study, result_path, run_path
from clutr.experiments.studies.curricula_pictures import draw_curriculum, draw_risk, draw_scores

POINTS = 40
"""Points in time at which a run's curriculum is told."""
WATCHED = (
    *("levels/wall_count", "levels/path_length", "levels/solvable", "levels/length", "levels/points"),
    *("trained", "protagonist/solved"),
)
"""What is told of a run over time, where its domain has it."""
Rows = list[dict[str, str]]


def collect(study: Study, out: Path) -> None:
    """Write what is done in `out` into the CSV files; rows of runs that are not there stay.

    Raises `RunError` if nothing is done.
    """
    runs, risks = [], []
    longest: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for method in study.methods:
        for seed in study.seeds_of(method):
            for budget in study.budgets:
                path = result_path(out, method, seed, budget)
                if not path.exists():
                    continue
                result = json.loads(path.read_text())
                known = {"method": method, "seed": seed, "budget": budget}
                spent = {"steps": result["steps"], "seconds": round(result["seconds"], 1)}
                for suite in (result, *result.get("also", ())):
                    for row in suite["levels"]:
                        kept = {name: row[name] for name in ("level", "episodes", "solved", "return_mean")}
                        kept["returns"] = " ".join(f"{each:.2f}" for each in row.get("returns", ()))
                        runs.append(
                            known | spent | {"suite": suite["suite"], "metric": suite["summary"]["metric"]} | kept
                        )
                for alpha, solved in result.get("cvar", {}).get("worst", {}).items():
                    risks.append(known | {"alpha": alpha, "levels": result["cvar"]["levels"], "solved": solved})
                if budget != "seconds" or not study.steps:
                    steps = result["steps"] if budget == "seconds" else study.steps_of(budget)
                    longest[method, seed] = [
                        known | row for row in _curriculum(RunDirectory(run_path(out, method, seed)), steps)
                    ]
    times = [row for rows in longest.values() for row in rows]
    if not runs:
        raise RunError(f"{out} holds no finished run of {study.path}")
    _renew(study, "runs", runs, ("method", "seed", "budget"))
    _renew(study, "cvar", risks, ("method", "seed", "budget"))
    _renew(study, "curriculum", times, ("method", "seed"))  # a run's once, up to where it was tested last


def _renew(study: Study, name: str, rows: list[dict[str, Any]], of: tuple[str, ...]) -> None:
    """Put rows into a CSV file of the study, in its order, in place of those that agree in the columns `of`."""
    path, methods, budgets = study.path.parent / f"{name}.csv", list(study.methods), list(study.budgets)
    renewed = {tuple(str(row[column]) for column in of) for row in rows}
    known = [row for row in read(path) if row["method"] in methods and row["budget"] in budgets]
    whole: list[dict[str, Any]] = [row for row in known if tuple(row[column] for column in of) not in renewed] + rows
    whole.sort(key=lambda row: (methods.index(row["method"]), int(row["seed"]), budgets.index(row["budget"])))
    if whole:
        _write(path, whole)


def _curriculum(run: RunDirectory, steps: int) -> list[dict[str, Any]]:
    """What was proposed and how it went, averaged over `POINTS` stretches of a run up to `steps`."""
    metrics = run.metrics()
    stretch = np.clip(np.ceil(metrics["steps"] / steps * POINTS), 1, None)
    rows = []
    for point in range(1, POINTS + 1):
        inside = stretch == point
        if inside.any():
            means = {name: round(float(np.nanmean(metrics[name][inside])), 4) for name in WATCHED if name in metrics}
            rows.append({"point": int(steps * point / POINTS)} | means)
    return rows


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [",".join(columns)] + [",".join(str(row.get(column, "nan")) for column in columns) for row in rows]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def read(path: Path) -> Rows:
    """The rows of a CSV file; none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def comparison(rows: Rows, study: Study, budget: str, suite: str | None = None) -> Comparison | None:
    """All methods at one budget on a suite, by default the study's, beside the first; None if there are no runs."""
    suite = suite or study.suite
    rows = [row for row in rows if row.get("suite", study.suite) == suite]
    evaluations: dict[str, list[dict[str, Any]]] = {}
    for method in study.methods:
        for seed in sorted({int(row["seed"]) for row in rows}):
            mine = [row for row in rows if (row["method"], row["seed"], row["budget"]) == (method, str(seed), budget)]
            if mine:
                levels = [
                    {
                        "level": row["level"],
                        "episodes": int(row["episodes"]),
                        "solved": float(row["solved"]),
                        "return_mean": float(row["return_mean"]),
                        "returns": [float(each) for each in row.get("returns", "").split()],
                    }
                    for row in mine
                ]
                summary = {"steps": int(mine[0]["steps"]), "seed": seed, "metric": mine[0].get("metric", "solved")}
                run = {"run": f"{method}-s{seed}", "suite": suite, "levels": levels, "summary": summary}
                evaluations.setdefault(method, []).append(run)
    return compare(evaluations, torch.Generator().manual_seed(1)) if evaluations else None


def page(study: Study, rows: Rows, risks: Rows) -> str:
    """Everything as Markdown."""
    parts = [f"# {study.about}\n"]
    parts.append(
        f"Made by `python -m clutr.experiments.studies.curricula_tables {study.path.name}` from the CSV files "
        + "beside it; `study.yaml` is the whole configuration. Solve rates in per cent, or returns where roads are "
        + "driven, with 95 % bootstrap intervals over seeds and their episodes; of one seed over its episodes alone, "
        + "which says nothing about other seeds.\n"
    )
    for budget in by_size(study):
        words = (
            f"{study.seconds:g} s of training on one core (processor time)"
            if budget == "seconds"
            else f"{study.steps_of(budget):,} environment steps of one student"
        )
        for suite in (study.suite, *study.also):  # milestones are tested on the first alone
            found = comparison(rows, study, budget, suite)
            if found is None:
                continue
            where = f", {suite}" if study.also else ""
            parts.append(f"## At equal {budget.partition('-')[0]}: {words}{where}\n")
            parts += [_summary(found, rows, risks, budget), _levels(found)]
    parts.append("![scores](scores.svg)\n")
    if risks:
        parts.append("![worst levels](cvar.svg)\n")
    parts.append("![curricula](curriculum.svg)\n")
    return "\n".join(parts)


def by_size(study: Study) -> tuple[str, ...]:
    """The study's budgets, the largest number of steps first, seconds last."""
    steps = [budget for budget in study.budgets if budget != "seconds"]
    return (*reversed(steps), *(budget for budget in study.budgets if budget == "seconds"))


def _say(interval: Interval | None, scale: float = 100.0) -> str:
    if interval is None:
        return "-"
    return f"{scale * interval.value:.1f} [{scale * interval.low:.1f}, {scale * interval.high:.1f}]"


def _scale(found: Comparison) -> float:
    return 100.0 if found.metric == "solved" else 1.0


def _summary(found: Comparison, rows: Rows, risks: Rows, budget: str) -> str:
    alphas = sorted({row["alpha"] for row in risks if row["budget"] == budget}, key=float, reverse=True)
    heads = ["method", "seeds", "mean", "IQM", f"P(better than {found.baseline})"]
    heads += [f"worst {100 * float(alpha):g} % of random" for alpha in alphas]
    heads += ["steps", "seconds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for method in sorted(found.methods, key=lambda method: -method.mean.value):
        mine = [row for row in rows if (row["method"], row["budget"]) == (method.method, budget)]
        spent = [f"{np.mean([float(row[name]) for row in mine]):,.0f}" for name in ("steps", "seconds")]
        tails = [_say(risk(risks, method.method, budget, alpha)) for alpha in alphas]
        values = [_say(each, _scale(found)) for each in (method.mean, method.iqm)]
        cells = [method.method, str(len(method.runs)), *values, _say(method.improvement)]
        lines.append("| " + " | ".join(cells + tails + spent) + " |")
    return "\n".join(lines) + "\n"


def risk(risks: Rows, method: str, budget: str, alpha: str) -> Interval | None:
    """Solve rate of one method on the worst share `alpha` of random levels, over its seeds; None without a test."""
    wanted = (method, budget, alpha)
    scores = [float(row["solved"]) for row in risks if (row["method"], row["budget"], row["alpha"]) == wanted]
    if not scores:
        return None
    return estimate(mean, Sample(np.array(scores)[:, None, None]), rng=torch.Generator().manual_seed(1))


def _levels(found: Comparison) -> str:
    levels = list(found.methods[0].levels)
    lines = ["| method | " + " | ".join(levels) + " |", "|" + "---|" * (len(levels) + 1)]
    for method in sorted(found.methods, key=lambda method: -method.mean.value):
        cells = [f"{_scale(found) * method.levels[level].value:.0f}" for level in levels]
        lines.append(f"| {method.method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_all(study: Study, out: Path | None) -> None:
    """Tables and pictures beside the study's file; with `out`, what is done there is collected before."""
    if out is not None:
        collect(study, out)
    folder = study.path.parent
    rows, risks, times = (read(folder / f"{name}.csv") for name in ("runs", "cvar", "curriculum"))
    write_atomically(folder / "results.md", page(study, rows, risks).encode())
    comparisons = {budget: found for budget in by_size(study) if (found := comparison(rows, study, budget))}
    write_atomically(folder / "scores.svg", draw_scores(comparisons))
    if risks:
        write_atomically(folder / "cvar.svg", draw_risk(risks, list(study.methods)))
    watched = [name for name in WATCHED if times and name in times[0]]
    if watched:
        write_atomically(folder / "curriculum.svg", draw_curriculum(times, list(study.methods), watched))


def main() -> None:
    """Collect, if there is something to collect, and draw."""
    if not 2 <= len(sys.argv) <= 3:
        raise RunError("usage: python -m clutr.experiments.studies.curricula_tables STUDY.yaml [OUT]")
    write_all(Study.read(Path(sys.argv[1])), Path(sys.argv[2]) if len(sys.argv) == 3 else None)


if __name__ == "__main__":
    try:
        main()
    except RunError as error:
        sys.exit(f"error: {error}")
