"""The average of a student's weights: worked numbers, what sees it and what does not, checkpoints with and without."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import CountdownEngine, CountdownLevels
from torch import nn

from clutr.agents.ppo import PPOConfig, PPOStudent
from clutr.agents.student import as_evaluated
from clutr.agents.weight_average import WeightAverage
from clutr.experiments.cli.main import main
from clutr.experiments.evaluation.runs import load_student
from clutr.experiments.run_directory import RunDirectory

CONFIG = PPOConfig(rollout_steps=6, hidden=8, head=4, torso="symbols", torso_width=8, learning_rate=0.01)


def make(ema_decay: float) -> PPOStudent:
    engine = CountdownEngine(1)
    options = replace(CONFIG, ema_decay=ema_decay)
    return options.build(engine.observation_space, engine.action_space, 1, "student")


def learn(student: PPOStudent, updates: int = 1) -> None:
    for _ in range(updates):
        student.learn(student.rollout(CountdownEngine(4), CountdownLevels(torch.tensor([2, 3, 4, 9]))))


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def weights(student: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in student.network.state_dict().items()}


def test_worked_numbers() -> None:
    """Decays of 0, 1/10, 2/11, and so on until they reach the option's."""
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, decay=0.15)
    found = []
    for weight in (1.0, 2.0, 4.0, 4.0):
        nn.init.constant_(network.weight, weight)
        average.follow(network)
        found.append(average.network.weight.item())
    second = 0.1 * 1 + 0.9 * 2
    third = 0.15 * second + 0.85 * 4  # 2/11 would be more than .15
    assert found == pytest.approx([1.0, second, third, 0.15 * third + 0.85 * 4])
    assert not average.network.weight.requires_grad


def test_counts_are_taken_as_they_are() -> None:
    network = nn.BatchNorm1d(1)
    average = WeightAverage(network, decay=0.9)
    for _ in range(3):
        network(torch.randn(4, 1))
        average.follow(network)
    assert int(average.network.state_dict()["num_batches_tracked"]) == 3


def test_it_is_seen_in_evaluation_and_learning_does_not_know_of_it() -> None:
    plain, averaged = make(0.0), make(0.9)
    assert as_evaluated(averaged) is averaged, "of nothing that was learnt there is no average"
    followed = WeightAverage(plain.network, 0.9)
    for _ in range(3):
        learn(plain)
        learn(averaged)
        followed.follow(plain.network)
    assert equal(weights(plain), weights(averaged))
    assert as_evaluated(plain) is plain
    assert equal(weights(as_evaluated(averaged)), weights(followed))
    assert not equal(weights(as_evaluated(averaged)), weights(averaged))
    observation = CountdownEngine(4).reset(CountdownLevels(torch.tensor([2, 3, 4, 9])))
    rng = torch.Generator().manual_seed(1)
    _, state = as_evaluated(averaged).act(observation, plain.initial_state(4), rng)
    assert torch.equal(state, followed.network.step(observation, plain.initial_state(4))[2])


def test_it_goes_on_from_a_checkpoint() -> None:
    whole, first, second = make(0.9), make(0.9), make(0.9)
    learn(whole, 3)
    learn(first, 2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    learn(second)
    assert equal(weights(as_evaluated(whole)), weights(as_evaluated(second)))


def test_a_checkpoint_without_an_average_begins_one_and_one_with_it_needs_none() -> None:
    plain, averaged = make(0.0), make(0.9)
    learn(plain, 2)
    state = copy.deepcopy(plain.state_dict())
    del state["average"]  # as before there was one
    averaged.load_state_dict(state)
    assert as_evaluated(averaged) is averaged
    learn(averaged)
    learn(plain)
    assert equal(weights(as_evaluated(averaged)), weights(plain)), "the first update is all of it"
    learn(averaged)
    other = make(0.0)
    other.load_state_dict(copy.deepcopy(averaged.state_dict()))
    assert other.average is None
    assert as_evaluated(other) is other


def test_options_out_of_range_are_refused() -> None:
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"ema_decay must be in 0\.\.1, got {wrong}"):
            PPOConfig(ema_decay=wrong)


def test_a_run_is_tested_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", "maze-dr-debug", "--run", str(run), "--student.ema-decay", "0.9"]) == 0
    state, _ = RunDirectory(run).load_checkpoint()
    assert state is not None
    (saved,) = state["students"].values()
    student, _ = load_student(RunDirectory(run))
    assert equal(saved["average"]["network"], weights(student))
    assert not equal(saved["network"], weights(student))
