"""What happens elsewhere is what would have happened here."""

import importlib
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray_cluster import Machine
from ray_environments import (
    MAZES,
    NUM_ENVS,
    PIXELS,
    RECURRENT,
    distributed,
    native,
    needs_ray,
    play,
    processes,
    unequal,
)

from clutr.agents.backend import NativeBackend
from clutr.agents.ppo import PPOOptions
from clutr.agents.rllib import RLlibBackend
from clutr.curricula.base import CURRICULA
from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import Domain
from clutr.experiments.config import Experiment
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training import many_runs
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.runner import Runner
from clutr.manifold.set_vae import SetVAEConfig

pytestmark = needs_ray

ROUNDED = ["log_probs", "values", "next_values", "advantages"]
"""Columns that rounding touches where matrices have other shapes."""
CARS = CarDomain(max_frames=16)


EVERYONE = ("student", "protagonist", "antagonist", "antagonist-1", "antagonist-2")
"""The students of these tests and of all curricula: runners that know them all serve every test."""


def _playing(settings: Any) -> tuple[PPOOptions, set[str]]:
    """What runners know of their students: options, with those of learning left out, and names."""
    specs = settings.env_config["modules"].rl_module_specs
    config = next(iter(specs.values())).model_config["config"]
    return replace(config, epochs=1, minibatches=1, learning_rate=1.0, learning_rate_schedule="constant"), set(specs)


@pytest.fixture(scope="module", autouse=True)
def kept_runners(head: Machine) -> Iterator[None]:
    """Runners go on to the next test that needs such: one takes seconds to start, and remembers no student.

    A test that needs more than there are has others join them, so those that need few come first.
    """
    module, kept = importlib.import_module("clutr.agents.rllib.cluster"), list[tuple[Any, Any]]()
    make = module.EnvRunnerGroup

    def reuse(config: Any, **options: Any) -> Any:
        (playing, names), domain = _playing(config), config.env_config["domain"]
        for known, group in kept:
            alike, others = _playing(known)
            missing = config.num_env_runners - group.num_remote_env_runners()
            if alike == playing and names <= others and known.env_config["domain"] == domain and missing >= 0:
                if missing:
                    group.add_workers(missing)
                return group
        kept.append((config, make(config=config, **options)))
        return kept[-1][-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EnvRunnerGroup", reuse)
        yield
    for _, group in kept:
        group.stop()


def elsewhere_of(config: PPOOptions = RECURRENT, domain: Domain = MAZES, **options: Any) -> Any:
    """A student in other processes, who share two processors."""
    return distributed(config, domain, EVERYONE, cpus_per_runner=0.1, cpus_per_learner=0.1, **options)


def furthest(left: Any, right: Any) -> float:
    """The greatest difference between two students' weights."""
    weights = [student.state_dict()["network"] for student in (left, right)]
    return max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])


def test_runs_are_tasks_with_a_log_and_a_status_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.create(tmp_path / "dr-s1", PRESETS["maze-dr-debug"])
    monkeypatch.setenv("CLUTR_MANIFOLDS", str(tmp_path))
    code = "import os, sys; print(os.environ['CLUTR_MANIFOLDS']); sys.exit(int(sys.argv[1]))"
    for status in (0, 3):
        monkeypatch.setattr(many_runs, "command", lambda *_, status=status: [sys.executable, "-c", code, str(status)])
        task = many_runs.on_ray("local", 1)(run)
        while (ended := task.poll()) is None:
            time.sleep(0.02)
        assert (ended, many_runs.last_words(run)) == (status, str(tmp_path))
    code = "import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: sys.exit('ended'))\n"
    code += "print('begun', flush=True)"
    monkeypatch.setattr(many_runs, "command", lambda *_: [sys.executable, "-c", f"{code}\ntime.sleep(60)"])
    task = many_runs.on_ray("local", 1)(run)
    while many_runs.last_words(run) != "begun":
        time.sleep(0.02)
    task.interrupt()
    while task.poll() is None:
        time.sleep(0.02)
    assert many_runs.last_words(run) == "ended", "it could write its checkpoint"


