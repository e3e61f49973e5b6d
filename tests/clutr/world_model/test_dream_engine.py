"""Dreams as worlds, and the inference of what a memory must have been thinking."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.envs.domain import LevelBatch, Observation
from clutr.envs.maze.level import empty_levels
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.lstm_gru import GRUConfig, LSTMConfig
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.dream_engine import DreamEngine, DreamEnv, RewardRange
from clutr.world_model.error_regression import RegressionOptions, regress
from clutr.world_model.memory import Memory, MemoryConfig, Scale

BOX = spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
SCALE = Scale(torch.zeros(3), torch.ones(3), torch.ones(3), 2.0)


def dreamer(actions: int = 3) -> Dreamer:
    return Dreamer(MemoryConfig(core=GRUConfig(width=8), gaussians=2).build(3, actions, seed=1), SCALE)


def engine(n: int = 4, space: spaces.Space = BOX, **options: object) -> DreamEngine:  # type: ignore[type-arg]
    inside = dreamer(int(space.n) if isinstance(space, spaces.Discrete) else 3)
    backbone = PPCAConfig(latents=3).build((8, 8), 1)
    backbone.mean += 0.5
    rng = torch.Generator().manual_seed(2)
    starts = LatentState(torch.randn(5, 8, generator=rng), torch.randn(5, 3, generator=rng))
    return DreamEngine(inside, backbone, starts, n, space, rng=rng, **options)  # type: ignore[arg-type]


def test_a_dream_goes_through_the_motions_of_an_engine() -> None:
    dream = engine(side=96, horizon=3)
    seen = dream.reset()["image"]
    assert (seen.shape, seen.dtype) == ((4, 96, 96, 3), torch.uint8)
    ends = []
    for _ in range(3):
        result = dream.step(torch.zeros(4, 3))
        ends.append(result.truncated.tolist())
        assert result.reward.shape == (4,)
    assert ends == [[False] * 4, [False] * 4, [True] * 4]
    before = dream.agent_position.clone()
    dream.reset(mask=torch.tensor([True, False, False, False]))
    assert torch.equal(dream.agent_position[1:], before[1:]), "the others go on undisturbed"
    assert not dream.step(torch.zeros(4, 3)).truncated[0]


def test_episodes_begin_at_moments_that_were_seen() -> None:
    dream = engine(n=50)
    dream.reset()
    assert dream._now is not None
    for latent in dream._now.latent:
        assert (dream._starts.latent == latent).all(1).any()
    assert len({tuple(latent.tolist()) for latent in dream._now.latent}) == 5


def test_the_expected_dream_has_no_chance_in_it() -> None:
    first, second = engine(temperature=None), engine(temperature=None)
    for dream in (first, second):
        dream.reset()
        dream._now = dream._starts.branch(torch.arange(4))
        for _ in range(5):
            dream.step(torch.ones(4, 3))
    second._rng.manual_seed(99)
    assert torch.equal(first.agent_position, second.agent_position)


def test_discrete_actions_are_one_hot_inside() -> None:
    dream = engine(space=spaces.Discrete(7))
    dream.reset()
    assert dream.step(torch.tensor([0, 6, 3, 3])).reward.shape == (4,)


def test_predicted_rewards_stay_within_recorded_ones() -> None:
    rewards, terminated = torch.tensor([0.0, 0.1, 0.9, 0.7]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    found = RewardRange.of(rewards, terminated)
    assert found.going_on == pytest.approx((0.0, 0.1))
    assert found.ended == pytest.approx((0.7, 0.9))
    predicted = found.expected(torch.tensor([-0.2, 0.3, 0.3, 2.0]), torch.tensor([0.0, 0.0, 1.0, 0.5]))
    torch.testing.assert_close(predicted, torch.tensor([0.0, 0.1, 0.7, 0.5]))
    never = RewardRange.of(rewards[:2], terminated[:2])
    assert never.ended == never.going_on, "no step ended an episode"
    with pytest.raises(ValueError, match="told by recorded steps, and there are none"):
        RewardRange.of(torch.zeros(0), torch.zeros(0))
    dream = engine(rewards=RewardRange((-5.0, -5.0), (3.0, 3.0)))
    dream.reset()
    result = dream.step(torch.zeros(4, 3))
    assert ((result.reward > -5) & (result.reward < 3)).all(), "by the chance of an end, whether it came or not"


class Levelless(DreamEngine):
    """A dream that lets a student's rollout hand it levels, and plays none."""

    def reset(self, levels: LevelBatch | None = None, mask: torch.Tensor | None = None) -> Observation:  # noqa: ARG002
        """Begin anew."""
        return super().reset(None, mask)


