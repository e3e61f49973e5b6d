"""Prioritised level replay and ACCEL: what is replayed, what is learnt on, and which levels have children."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from clutr.agents.ppo import PPOConfig, PPOStudent
from clutr.agents.student import EpisodeStatistics
from clutr.curricula.accel import ACCEL, ACCELConfig, easiness
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.plr import PLR, PLRConfig, RobustPLRConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=8)
CONTEXT = Context(DOMAIN, 1)
SMALL: dict[str, Any] = {"capacity": 8, "minimum_fill": 0.5, "score": "value_l1"}


def played(proposal: Proposal, value_l1: Tensor, mean_return: Tensor | None = None) -> Outcome:
    """What a student did, where `value_l1` and `mean_return` are given for each environment."""
    n = proposal.assignment.shape[1]
    zeros, ones = torch.zeros(n), torch.ones(n)
    mean = zeros if mean_return is None else mean_return
    scores = dict.fromkeys(("positive_value_loss", "negative_value_loss", "mean_value"), zeros) | {"value_l1": value_l1}
    return Outcome.stack(proposal, [EpisodeStatistics(mean, mean, mean.square(), zeros, ones, ones, scores)])


def step(curriculum: PLR, n: int = 4, value_l1: float = 0.5) -> Proposal:
    proposal = curriculum.propose(n)
    curriculum.observe(played(proposal, torch.full((n,), value_l1)))
    return proposal


def replayed(proposal: Proposal, curriculum: PLR, keys: set[str]) -> bool:
    """Whether all its levels were known before."""
    return set(proposal.levels.key()) <= keys


def test_nothing_is_replayed_before_the_buffer_is_filled_enough() -> None:
    curriculum = PLRConfig(**SMALL, replay_probability=1.0).build(CONTEXT)
    keys: set[str] = set()
    seen = []
    for _ in range(8):
        proposal = step(curriculum)
        seen.append(replayed(proposal, curriculum, keys))
        keys |= set(proposal.levels.key())
    # the first batch fills half of the buffer: from then on the chance is the filled fraction, then 1
    assert not seen[0]
    assert seen[-3:] == [True, True, True]


def test_the_fraction_of_replayed_batches() -> None:
    curriculum = PLRConfig(**SMALL, replay_probability=0.3).build(CONTEXT)
    for _ in range(8):
        step(curriculum)
    replays = 0
    for _ in range(300):
        proposal = curriculum.propose(4)
        replays += float(curriculum.observe(played(proposal, torch.full((4,), 0.5)))["buffer/replayed"]) == 1.0
    assert binomtest(replays, 300, 0.3).pvalue > 0.01


@pytest.mark.parametrize(("config", "on_new"), [(PLRConfig(**SMALL), True), (RobustPLRConfig(**SMALL), False)])
def test_what_is_learnt_on(config: PLRConfig, on_new: bool) -> None:
    curriculum = replace(config, replay_probability=1.0).build(CONTEXT)
    assert step(curriculum).train.tolist() == [on_new] * 4
    while len(curriculum.buffer) < curriculum.config.capacity:  # from there on every batch is replayed
        step(curriculum)
    proposal = step(curriculum)
    assert proposal.train.all(), "replayed levels are learnt on"
    assert (proposal.assignment[0] < len(proposal.levels)).all()
    assert len(set(proposal.levels.key())) == len(proposal.levels)


def test_robust_plr_takes_no_gradient_on_new_levels() -> None:
    curriculum = RobustPLRConfig(**SMALL, replay_probability=1.0).build(CONTEXT)
    engine = DOMAIN.engine(4)
    spaces = engine.observation_space, engine.action_space
    config = PPOConfig(rollout_steps=20, hidden=8, head=8, torso="symbols", torso_width=8, epochs=1)
    student = config.build(*spaces, 1, "protagonist")
    assert isinstance(student, PPOStudent)
    learnt = []
    for _ in range(6):
        before = {name: value.clone() for name, value in student.network.state_dict().items()}
        slots = {key: value.clone() for key, value in enumerate(_optimiser_tensors(student))}
        proposal = curriculum.propose(4)
        trajectories = student.rollout(engine, proposal.levels[proposal.assignment[0]])
        curriculum.observe(Outcome.stack(proposal, [trajectories.statistics()]))
        student.learn(trajectories, proposal.train[proposal.assignment[0]])
        after = student.network.state_dict()
        same = all(torch.equal(before[name], after[name]) for name in before)
        if same:
            assert all(torch.equal(slots[key], value) for key, value in enumerate(_optimiser_tensors(student)))
        learnt.append((bool(proposal.train.all()), not same))
    assert {train for train, _ in learnt} == {True, False}, "both kinds of batches came up"
    assert all(train == changed for train, changed in learnt)


def _optimiser_tensors(student: PPOStudent) -> list[Tensor]:
    states = student.optimiser.state_dict()["state"].values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def test_a_replayed_level_stays_over_the_ends_of_its_episodes() -> None:
    """8 steps an episode, 40 a rollout: whatever was asked for is still what is played afterwards."""
    engine = DOMAIN.engine(3)
    config = PPOConfig(rollout_steps=40, hidden=8, head=8, torso="symbols", torso_width=8)
    student = config.build(engine.observation_space, engine.action_space, 1, "protagonist")
    levels = DOMAIN.sample(3, torch.Generator().manual_seed(5))
    asked: list[Any] = []
    original = engine.reset

    def spy(levels: Any = None, mask: Tensor | None = None) -> Any:
        asked.append(levels)
        return original(levels, mask)

    engine.reset = spy  # type: ignore[method-assign]
    trajectories = student.rollout(engine, levels)
    assert (trajectories.statistics().episodes >= 4).all()
    assert asked[0].key() == levels.key()
    assert len(asked) > 4
    assert asked[1:] == [None] * (len(asked) - 1), "every further episode starts the levels that are there"


def test_replayed_levels_may_change_with_the_episode() -> None:
    """The published rule: every episode of a replayed rollout plays another draw, and new levels stay."""
    options: dict[str, Any] = SMALL | {"capacity": 40, "temperature": 1.0}
    curriculum = PLRConfig(**options, parallel=True, levels_per_rollout=3).build(CONTEXT)
    while not curriculum.buffer.ready or curriculum.buffer.replay_chance < 0.5:
        step(curriculum)
    proposal = curriculum.propose(4)
    first, second, third = proposal.assignment.view(3, 4).tolist()
    assert proposal.levels_per_rollout == 3
    assert first[:2] == second[:2] == third[:2] == [0, 1], "new levels stay"
    held = curriculum.buffer
    scores, clock = held.scores.clone(), held.clock
    # the third environment comes to its second level, the last one to its third
    steps = torch.tensor([[20.0, 20, 12, 4, 0, 0, 8, 8, 0, 0, 0, 8]])
    outcome = replace(played(proposal, torch.full((12,), 7.0)), steps=steps)
    known = held.find(proposal.levels)
    found = curriculum.observe(outcome)["score"]
    reached = {0, 1, first[2], second[2], first[3], second[3], third[3]}
    rest = [i for i in range(len(proposal.levels)) if i not in reached]
    assert found[sorted(reached)].tolist() == [7.0] * len(reached)
    assert rest, "the test needs a level that nobody came to"
    assert found[rest].tolist() == scores[known[rest]].tolist() == held.scores[known[rest]].tolist()
    # five draws were played, and both new levels were put in
    assert held.clock == clock - 6 + 5 + 2


def test_a_rollout_of_several_levels_an_environment_teaches_as_any_other() -> None:
    """Played, scored and learnt on by a real student."""
    curriculum = PLRConfig(**SMALL, replay_probability=1.0, levels_per_rollout=4).build(CONTEXT)
    engine = DOMAIN.engine(4)
    config = PPOConfig(rollout_steps=20, hidden=8, head=8, torso="symbols", torso_width=8, epochs=1)
    student = config.build(engine.observation_space, engine.action_space, 1, "protagonist")
    several = 0
    for _ in range(6):
        proposal = curriculum.propose(4)
        trajectories = student.rollout(engine, proposal.levels[proposal.assignment[0]])
        outcome = Outcome.stack(proposal, [trajectories.statistics(proposal.levels_per_rollout)])
        curriculum.observe(outcome)
        assert student.learn(trajectories, proposal.train[proposal.first[0]])
        several += proposal.levels_per_rollout == 4
        assert outcome.steps is not None
        assert float(outcome.steps.sum()) == 4 * 20
    assert several > 0
    curriculum.state_dict()


def test_the_parallel_form_mixes_new_and_replayed_levels() -> None:
    curriculum = RobustPLRConfig(**SMALL, replay_probability=0.5, parallel=True).build(CONTEXT)
    step(curriculum, 8)
    proposal = curriculum.propose(8)
    train = proposal.train[proposal.assignment[0]]
    assert train.tolist() == [False] * 4 + [True] * 4
    known = set(curriculum.buffer.levels.key())
    keys = proposal.levels[proposal.assignment[0]].key()
    assert [key in known for key in keys] == [False] * 4 + [True] * 4


def test_scores_of_a_level_in_several_environments_are_joined() -> None:
    curriculum = PLRConfig(capacity=2, minimum_fill=0.5, score="value_l1", replay_probability=1.0, staleness=0).build(
        CONTEXT
    )
    first = curriculum.propose(2)
    curriculum.observe(played(first, torch.tensor([0.9, 0.1])))  # rank 1 at temperature 0.1 is drawn nearly always
    proposal = curriculum.propose(4)
    assert proposal.levels.key() == first.levels.key()[:1]
    assert proposal.assignment.tolist() == [[0, 0, 0, 0]]
    found = curriculum.observe(played(proposal, torch.tensor([0.1, 0.2, 0.3, 0.6])))
    torch.testing.assert_close(found["score"], torch.tensor([0.3]))
    torch.testing.assert_close(curriculum.buffer.scores, torch.tensor([0.3, 0.1]))


def test_easy_is_a_high_return_and_a_small_surprise() -> None:
    zeros = torch.zeros(4)
    statistics = EpisodeStatistics(
        torch.tensor([0.9, 0.9, 0.5, 0.0]),
        zeros,
        zeros,
        zeros,
        zeros,
        zeros,
        {"value_l1": torch.tensor([0.1, 3, 0, 0.5])},
    )
    torch.testing.assert_close(easiness(statistics), torch.tensor([0.8, -0.1, 0.5, -0.5]))


class Editless(ACCEL):
    """ACCEL that writes down whose children it makes, and makes copies with another heading."""

    edited: MazeLevels | None = None

    def edit(self, parents: Any) -> Any:
        self.edited = parents
        return replace(parents, heading=(parents.heading + 1) % 4)


def accel(**options: Any) -> Editless:
    return Editless(ACCELConfig(**SMALL | {"temperature": 1.0} | options, replay_probability=1.0), CONTEXT)


def test_accel_edits_the_easiest_levels_of_the_batch_and_only_after_replay() -> None:
    """The peers' defect: an edit of the first level only, or of the hardest."""
    curriculum = accel()
    while True:
        proposal = curriculum.propose(8)
        assert curriculum.edited is None
        values, returns = torch.linspace(0, 0.7, 8), torch.linspace(0.1, 0.8, 8)
        curriculum.observe(played(proposal, values, returns))
        if proposal.train.all():
            break
    statistics = played(proposal, values, returns).by_level()
    order = (statistics.mean_return - statistics.scores["value_l1"]).argsort(descending=True, stable=True)
    expected = proposal.levels[order[:4]].key()
    children = curriculum.propose(8)
    assert curriculum.edited is not None
    assert curriculum.edited.key() == (expected * 8)[:8]
    assert len(set(expected)) == min(4, len(proposal.levels)) > 1
    assert not children.train.any(), "children are scored, not learnt on"
    curriculum.observe(played(children, torch.full((8,), 0.9)))
    assert set(children.levels.key()) <= set(curriculum.buffer.levels.key())
    assert curriculum.propose(8).train.all(), "after children comes the coin again"


