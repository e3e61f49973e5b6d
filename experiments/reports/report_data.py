"""What the panels show, read out of run directories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clutr.envs.capabilities import PathDrawing
from clutr.envs.domain import Metric
from clutr.experiments.config import method_of
from clutr.experiments.evaluation.compare import metric_of
from clutr.experiments.plots.charts import short_count
from clutr.experiments.plots.curves import Columns, students_in
from clutr.experiments.plots.gallery import Snapshot, gallery, order_by, spread
from clutr.experiments.plots.html import is_number, number, percent
from clutr.experiments.plots.latent_map import LatentMapData
from clutr.experiments.plots.page import Panel
from clutr.experiments.plots.solve_table import Evaluation
from clutr.experiments.plots.trajectories import Episode, Recorded
from clutr.experiments.plots.videos import Video
from clutr.experiments.run_directory import ProposalRecord, RunDirectory

UPDATES_SHOWN = 8
LEVELS_AN_UPDATE = 6
PREVIEWS = 144
PREVIEW_PIXELS = 120
EPISODES_A_LEVEL = 2


def method_labels(runs: Sequence[RunDirectory]) -> list[str]:
    """What to call the method of each run: runs that try the same (`method_of`) share a name.

    That is the curriculum's name; where runs of one curriculum differ in more, the run's name is added.
    """
    labels = []
    for run in runs:
        kind = kind_of(run.config, "curriculum")
        same_kind = [other for other in runs if kind_of(other.config, "curriculum") == kind]
        alike = all(method_of(other.config) == method_of(run.config) for other in same_kind)
        labels.append(kind if alike else f"{kind} ({run.path.name})")
    return labels


def kind_of(config: Mapping[str, Any], part: str) -> str:
    """The name that a part of an experiment is registered under; "none" if the experiment lacks the part."""
    value = config.get(part)
    return str(value.get("kind", "unknown")) if isinstance(value, Mapping) else "none"


def evaluations_by_suite(runs: Sequence[RunDirectory]) -> dict[str, list[tuple[str, Evaluation]]]:
    """By suite, the results of every run; an evaluation of anything else in a run's directory has its own name."""
    tables: dict[str, list[tuple[str, Evaluation]]] = {}
    for run, label in zip(runs, method_labels(runs), strict=True):
        results = list(run.evaluations().values()) or _during_training(run)
        owners = [Path(str(result.get("run", run.path.name))).name for result in results]
        own_first = sorted(zip(owners, results, strict=True), key=lambda pair: pair[0] != run.path.name)
        for owner, result in own_first:
            name = label if owner == run.path.name else owner
            column = tables.setdefault(str(result["suite"]), [])
            taken = {other for other, _ in column}
            if name in taken:
                name = f"{name}, seed {run.config.get('seed', 'unknown')}"
            column.append((name if name not in taken else f"{name} ({run.path.name})", result))
    return tables


def _during_training(run: RunDirectory) -> list[Evaluation]:
    """The last evaluation during training in the form of an evaluation's JSON, for runs that have no other."""
    columns, suite = run.metrics(), str(run.config.get("evaluate_suite"))
    prefix = f"evaluation/{suite}/"
    measured = np.flatnonzero(np.isfinite(columns.get(f"{prefix}mean_solved", np.empty(0))))
    if not len(measured):
        return []
    metric = suite_metrics(run).get(suite, "solved")
    key = "solved" if metric == "solved" else "return_mean"
    means = {f"{prefix}mean_solved", f"{prefix}mean_return"}
    levels = [
        {"level": name.removeprefix(prefix), "episodes": run.config.get("evaluate_episodes", 0), key: value}
        for name, values in columns.items()
        if name.startswith(prefix) and name not in means and is_number(value := float(values[measured[-1]]))
    ]
    return [{"run": run.path.name, "suite": suite, "levels": levels, "summary": {"metric": metric}}] if levels else []


def suite_metrics(run: RunDirectory) -> dict[str, Metric]:
    """What each suite of a run's domain is told by."""
    return {name: suite.metric for name, suite in run.domain().suites().items()}


RESULT: dict[Metric, str] = {"solved": "solved", "return": "mean_return"}
"""The score of a proposal's levels that says how a student did, by the metric of its suites."""


def _told_by(run: RunDirectory) -> Metric:
    """What the run's own evaluations are told by."""
    return suite_metrics(run).get(str(run.config.get("evaluate_suite")), "solved")


def _score_of(
    record: ProposalRecord, students: Sequence[str], metric: Metric
) -> tuple[str, NDArray[np.float64] | None]:
    """What to rank and colour a proposal by: regret, else another score of the curriculum, else how students did."""
    own = [name for name in record.scores if "/" not in name]
    results = [f"{student}/{RESULT[metric]}" for student in students if f"{student}/{RESULT[metric]}" in record.scores]
    name = "regret" if "regret" in own else next(iter([*own, *results]), "")
    return name, record.scores[name].double().cpu().numpy() if name else None


def _say(name: str, value: float) -> str:
    quantity = name.rsplit("/", 1)[-1].replace("_", " ")
    exact = f"{value:.2f}" if abs(value) < 10 else number(value)
    return f"{quantity} {percent(value) if quantity == 'solved' else exact}"


def _level_captions(
    record: ProposalRecord, students: Sequence[str], metric: Metric, solvable: NDArray[Any]
) -> list[str]:
    """Two short lines for each level of a proposal."""
    name, scores = _score_of(record, students, metric)
    key = RESULT[metric]
    results = next((record.scores[f"{s}/{key}"].tolist() for s in students if f"{s}/{key}" in record.scores), None)
    captions = []
    for index in range(len(record.levels)):
        lines = [] if scores is None else [_say(name, scores[index])]
        if not solvable[index]:
            lines.append("cannot be solved")
        elif results is not None and not name.endswith(f"/{key}"):
            lines.append(_say(key, results[index]))
        captions.append("\n".join(lines))
    return captions


