"""SFL on results made by hand: what is screened where, what is kept, and for how long."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.sfl import SFL, SFLConfig
from clutr.envs.maze.domain import MazeDomain

CONTEXT = Context(MazeDomain(height=5, width=5, max_obstacles=6, max_steps=8), 1)


def played(proposal: Proposal, solved: Sequence[float], episodes: Sequence[float] | None = None) -> Outcome:
    """The fraction of its episodes that each environment solved; one episode each unless said otherwise."""
    rate, zeros = torch.tensor(solved), torch.zeros(len(solved))
    count = torch.ones(len(solved)) if episodes is None else torch.tensor(episodes)
    return Outcome.stack(proposal, [EpisodeStatistics(rate, rate, rate, rate, count, count, {"mean_value": zeros})])


def sfl(**options: Any) -> SFL:
    return SFLConfig(**{"candidates": 4, "environments": 4, "kept": 2, "train_updates": 3} | options).build(CONTEXT)


@pytest.mark.parametrize(
    ("environments", "n", "expected"),
    [
        (4, 8, [0, 1, 0, 1, 0, 1, 0, 1]),
        (3, 7, [0, 1, 0, 1, 0, 1, 0]),  # a seventh environment plays one of the two once more
        (1, 3, [0, 1, 2]),
        (4, 2, [0, 0]),  # fewer environments than asked for: all of them play one candidate
    ],
)
def test_each_candidate_plays_in_as_many_environments_as_asked(environments: int, n: int, expected: list[int]) -> None:
    proposal = sfl(environments=environments).propose(n)
    assert proposal.assignment.tolist() == [expected]
    assert len(proposal.levels) == max(expected) + 1
    assert not proposal.train.any(), "nothing is learnt while screening"


def screen(curriculum: SFL, fractions: Sequence[Sequence[float]]) -> list[str]:
    """Two candidates a batch in four environments each, which solve these fractions; the candidates' keys."""
    keys: list[str] = []
    for first, second in zip(fractions[::2], fractions[1::2], strict=True):
        proposal = curriculum.propose(8)
        woven = [value for pair in zip(first, second, strict=True) for value in pair]
        curriculum.observe(played(proposal, woven))
        keys += proposal.levels.key()
    return keys


NEVER, ONCE, TWICE, ALWAYS = [0.0] * 4, [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0], [1.0] * 4


@pytest.mark.parametrize(
    ("fractions", "best"),
    [
        ([ONCE, ALWAYS, TWICE, NEVER], [2, 0]),  # p (1 - p) = 3/16, 0, 1/4, 0
        ([TWICE, ONCE, TWICE, TWICE], [0, 2]),  # of equals the first to come stay
        ([ALWAYS, NEVER, ONCE, ALWAYS], [2, 0]),
    ],
)
def test_exactly_the_most_learnable_are_kept_best_first(fractions: list[list[float]], best: list[int]) -> None:
    curriculum = sfl()
    keys = screen(curriculum, fractions)
    assert curriculum.kept is not None
    assert curriculum.kept.key() == [keys[row] for row in best]


def test_scores_are_reported_by_candidate_and_the_mean_of_what_is_kept_at_the_end() -> None:
    curriculum = sfl()
    first = curriculum.observe(played(curriculum.propose(8), [0.0, 1, 1, 1, 0, 1, 0, 1]))
    assert first["score"].tolist() == [0.1875, 0.0]
    assert float(first["screening"]) == 1
    assert "kept" not in first
    second = curriculum.observe(played(curriculum.propose(8), [0.0, 1, 1, 1, 1, 0, 0, 0]))
    assert second["score"].tolist() == [0.25, 0.25]
    assert float(second["kept"]) == 0.25
    trained = curriculum.observe(played(curriculum.propose(8), [0.0] * 8))
    assert {name: float(value) for name, value in trained.items()} == {"screening": 0.0}


def test_environments_count_and_not_episodes() -> None:
    """One environment solves its first episode, of 25, the other does not solve its only one: p = 1/2."""
    curriculum = sfl(environments=2, candidates=2)
    found = curriculum.observe(played(curriculum.propose(4), [1.0, 0.0, 0.0, 0.0], [25.0, 1.0, 1.0, 0.0]))
    assert found["score"].tolist() == [0.25, 0.0]


def test_students_train_for_as_many_updates_as_asked_and_then_new_levels_are_kept() -> None:
    curriculum = sfl()
    before = screen(curriculum, [TWICE, TWICE, NEVER, NEVER])
    for _ in range(3):
        proposal = curriculum.propose(8)
        assert proposal.train.all()
        assert proposal.assignment.tolist() == [list(range(8))]
        curriculum.observe(played(proposal, [1.0, 0.0] * 4))
    after = screen(curriculum, [NEVER, NEVER, ONCE, ONCE])
    assert curriculum.kept is not None
    assert curriculum.kept.key() == after[2:], "though the old ones scored more, a student that has learnt forgets them"
    assert not set(before) & set(after)


def test_everything_is_kept_where_there_is_not_enough() -> None:
    curriculum = sfl(kept=9)
    screen(curriculum, [NEVER] * 4)
    assert curriculum.kept is not None
    assert len(curriculum.kept) == 4


@pytest.mark.parametrize(("fraction", "learnable"), [(0.0, 0), (0.5, 4), (0.75, 6), (1.0, 8)])
def test_fractions_of_kept_levels(fraction: float, learnable: int) -> None:
    curriculum = sfl(kept_fraction=fraction)
    screen(curriculum, [TWICE, TWICE, NEVER, NEVER])
    assert curriculum.kept is not None
    keys, kept = curriculum.propose(8).levels.key(), set(curriculum.kept.key())
    assert [key in kept for key in keys] == [True] * learnable + [False] * (8 - learnable)


def test_a_screening_is_resumed_in_the_middle() -> None:
    original, restored = sfl(), SFLConfig(candidates=4, environments=4, kept=2).build(Context(CONTEXT.domain, 9))
    screen(original, [TWICE, NEVER])
    restored.load_state_dict(original.state_dict())
    assert screen(original, [ONCE, NEVER]) == screen(restored, [ONCE, NEVER])
    assert original.kept is not None
    assert restored.kept is not None
    assert original.kept.key() == restored.kept.key()
    assert original.propose(8).levels.key() == restored.propose(8).levels.key()


@pytest.mark.parametrize("name", ["candidates", "environments", "kept", "train_updates"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        sfl(**{name: 0})


def test_a_negative_fraction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kept_fraction must be in 0\.\.1, got -0\.5"):
        sfl(kept_fraction=-0.5)