def test_accel_can_edit_the_whole_batch() -> None:
    curriculum = accel(parents="batch")
    while not (proposal := step(curriculum, 6)).train.all():
        assert curriculum.edited is None
    curriculum.propose(6)
    assert curriculum.edited is not None
    assert curriculum.edited.key() == proposal.levels[proposal.assignment[0]].key()


def test_parallel_accel_plays_new_levels_replays_and_children_at_once() -> None:
    curriculum = accel(parallel=True)
    step(curriculum, 8)
    first = step(curriculum, 9)
    assert first.train[first.assignment[0]].sum() == 4  # chance 1: half replays, and no parents yet
    second = curriculum.propose(9)
    train = second.train[second.assignment[0]]
    assert train.tolist() == [False] * 5 + [True] * 4
    assert curriculum.edited is not None
    assert len(curriculum.edited) == 4


def test_accel_may_start_from_empty_mazes() -> None:
    proposal = ACCELConfig(**SMALL, start="simple").build(CONTEXT).propose(6)
    assert isinstance(proposal.levels, MazeLevels)
    assert not proposal.levels.walls.any()
    assert len(set(proposal.levels.key())) > 1


def test_messages() -> None:
    for options, message in [
        ({"edits": 0}, "edits must be at least 1, got 0"),
        ({"parents": "hard"}, "parents must be easy or batch, got 'hard'"),
        ({"start": "x"}, "start must be random or simple, got 'x'"),
        ({"replay_probability": 2.0}, r"replay_probability must be in 0..1, got 2.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            ACCELConfig(**options)  # type: ignore[arg-type]
