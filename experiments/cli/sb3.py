"""`clutr eval --sb3`: models that others' Stable-Baselines3 scripts saved, on our suites."""

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

from clutr.agents.sb3.loading import ALGORITHMS, ModelError, load_policy
from clutr.envs.car.road.circuits import use_tracks
from clutr.envs.domain import DOMAINS
from clutr.experiments.cli.arguments import Arguments, choose, options_of, take
from clutr.experiments.display import console, work_display
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.evaluation.runs import require_suite
from clutr.experiments.evaluation.tables import evaluation_table
from clutr.experiments.storage import RunError

UNTRUSTED = (
    "a model of Stable-Baselines3 is a zip file that runs code of its own when it is loaded: "
    + "add --trust if you know who made it"
)

_AS_IN_GYMNASIUM: dict[str, dict[str, Any]] = {"car": {"action_repeat": 1}}
"""Where the environments that such models know differ from what our students play."""


def wants_model(args: Arguments) -> bool:
    """Whether the arguments of `clutr eval` ask for a saved model."""
    return any(arg.partition("=")[0] == "--sb3" for arg in args)


def eval_model(args: Arguments) -> None:
    """Zero-shot transfer of a model that a Stable-Baselines3 script saved. --domain names the world: maze or car."""
    named, rest = take("domain", args)
    world = "maze" if named is None else named
    choose("world", {name: DOMAINS[name] for name in DOMAINS}, "eval --sb3 MODEL --domain", [world])
    if {"-h", "--help"} & set(rest):
        rest = ["--help"]
    domain = DOMAINS[world](**_AS_IN_GYMNASIUM.get(world, {}))
    options = options_of(
        "eval",
        rest,
        eval_model.__doc__ or "",
        sb3=(Path | None, None, "What `model.save` wrote."),
        trust=(bool, False, "Load it, though loading runs code that the file holds."),
        algorithm=(Literal[tuple(ALGORITHMS)] | None, None, "What made it; by default what it looks like."),
        domain=(type(domain), domain, "The world as the model knows it."),
        suite=(str | None, None, "The suite; by default its world's first. `clutr list suites` names them."),
        episodes=(int, 100, "Episodes a level."),
        deterministic=(bool, False, "Take the most probable action instead of sampling."),
        seed=(int, 1, "Seed of levels and actions."),
        tracks=(Path | None, None, "Directory of the circuits' GeoJSON files, for --suite f1."),
        json=(bool, False, "Print one JSON object for machines."),
    )
    if not options.trust:
        raise RunError(UNTRUSTED)
    if options.episodes < 1:
        raise RunError("episodes must be at least 1")
    if options.tracks is not None:
        use_tracks(options.tracks)
    suite = require_suite(options.domain, options.suite)
    spaces = _spaces(suite)
    try:
        policy, algorithm = load_policy(options.sb3, *spaces, options.algorithm)
    except (ModelError, ImportError) as error:
        raise RunError(str(error)) from error
    with nullcontext() if options.json else work_display(f"playing {suite.name}") as progress:
        rng = torch.Generator().manual_seed(options.seed)
        evaluation = evaluate(
            policy, suite, options.episodes, rng, deterministic=options.deterministic, progress=progress
        )
    result = evaluation.to_json(str(options.sb3))
    result["summary"] |= {"algorithm": algorithm, "domain": dataclasses.asdict(options.domain)}
    if options.json:
        print(json.dumps(result))
        return
    console.print(evaluation_table({options.sb3.name: result}))


def _spaces(suite: Any) -> tuple[Any, Any]:
    """Of one environment of the suite."""
    engine = suite.tasks[0].engine(1)
    return engine.observation_space, engine.action_space