def curriculum_gallery(run: RunDirectory, records: Sequence[ProposalRecord], columns: Columns, source: str) -> Panel:
    """The gallery of a run's recorded proposals: a few updates, a few levels of each."""
    domain, students, metric = run.domain(), students_in(columns), _told_by(run)
    snapshots, ranked = [], ""
    for record in (records[index] for index in spread(len(records), UPDATES_SHOWN)):
        name, scores = _score_of(record, students, metric)
        order = order_by(scores, len(record.levels))
        chosen = torch.as_tensor(order[spread(len(order), LEVELS_AN_UPDATE)])
        captions = _level_captions(record, students, metric, domain.describe(record.levels)["solvable"].cpu().numpy())
        images = domain.render(record.levels[chosen]).cpu().numpy()
        remark = ""
        if scores is not None and np.isfinite(scores).any():
            remark, ranked = f"mean {_say(name, float(np.nanmean(scores)))}", name
        snapshots.append(Snapshot(record.steps, images, [captions[index] for index in chosen.tolist()], remark))
    meaning = {"solved": "Solved: share of its episodes that", "return": "Mean return: of the episodes that"}[metric]
    end = {"solved": "solved", "return": "finished"}[metric]
    first = f" {meaning} {students[0]} {end}." if students else ""
    quantity = "solve rate" if ranked.endswith("/solved") else ranked.rsplit("/", 1)[-1].replace("_", " ")
    ranking = f"From the lowest {quantity} of the proposal (left) to the highest (right), evenly spaced.{first}"
    return gallery(snapshots, source, ranking if ranked else "")


def _shrink(images: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """Pictures `[B, H, W, 3]` made smaller by a whole factor, so that neither side is much longer than `most`."""
    factor = max(1, round(max(images.shape[1:3]) / most))
    rows, columns = images.shape[1] // factor, images.shape[2] // factor
    blocks = images[:, : rows * factor, : columns * factor].reshape(-1, rows, factor, columns, factor, 3)
    shrunk: NDArray[np.uint8] = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    return shrunk


def latent_map_data(run: RunDirectory, records: Sequence[ProposalRecord], columns: Columns) -> LatentMapData | None:
    """All recorded latents with their scores, and the levels of some; None if the curriculum has no latents."""
    records = [record for record in records if record.latents is not None]
    if not records:
        return None
    domain, students = run.domain(), students_in(columns)
    name = _score_of(records[0], students, _told_by(run))[0]
    latents = np.concatenate(
        [record.latents.double().cpu().numpy() for record in records if record.latents is not None]
    )
    scores = [
        record.scores[name].double().cpu().numpy() if name in record.scores else np.full(len(record.levels), np.nan)
        for record in records
    ]
    steps = np.concatenate([np.full(len(record.levels), float(record.steps)) for record in records])
    levels = type(records[0].levels).concatenate([record.levels for record in records])
    sampled = np.array(spread(len(levels), PREVIEWS), dtype=np.int64)
    shown = levels[torch.as_tensor(sampled)]
    everything = np.concatenate(scores)
    return LatentMapData(
        latents=latents,
        steps=steps,
        scores=everything,
        score_name=name.replace("_", " "),
        sampled=sampled,
        images=_shrink(domain.render(shown).cpu().numpy(), PREVIEW_PIXELS),
        captions=[
            f"At {short_count(steps[index])} steps"
            + (f", {_say(name, everything[index])}" if is_number(everything[index]) else "")
            for index in sampled.tolist()
        ],
    )


def recorded_episodes(run: RunDirectory) -> Recorded:
    """The drawn episodes of each recorded level, and how they are drawn.

    Of a suite that is told by solve rates, a solved and an unsolved episode where there are both, else the first two;
    of one that is told by returns, the episode of the median return.
    """
    domain = run.domain()
    if not isinstance(domain, PathDrawing):
        return Recorded([], "", None)
    suite_metrics = {result["suite"]: metric_of(result) for result in run.evaluations().values() if "suite" in result}
    episodes: list[Episode] = []
    about, scale = "", None
    for entry in run.recordings():
        metric = suite_metrics.get(entry["suite"], "solved")
        solved, returns = entry["solved"].bool().cpu(), entry["returns"].cpu()
        if not len(solved):
            continue
        chosen = (
            _solved_and_unsolved(solved) if metric == "solved" else returns.argsort()[(len(returns) - 1) // 2, None]
        )
        drawn = domain.draw_paths(entry["levels"][chosen], entry["positions"][chosen].cpu())
        if drawn is None:
            continue
        about, scale = drawn.about, drawn.scale
        episodes += [
            Episode(str(entry["level"]), image, bool(end), value if metric == "return" else None, remark)
            for image, end, value, remark in zip(
                drawn.pictures.cpu().numpy(),
                solved[chosen].tolist(),
                returns[chosen].tolist(),
                drawn.remarks,
                strict=True,
            )
        ]
    return Recorded(episodes, about, scale)


def _solved_and_unsolved(solved: torch.Tensor) -> torch.Tensor:
    chosen = torch.cat([torch.nonzero(solved == end).flatten()[:1] for end in (True, False)])
    return chosen if len(chosen) > 1 else torch.arange(min(EPISODES_A_LEVEL, len(solved)))


def recorded_videos(run: RunDirectory) -> list[Video]:
    """What the student saw in the recorded episodes."""
    return [
        Video(str(video["level"]), video["frames"].cpu().numpy(), bool(video["solved"]), float(video["return"]))
        for video in run.videos()
    ]
