"""TRACED: difficulty, credit and the transition model against numbers worked by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.agents.ppo import PPOConfig
from clutr.agents.student import EpisodeStatistics, Trajectories
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.plr import Batch
from clutr.curricula.traced import TRACED, TRACEDConfig, TransitionLearner, TransitionModel
from clutr.envs.maze.domain import MazeDomain

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=10)


def build(**options: Any) -> TRACED:
    few = {"capacity": 4, "minimum_fill": 0.5, "replay_probability": 1.0, "staleness": 0.0, "model_width": 8}
    return TRACEDConfig(**few | options).build(Context(DOMAIN, 1))


def played(proposal: Proposal, value_loss: list[float], error: list[float]) -> Outcome:
    n = len(value_loss)
    zeros = torch.zeros(n)
    scores = {
        "value_l1": zeros,
        "mean_value": zeros,
        "positive_value_loss": torch.tensor(value_loss),
        "transition_error": torch.tensor(error),
    }
    return Outcome.stack(proposal, [EpisodeStatistics(zeros, zeros, zeros, zeros, zeros + 1, zeros, scores)])


def test_difficulty_is_value_loss_plus_weighted_transition_error() -> None:
    curriculum = build(transition_weight=0.5)
    found = curriculum.observe(played(curriculum.propose(2), [0.25, 1.0], [0.5, 0.25]))
    assert found["score"].tolist() == [0.5, 1.125]
    assert float(found["colearnability"]) == 0, "a first visit is no progress"


def test_progress_is_credited_to_the_levels_replayed_before() -> None:
    """A is replayed, then B, whose difficulty has fallen by 0.5: A's score rises by the weight times 0.5."""
    curriculum = build(colearnability_weight=0.2, capacity=2, minimum_fill=1.0)
    curriculum.observe(played(curriculum.propose(2), [0.5, 1.0], [0.5, 1.0]))  # difficulties 1 and 2
    first, second = curriculum.buffer.levels[:1], curriculum.buffer.levels[1:2]
    nobody = torch.zeros(1, 1, dtype=torch.int64)

    def replay(level: Any, value_loss: float) -> dict[str, Tensor]:
        curriculum._pending.put(Batch(0, torch.empty(0), curriculum.buffer.last_drawn))
        return curriculum.observe(played(Proposal(level, nobody, torch.ones(1) > 0), [value_loss], [0.0]))

    replay(first, 0.9)  # fell by 0.1, but nothing was replayed before it
    assert curriculum.buffer.scores.tolist() == pytest.approx([0.9, 2.0])
    assert float(replay(second, 1.5)["colearnability"]) == pytest.approx(0.5)
    assert curriculum.buffer.scores.tolist() == pytest.approx([0.9 + 0.2 * 0.5, 1.5])
    assert float(replay(first, 1.1)["colearnability"]) == pytest.approx(0.9 - 1.1), "from difficulty, not from score"
    assert curriculum.buffer.scores.tolist() == pytest.approx([1.1, 1.5 - 0.2 * 0.2])


def rollout(envs: int = 4, steps: int = 24) -> tuple[Trajectories, Any]:
    engine = DOMAIN.engine(envs)
    config = PPOConfig(rollout_steps=steps, hidden=8, head=4, torso="symbols", torso_width=8)
    student = config.build(engine.observation_space, engine.action_space, 1, "student")
    return student.rollout(engine, DOMAIN.sample(envs, torch.Generator().manual_seed(2))), engine


def test_errors_are_those_of_the_next_pictures_within_episodes() -> None:
    trajectories, engine = rollout()
    model = TransitionModel(engine.observation_space, engine.action_space, 8, torch.Generator().manual_seed(1))
    image = trajectories.observations["image"].movedim(-1, 2).flatten(2).float() / 10
    with torch.no_grad():
        predicted = model(image[:-1], trajectories.actions[:-1], trajectories.episode_starts[:-1])
    expected = []
    for env in range(4):
        errors = [
            float((predicted[t, env] - image[t + 1, env]).abs().mean())
            for t in range(23)
            if not trajectories.episode_starts[t + 1, env]
        ]
        assert len(errors) < 23, "an episode ended"
        expected.append(sum(errors) / len(errors))
    found = TransitionLearner(model, 1e-3).errors(trajectories)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_model_learns_what_it_sees_again() -> None:
    trajectories, engine = rollout()
    model = TransitionModel(engine.observation_space, engine.action_space, 32, torch.Generator().manual_seed(1))
    learner = TransitionLearner(model, 3e-3)
    errors = [float(learner.errors(trajectories).mean()) for _ in range(60)]
    assert errors[-1] < errors[0] / 3


def test_pictures_are_averaged_down() -> None:
    from clutr.envs.car.domain import CarDomain  # noqa: PLC0415 (its engine is compiled)

    engine = CarDomain().engine(1)
    model = TransitionModel(engine.observation_space, engine.action_space, 8, torch.Generator().manual_seed(1))
    pictures = torch.full((2, 3, 96, 96, 3), 51, dtype=torch.uint8)
    torch.testing.assert_close(model.prepare(pictures), torch.full((2, 3, 12 * 12 * 3), 0.2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "value_l1"}, "TRACED's difficulty is made of positive_value_loss, got the score 'value_l1'"),
        (
            {"levels_per_rollout": 2},
            "TRACED measures an environment's rollout as a whole: levels_per_rollout must be 1",
        ),
        ({"transition_weight": -1.0}, r"transition_weight must be at least 0, got -1\.0"),
        ({"model_learning_rate": 0.0}, r"model_learning_rate must be above 0, got 0\.0"),
    ],
)
def test_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TRACEDConfig(**options)
