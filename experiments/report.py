"""One self-contained HTML file that shows a run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import clutr
from envs.domain import LevelBatch
from envs.maze.level import MazeLevels
from envs.maze.render import render_mazes
from experiments.files import write_atomically
from experiments.panels.curves import Columns, headline, method_curves, students_in, training_curves
from experiments.panels.drawing import short_count
from experiments.panels.gallery import Moment, gallery, order_by, spread
from experiments.panels.latent_map import LatentBundle, latent_map
from experiments.panels.manifold import manifold
from experiments.panels.page import Panel, render_page
from experiments.panels.solve_table import Evaluation, solve_table
from experiments.panels.tiles import duration, facts_table, is_number, number, percent, text, tiles
from experiments.panels.trajectories import Episode, trajectories
from experiments.run_dir import ProposalRecord, RunDirectory

MOMENTS = 8
LEVELS_A_MOMENT = 6
PREVIEWS = 144
PREVIEW_PIXELS = 120
EPISODES_A_LEVEL = 2
PATH_TILE = 16
"""Pixels of a cell where a path is drawn on it, fewer in a maze that would exceed `PATH_PIXELS`."""
PATH_PIXELS = 400


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
    path = run.path / "report.html"
    write_atomically(path, report_html(run, beside).encode())
    return path


def report_html(run: RunDirectory, beside: Sequence[RunDirectory] = ()) -> str:
    """The report as text; see `build_report`."""
    columns = run.metrics()
    source = f"run {run.path.name}, seed {run.config.get('seed', 'unknown')}"
    records = run.proposals()
    runs = [run, *beside]
    tables = _evaluations(runs)
    panels = [
        solve_table(tables, "; ".join(_source(each) for each in runs)),
        trajectories(_episodes(run), source),
        training_curves(columns, source),
    ]
    if beside:
        curves = list(zip(method_labels(runs), (each.metrics() for each in runs), strict=True))
        panels.append(method_curves(curves, "; ".join(_source(each) for each in runs)))
    panels.append(_gallery(run, records, columns, source))
    if run.config.get("manifold") is not None or any(record.latents is not None for record in records):
        panels += [latent_map(_latents(run, records, columns), source), manifold(run.manifold_health(), source)]
    panels.append(_configuration(run))
    footer = f"Made by clutr {clutr.__version__} from the files of the run alone: the same files give this page."
    return render_page(run.path.name, "Curriculum experiment", _summary(run, columns, tables), panels, footer)


def _source(run: RunDirectory) -> str:
    return f"{run.path.name}: seed {run.config.get('seed', 'unknown')}"


def method_labels(runs: Sequence[RunDirectory]) -> list[str]:
    """What to call the method of each run: runs that differ in their seeds alone share a name.

    That is the curriculum's name; where runs of one curriculum differ in more, the run's name is added.
    """

    def method(run: RunDirectory) -> dict[str, Any]:
        return {name: value for name, value in run.config.items() if name not in ("seed", "manifold_seed")}

    labels = []
    for run in runs:
        kind = _kind(run.config, "curriculum")
        same_kind = [other for other in runs if _kind(other.config, "curriculum") == kind]
        alike = all(method(other) == method(run) for other in same_kind)
        labels.append(kind if alike else f"{kind} ({run.path.name})")
    return labels


def _kind(config: Mapping[str, Any], part: str) -> str:
    value = config.get(part)
    return str(value.get("kind", "unknown")) if isinstance(value, Mapping) else "none"


def _summary(run: RunDirectory, columns: Columns, tables: Mapping[str, Sequence[tuple[str, Evaluation]]]) -> str:
    """The title block: what the run is, and its headline numbers."""
    config, timing = run.config, run.timing()
    steps, seconds = _last(columns, "steps"), _last(timing, "seconds")
    planned = float(config.get("total_steps", "nan"))
    facts = [
        ("Environment steps", short_count(steps), f"of {short_count(planned)} planned" * (steps < planned)),
        ("Updates", number(_last(columns, "update")), f"{number(config.get('num_envs'))} levels each"),
        ("Training time", duration(seconds), f"{number(round(steps / seconds))} steps/s" if seconds > 0 else ""),
        ("Seed", str(config.get("seed", "unknown")), ""),
    ]
    for suite, found in tables.items():
        summary = found[0][1].get("summary") or {}
        if is_number(summary.get("mean_solved")):
            low, high = summary.get("mean_solved_interval") or (None, None)
            remark = f"95 %: {percent(low)} to {percent(high)}" if is_number(low) else "mean over levels"
            facts.append((f"Zero-shot, {suite}", percent(summary["mean_solved"]), remark))
    shown = {what for what, _, _ in facts}
    facts += [fact for fact in headline(columns) if fact[0] not in shown]
    world = config.get("domain")
    size = ""
    if isinstance(world, Mapping) and {"height", "width"} <= world.keys():
        size = f" of {world['height']} x {world['width']} cells, up to {world.get('max_obstacles', '?')} obstacles"
    space = f" Tasks are points of a {_kind(config, 'manifold')} manifold." if config.get("manifold") else ""
    lead = (
        f"Curriculum {_kind(config, 'curriculum')} on {_kind(config, 'domain')} levels{size}; "
        + f"students {_kind(config, 'student')} ({', '.join(students_in(columns)) or 'no play yet'}).{space}"
    )
    return f'<p class="lead">{text(lead)}</p>{tiles(facts)}'


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


def _evaluations(runs: Sequence[RunDirectory]) -> dict[str, list[tuple[str, Evaluation]]]:
    """By suite, the results of every run; an evaluation of anything else in a run's directory has its own name."""
    tables: dict[str, list[tuple[str, Evaluation]]] = {}
    for run, label in zip(runs, method_labels(runs), strict=True):
        results = list(run.evaluations().values()) or _during_training(run)
        for result in results:
            owner = Path(str(result.get("run", run.path.name))).name
            name = label if owner == run.path.name else owner
            column = tables.setdefault(str(result["suite"]), [])
            taken = {other for other, _ in column}
            if name in taken:
                name = f"{name}, seed {run.config.get('seed', 'unknown')}"
            column.append((name if name not in taken else f"{name} ({run.path.name})", result))
    return tables


