"""One self-contained HTML file that shows a run."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from clutr.envs.domain import Metric
from clutr.experiments.evaluation.compare import metric_of
from clutr.experiments.evaluation_files import KeptEvaluation
from clutr.experiments.files import as_output
from clutr.experiments.plots.charts import short_count
from clutr.experiments.plots.curves import Columns, headline_facts, method_curves, students_in, training_curves
from clutr.experiments.plots.html import duration, facts_table, is_number, number, say
from clutr.experiments.plots.latent_map import latent_map
from clutr.experiments.plots.manifold import manifold
from clutr.experiments.plots.page import Panel, render_page
from clutr.experiments.plots.solve_table import Evaluation, solve_table
from clutr.experiments.plots.trajectories import trajectories
from clutr.experiments.plots.videos import videos_panel
from clutr.experiments.reports.report_data import (
    curriculum_gallery,
    kind_of,
    latent_map_data,
    method_labels,
    recorded_episodes,
    recorded_videos,
    results_by_suite,
    suite_metrics,
)
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import write_atomically

_FOOTER = f"Made by clutr {version('clutr')} from the files of the runs alone: the same files give this page."


def build_report(run: RunDirectory, beside: Sequence[RunDirectory] = ()) -> Path:
    """Write `report.html` into a run's directory.

    What the run does not have (a manifold, evaluations, recorded levels) is left out with a word about it.

    Args:
        run: what the report is about.
        beside: other runs, to compare with.

    Returns:
        The path of the report.

    Raises:
        RunError: if the run cannot be read or the report cannot be written.
    """
    path = as_output(run.path / "report.html")
    write_atomically(path, report_html(run, beside).encode())
    return path


def report_html(run: RunDirectory, beside: Sequence[RunDirectory] = ()) -> str:
    """The report as text; see `build_report`."""
    columns = run.metrics()
    source = f"run {run.path.name}, seed {run.config.get('seed', 'unknown')}"
    records = run.proposals()
    runs = [run, *beside]
    metrics = suite_metrics(run)
    results = results_by_suite(runs)
    chosen = [found.own for found in results.values() if found.own is not None]
    tables = {suite: found.columns for suite, found in results.items()}
    remarks = {suite: found.remarks for suite, found in results.items()}
    panels = [
        solve_table(tables, "; ".join(_source(each) for each in runs), remarks),
        trajectories(recorded_episodes(run, chosen), source),
        training_curves(columns, source, metrics),
    ]
    if videos := recorded_videos(run, chosen):
        panels.insert(2, videos_panel(videos, source))
    if beside:
        curves = list(zip(method_labels(runs), (each.metrics() for each in runs), strict=True))
        panels.append(method_curves(curves, "; ".join(_source(each) for each in runs), metrics))
    panels.append(curriculum_gallery(run, records, columns, source))
    if run.config.get("manifold") is not None or any(record.latents is not None for record in records):
        panels += [latent_map(latent_map_data(run, records, columns), source), manifold(run.manifold_health(), source)]
    panels.append(_configuration(run))
    lead, facts = _lead(run, columns), _headlines(run, columns, chosen, metrics)
    return render_page(run.path.name, "Curriculum experiment", lead, panels, facts, _FOOTER)


def build_comparison(comparison: Mapping[str, Any], runs: Sequence[RunDirectory], path: Path) -> Path:
    """Write a page that compares methods: their table on one suite, and their learning curves.

    Args:
        comparison: what `clutr compare --json` prints.
        runs: the runs that it compares.
        path: where the page goes.

    Raises:
        RunError: if a run cannot be read or the page cannot be written.
    """
    sources = "; ".join(_source(run) for run in runs)
    methods = [(result["method"], _as_evaluation(result, comparison)) for result in comparison["methods"]]
    labelled = list(zip(method_labels(runs), (run.metrics() for run in runs), strict=True))
    curves = method_curves(labelled, sources, suite_metrics(runs[0]))
    panels = [solve_table({comparison["suite"]: methods}, sources), curves]
    lead = f"{len(methods)} methods, {len(runs)} runs, on the suite {comparison['suite']}."
    page = render_page("Methods side by side", "Comparison", lead, panels, footer=_FOOTER)
    write_atomically(path, page.encode())
    return path


def _as_evaluation(result: Mapping[str, Any], comparison: Mapping[str, Any]) -> Evaluation:
    """A method's results over its runs in the form of one evaluation, with intervals of its own."""
    metric = comparison.get("metric", "solved")
    key = "solved" if metric == "solved" else "return_mean"
    levels = [
        {"level": level, "episodes": comparison["episodes"], key: found["value"], "interval": found["interval"]}
        for level, found in result["levels"].items()
    ]
    summary: dict[str, Any] = {"uncertainty": comparison["uncertainty"], "metric": metric}
    for name, found in result.items():
        if isinstance(found, Mapping) and "interval" in found:
            summary |= {name: found["value"], f"{name}_interval": found["interval"]}
        elif name == "mean_solved":
            summary[name] = found
    return {"run": result["method"], "suite": comparison["suite"], "levels": levels, "summary": summary}


