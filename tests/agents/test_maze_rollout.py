"""The compiled rollout of mazes against the one that plays any network in any environment."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest
import torch

from clutr.agents import rollout
from clutr.agents.maze_rollout import play_compiled
from clutr.agents.networks import ActorCritic
from clutr.agents.ppo import PPOConfig, PPOStudent
from clutr.agents.student import Trajectories
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.randomness import named_generator
from clutr.envs.workers import use_workers

ENVS, STEPS, LIMIT = 21, 90, 40


def student_in(domain: MazeDomain, torso: Literal["conv", "symbols"], hidden: int = 32) -> PPOStudent:
    """A student that wanders, so that goals are reached and limits are hit."""
    config = PPOConfig(torso=torso, torso_width=24, hidden=hidden, head=8, rollout_steps=STEPS)
    engine = domain.engine(1)
    student = config.build(engine.observation_space, engine.action_space, 1, "student")
    assert isinstance(student.network, ActorCritic)
    rng = torch.Generator().manual_seed(3)
    for layer in (student.network.actor[2], student.network.critic[2]):
        torch.nn.init.normal_(layer.weight, 0, 0.5, generator=rng)  # type: ignore[arg-type]
        torch.nn.init.normal_(layer.bias, 0, 0.1, generator=rng)  # type: ignore[arg-type]
    return student


def played_twice(
    domain: MazeDomain, student: PPOStudent, monkeypatch: pytest.MonkeyPatch, each: int = 1
) -> list[Trajectories]:
    """The same rollout, of so many levels an environment, compiled and step by step; the generator is left the same."""
    levels = domain.sample(each * ENVS, named_generator(1, "levels"))
    before, results, after = student.action_rng.get_state(), [], []
    for compiled in (True, False):
        student.action_rng.set_state(before)
        with monkeypatch.context() as patch:
            if not compiled:
                patch.setattr(rollout, "play_compiled", lambda *_: None)
            results.append(student.rollout(domain.engine(ENVS), levels))
        after.append(student.action_rng.get_state())
    assert torch.equal(*after)
    return results


@pytest.mark.parametrize(
    ("torso", "view", "each"), [("conv", 3, 1), ("conv", 5, 2), ("symbols", 3, 1), ("symbols", 5, 1), ("symbols", 5, 2)]
)
def test_the_same_happens(
    torso: Literal["conv", "symbols"], view: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = replace(MazeDomain(), height=5, width=6, max_obstacles=6, max_steps=LIMIT, view=view)
    student = student_in(domain, torso)
    ours, theirs = played_twice(domain, student, monkeypatch, each)
    assert ours.terminated.sum() > 5, "the test needs goals that are reached"
    assert ours.truncated.sum() > 5, "and episodes that run out of time"
    for name, seen in theirs.observations.items():
        assert torch.equal(ours.observations[name], seen), name
        assert ours.observations[name].dtype == seen.dtype, name
    for name in ("actions", "rewards", "terminated", "truncated", "solved", "episode_starts"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    for name in ("log_probs", "values", "next_values", "advantages"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-5)


@pytest.fixture
def default_workers() -> Iterator[None]:
    """How many threads work is left as it was."""
    yield
    use_workers(None)


@pytest.mark.usefixtures("default_workers")
def test_the_number_of_threads_changes_no_bit() -> None:
    domain = MazeDomain(max_steps=LIMIT)
    results = []
    for workers in (1, 3):
        use_workers(workers)
        student = student_in(domain, "symbols")
        levels = domain.sample(ENVS, named_generator(1, "levels"))
        trajectories = student.rollout(domain.engine(ENVS), levels)
        student.learn(trajectories)
        results.append([*vars(trajectories).values(), *student.network.parameters()])
    for one, three in zip(*results, strict=True):
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, three)


@pytest.mark.parametrize("change", ["width", "hidden cells", "shadows"])
def test_what_it_cannot_play_is_played_step_by_step(change: str) -> None:
    domain = MazeDomain(max_steps=LIMIT, see_through_walls=change != "shadows")
    student = student_in(domain, "symbols", 24 if change == "width" else 32)
    if change == "hidden cells":
        student.network.double()
    engine = domain.engine(ENVS)
    levels = domain.sample(ENVS, named_generator(1, "levels"))
    engine.reset(levels)
    assert play_compiled(student.network, engine, levels, 2, student.action_rng) is None


def test_levels_follow_each_other_with_the_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each first view of an episode is that of the level whose turn it is; the last one stays."""
    domain, each = MazeDomain(max_steps=7), 3
    student = student_in(domain, "symbols")
    levels = domain.sample(each * ENVS, named_generator(1, "levels"))
    first = domain.engine(each * ENVS).reset(levels)["image"].reshape(each, ENVS, -1)
    for played in played_twice(domain, student, monkeypatch, each):
        number = played.episode_starts.cumsum(0) - 1
        assert int(number.max()) > each, "episodes are more than levels"
        for step, env in played.episode_starts.nonzero().tolist():
            due = first[min(int(number[step, env]), each - 1), env]
            assert torch.equal(played.observations["image"][step, env].flatten(), due)


def test_levels_that_cannot_be_shared_evenly_are_refused() -> None:
    domain = MazeDomain(max_steps=LIMIT)
    student, levels = student_in(domain, "symbols"), domain.sample(ENVS + 1, named_generator(1, "levels"))
    for wrong in (levels, levels[:0]):
        with pytest.raises(ValueError, match=f"{len(wrong)} levels cannot be shared evenly by {ENVS} environments"):
            student.rollout(domain.engine(ENVS), wrong)
