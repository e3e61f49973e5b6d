"""Evaluations in a run's directory: one file for each suite, number of steps, seed, mode and number of episodes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clutr.experiments.files import RunError, warn_once

EvaluationJson = Mapping[str, Any]
"""What `clutr eval --json` prints."""


@dataclass(frozen=True)
class KeptEvaluation:
    """An evaluation and where it is kept."""

    path: Path
    name: str
    """The suite's; other players that a run is shown beside have names of their own."""
    result: EvaluationJson

    @property
    def suite(self) -> str:
        """The suite that was played."""
        return str(self.result["suite"])

    @property
    def steps(self) -> int:
        """Steps that the student had trained; 0 for players that are no run's."""
        return int(self.result["summary"].get("steps", 0))

    @property
    def seed(self) -> int:
        """Seed of levels and actions."""
        return int(self.result["summary"].get("seed", 0))

    @property
    def deterministic(self) -> bool:
        """Whether the most probable actions were taken."""
        return bool(self.result["summary"].get("deterministic", False))

    @property
    def episodes(self) -> int:
        """Episodes a level."""
        return int(self.result["levels"][0]["episodes"])


def mode_name(deterministic: bool) -> str:
    """How actions were chosen, in a word."""
    return "deterministic" if deterministic else "sampled"


def file_name(result: EvaluationJson) -> str:
    """The name of an evaluation's file, without its suffix: what makes it another evaluation is in it."""
    kept = KeptEvaluation(Path(), "", result)
    return f"steps-{kept.steps:09d}-seed-{kept.seed}-{mode_name(kept.deterministic)}-{kept.episodes}"


def in_words(results: list[EvaluationJson]) -> str:
    """How several evaluations were made, as "at 20,480 steps, sampled actions, seed 1"; where they differ, all."""
    kept = [KeptEvaluation(Path(), "", result) for result in results]
    steps, seeds = sorted({each.steps for each in kept}), sorted({each.seed for each in kept})
    modes = " and ".join(sorted({mode_name(each.deterministic) for each in kept}))
    spent = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    return f"at {spent} steps, {modes} actions, seed {', '.join(map(str, seeds))}"


def read_evaluations(folder: Path) -> list[KeptEvaluation]:
    """The evaluations under a folder by name, weakest first: fewest steps, then episodes. What is broken is logged."""
    found = []
    for path in sorted(folder.rglob("*.json")):
        try:
            result = json.loads(path.read_text())
            require_evaluation_json(result)
        except (OSError, ValueError, RecursionError) as error:
            warn_once(f"{path} is left out: it is no evaluation ({error})")
        else:
            found.append(KeptEvaluation(path, path.relative_to(folder).parts[0].removesuffix(".json"), result))
    return sorted(found, key=lambda kept: (kept.name, kept.steps, kept.episodes, -kept.seed))


def require_evaluation_json(result: Any) -> None:
    """Raise `ValueError` unless this is what `SuiteEvaluation.to_json` gives, as far as tables need it."""

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(what)

    require(isinstance(result, Mapping), "an object is expected")
    require(isinstance(result.get("run"), str), "run must be text")
    require(isinstance(result.get("suite"), str), "suite must be text")
    levels, summary = result.get("levels"), result.get("summary")
    require(isinstance(levels, list) and len(levels) > 0, "levels must be a list of at least one row")
    require(isinstance(summary, Mapping), "summary must be an object")
    require(summary.get("metric", "solved") in ("solved", "return"), "summary.metric must be solved or return")
    for row in levels:
        require(isinstance(row, Mapping) and isinstance(row.get("level"), str), "each level needs its name")
        about = f"level {row['level']}"
        require(_whole(row.get("episodes")) and row["episodes"] >= 1, f"{about}: episodes must be 1 or more")
        require(row["episodes"] == levels[0].get("episodes"), f"{about}: all levels need as many episodes")
        require(_finite(row.get("solved")) and 0 <= row["solved"] <= 1, f"{about}: solved must be in [0, 1]")
        for name in ("return_mean", "return_std"):
            require(_finite(row.get(name)), f"{about}: {name} must be a number")
        returns = row.get("returns", [])
        require(isinstance(returns, list) and all(map(_finite, returns)), f"{about}: returns must be numbers")
        require(len(returns) in (0, row["episodes"]), f"{about}: one return for each episode is expected")
    require(len({row["level"] for row in levels}) == len(levels), "a level is there twice")
    for name, value in summary.items():
        about = f"summary.{name}"
        if name in ("steps", "seed", "run_seed"):
            require(_whole(value), f"{about} must be a whole number")
        elif name.endswith("_interval"):
            pair = isinstance(value, list) and len(value) == 2 and all(map(_finite, value))
            require(pair and value[0] <= value[1], f"{about} must be two numbers")
        elif name.startswith(("mean_", "median_", "iqm_", "optimality_")):
            require(_finite(value), f"{about} must be a number")
        elif name == "cvar":
            worst: Any = value.get("worst") if isinstance(value, Mapping) else None
            require(isinstance(worst, Mapping), f"{about}.worst must be an object")
            figures = [value.get("levels"), value.get("mean"), *worst.values()]
            require(all(map(_finite, figures)), f"{about} must hold numbers")
            require(all(map(_is_fraction, worst)), f"{about}.worst must be by fraction")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_fraction(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and 0 < float(text) <= 1
    except ValueError:
        return False


def keep_more(result: EvaluationJson, path: Path) -> EvaluationJson:
    """The result, with what an earlier evaluation at `path` had measured beside it: the worst of more levels."""
    try:
        earlier = json.loads(path.read_text())
        require_evaluation_json(earlier)
    except (OSError, ValueError, RecursionError):
        return result
    mine, other = result["summary"].get("cvar"), earlier["summary"].get("cvar")
    if other is None or (mine is not None and mine["levels"] >= other["levels"]):
        return result
    return {**result, "summary": {**result["summary"], "cvar": other}}


def require_seed(seed: int) -> None:
    """Raise `RunError` unless generators take the seed."""
    if not 0 <= seed < 2**63:
        raise RunError(f"the seed must be between 0 and {2**63 - 1}, got {seed}")