def test_all_on_one_runner_is_the_native_student_bit_for_bit() -> None:
    """Rollouts, updates, and everything in the checkpoint, over three updates; a part of the levels is not learnt."""
    options = replace(RECURRENT, minibatches=2, learning_rate_schedule="linear", ema_decay=0.5)
    here, there = native(options), elsewhere_of(options, runners=1)
    train = torch.tensor([True, True, False, True, True, True])
    for seed in range(3):
        played, elsewhere = play(here, seed), play(there, seed)
        assert unequal(played, elsewhere) == []
        here.schedule(seed / 3)
        there.schedule(seed / 3)
        assert here.learn(played, train) == there.learn(elsewhere, train)
    states = here.state_dict(), there.state_dict()
    assert furthest(here, there) == 0
    for name in ("action_rng", "batch_rng"):
        assert torch.equal(states[0][name], states[1][name])
    for index, slots in states[0]["optimiser"]["state"].items():
        for name, value in slots.items():
            assert torch.equal(value, states[1]["optimiser"]["state"][index][name])
    for name, value in here.evaluated().network.state_dict().items():
        assert torch.equal(value, there.evaluated().network.state_dict()[name])
        assert not torch.equal(value, states[0]["network"][name])
    assert there.learn(elsewhere, torch.zeros(NUM_ENVS, dtype=torch.bool)) == {}
    assert furthest(here, there) == 0


def test_pictures_and_continuous_actions() -> None:
    """One shard is the native student, whose rewards are normalised over all environments at once."""
    here, there = native(PIXELS, CARS), elsewhere_of(PIXELS, CARS, runners=1)
    for seed in range(2):
        played, elsewhere = play(here, seed, CARS), play(there, seed, CARS)
        assert unequal(played, elsewhere) == []
        assert here.learn(played) == there.learn(elsewhere)
    assert torch.equal(here.state_dict()["normaliser"]["moments"], there.state_dict()["normaliser"]["moments"])

    # several shards draw from generators of their own, whoever plays them
    alike = elsewhere_of(PIXELS, CARS, runners=1, shards=2)
    expected = [play(alike, seed, CARS) for seed in range(2)]
    parted = elsewhere_of(PIXELS, CARS, runners=2)
    for seed in range(2):
        assert unequal(play(parted, seed, CARS), expected[seed]) == []
    assert torch.equal(parted.state_dict()["normaliser"]["moments"], alike.state_dict()["normaliser"]["moments"])


@pytest.fixture(scope="module")
def two_learners(kept_runners: None) -> Any:
    """Processes that know a student only as long as it is told them."""
    return elsewhere_of(runners=1, learners=2).cluster


