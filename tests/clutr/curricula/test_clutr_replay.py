"""CLUTR with replay: regrets of replayed tasks by hand, latents beside their levels, and an untouched teacher."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.clutr_replay import CLUTRReplay, CLUTRReplayConfig
from clutr.envs.domain import LevelBatch
from clutr.envs.maze.domain import MazeDomain


@dataclass(frozen=True)
class Quarters(LevelBatch):
    """Levels of a made-up domain: the quarter of the square that a point lies in."""

    right: Tensor
    upper: Tensor


class Square:
    """A manifold of two dimensions with four levels."""

    dim = 2
    bounds = (-4.0, 4.0)

    def decode(self, latents: Tensor) -> Quarters:
        return Quarters(latents[:, 0] > 0, latents[:, 1] > 0)


def build(**options: Any) -> CLUTRReplay:
    config = {"capacity": 4, "minimum_fill": 0.5, "replay_probability": 1.0, "hidden": 4, "noise": 4} | options
    domain: Any = type("Domain", (), {"level_type": Quarters})()
    manifold: Any = Square()
    return CLUTRReplayConfig(**config).build(Context(domain, 1, manifold))


def student(mean: list[float], best: list[float] | None = None, episodes: list[float] | None = None) -> Any:
    average = torch.tensor(mean)
    highest = average if best is None else torch.tensor(best)
    count = torch.ones(len(mean)) if episodes is None else torch.tensor(episodes)
    return EpisodeStatistics(average, highest, average.square(), average, count, count, {})


def observe(curriculum: CLUTRReplay, proposal: Proposal, *students: EpisodeStatistics) -> dict[str, Tensor]:
    return curriculum.observe(Outcome.stack(proposal, students))


def worth(levels: LevelBatch) -> Tensor:
    """Regret of each quarter: 0.1, 0.2, 0.3, 0.4."""
    assert isinstance(levels, Quarters)
    return (1 + levels.right.float() + 2 * levels.upper.float()) / 10


def fill(curriculum: CLUTRReplay, n: int = 16) -> None:
    """A batch that the antagonist solves with what each level is worth, and the protagonist does not."""
    proposal = curriculum.propose(n)
    observe(curriculum, proposal, student([0.0] * n), student(worth(proposal.levels).tolist()))
    assert len(curriculum.buffer) == 4


def held(curriculum: CLUTRReplay) -> dict[str, float]:
    return dict(zip(curriculum.buffer.levels.key(), curriculum.buffer.scores.tolist(), strict=True))


def test_a_task_is_kept_once_with_its_regret_and_a_latent_of_its_own() -> None:
    curriculum = build()
    fill(curriculum)
    buffer = curriculum.buffer
    assert len(set(buffer.levels.key())) == 4
    torch.testing.assert_close(buffer.scores, worth(buffer.levels))
    assert Square().decode(buffer.columns["latent"]).key() == buffer.levels.key()


def replay(curriculum: CLUTRReplay, n: int) -> Proposal:
    proposal = curriculum.propose(n)
    assert proposal.train.all()
    assert torch.equal(proposal.assignment[0], proposal.assignment[1])
    assert len(set(proposal.levels.key())) == len(proposal.levels)
    assert proposal.latents is not None
    assert Square().decode(proposal.latents).key() == proposal.levels.key()
    return proposal


@pytest.mark.parametrize(("regret", "expected"), [("paired", 0.125), ("flexible", 0.6)])
def test_regret_of_joined_environments_by_hand(regret: Any, expected: float) -> None:
    """Three environments of one level.

    Protagonist: 0.8, 0.2, 0.5 in their first episodes (mean 0.5), best 1.0. Antagonist: 0.6, nothing, 0.6 (0.4), best
    0.625. Paired: 0.625 - 0.5 = 0.125. Flexible: the protagonist's best is better, so 1.0 - 0.4 = 0.6.
    """
    curriculum = build(regret=regret)
    fill(curriculum)
    for _ in range(100):
        proposal = replay(curriculum, 3)
        if len(proposal.levels) == 1:
            break
        observe(curriculum, proposal, student([0.0] * 3), student([0.1] * 3))
    assert proposal.assignment.tolist() == [[0] * 3] * 2
    protagonist = student([0.8, 0.2, 0.5], [0.8, 1.0, 0.5], [1.0, 2.0, 1.0])
    antagonist = student([0.6, 0.0, 0.6], [0.6, 0.0, 0.625], [1.0, 0.0, 3.0])
    found = observe(curriculum, proposal, protagonist, antagonist)
    assert found["regret"].tolist() == pytest.approx([expected])
    assert held(curriculum)[proposal.levels.key()[0]] == pytest.approx(expected)


def test_a_replay_changes_the_regret_of_what_was_played_and_nothing_else() -> None:
    curriculum = build(staleness=0.0, temperature=1.0)
    fill(curriculum)
    before = held(curriculum)
    proposal = replay(curriculum, 2)
    n = len(proposal.levels)
    antagonist = torch.linspace(0.5, 0.75, 2)
    observe(curriculum, proposal, student([0.25, 0.25]), student(antagonist.tolist()))
    now = {
        key: float(antagonist[proposal.assignment[1] == row].max()) - 0.25
        for row, key in enumerate(proposal.levels.key())
    }
    assert len(now) == n
    assert held(curriculum) == pytest.approx(before | now)


def test_the_most_regretted_tasks_are_replayed_most() -> None:
    """By rank at temperature 1/2, without staleness: 1, 1/4, 1/9, 1/16 of 205/144."""
    curriculum = build(staleness=0.0, temperature=0.5)
    fill(curriculum)
    proposal = replay(curriculum, 800)
    played = proposal.assignment[0].bincount(minlength=len(proposal.levels)).float() / 800
    rank = (10 * worth(proposal.levels)).round().long()  # 4 is the best
    for fraction, number in zip(played.tolist(), rank.tolist(), strict=True):
        assert fraction == pytest.approx((1 / (5 - number)) ** 2 / (205 / 144), abs=0.05)


def snapshot(curriculum: CLUTRReplay) -> list[Tensor]:
    teacher = curriculum.teacher.teacher
    moments = [value for state in teacher.learner.optimiser.state.values() for value in state.values()]
    return [value.clone() for value in [*teacher.policy.state_dict().values(), *moments, teacher.rng.get_state()]]


def test_a_replay_leaves_teacher_optimiser_generator_and_scale_as_they_were() -> None:
    curriculum = build(normalise_regret=True)
    fill(curriculum)
    scale = curriculum.teacher.scale
    assert scale is not None
    before = snapshot(curriculum)
    for _ in range(4):
        proposal = replay(curriculum, 4)
        found = observe(curriculum, proposal, student([0.1] * 4), student([0.9] * 4))
        assert set(found) == {"regret", "buffer/replayed"}
        assert float(found["buffer/replayed"]) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(curriculum), strict=True))
    assert scale.count == 16
    curriculum.buffer.load_state_dict(build().buffer.state_dict())  # empty, so that the teacher has its turn
    fill(curriculum)
    assert not all(torch.equal(a, b) for a, b in zip(before, snapshot(curriculum), strict=True))
    assert scale.count == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": "x"}, "priority must be rank or proportional or power, got 'x'"),
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"staleness": -0.1}, r"staleness must be in 0\.\.1, got -0\.1"),
        ({"minimum_fill": 2.0}, r"minimum_fill must be in 0\.\.1, got 2\.0"),
        ({"regret": "minimax"}, "regret must be paired or flexible, got 'minimax'"),
        ({"noise": 0}, "noise must be at least 1, got 0"),
    ],
)
def test_options_of_teacher_and_buffer_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CLUTRReplayConfig(**options)


def test_a_missing_manifold_is_refused() -> None:
    with pytest.raises(ValueError, match="chooses latents, so the experiment needs a manifold"):
        CLUTRReplayConfig().build(Context(MazeDomain(height=5, width=5, max_obstacles=6), 1))
