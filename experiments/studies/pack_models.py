"""Pack trained models as those that ship: weights without optimisers, and a card with what was measured on them.

    python -m clutr.experiments.studies.pack_models RUNS [NAME...] --commit HASH [--note NAME=TEXT ...]

RUNS holds a run's directory for each student and each world model (`RUNS/maze-dr` for `maze-dr@best`) and the folder
`manifolds`. What is not trained there is left out, with a line. Each model is measured as it ships; half precision is
taken where the model stays inside the interval that it has in full precision. `docs/models.md` is written anew.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from clutr.curricula.base import CURRICULA
from clutr.envs.domain import DOMAINS
from clutr.envs.randomness import named_generator
from clutr.experiments import pretrained
from clutr.experiments.config import Experiment, to_plain, to_yaml
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.evaluation.runs import require_suite, student_of
from clutr.experiments.pretrained import Card, Kind, Precision, half_precision
from clutr.experiments.reports.world_model_report import evaluate_world_model
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, load_state, save_state, write_atomically
from clutr.experiments.studies.model_cards import models_page
from clutr.experiments.training.lookup import manifold_experiment, manifold_presets
from clutr.experiments.training.manifolds import manifold_path
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.world_model import config as world_config
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, backbone_path, memory_path
from clutr.manifold.health import measure
from clutr.world_model.backbones.base import BACKBONES
from clutr.world_model.cores.base import CORES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
SUITES = {"maze": "accel12", "car": "bezier-heldout"}
"""Where students are measured."""
EPISODES = {"maze": 100, "car": 10}
"""A level."""
STUDENT_PARTS = ("network", "normaliser")
"""Of a student's state: what it needs to act."""
TASKS = 2_000
"""Fresh tasks on which task manifolds are measured, as in pretraining."""
RECORDED_STEPS = 8_000
"""About so many are recorded when a world model is opened, on levels of its own."""
OTHER_LEVELS = 1_000_000
"""Added to the seed of a world model, for that recording."""


@dataclass(frozen=True)
class Recipe:
    """Where one model comes from."""

    kind: Kind
    preset: str
    """Of the run, of the world model, or of the manifold, then after the domain: `maze/fast`."""


RECIPES: dict[str, Recipe] = {
    "maze-recurrent@best": Recipe("manifold", "maze/recurrent"),
    "maze-set@best": Recipe("manifold", "maze/fast"),
    "car-recurrent@best": Recipe("manifold", "car/recurrent"),
    "car-set@best": Recipe("manifold", "car/fast"),
    "maze-dr@best": Recipe("student", "maze-dr"),
    "maze-clutr@best": Recipe("student", "maze-clutr"),
    "maze-accel@best": Recipe("student", "maze-accel"),
    "car-dr@best": Recipe("student", "car-dr"),
    "car-paired@best": Recipe("student", "car-paired"),
    "car-clutr@best": Recipe("student", "car-clutr"),
    "car-world@best": Recipe("world-model", "car-fast"),
    "maze-world@best": Recipe("world-model", "maze"),
}


def pack(name: str, recipe: Recipe, runs: Path, commit: str, note: str = "") -> Card:
    """Write the weights and the card of one model. Raises `RunError` if it is not trained."""
    packer = {"manifold": _manifold, "student": _student, "world-model": _world_model}[recipe.kind]
    about, state, precision = packer(name, recipe, runs)
    weights = pretrained.models_folder() / f"{name}.safetensors"
    save_state(weights, state)
    made = Card(
        name=name,
        kind=recipe.kind,
        commit=commit,
        note=note,
        precision=precision,
        size=weights.stat().st_size,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        **about,
    )
    write_atomically(weights.with_suffix(".json"), (json.dumps(asdict(made), indent=1) + "\n").encode())
    return made


