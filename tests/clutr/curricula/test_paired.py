import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.designers import ConvolutionalDesigner, Designer, RecurrentDesigner
from clutr.curricula.paired import PAIRED, PAIREDConfig, canvases, design, final_reward_advantages
from clutr.envs.capabilities import Repairs
from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import LevelBatch
from clutr.envs.maze.domain import MazeDomain

LIGHT = PAIREDConfig(noise=3, filters=2, recurrent=8)


@dataclass(frozen=True)
class Written(LevelBatch):
    tokens: Tensor


@dataclass(frozen=True)
class Grid(MazeDomain):
    """Mazes whose levels are the tokens themselves."""

    height: int = 3
    width: int = 4
    max_obstacles: int = 3

    def from_tokens(self, tokens: Tensor) -> tuple[Written, Repairs]:  # type: ignore[override]
        repeated = torch.tensor([len(row) - len(set(row.tolist())) for row in tokens])
        return Written(tokens), Repairs({"repeated": repeated})


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def curriculum(config: PAIREDConfig = LIGHT, domain: Any = Grid(), seed: int = 1) -> PAIRED:
    return config.build(Context(domain, seed))


def tokens_of(proposal: Proposal) -> Tensor:
    assert isinstance(proposal.levels, Written)
    return proposal.levels.tokens


def outcome(proposal: Proposal, *returns: Tensor) -> Outcome:
    """Each student finished one episode on each level."""
    stacked = torch.stack(returns)
    ones = torch.ones_like(stacked)
    return Outcome(proposal, stacked, stacked, stacked.square(), ones, ones, ones, {})


def reward_with(teacher: PAIRED, reward: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """One update in which the antagonist earns `reward(tokens)` and the protagonist nothing."""
    proposal = teacher.propose(16)
    earned = reward(tokens_of(proposal))
    return earned, teacher.observe(outcome(proposal, torch.zeros(16), earned))


def test_the_network_on_a_full_maze() -> None:
    designer = RecurrentDesigner(MazeDomain(13, 13, 50), 50, 16, 128, generator())
    assert designer.lstm.input_size == 16 * 11 * 11 + 10 + 50
    conv, step, lstm = 16 * 9 + 16, 52 * 10 + 10, 4 * 128 * (1996 + 128 + 2)
    heads = (128 * 32 + 32) * 2 + 32 * 169 + 169 + 32 + 1
    assert sum(p.numel() for p in designer.parameters()) == conv + step + lstm + heads == 1_103_068


def test_the_network_on_a_road() -> None:
    """arXiv 2110.02439's: 2x2 convolutions of 8 and 16 filters, 1,036 features, 256 hidden units."""
    designer = ConvolutionalDesigner(CarDomain(), 4, generator(), masked=True)
    convs, step = 8 * 4 + 8 + 16 * 8 * 4 + 16, 12 * 8 + 8
    heads = 2 * (1_036 * 256 + 256) + (256 * 100 + 100) + (256 + 1)
    assert sum(p.numel() for p in designer.parameters()) == convs + step + heads


ROADS = PAIREDConfig(noise=4, network="convolutional", mask_used=True, learning_rate=0.02)


def test_masked_cells_are_written_once() -> None:
    """Also by a teacher that would put all its points into one corner: roads keep their 12 points."""
    teacher = curriculum(ROADS, CarDomain())
    with torch.no_grad():
        last = teacher.designer.actor[2]  # type: ignore[index]
        last.bias[:3] = 50.0  # type: ignore[union-attr]
    proposal = teacher.propose(32)
    assert proposal.levels.count.tolist() == [12] * 32  # type: ignore[attr-defined]
    actions = teacher._pending._batch.actions  # type: ignore[union-attr]
    assert all(set(actions[:3, b].tolist()) == {0, 1, 2} for b in range(32)), "the corner first"
    free = curriculum(PAIREDConfig(noise=4, network="convolutional"), CarDomain())
    assert min(free.propose(64).levels.count.tolist()) < 12  # type: ignore[attr-defined]


def test_masked_updates_are_finite_and_see_what_the_rollout_saw() -> None:
    teacher = curriculum(ROADS, CarDomain())
    proposal = teacher.propose(8)
    batch = teacher._pending._batch
    assert batch is not None
    grid = torch.zeros(8, 100)
    for t, action in enumerate(batch.actions):
        distribution, value, _ = teacher.designer(grid.clone()[None], torch.tensor([t]), batch.noise)
        assert (distribution.probs[0][grid.bool()] == 0).all()
        torch.testing.assert_close(batch.old.log_probs[t], distribution.log_prob(action[None])[0])
        torch.testing.assert_close(batch.old.values[t], value[0])
        grid[torch.arange(8), action] = 1
    metrics = teacher.observe(outcome(proposal, torch.zeros(8), torch.rand(8, generator=generator())))
    assert all(bool(value.isfinite().all()) for value in metrics.values())
    assert all(bool(p.isfinite().all()) for p in teacher.designer.parameters())


def test_a_road_teacher_learns_without_memory() -> None:
    """Rewarded for points in the upper half of the grid: with twelve of fifty cells it can have all of them there."""
    teacher = curriculum(ROADS, CarDomain())
    fractions = []
    for _ in range(15):
        proposal = teacher.propose(8)
        earned = (teacher._pending._batch.actions < 50).float().mean(0)  # type: ignore[union-attr]
        teacher.observe(outcome(proposal, torch.zeros(8), earned))
        fractions.append(float(earned.mean()))
    assert sum(fractions[:3]) / 3 < 0.6
    assert sum(fractions[-5:]) / 5 > 0.8


def test_proposals_are_levels_of_its_tokens_for_two_students() -> None:
    proposal = curriculum().propose(200)
    tokens = tokens_of(proposal)
    assert tokens.shape == (200, 5)
    assert tokens.dtype == torch.int64
    assert set(tokens.unique().tolist()) == set(range(1, 13))  # the untrained teacher writes all tokens, never padding
    counts = torch.bincount(tokens.flatten(), minlength=13)[1:].float()
    assert (counts / counts.sum() - 1 / 12).abs().max() < 0.03  # about equally often: its last layer starts near 0
    assert proposal.assignment.tolist() == [list(range(200))] * 2
    assert proposal.train.all()
    assert proposal.latents is None


@given(st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=1, max_size=5))
def test_canvases_hold_what_was_written_before(levels: list[list[int]]) -> None:
    actions = torch.tensor(levels).t()
    seen = canvases(actions, 7)
    assert seen.dtype == torch.float32
    for b, level in enumerate(levels):
        for t in range(4):
            assert seen[t, b].nonzero().flatten().tolist() == sorted(set(level[:t]))
            assert set(seen[t, b].tolist()) <= {0.0, 1.0}