def _during_training(run: RunDirectory) -> list[Evaluation]:
    """The last evaluation during training in the form of an evaluation's JSON, for runs that have no other."""
    columns, suite = run.metrics(), run.config.get("evaluate_suite")
    prefix = f"evaluation/{suite}/"
    measured = np.flatnonzero(np.isfinite(columns.get(f"{prefix}mean_solved", np.empty(0))))
    if not len(measured):
        return []
    levels = [
        {"level": name.removeprefix(prefix), "episodes": run.config.get("evaluate_episodes", 0), "solved": solved}
        for name, values in columns.items()
        if name.startswith(prefix)
        and name != f"{prefix}mean_solved"
        and is_number(solved := float(values[measured[-1]]))
    ]
    return [{"run": run.path.name, "suite": suite, "levels": levels, "summary": {}}] if levels else []


def _score_of(record: ProposalRecord, students: Sequence[str]) -> tuple[str, NDArray[np.float64] | None]:
    """What to rank and colour a proposal by: regret, else another score of the curriculum, else the solve rate."""
    own = [name for name in record.scores if "/" not in name]
    solved = [f"{student}/solved" for student in students if f"{student}/solved" in record.scores]
    name = "regret" if "regret" in own else next(iter([*own, *solved]), "")
    return name, record.scores[name].double().cpu().numpy() if name else None


def _say(name: str, value: float) -> str:
    quantity = name.rsplit("/", 1)[-1].replace("_", " ")
    exact = f"{value:.2f}" if abs(value) < 10 else number(value)
    return f"{quantity} {percent(value) if quantity == 'solved' else exact}"


