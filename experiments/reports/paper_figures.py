"""Figures and tables of a comparison for papers, as files that say how they were made."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from clutr.envs.domain import Metric
from clutr.experiments.evaluation.compare import Comparison, metric_name, sample_of
from clutr.experiments.evaluation.statistics import profile_band
from clutr.experiments.evaluation_files import EvaluationJson
from clutr.experiments.files import require_writable
from clutr.experiments.plots import paper
from clutr.experiments.plots.curves import Curve
from clutr.experiments.plots.paper import Band, Format
from clutr.experiments.reports.paper_tables import as_csv, as_latex, as_markdown, caption
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import write_atomically

Evaluations = Mapping[str, Sequence[EvaluationJson]]
THRESHOLDS = 201

_PROFILE = "The share of all runs x levels whose score is above a threshold, with pointwise intervals."
_CURVES = "Zero-shot results during training: mean over seeds, with its 95 % Student-t interval from three seeds on."
_RISK = "Solve rates on the hardest share of random levels: mean over seeds, with the seeds' range."


def write_paper_figures(
    comparison: Comparison, folder: Path, command: str, formats: Sequence[Format] = paper.FORMATS
) -> list[Path]:
    """Write every figure that the runs have data for, the tables, and `captions.md`, which describes them.

    Args:
        comparison: of the methods.
        folder: where the files go.
        command: what made them; it goes into each file.
        formats: of the figures.

    Raises:
        RunError: if a file cannot be written.
    """
    require_writable(folder, "Nothing was drawn.")
    drawn = _figures(comparison, comparison.evaluations)
    files: dict[str, bytes] = {}
    said = [f"Made by `{command}`."]
    for name, (title, draw) in drawn.items():
        for kind in formats:
            files[f"{name}.{kind}"] = paper.figure_bytes(draw, kind, title, command)
        said.append(f"## {name}\n\n{title}")
    files["table.csv"] = as_csv(comparison).encode()
    files["table.md"] = as_markdown(comparison, command).encode()
    files["table.tex"] = as_latex(comparison, command).encode()
    said.append(f"## table\n\n{caption(comparison)}")
    files["captions.md"] = ("\n\n".join(["# Figures", *said]) + "\n").encode()
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def _figures(comparison: Comparison, evaluations: Evaluations) -> dict[str, tuple[str, Callable[[], Figure]]]:
    """Title and drawing of each figure by name."""
    runs = {
        method: [RunDirectory(each["run"]) for each in found if Path(each["run"], "config.yaml").is_file()]
        for method, found in evaluations.items()
    }
    metric, told = comparison.metric, caption(comparison)
    solved, name = metric == "solved", metric_name(metric)
    panels = {
        "Median": {each.method: each.median for each in comparison.methods},
        "IQM": {each.method: each.iqm for each in comparison.methods},
        "Mean": {each.method: each.mean for each in comparison.methods},
    }
    gaps = {each.method: each.optimality_gap for each in comparison.methods if each.optimality_gap is not None}
    if len(gaps) == len(comparison.methods):
        panels["Optimality gap"] = gaps
    found: dict[str, tuple[str, Callable[[], Figure]]] = {
        "aggregates": (f"Aggregates of the {name}. {told}", lambda: paper.interval_rows(panels, solved)),
    }
    improvement = {each.method: each.improvement for each in comparison.methods if each.improvement is not None}
    if improvement:
        found["improvement"] = (
            f"Probability that a run of a method beats one of {comparison.baseline} on a random level. {told}",
            lambda: paper.improvement_rows(improvement, comparison.baseline),
        )
    profiles = _profiles(evaluations, metric)
    above = f"{name} threshold"
    found["profiles"] = (
        f"Performance profiles. {_PROFILE} {told}",
        lambda: paper.curves(profiles, above, "share of runs x levels above", percent=True),
    )
    quantity = f"evaluation/{{}}/mean_{metric}"
    for over, label in (("steps", "environment steps of one student"), ("seconds", "seconds of training")):
        for suite, bands in _learning(runs, quantity, over).items():
            y = f"{name} on {suite}"
            found[f"learning-{suite}-over-{over}"] = (
                f"{_CURVES} {_counts(runs)}.",
                lambda bands=bands, label=label, y=y: paper.curves(bands, label, y, percent=solved, steps=True),  # type: ignore[misc]
            )
    risks = _risks(evaluations)
    if risks:
        found["cvar"] = (f"{_RISK} {_counts(runs)}.", lambda: paper.risk_curves(risks))
    return found


def _counts(runs: Mapping[str, Sequence[RunDirectory]]) -> str:
    return ", ".join(f"{method}: n = {len(found)}" for method, found in runs.items())


def _profiles(evaluations: Evaluations, metric: Metric) -> dict[str, Band]:
    samples = {method: sample_of(found, metric) for method, found in evaluations.items()}
    scores = np.concatenate([sample.scores.ravel() for sample in samples.values()])
    low, high = (0.0, 1.0) if metric == "solved" else (float(scores.min()), float(scores.max()))
    thresholds = np.linspace(low, high, THRESHOLDS)
    rng = torch.Generator().manual_seed(0)
    return {method: Band(thresholds, *profile_band(sample, thresholds, rng)) for method, sample in samples.items()}


def _learning(runs: Mapping[str, Sequence[RunDirectory]], quantity: str, over: str) -> dict[str, dict[str, Band]]:
    """Bands by suite and method, of those suites that all methods were evaluated on during training."""
    pattern = re.compile(quantity.format("([^/]+)"))
    columns = {method: [_columns(run, over) for run in found] for method, found in runs.items()}
    suites = {
        match[1] for each in columns.values() for run in each for name in run if (match := pattern.fullmatch(name))
    }
    bands: dict[str, dict[str, Band]] = {}
    for suite in sorted(suites):
        curves = {
            method: [curve for run in each if len(curve := Curve.of(run, quantity.format(suite)))]
            for method, each in columns.items()
        }
        if all(curves.values()):
            bands[suite] = {method: paper.learning_band(found) for method, found in curves.items()}
    return bands


def _columns(run: RunDirectory, over: str) -> dict[str, Any]:
    """A run's metrics, with the seconds of training in place of steps if they are asked for."""
    columns = run.metrics()
    if over == "steps" or "update" not in columns:
        return columns
    timing = run.timing()
    if not len(timing.get("update", ())):
        return {}
    seconds = dict(zip(timing["update"], timing["seconds"], strict=True))
    return {**columns, "steps": np.array([seconds.get(update, np.nan) for update in columns["update"]])}


def _risks(evaluations: Evaluations) -> dict[str, Band]:
    """Of the methods whose runs all measured it on as many levels; none if there is no such method."""
    bands = {}
    for method, found in evaluations.items():
        measured = [each["summary"]["cvar"] for each in found if "cvar" in each["summary"]]
        if not measured or len(measured) < len(found) or len({each["levels"] for each in measured}) > 1:
            continue
        by_share = [{**{float(k): v for k, v in each["worst"].items()}, 1.0: each["mean"]} for each in measured]
        shares = sorted(by_share[0])
        rates = np.array([[each[share] for share in shares] for each in by_share])
        several = len(measured) > 1
        bands[method] = Band(
            np.array(shares),
            rates.mean(0),
            rates.min(0) if several else None,
            rates.max(0) if several else None,
        )
    return bands
