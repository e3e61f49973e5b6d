"""What the panels show, read out of run directories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clutr.envs.capabilities import PathDrawing
from clutr.envs.domain import Metric
from clutr.experiments.config import method_of
from clutr.experiments.evaluation.compare import metric_of
from clutr.experiments.evaluation.selection import choose, require_different
from clutr.experiments.evaluation_files import KeptEvaluation, in_words
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
from clutr.experiments.storage import RunError

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


@dataclass(frozen=True)
class SuiteResults:
    """What a report shows of one suite."""

    columns: tuple[tuple[str, Evaluation], ...]
    """Name and evaluation: the runs', which match, and those of other players."""
    remarks: tuple[str, ...]
    """What was played, what is older than the run, and what was left out."""
    own: KeptEvaluation | None
    """The report's own run's."""


def results_by_suite(runs: Sequence[RunDirectory]) -> dict[str, SuiteResults]:
    """By suite, matching evaluations of the runs, the first of which the report is about.

    Evaluations of other mode, steps or number of episodes are left out with a remark that names both.
    """
    require_different(runs)
    labels = dict(zip(runs, method_labels(runs), strict=True))
    kept = {run: run.evaluations() or _during_training(run) for run in runs}
    suites = dict.fromkeys(each.suite for found in kept.values() for each in found)
    return {suite: _results_on(suite, kept, labels) for suite in suites}


def _results_on(
    suite: str, kept: Mapping[RunDirectory, Sequence[KeptEvaluation]], labels: Mapping[RunDirectory, str]
) -> SuiteResults:
    mine = {
        run: [each for each in found if each.name == each.suite == suite]
        for run, found in kept.items()
        if any(each.name == each.suite == suite for each in found)
    }
    first = next(iter(mine.values()), [])
    deterministic = all(each.deterministic for each in first)
    shown: dict[RunDirectory, list[KeptEvaluation]] = {}
    remarks: list[str] = []
    for run, found in mine.items():
        try:
            choose({**shown, run: found}, suite, deterministic=deterministic)
            shown[run] = found
        except RunError as error:
            remarks.append(f"Left out: {error}")
    chosen = dict(zip(shown, choose(shown, suite, deterministic=deterministic) if shown else [], strict=True))
    if chosen:
        remarks.insert(0, f"The runs' students {in_words([each.result for each in chosen.values()])}.")
    for run, evaluation in chosen.items():
        steps = run.metrics().get("steps", np.empty(0))
        if len(steps) and steps[-1] > evaluation.steps:
            remarks.append(
                f"{run.path.name} has trained on since, to {steps[-1]:,.0f} steps: "
                + f"`clutr eval {run.path} --suite {suite}` tests it as it is now."
            )
    columns: list[tuple[str, Evaluation]] = []
    for run, everything in kept.items():
        others = {each.name: each for each in everything if each.name != each.suite == suite}  # the newest of each name
        named = [(labels[run], chosen[run])] if run in chosen else []
        named += [(Path(str(each.result["run"])).name, each) for each in others.values()]
        for given, each in named:
            taken = {other for other, _ in columns}
            name = f"{given}, seed {run.config.get('seed', 'unknown')}" if given in taken else given
            columns.append((name if name not in taken else f"{name} ({run.path.name})", each.result))
    return SuiteResults(tuple(columns), tuple(remarks), chosen.get(next(iter(kept))))


def _during_training(run: RunDirectory) -> list[KeptEvaluation]:
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
    steps = columns.get("steps", np.zeros(len(columns[f"{prefix}mean_solved"])))[measured[-1]]
    summary = {"metric": metric, "steps": int(steps) if np.isfinite(steps) else 0}
    result = {"run": run.path.name, "suite": suite, "levels": levels, "summary": summary}
    return [KeptEvaluation(run.path / "metrics.csv", suite, result)] if levels else []


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


def latent_map_data(
    run: RunDirectory, records: Sequence[ProposalRecord], columns: Columns, previews: int = PREVIEWS
) -> LatentMapData | None:
    """All recorded latents with their scores, and pictures of at most `previews` levels; None without latents."""
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
    sampled = np.array(spread(len(levels), previews), dtype=np.int64)
    pictures = np.zeros((0, 1, 1, 3), np.uint8)
    if len(sampled):
        pictures = _shrink(domain.render(levels[torch.as_tensor(sampled)]).cpu().numpy(), PREVIEW_PIXELS)
    everything = np.concatenate(scores)
    return LatentMapData(
        latents=latents,
        steps=steps,
        scores=everything,
        score_name=name.replace("_", " "),
        sampled=sampled,
        images=pictures,
        captions=[
            f"At {short_count(steps[index])} steps"
            + (f", {_say(name, everything[index])}" if is_number(everything[index]) else "")
            for index in sampled.tolist()
        ],
    )


def recorded_episodes(run: RunDirectory, chosen: Sequence[KeptEvaluation]) -> Recorded:
    """The drawn episodes of each recorded level of some evaluations, and how they are drawn.

    Of a suite that is told by solve rates, a solved and an unsolved episode where there are both, else the first two;
    of one that is told by returns, the episode of the median return.
    """
    domain = run.domain()
    if not isinstance(domain, PathDrawing):
        return Recorded([], "", None)
    suite_metrics = {kept.suite: metric_of(kept.result) for kept in chosen}
    episodes: list[Episode] = []
    about, scale = "", None
    for entry in run.recordings(chosen):
        metric = suite_metrics.get(entry["suite"], "solved")
        solved, returns = entry["solved"].bool().cpu(), entry["returns"].cpu()
        if not len(solved):
            continue
        drawn_ones = (
            _solved_and_unsolved(solved) if metric == "solved" else returns.argsort()[(len(returns) - 1) // 2, None]
        )
        drawn = domain.draw_paths(entry["levels"][drawn_ones], entry["positions"][drawn_ones].cpu())
        if drawn is None:
            continue
        about, scale = drawn.about, drawn.scale
        episodes += [
            Episode(str(entry["level"]), image, bool(end), value if metric == "return" else None, remark)
            for image, end, value, remark in zip(
                drawn.pictures.cpu().numpy(),
                solved[drawn_ones].tolist(),
                returns[drawn_ones].tolist(),
                drawn.remarks,
                strict=True,
            )
        ]
    return Recorded(episodes, about, scale)


def _solved_and_unsolved(solved: torch.Tensor) -> torch.Tensor:
    chosen = torch.cat([torch.nonzero(solved == end).flatten()[:1] for end in (True, False)])
    return chosen if len(chosen) > 1 else torch.arange(min(EPISODES_A_LEVEL, len(solved)))


def recorded_videos(run: RunDirectory, chosen: Sequence[KeptEvaluation]) -> list[Video]:
    """What the student saw in the recorded episodes of some evaluations."""
    return [
        Video(
            str(video["level"]),
            video["frames"].cpu().numpy(),
            bool(video["solved"]),
            float(video["return"]),
            float(video.get("fps", Video.fps)),
        )
        for video in run.videos(chosen)
    ]