def _level_captions(record: ProposalRecord, students: Sequence[str], solvable: NDArray[Any]) -> list[str]:
    """Two short lines for each level of a proposal."""
    name, scores = _score_of(record, students)
    solved = next((record.scores[f"{s}/solved"].tolist() for s in students if f"{s}/solved" in record.scores), None)
    captions = []
    for index in range(len(record.levels)):
        lines = [] if scores is None else [_say(name, scores[index])]
        if not solvable[index]:
            lines.append("cannot be solved")
        elif solved is not None and not name.endswith("/solved"):
            lines.append(_say("solved", solved[index]))
        captions.append("\n".join(lines))
    return captions


def _gallery(run: RunDirectory, records: Sequence[ProposalRecord], columns: Columns, source: str) -> Panel:
    domain, students = run.domain(), students_in(columns)
    moments, ranked = [], ""
    for record in (records[index] for index in spread(len(records), MOMENTS)):
        name, scores = _score_of(record, students)
        order = order_by(scores, len(record.levels))
        chosen = torch.as_tensor(order[spread(len(order), LEVELS_A_MOMENT)])
        captions = _level_captions(record, students, domain.describe(record.levels)["solvable"].cpu().numpy())
        images = domain.render(record.levels[chosen]).cpu().numpy()
        remark = ""
        if scores is not None and np.isfinite(scores).any():
            remark, ranked = f"mean {_say(name, float(np.nanmean(scores)))}", name
        moments.append(Moment(record.steps, images, [captions[index] for index in chosen.tolist()], remark))
    first = f" Solved: share of its episodes that {students[0]} solved." if students else ""
    quantity = ranked.rsplit("/", 1)[-1].replace("_", " ")
    ranking = f"From the lowest {quantity} of the proposal (left) to the highest (right), evenly spaced.{first}"
    return gallery(moments, source, ranking if ranked else "")


def _shrink(images: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """Pictures `[B, H, W, 3]` made smaller by a whole factor, so that neither side is much longer than `most`."""
    factor = max(1, round(max(images.shape[1:3]) / most))
    rows, columns = images.shape[1] // factor, images.shape[2] // factor
    blocks = images[:, : rows * factor, : columns * factor].reshape(-1, rows, factor, columns, factor, 3)
    shrunk: NDArray[np.uint8] = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    return shrunk


def _latents(run: RunDirectory, records: Sequence[ProposalRecord], columns: Columns) -> LatentBundle | None:
    records = [record for record in records if record.latents is not None]
    if not records:
        return None
    domain, students = run.domain(), students_in(columns)
    name = _score_of(records[0], students)[0]
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
    return LatentBundle(
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


def _episodes(run: RunDirectory) -> list[Episode]:
    """A solved and an unsolved episode of each recorded level where there are both, else the first two."""
    episodes = []
    for entry in run.recordings():
        solved = entry["solved"].bool().cpu()
        if not len(solved):
            continue
        first_of_each = [torch.nonzero(solved == end).flatten()[:1] for end in (True, False)]
        chosen = torch.cat(first_of_each)
        if len(chosen) == 1:
            chosen = torch.arange(min(EPISODES_A_LEVEL, len(solved)))
        levels, cells = entry["levels"][chosen], entry["cells"][chosen].cpu()
        images = _draw_paths(levels, cells)
        if images is None:
            continue
        for image, path, end in zip(images, cells, solved[chosen].tolist(), strict=True):
            walked = path[path >= 0]
            moves = int((walked[1:] != walked[:-1]).sum())
            episodes.append(Episode(str(entry["level"]), image, bool(end), moves))
    return episodes


def _draw_paths(levels: LevelBatch, cells: torch.Tensor) -> NDArray[np.uint8] | None:
    """Pictures of levels with the cells that were visited; None for a world whose paths are not cells."""
    if not isinstance(levels, MazeLevels):
        return None
    tile = min(PATH_TILE, max(4, PATH_PIXELS // (max(levels.height, levels.width) + 2)))
    images: NDArray[np.uint8] = render_mazes(levels, tile=tile, paths=cells).cpu().numpy()
    return images
