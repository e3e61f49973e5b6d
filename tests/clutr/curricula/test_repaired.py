"""REPAIRED: two buffers, one coin, and a teacher that replays do not touch."""

from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.repaired import REPAIRED, REPAIREDConfig
from clutr.envs.maze.domain import MazeDomain

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=8)
SMALL: dict[str, Any] = {"filters": 2, "recurrent": 8, "noise": 4, "epochs": 1}


def build(**options: Any) -> REPAIRED:
    config = SMALL | {"capacity": 8, "minimum_fill": 0.5, "replay_probability": 1.0} | options
    return REPAIREDConfig(**config).build(Context(DOMAIN, 1))


def statistics(best: list[float], value: list[float]) -> EpisodeStatistics:
    """One episode with these returns, and mean values of V."""
    returns, ones = torch.tensor(best), torch.ones(len(best))
    scores = {"mean_value": torch.tensor(value)}
    return EpisodeStatistics(returns, returns, returns.square(), (returns > 0).float(), ones, ones, scores)


def observe(curriculum: REPAIRED, proposal: Proposal, *students: EpisodeStatistics) -> dict[str, Tensor]:
    return curriculum.observe(Outcome.stack(proposal, students))


def held(curriculum: REPAIRED, student: int, column: str | None = None) -> dict[str, float]:
    """Scores, or a column, of a student's buffer by key."""
    buffer = curriculum.buffers[student]
    values = buffer.scores if column is None else buffer.columns[column]
    return dict(zip(buffer.levels.key(), values.tolist(), strict=True))


def test_new_levels_go_into_both_buffers_with_each_students_own_score() -> None:
    curriculum = build()
    proposal = curriculum.propose(4)
    keys = proposal.levels.key()
    assert len(set(keys)) == 4
    assert not proposal.train.any(), "nobody learns on what the teacher has just made"
    assert proposal.assignment.tolist() == [[0, 1, 2, 3]] * 2
    first = statistics([0.5, 0.0, 0.75, 1.0], [0.25, 0.0, 0.5, 0.25])
    second = statistics([1.0, 0.5, 0.25, 0.0], [0.0, 0.25, 0.5, 0.5])
    found = observe(curriculum, proposal, first, second)
    assert found["regret"].tolist() == [0.5, 0.5, 0.0, 0.0]  # antagonist's best minus protagonist's mean
    mine, theirs = [0.25, 0.0, 0.25, 0.75], [1.0, 0.25, -0.25, -0.5]  # best return minus mean value
    assert found["score"].tolist() == mine, "where both played, the first student's"
    assert held(curriculum, 0) == dict(zip(keys, mine, strict=True))
    assert held(curriculum, 1) == dict(zip(keys, theirs, strict=True))
    assert held(curriculum, 1, "best_return") == dict(zip(keys, [1.0, 0.5, 0.25, 0.0], strict=True))
    assert float(found["buffer/replayed"]) == 0


def filled(**options: Any) -> REPAIRED:
    """Full buffers, so that every batch is replayed. Both students hold the same levels, but the first finds the early
    ones worth it and the second the late ones."""
    curriculum = build(**{"capacity": 4, "staleness": 0.0, "temperature": 0.3} | options)
    while not all(buffer.ready for buffer in curriculum.buffers):
        rising, zeros = [0.1, 0.2, 0.3, 0.9], [0.0] * 4
        observe(curriculum, curriculum.propose(4), statistics(rising[::-1], zeros), statistics(rising, zeros))
    return curriculum


def test_a_replay_scores_each_level_by_the_student_that_played_it() -> None:
    curriculum = filled()
    before = [held(curriculum, student, "best_return") for student in range(2)]
    proposal = curriculum.propose(4)
    assert proposal.train.all()
    keys = proposal.levels.key()
    mine, theirs = (set(row.tolist()) for row in proposal.assignment)
    assert not mine & theirs, "a level that both replay is there twice"
    assert len(mine) + len(theirs) == len(keys)
    found = observe(curriculum, proposal, statistics([0.4] * 4, [0.3] * 4), statistics([0.6] * 4, [0.1] * 4))
    for student, (rows, best, value) in enumerate([(mine, 0.4, 0.3), (theirs, 0.6, 0.1)]):
        for row in rows:
            ever = max(best, before[student][keys[row]])
            assert float(found["score"][row]) == pytest.approx(ever - value)
            assert held(curriculum, student)[keys[row]] == pytest.approx(ever - value)
            assert held(curriculum, student, "best_return")[keys[row]] == pytest.approx(ever)
    for student, rows in enumerate([mine, theirs]):
        played = {keys[row] for row in rows}
        untouched = {key: best for key, best in before[student].items() if key not in played}
        assert untouched.items() <= held(curriculum, student, "best_return").items()
    assert float(found["buffer/replayed"]) == 1
    assert not {name for name in found if name.startswith(("teacher/", "repairs/", "regret"))}