def test_advantages_worked_by_hand() -> None:
    values = torch.tensor([[1.0], [2.0], [3.0]])
    # last: 7 - 3 = 4; middle: .5 * 3 - 2 + .25 * 4 = .5; first: .5 * 2 - 1 + .25 * .5 = .125
    advantages = final_reward_advantages(values, torch.tensor([7.0]), discount=0.5, gae_lambda=0.5)
    assert advantages.flatten().tolist() == [0.125, 0.5, 4.0]


def test_advantages_with_full_trace_are_discounted_returns_minus_values() -> None:
    values, reward = torch.rand(6, 3, generator=generator()), torch.rand(3, generator=generator(2))
    advantages = final_reward_advantages(values, reward, discount=0.9, gae_lambda=1.0)
    powers = 0.9 ** torch.arange(5, -1, -1)
    torch.testing.assert_close(advantages + values, powers[:, None] * reward)


def step_by_step(designer: Designer, noise: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, values and entropies with the grid drawn by hand and the LSTM's state carried along."""
    grid, state = torch.zeros(len(noise), designer.vocabulary), None
    collected = []
    for t, action in enumerate(actions):
        distribution, value, state = designer(grid.clone()[None], torch.tensor([t]), noise, state)
        collected.append(
            (distribution.logits[0].log_softmax(-1)[range(len(noise)), action], value[0], distribution.entropy()[0])
        )
        for b, cell in enumerate(action.tolist()):
            grid[b, cell] = 1
    log_probs, values, entropies = (torch.stack(column) for column in zip(*collected, strict=True))
    return log_probs, values, entropies


def test_the_update_sees_what_the_rollout_saw() -> None:
    teacher = curriculum()
    noise, actions = torch.rand(4, 3, generator=generator(2)), torch.randint(12, (5, 4), generator=generator(3))
    whole = teacher.designer.evaluate(canvases(actions, 12), noise, actions)
    for ours, naive in zip(whole, step_by_step(teacher.designer, noise, actions), strict=True):
        torch.testing.assert_close(ours, naive)
    assert not torch.allclose(whole.values[0], whole.values[1])  # steps differ


def test_the_rollout_remembers_and_looks_at_the_grid() -> None:
    """The same levels come out with the same dice when grid and LSTM state are carried along by hand."""
    teacher, dice = curriculum(), generator()
    with torch.no_grad():
        for parameter in teacher.designer.actor.parameters():  # type: ignore[union-attr]
            parameter.mul_(100)  # so that choices depend on what is seen and remembered
    dice.set_state(teacher.rng.get_state())
    written = tokens_of(teacher.propose(64))
    noise = torch.rand(64, 3, generator=dice)
    grid, state = torch.zeros(64, 12), None
    for t in range(5):
        with torch.no_grad():
            distribution, _, state = teacher.designer(grid.clone()[None], torch.tensor([t]), noise, state)
        action = torch.multinomial(distribution.logits[0].softmax(-1), 1, generator=dice)
        assert (action.squeeze(1) + 1 == written[:, t]).float().mean() > 0.97  # equal but for rounding
        grid[torch.arange(64), written[:, t] - 1] = 1


def test_update_equals_a_naive_implementation() -> None:
    config = PAIREDConfig(noise=3, filters=2, recurrent=8, learning_rate=0.01, epochs=3, entropy_coefficient=0.1)
    teacher, twin_rng = curriculum(config), generator()
    naive = copy.deepcopy(teacher.designer)
    twin_rng.set_state(teacher.rng.get_state())
    proposal = teacher.propose(4)
    actions, noise = (tokens_of(proposal) - 1).t(), torch.rand(4, 3, generator=twin_rng)
    regret = torch.tensor([0.0, 0.5, 1.0, 0.25])
    teacher.observe(outcome(proposal, torch.zeros(4), regret))

    with torch.no_grad():
        old_log_probs, old_values, _ = step_by_step(naive, noise, actions)
    advantages = torch.zeros(5, 4)
    for b in range(4):
        errors = [(regret[b] if t == 4 else 0.995 * old_values[t + 1, b]) - old_values[t, b] for t in range(5)]
        for t in range(5):
            advantages[t, b] = sum((0.995 * 0.95) ** (s - t) * errors[s] for s in range(t, 5))
    returns = advantages + old_values
    advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-5)
    optimiser = torch.optim.Adam(naive.parameters(), lr=0.01, eps=1e-5)
    for _ in range(3):
        log_probs, values, entropies = step_by_step(naive, noise, actions)
        ratio = (log_probs - old_log_probs).exp()
        surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
        moved = old_values + (values - old_values).clamp(-0.2, 0.2)
        value_loss = 0.5 * torch.max((values - returns) ** 2, (moved - returns) ** 2).mean()
        optimiser.zero_grad()
        (-surrogate + 0.5 * value_loss - 0.1 * entropies.mean()).backward()
        nn.utils.clip_grad_norm_(naive.parameters(), 0.5)
        optimiser.step()
    for ours, theirs in zip(teacher.designer.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_learns_to_write_what_is_rewarded() -> None:
    """Reward: the fraction of tokens in the first row of the grid, a third by chance."""
    teacher = curriculum(PAIREDConfig(noise=3, filters=2, recurrent=8, learning_rate=0.05))
    fractions = [float(reward_with(teacher, lambda tokens: (tokens <= 4).float().mean(1))[0].mean()) for _ in range(25)]
    assert fractions[0] < 0.5
    assert sum(fractions[-5:]) / 5 > 0.85


def test_observe_reports_regret_repairs_and_the_teachers_metrics() -> None:
    teacher = curriculum()
    earned, scores = reward_with(teacher, lambda tokens: tokens[:, 0] / 12)
    assert torch.equal(scores["regret"], earned)
    assert scores["repairs/repeated"].shape == (16,)
    assert scores["repairs/repeated"].dtype == torch.float32
    assert {"teacher/entropy", "teacher/policy_loss", "teacher/value_loss"} < set(scores)


def test_the_minimax_adversary_needs_one_student() -> None:
    teacher = curriculum(PAIREDConfig(noise=3, filters=2, recurrent=8, regret="minimax"))
    assert teacher.students == ("protagonist",)
    proposal = teacher.propose(2)
    assert proposal.assignment.tolist() == [[0, 1]]
    assert teacher.observe(outcome(proposal, torch.tensor([0.75, 0.0])))["regret"].tolist() == [-0.75, 0.0]


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="regret must be one of paired, flexible, minimax, got 'x'"):
        PAIREDConfig(regret="x")  # type: ignore[arg-type]  # a YAML file can say anything
    with pytest.raises(ValueError, match="network must be recurrent or convolutional, got 'mlp'"):
        PAIREDConfig(network="mlp")  # type: ignore[arg-type]  # a YAML file can say anything
    with pytest.raises(ValueError, match="mask_used must be off for levels of 5 tokens, but only 4 cells"):
        design(Mock(vocabulary=4, max_tokens=5), PAIREDConfig(mask_used=True), generator())
    with pytest.raises(ValueError, match="filters must be at least 1, got 0"):
        PAIREDConfig(filters=0)
    with pytest.raises(ValueError, match="needs a grid of at least 3x3 cells, this one is 2x9"):
        curriculum(domain=MazeDomain(2, 9, 3))