def _source(run: RunDirectory) -> str:
    return f"{run.path.name}: seed {run.config.get('seed', 'unknown')}"


def _headlines(
    run: RunDirectory,
    columns: Columns,
    chosen: Sequence[KeptEvaluation],
    metrics: Mapping[str, Metric],
) -> list[tuple[str, str, str]]:
    """Headline numbers: (what, value, a remark or nothing)."""
    config, timing = run.config, run.timing()
    steps, seconds = _last(columns, "steps"), _last(timing, "seconds")
    planned, students = float(config.get("total_steps", "nan")), len(students_in(columns))
    remarks = [f"of {short_count(planned)} planned"] if steps < planned else []
    remarks += [f"of each of {students} students"] if students > 1 else []
    facts = [
        ("Environment steps", short_count(steps), ", ".join(remarks)),
        ("Updates", number(_last(columns, "update")), f"{number(config.get('num_envs'))} levels each"),
        ("Training time", duration(seconds), f"{number(round(steps / seconds))} steps/s" if seconds > 0 else ""),
        ("Seed", str(config.get("seed", "unknown")), ""),
    ]
    for kept in chosen:
        summary, metric = kept.result["summary"], metric_of(kept.result)
        key = f"mean_{metric}"
        if is_number(summary.get(key)):
            low, high = summary.get(f"{key}_interval") or (0.0, 0.0)
            remark = f"95 %: {say(metric, low)} to {say(metric, high)}" if low < high else "mean over levels"
            remark += f", at {short_count(kept.steps)} steps" * (kept.steps < steps)
            what = f"Zero-shot{' return' * (metric == 'return')}, {kept.suite}"
            facts.append((what, say(metric, summary[key]), remark))
    shown = {what for what, _, _ in facts}
    return facts + [fact for fact in headline_facts(columns, metrics) if fact[0] not in shown]


def _lead(run: RunDirectory, columns: Columns) -> str:
    """What the run is."""
    config = run.config
    domain, size = config.get("domain"), ""
    if isinstance(domain, Mapping) and {"height", "width"} <= domain.keys():
        size = f" of {domain['height']} x {domain['width']} cells, up to {domain.get('max_obstacles', '?')} obstacles"
    space = f" Tasks are points of a {kind_of(config, 'manifold')} manifold." if config.get("manifold") else ""
    return (
        f"Curriculum {kind_of(config, 'curriculum')} on {kind_of(config, 'domain')} levels{size}; "
        + f"students {kind_of(config, 'student')} ({', '.join(students_in(columns)) or 'no play yet'}).{space}"
    )


def _last(columns: Columns, name: str) -> float:
    values = np.asarray(columns.get(name, ()), dtype=np.float64)
    return float(values[-1]) if len(values) else float("nan")


def _configuration(run: RunDirectory) -> Panel:
    rows = facts_table(_flatten(run.config))
    caption = "Complete: this configuration alone reproduces the run. It is config.yaml in the run's directory."
    body = f"<details><summary>Show every option</summary>{rows}</details>"
    return Panel("configuration", "Configuration", body, caption)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "none" if value is None else str(value)