def test_each_student_replays_what_it_finds_worth_it() -> None:
    curriculum = filled()
    favourites = [max(held(curriculum, student).items(), key=lambda item: item[1])[0] for student in range(2)]
    assert favourites[0] != favourites[1]
    proposal = curriculum.propose(64)
    keys = proposal.levels.key()
    for student, favourite in enumerate(favourites):
        fraction = sum(keys[row] == favourite for row in proposal.assignment[student].tolist()) / 64
        assert fraction > 0.75  # 1, 2**-3.3, 3**-3.3, ... of which the first is 0.87


def test_replays_are_as_frequent_as_the_emptier_buffer_allows() -> None:
    """One coin at the smaller of the buffers' chances; it comes down once for both."""
    curriculum = filled(capacity=10, minimum_fill=0.4, replay_probability=0.95)
    first, second = curriculum.buffers
    extra = DOMAIN.sample(3, torch.Generator().manual_seed(8))
    second.insert(extra, torch.zeros(3), best_return=torch.zeros(3))
    assert second.replay_chance > first.replay_chance
    chance, count = first.replay_chance, 0
    for _ in range(300):
        replays = curriculum.propose(1).train.all()
        curriculum._pending.load_state_dict({})
        curriculum.teacher._pending.load_state_dict({})
        count += int(replays)
    assert binomtest(count, 300, chance).pvalue > 0.01


def test_nothing_is_replayed_while_either_buffer_is_not_filled() -> None:
    curriculum = filled()
    curriculum.buffers[1] = build().buffers[1]
    for _ in range(5):
        assert not curriculum.propose(4).train.any()
        curriculum._pending.load_state_dict({})
        curriculum.teacher._pending.load_state_dict({})


def snapshot(curriculum: REPAIRED) -> list[Tensor]:
    teacher = curriculum.teacher
    moments = [value for state in teacher.learner.optimiser.state.values() for value in state.values()]
    return [value.clone() for value in [*teacher.designer.state_dict().values(), *moments, teacher.rng.get_state()]]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("normalise", [False, True])
def test_a_replay_leaves_the_teacher_with_its_optimiser_and_generator_as_it_was(normalise: bool) -> None:
    curriculum = filled(normalise_regret=normalise)
    scale = curriculum.teacher.scale
    counted = scale.count if scale else 0
    before = snapshot(curriculum)
    for _ in range(3):
        one, other = statistics([0.1, 0.2, 0.3, 0.4], [0.0] * 4), statistics([0.9] * 4, [0.0] * 4)
        observe(curriculum, curriculum.propose(4), one, other)
    assert same(before, snapshot(curriculum))
    assert (scale.count if scale else 0) == counted
    for buffer in curriculum.buffers:
        buffer.load_state_dict(build().buffers[0].state_dict())  # empty, so that the teacher has its turn
    observe(curriculum, curriculum.propose(4), one, other)
    assert not same(before, snapshot(curriculum))
    assert (scale.count if scale else 4) == counted + 4


def test_students_may_learn_on_new_levels_too() -> None:
    assert build(train_on_new=True).propose(4).train.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 0}, "capacity must be at least 1, got 0"),
        ({"replay_probability": 1.5}, r"replay_probability must be in 0\.\.1, got 1\.5"),
        ({"filters": 0}, "filters must be at least 1, got 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"regret": "x"}, "regret must be one of paired, flexible, minimax, got 'x'"),
    ],
)
def test_options_of_teacher_and_buffers_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        REPAIREDConfig(**options)
