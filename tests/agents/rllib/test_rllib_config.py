"""What can be set, what is said when it cannot, and what travels; all without Ray."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ray_environments import MAZES, RECURRENT, native, play, students, unequal

from clutr.agents.backend import BACKENDS, NativeBackend
from clutr.agents.distributions import Categorical, ScaledBeta
from clutr.agents.rllib import RLlibBackend, config
from clutr.agents.rllib.serialization import (
    generator,
    pack,
    pack_levels,
    pack_trajectories,
    select,
    unpack,
    unpack_levels,
    unpack_trajectories,
)
from clutr.agents.rllib.shards import Shard
from clutr.agents.sb3 import SB3PPOConfig
from clutr.experiments.cli.runs import with_parts
from clutr.experiments.config import from_yaml, method_of, to_plain, to_yaml
from clutr.experiments.training.presets import PRESETS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runners": 0}, "runners must be at least 1, got 0"),
        ({"learners": -1}, "learners must be at least 0, got -1"),
        ({"shards": -2}, "shards must be at least 0, got -2"),
        ({"object_store_mb": 10}, "object_store_mb must be at least 80, got 10"),
        ({"cpus_per_runner": 0.0}, "cpus_per_runner must be above 0, got 0.0"),
        ({"timeout": -1.0}, "timeout must be above 0, got -1.0"),
        ({"gpus_per_learner": -1.0}, "gpus_per_learner must be at least 0, got -1.0"),
        ({"gpus_per_learner": 1.0}, "gpus_per_learner needs learners, and there are 0 of them"),
        ({"address": ""}, "address must be local, auto, or that of a cluster's head"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RLlibBackend(**options)


def test_experiments_that_it_cannot_train() -> None:
    with pytest.raises(ValueError, match="the backend rllib trains the students ppo and pixel-ppo, not a SB3PPOConfig"):
        students(RLlibBackend(), SB3PPOConfig())  # type: ignore[arg-type]
    engine = MAZES.engine(2)
    with pytest.raises(ValueError, match=r"gives GPUs to learners \(gpus_per_learner\); device is cuda, not cpu"):
        RLlibBackend().students(RECURRENT, ("student",), MAZES, engine, 1, torch.device("cuda"))


def test_without_ray_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.rllib", None)
    with pytest.raises(ImportError, match=r'the backend rllib needs Ray: install it with `pip install "clutr'):
        config.require_ray()


def test_the_backend_is_part_of_an_experiment_but_not_of_its_method() -> None:
    assert list(BACKENDS) == ["native", "rllib"]
    here = PRESETS["maze-dr"]
    assert here.backend == NativeBackend()
    there = replace(here, backend=RLlibBackend(runners=3, learners=2, address="auto"))
    assert from_yaml(to_yaml(there)) == there
    assert method_of(to_plain(here)) == method_of(to_plain(there))
    old = {name: value for name, value in to_plain(here).items() if name != "backend"}  # a run from before
    assert method_of(old) == method_of(to_plain(here))


def test_options_of_the_command_line() -> None:
    preset = PRESETS["maze-dr"]
    args = ["--seed", "2", "--backend", "rllib", "--address=auto", "--runners", "3", "--learners", "2"]
    chosen, rest = with_parts(preset, args)
    assert chosen == replace(preset, backend=RLlibBackend())
    expected = ["--seed", "2", "--backend.address=auto", "--backend.runners", "3", "--backend.learners", "2"]
    assert rest == expected
    assert with_parts(preset, ["--backend=rllib"])[0].backend == RLlibBackend()
    assert with_parts(preset, ["--seed", "2"]) == (preset, ["--seed", "2"])


def test_payloads_come_back_as_they_were() -> None:
    state = native().state_dict()
    again = unpack(pack(state))
    assert again["optimiser"]["param_groups"] == state["optimiser"]["param_groups"]
    for name, value in state["network"].items():
        assert torch.equal(again["network"][name], value)
        again["network"][name].zero_()  # a copy, which may be written to
    assert float(state["network"]["core.weight_hh_l0"].abs().sum()) > 0

    levels = MAZES.sample(3, torch.Generator().manual_seed(0))
    payload = pack_levels(levels)
    assert unpack_levels(payload).key() == levels.key() == payload["keys"]
    payload["tensors"]["walls"] = ~payload["tensors"]["walls"]
    with pytest.raises(RuntimeError, match="levels arrived that are not those of their keys"):
        unpack_levels(payload)

    played = play(native())
    parts = [select(played, envs) for envs in torch.arange(6).tensor_split(4)]
    assert [part.rewards.shape[1] for part in parts] == [2, 2, 1, 1]
    assert unequal(unpack_trajectories([pack_trajectories(part) for part in parts]), played) == []


class Fixed:
    """A network of one policy."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def step(self, _: Any, state: Any) -> Any:
        return self.policy, torch.zeros(2), state


def test_a_shard_draws_the_numbers_of_its_environments() -> None:
    """Five environments with even odds of two actions; the shard has the third and the fourth."""
    rng, alike = (generator(torch.Generator().manual_seed(5).get_state().numpy()) for _ in range(2))
    shard = Shard(Fixed(Categorical(torch.full((2, 2), 0.5).log())), 2, 5)  # type: ignore[arg-type]
    for _ in range(3):
        actions = shard.step({}, torch.zeros(2))[0].sample(rng)
        assert actions.tolist() == (torch.rand(5, generator=alike)[2:4] >= 0.5).int().tolist()
    assert torch.equal(rng.get_state(), alike.get_state())


def test_a_shard_of_continuous_actions_has_a_generator_of_its_own() -> None:
    """All shards leave the student's generator in the same state, and draw different numbers."""
    ones = torch.ones(2, 3)
    policy = ScaledBeta(2 * ones, 2 * ones, torch.zeros(3), torch.ones(3))
    states, draws = [], []
    for first in (0, 2, 2):
        rng = torch.Generator().manual_seed(5)
        shard = Shard(Fixed(policy), first, 4)  # type: ignore[arg-type]
        draws.append(torch.cat([shard.step({}, torch.zeros(2))[0].sample(rng) for _ in range(2)]).numpy())
        states.append(rng.get_state())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], torch.Generator().manual_seed(5).get_state())
    assert not np.array_equal(draws[0], draws[1])
    assert np.array_equal(draws[1], draws[2])
    assert len(np.unique(draws[1])) == draws[1].size