def test_a_student_can_be_trained_in_a_dream() -> None:
    dream = engine(n=2, side=96, horizon=4)
    dream.__class__ = Levelless
    config = PixelPPOConfig(torso="light", rollout_steps=6, epochs=1, minibatches=1)
    student = config.build(dream.observation_space, dream.action_space, 1, "dreamer")
    assert student.learn(student.rollout(dream, empty_levels(2, 3, 3)))


@pytest.mark.filterwarnings("ignore")
def test_a_dream_is_a_gymnasium_environment() -> None:
    env = DreamEnv(engine(n=1, side=16))
    check_env(env, skip_render_check=True)
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert np.array_equal(first["image"], again["image"])
    assert env.render().shape == (16, 16, 3)


def test_messages() -> None:
    with pytest.raises(ValueError, match="at least one environment, one step and one pixel"):
        engine(horizon=0)
    with pytest.raises(RuntimeError, match="reset the dream before stepping"):
        engine().step(torch.zeros(4, 3))
    with pytest.raises(TypeError, match="a dream plays no levels"):
        engine().reset(empty_levels(4, 3, 3))
    with pytest.raises(ValueError, match="is one dream, this engine has 4"):
        DreamEnv(engine())
    with pytest.raises(ValueError, match=r"meta_prior must be at least 0, got -1\.0"):
        RegressionOptions(meta_prior=-1.0)


# --- error regression


def window(memory: Memory) -> tuple[torch.Tensor, torch.Tensor]:
    """What the memory itself expects after a beginning that is not told: `[C + 1, N, D]`, and the actions."""
    rng = torch.Generator().manual_seed(5)
    hidden = 0.8 * torch.randn(4, memory.initial_state(1).shape[1], generator=rng)
    actions, latent = torch.randn(8, 4, 2, generator=rng), torch.randn(4, 3, generator=rng)
    state, found = hidden, [latent]
    with torch.no_grad():
        for action in actions:
            state, expected = memory.step(state, latent, action)
            latent = expected.latent.mean()
            found.append(latent)
    return torch.stack(found), actions


def sharp_memory() -> Memory:
    """A memory whose core matters for what it expects."""
    memory = MemoryConfig(core=LSTMConfig(width=6), gaussians=1).build(3, 2, seed=4)
    with torch.no_grad():
        memory.mixture.weight.mul_(8.0)
    return memory


def test_causes_are_found_that_explain_the_window() -> None:
    memory = sharp_memory()
    before = [value.clone() for value in memory.state_dict().values()]
    latents, actions = window(memory)
    found = regress(memory, SCALE, latents, actions, RegressionOptions(meta_prior=1e-3, steps=80))
    assert found.misfit[-1] < found.misfit[0] - 0.05
    assert len(found.misfit) == 81
    _, told = memory.scan(found.start, SCALE.normalise(latents[:-1]) + found.corrections, actions)
    assert float(-told.latent.log_density(latents[1:]).mean().detach()) == pytest.approx(found.misfit[-1], abs=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, memory.state_dict().values(), strict=True))
    assert all(parameter.grad is None for parameter in memory.parameters())


def test_a_strong_meta_prior_trusts_the_model() -> None:
    memory = sharp_memory()
    latents, actions = window(memory)
    loose = regress(memory, SCALE, latents, actions, RegressionOptions(meta_prior=1e-3))
    strict = regress(memory, SCALE, latents, actions, RegressionOptions(meta_prior=1e3))
    assert strict.corrections.abs().mean() < 0.2 * loose.corrections.abs().mean()
    assert loose.misfit[-1] < strict.misfit[-1]


def test_without_steps_it_is_observing() -> None:
    one = Dreamer(sharp_memory(), SCALE)
    latents, actions = window(one.memory)
    latent_state, _ = one.observe(latents, actions)
    found = regress(one.memory, SCALE, latents, actions, RegressionOptions(steps=0))
    torch.testing.assert_close(found.latent_state.state, latent_state.state)
    torch.testing.assert_close(found.latent_state.latent, latent_state.latent)