@pytest.mark.parametrize(("learners", "trained"), [(1, 6), (2, 5)])
def test_several_learners_do_as_one(learners: int, trained: int, request: pytest.FixtureRequest) -> None:
    """Also with an uneven split."""
    here, there = native(), elsewhere_of(runners=1, learners=1) if learners == 1 else taught(request)
    train = torch.arange(NUM_ENVS) < trained
    for seed in range(2):
        played, elsewhere = play(here, seed), play(there, seed)
        one, several = here.learn(played, train), there.learn(elsewhere, train)
        assert one.keys() == several.keys()
        for name, value in one.items():
            assert several[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    assert furthest(here, there) == 0 if learners == 1 else furthest(here, there) < 1e-5


def taught(request: pytest.FixtureRequest, config: PPOOptions = RECURRENT) -> Any:
    """A new student of the two learners."""
    from clutr.agents.rllib.student import RLlibStudent  # noqa: PLC0415

    return RLlibStudent("student", native(config), request.getfixturevalue("two_learners"))


def test_minibatches_of_two_learners_learn(request: pytest.FixtureRequest) -> None:
    """Each mixes its own environments, with as many gradient steps as one learner; here one has no sample for some."""
    config = replace(RECURRENT, minibatches=2, learning_rate=1e-2)
    student, again = taught(request, config), taught(request, config)  # learners know what they are told
    use_options(student, config)
    for one in (student, again):
        metrics = one.learn(play(one), torch.arange(NUM_ENVS) < 3)
        assert metrics["gradient_steps"] == config.epochs * 2
        assert metrics["gradient_norm"] > 0
    assert furthest(student, native(config)) > 1e-3
    assert furthest(student, again) == 0
    use_options(student, RECURRENT)


def use_options(student: Any, config: PPOOptions) -> None:
    """Have the learners learn with other options than those that they were made with."""

    def use(learner: Any) -> None:
        learner.student("student").config = config

    student.cluster.learners.foreach_learner(use)


def test_when_a_learner_dies_others_take_over_where_they_were(request: pytest.FixtureRequest) -> None:
    import ray  # noqa: PLC0415

    here, there = native(), taught(request)
    train = torch.arange(NUM_ENVS) < 5
    for seed in range(2):
        played, elsewhere = play(here, seed), play(there, seed)
        here.learn(played, train)
        there.learn(elsewhere, train)
        if seed == 0:
            ray.kill(there.cluster.learners._workers[1])
    assert there.cluster.learner_generation == 1
    assert furthest(here, there) < 1e-5


def test_a_runner_plays_what_it_is_given() -> None:
    """It says which levels it played, and what RLlib asks of every runner."""
    from clutr.agents.rllib.runner import LevelEnvRunner  # noqa: PLC0415
    from clutr.agents.rllib.serialization import pack, pack_levels  # noqa: PLC0415

    student = elsewhere_of(runners=1)
    runner = LevelEnvRunner(config=student.cluster.settings, worker_index=1)
    levels = MAZES.sample(3, torch.Generator().manual_seed(0))[torch.tensor([0, 1, 2, 0, 1, 2])]
    result = runner.sample(
        student="student",
        weights=pack(dict(student.local.network.state_dict())),
        levels=pack_levels(levels),
        envs=NUM_ENVS,
        first=0,
        total=NUM_ENVS,
        rng=pack(student.local.action_rng.get_state()),
    )
    assert result["keys"] == levels.key()
    assert runner.get_metrics() == {"num_env_steps_sampled_lifetime": 24 * NUM_ENVS}
    assert set(runner.get_spaces()) == set(EVERYONE)


def test_errors_of_a_runner_are_told_at_once() -> None:
    student = elsewhere_of(runners=1)
    with pytest.raises(ValueError, match="4 levels cannot be shared evenly by 6 environments"):
        student.rollout(MAZES.engine(NUM_ENVS), MAZES.sample(4, torch.Generator()))
    wrong = replace(MAZES, height=7).sample(NUM_ENVS, torch.Generator())
    with pytest.raises(RuntimeError, match=r"a runner failed:(.|\n)*the engine plays mazes of 5 rows"):
        student.rollout(MAZES.engine(NUM_ENVS), wrong)
    play(student)  # and the runner lives on


SMALL: dict[str, Any] = {
    "capacity": 6,
    "minimum_fill": 0.5,
    "replay_probability": 0.6,
    "candidates": 4,
    "environments": 2,
    "kept": 2,
    "train_updates": 1,
    "fit_every": 4,
    "window": 12,
    "filters": 2,
    "recurrent": 8,
}


def train(name: str, backend: Any, path: Path) -> RunDirectory:
    """A short run with a curriculum."""
    kind = CURRICULA[name]
    options = {field.name: SMALL[field.name] for field in fields(kind) if field.name in SMALL}  # type: ignore[arg-type]
    experiment = Experiment(
        domain=MAZES,
        curriculum=kind(**options),
        student=replace(RECURRENT, epochs=1),
        manifold=SetVAEConfig(hidden=8, latent=6, refinements=1),
        backend=backend,
        num_envs=4,
        total_steps=4 * 4 * RECURRENT.rollout_steps,
        evaluate_every=0,
        record_every=2,
    )
    run = RunDirectory.create(path, experiment)
    assert experiment.manifold is not None
    assert Runner(run, experiment.manifold.build(MAZES, 1)).train()
    return run


@pytest.mark.parametrize("name", list(CURRICULA))
def test_every_curriculum_trains_as_it_does_here(name: str, tmp_path: Path) -> None:
    """Metrics are the same bytes: levels, outcomes, regret, losses."""
    here = train(name, NativeBackend(), tmp_path / "here")
    there = train(name, RLlibBackend(runners=1, cpus_per_runner=0.1), tmp_path / "there")
    assert (here.path / "metrics.csv").read_bytes() == (there.path / "metrics.csv").read_bytes()
    assert [record.levels.key() for record in here.proposals()] == [record.levels.key() for record in there.proposals()]


def test_transitions_do_not_depend_on_the_number_of_runners() -> None:
    """Each environment does the same, step by step, however levels are split; only rounding may differ."""
    here, alone = play(native()), play(elsewhere_of(runners=1, shards=4))
    student = elsewhere_of(runners=2, shards=4)
    there = play(student)
    assert set(unequal(here, there)) <= set(ROUNDED)
    for name in ROUNDED:
        torch.testing.assert_close(getattr(here, name), getattr(there, name), rtol=1e-5, atol=1e-6)
    assert len(set(processes(student))) == 2
    ledger = student.cluster.ledger
    assert ledger.balanced
    assert (ledger.given, ledger.lost, ledger.doubled) == (NUM_ENVS, 0, 0)
    assert unequal(alone, there) == [], "the same shards on fewer runners: the same bits"


def test_levels_that_follow_each_other_are_shared_out_with_their_environments() -> None:
    levels = MAZES.sample(3 * NUM_ENVS, torch.Generator().manual_seed(5))
    here, there = (
        student.rollout(MAZES.engine(NUM_ENVS), levels) for student in (native(), elsewhere_of(runners=1, shards=4))
    )
    assert int(here.episode_starts.sum(0).min()) >= 2, "the test needs episodes that end"
    assert set(unequal(here, there)) <= set(ROUNDED)
