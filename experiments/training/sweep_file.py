"""A sweep: one experiment with several values of some options, each with several seeds, from a YAML file."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clutr.envs.registry import no_such
from clutr.experiments.config import Experiment, from_plain, to_plain
from clutr.experiments.plain_config import options_in, read_text
from clutr.experiments.storage import RunError
from clutr.experiments.training.lookup import named_experiment, override
from clutr.experiments.training.seeds import parse_seeds

FIELDS = ("base", "options", "grid", "random", "count", "seed", "seeds")
RANGES = ("uniform", "log", "integer")

Options = Mapping[str, Any]


def read_sweep(path: Path) -> dict[str, Experiment]:
    """The experiments of a sweep's file by the names of their runs, see `sweep`. Raises `RunError` naming the file."""
    try:
        return sweep(options_in(read_text(path), str(path)))
    except RunError as error:
        said = str(error)
        raise RunError(said if said.startswith(str(path)) else f"{path}: {said}") from None


def sweep(plain: Options) -> dict[str, Experiment]:
    """The experiments of a sweep by the names of their runs.

    Args:
        plain: `base`, the name of a preset or the path of a config.yaml, or a list of them; `options` that all
            have; `grid`, a list of values for each option, of which every combination is tried; `random`, for each
            option a list to choose from or a range (`{uniform: [0, 1]}`, `{log: [1e-4, 1e-2]}`, `{integer: [1, 8]}`),
            of which `count` combinations are drawn with `seed`; `seeds` of each experiment, such as `1-5`. Options
            are named as on the command line: `total_steps`, `student.learning_rate`, `curriculum`.

    Raises:
        RunError: if something is missing, unknown or does not fit, or two runs would be the same.
    """
    for name in plain:
        if name not in FIELDS:
            raise RunError(no_such("part of a sweep", name, FIELDS))
    if "base" not in plain:
        raise RunError("base is missing: the preset or the config.yaml that is varied")
    bases = plain["base"] if isinstance(plain["base"], list) else [plain["base"]]
    fixed, grid = _mapping(plain, "options"), _mapping(plain, "grid")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise RunError(f"grid.{name} must be a list of values, got {values!r}")
    seeds = parse_seeds(plain.get("seeds", "1"))
    drawn = _draw(_mapping(plain, "random"), plain.get("count", 0 if "random" in plain else 1), plain.get("seed", 1))
    experiments: dict[str, Experiment] = {}
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for base, combination, random in itertools.product(bases, combinations, drawn):
        name, experiment = named_experiment(str(base))
        varied = combination | random
        experiment = _with(experiment, {**fixed, **varied})
        words = [name] * (len(bases) > 1 or not varied) + [_in_words(option, varied[option]) for option in varied]
        for seed in seeds:
            run = f"{','.join(words)}-s{seed}"
            if run in experiments:
                raise RunError(f"two runs would be called {run}: values must differ")
            experiments[run] = replace(experiment, seed=seed)
    return experiments


def _mapping(plain: Options, name: str) -> dict[str, Any]:
    found = plain.get(name) or {}
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise RunError(f"{name} must hold options by name, got {found!r}")
    return dict(found)


def _with(experiment: Experiment, options: Options) -> Experiment:
    """The experiment with other options; parts that are replaced come first, then what changes inside them."""
    for name in sorted(options, key=lambda name: "." in name):
        value = options[name]
        if "." not in name:
            experiment = override(experiment, **{name: value})
            continue
        plain = to_plain(experiment)
        *parts, last = name.split(".")
        inner: Any = plain
        for part in parts:
            inner = inner.get(part) if isinstance(inner, Mapping) else None
        if not isinstance(inner, dict):
            raise RunError(f"no option is called {name!r}: there is no {'.'.join(parts)} whose options could change")
        inner[last] = value
        experiment = from_plain(plain)
    return experiment


def _in_words(option: str, value: Any) -> str:
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^\w.=+-]+", "_", f"{option.rpartition('.')[2]}={shown}")


def _draw(ranges: Options, count: Any, seed: Any) -> list[dict[str, Any]]:
    """`count` random combinations; without ranges the empty one."""
    if not ranges:
        return [{}]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise RunError(f"count must say how many random combinations are tried, got {count!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise RunError(f"seed must be a whole number, 0 or more, got {seed!r}")
    rng = np.random.default_rng(seed)
    draws = {name: _range(name, choice) for name, choice in ranges.items()}
    return [{name: draw(rng) for name, draw in draws.items()} for _ in range(count)]


def _range(name: str, choice: Any) -> Any:
    """A function of a generator that draws a value of the option `name`."""
    if isinstance(choice, list) and choice:
        return lambda rng: choice[int(rng.integers(len(choice)))]
    if isinstance(choice, Mapping) and len(choice) == 1 and next(iter(choice)) in RANGES:
        kind, ends = next(iter(choice.items()))
        low, high = _ends(name, ends)
        if kind == "integer":
            return lambda rng: int(rng.integers(math.ceil(low), math.floor(high) + 1))
        if kind == "uniform":
            return lambda rng: float(rng.uniform(low, high))
        if low > 0:
            return lambda rng: float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.6g}")
        raise RunError(f"random.{name}: a logarithmic range must be above 0, got {ends!r}")
    ways = " or ".join(f"{{{kind}: [low, high]}}" for kind in RANGES)
    raise RunError(f"random.{name} must be a list of values, or {ways}, got {choice!r}")


def _ends(name: str, ends: Any) -> Iterator[float]:
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        raise RunError(f"random.{name}: a range has two numbers, got {ends!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise RunError(f"random.{name}: a range goes from a lower to a higher number, got {ends!r}")
    return iter((low, high))