def first_line(kind: type) -> str:
    """The first line of a class's documentation, without its full stop."""
    return (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _manifold(name: str, recipe: Recipe, runs: Path) -> tuple[dict[str, Any], dict[str, Any], Precision]:
    domain, _, preset = recipe.preset.partition("/")
    experiment = manifold_experiment(domain, preset)
    path = manifold_path(experiment, runs / "manifolds")
    if not path.exists():
        raise RunError(f"{name} is not trained: there is no {path}")
    state = load_state(path)
    rounded = _rounded_manifold(experiment, state)
    low, high = _binomial(state["measured"]["recovery"]["task_exact"], TASKS)
    fits = low <= rounded["measured"]["recovery"]["task_exact"] <= high
    if fits:
        state = rounded
    health = {"recovery_at_25": state["measured"]["recovery"], **state["measured"]}
    figures = {
        "goal and agent right": health["recovery_at_25"].get("tail_exact"),
        "cells found": health["recovery_at_25"]["set_recall"],
        "cells that belong": health["recovery_at_25"]["set_precision"],
        "agreement of points and the codes of their levels": health["prior_uniform"]["agreement"],
        "valid": health["prior_uniform"]["validity"],
    }
    recovered = health["recovery"]["task_exact"]
    options = experiment.manifold
    about = {
        "domain": domain,
        "about": f"{domain} task manifold ({preset}): {first_line(type(options))}",
        "command": f"clutr pretrain {domain} --preset {preset} --seed {experiment.manifold_seed}",
        "seed": experiment.manifold_seed,
        "steps": getattr(options, "iterations", 0),
        "config": to_yaml(experiment),
        "measured": {
            "what": "fresh tasks that come back whole",
            "value": recovered,
            "interval": _binomial(recovered, TASKS),
            "more": {what: value for what, value in figures.items() if value is not None},
        },
        "identity": path.name,
    }
    return about, {"manifold": state}, "float16" if fits else "float32"


def _rounded_manifold(experiment: Experiment, state: Mapping[str, Any]) -> dict[str, Any]:
    """A pretrained manifold in half precision, with the health that it has then."""
    assert experiment.manifold is not None
    manifold: Any = experiment.manifold.build(experiment.domain, experiment.manifold_seed)
    rounded: dict[str, Any] = half_precision(state)
    manifold.load_state_dict(pretrained.full_precision(rounded))
    return {**rounded, "measured": measure(manifold, named_generator(experiment.manifold_seed, "health"), TASKS)}


def _binomial(share: float, n: int) -> list[float]:
    """A 95 % interval of a share of n (Wilson)."""
    z = 1.96
    middle, half = share + z**2 / (2 * n), z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return [(middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)]


def _student(name: str, recipe: Recipe, runs: Path) -> tuple[dict[str, Any], dict[str, Any], Precision]:
    run = RunDirectory(runs / name.partition("@")[0])
    checkpoint, _ = run.load_checkpoint()
    if checkpoint is None:
        raise RunError(f"{name} is not trained: {run.path} has no checkpoint")
    student = next(iter(checkpoint["students"]))
    state = checkpoint["students"][student]
    parts = {part: value for part, value in state.items() if part in STUDENT_PARTS}
    if (average := state.get("average")) and average["updates"]:
        parts["network"] = average["network"]
    kept = {key: checkpoint[key] for key in ("update", "steps", "config")}
    domain = DOMAINS.name_of(type(run.domain()))
    suite, states = require_suite(run.domain(), SUITES[domain]), {}
    for precision, rounded in (("float32", parts), ("float16", {**parts, "network": half_precision(parts["network"])})):
        states[precision] = {**kept, "students": {student: rounded}}
    measured = {}
    for precision, state in states.items():
        policy, _ = student_of(run, pretrained.full_precision(state))
        found = evaluate(policy, suite, EPISODES[domain], torch.Generator().manual_seed(1))
        summary = found.to_json(name)["summary"]
        figure = f"mean_{suite.metric}"
        measured[precision] = {
            "what": "solved" if suite.metric == "solved" else "mean return",
            "value": summary[figure],
            "interval": summary[f"{figure}_interval"],
            "suite": suite.name,
            "episodes": EPISODES[domain],
            "more": {"IQM over levels": summary[f"iqm_{suite.metric}"]},
        }
    low, high = measured["float32"]["interval"]
    best: Precision = "float16" if low <= measured["float16"]["value"] <= high else "float32"
    shipped = [each for each, recipe in RECIPES.items() if recipe.kind == "manifold"]
    about = {
        "domain": domain,
        "about": f"{domain} student ({CURRICULA.name_of(type(run.experiment.curriculum))}): "
        + first_line(type(run.experiment.curriculum)),
        "command": command_of(recipe.preset, run.experiment, checkpoint["steps"]),
        "seed": run.experiment.seed,
        "steps": checkpoint["steps"],
        "config": to_yaml(run.experiment),
        "measured": measured[best],
        "manifold": _same_manifold(run.experiment, shipped),
    }
    return about, {pretrained.CHECKPOINT: states[best]}, best


def _same_manifold(experiment: Experiment, names: Iterable[str]) -> str:
    """The packed manifold on which an experiment was run, or nothing."""
    if experiment.manifold is None:
        return ""
    identity, known = manifold_path(experiment, Path()).name, pretrained.cards()
    return next((name for name in names if name in known and known[name].identity == identity), "")


def command_of(preset: str, experiment: Experiment, steps: int) -> str:
    """The command that trains an experiment: the preset, and every option in which the two differ."""
    begins, base = [f"clutr train {preset} --seed {experiment.seed}"], PRESETS[preset]
    if experiment.manifold != base.manifold:
        known = manifold_presets(DOMAINS.name_of(type(experiment.domain)))
        begins += [f"--manifold {name}" for name, manifold in known.items() if manifold == experiment.manifold][:1]
        base = replace(base, manifold=experiment.manifold)
    before, after = (_flat(to_plain(each)) for each in (base, replace(experiment, total_steps=steps)))
    options = [f"--{option.replace('_', '-')} {value}" for option, value in after.items() if before[option] != value]
    return " ".join([*begins, *(o for o in options if o[:7] != "--seed ")])


def _flat(plain: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        flat |= _flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return flat


def _world_model(name: str, recipe: Recipe, runs: Path) -> tuple[dict[str, Any], dict[str, Any], Precision]:
    run = WorldModelRun(runs / name.partition("@")[0])
    paths = {memory: memory_path(run, memory) for memory in MEMORIES}
    if not all(path.exists() for path in [backbone_path(run), *paths.values()]):
        raise RunError(f"{name} is not trained: {run.path} lacks its backbone or a memory")
    backbone, memories = load_state(backbone_path(run)), {each: load_state(path) for each, path in paths.items()}
    unneeded = ("optimiser", "rng", "config")
    state = {backbone_path(run).stem: {part: half_precision(v) for part, v in backbone.items() if part not in unneeded}}
    for memory, whole in memories.items():
        kept = {part: whole[part] for part in ("scale", "history", "best_epoch")}
        state[paths[memory].stem] = kept | {"best": half_precision(whole["best"])}
    experiment = run.experiment
    record = replace(experiment.record, episodes=max(16, RECORDED_STEPS // experiment.record.length))
    record = replace(record, num_envs=min(record.num_envs, record.episodes))
    small = replace(experiment, record=record, recording="", seed=experiment.seed + OTHER_LEVELS)
    dreams = _dreams(run, state)
    horizon = dreams["latents"][MEMORIES[0]]["valid_horizon"]
    nrmse, control = (dreams["latents"][memory]["nrmse"] for memory in MEMORIES)
    far = [step for step in dreams["horizons"] if step <= len(nrmse)]
    domain = DOMAINS.name_of(type(experiment.domain))
    parts = BACKBONES.name_of(type(experiment.backbone)), CORES.name_of(type(experiment.memory.core))
    about = {
        "domain": domain,
        "about": f"{domain} world model: {parts[0]} backbone, {parts[1]} core, {experiment.record.episodes} episodes",
        "command": f"clutr world record --preset {recipe.preset} --seed {experiment.seed}; clutr world train",
        "seed": experiment.seed,
        "steps": memories[MEMORIES[0]]["best_epoch"],
        "config": world_config.to_yaml(small),
        "measured": {
            "what": "steps until a dream's error exceeds 0.4 (median; NRMSE of latents)",
            "value": horizon["value"],
            "interval": horizon["interval"],
            "more": {f"NRMSE {step} steps ahead": nrmse[step - 1] for step in far}
            | {f"untrained core {step} steps ahead": control[step - 1] for step in far[-1:]}
            | {"windows of test episodes": dreams["windows"]},
        },
    }
    return about, state, "float16"


def _dreams(run: WorldModelRun, state: Mapping[str, Any]) -> dict[str, Any]:
    """What the dreams of the packed weights are worth on the test episodes of the run's recording."""
    with tempfile.TemporaryDirectory() as folder:
        experiment = replace(run.experiment, recording=str(run.dataset_path.absolute()))
        rounded = WorldModelRun.create(Path(folder) / "world", experiment)
        for part, value in state.items():
            save_state(rounded.path / f"{part}.safetensors", pretrained.full_precision(value))
        return evaluate_world_model(rounded)[0]


def pack_all(names: Sequence[str], runs: Path, commit: str, notes: Mapping[str, str]) -> None:
    """Pack what is trained under `runs`, a line each."""
    for name in names:
        try:
            made = pack(name, RECIPES[name], runs, commit, notes.get(name, ""))
        except RunError as error:
            print(f"left out: {name}: {error}", flush=True)
        else:
            print(f"{name}: {pretrained.in_words(made.measured)}; {made.size:,} bytes, {made.precision}", flush=True)


def main() -> None:
    """Pack what the command line names, or everything that is trained."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--commit", required=True, help="of the code that trained them")
    parser.add_argument("--note", action="append", default=[], metavar="NAME=TEXT")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    notes = dict(note.split("=", 1) for note in arguments.note)
    unknown = [name for name in [*arguments.names, *notes] if name not in RECIPES]
    if unknown:
        sys.exit(f"error: no recipe is called {', '.join(unknown)}")
    pack_all(arguments.names or list(RECIPES), arguments.runs, arguments.commit, notes)
    PAGE.write_text(models_page(pretrained.cards()))


if __name__ == "__main__":
    main()
