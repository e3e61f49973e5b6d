"""An environment and its dream through the same latents: what a student sees is what the memory was told."""

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from clutr.envs.maze.domain import MazeDomain
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.latent_engines import LatentDream, LatentEngine, observation_space, recorded_starts
from clutr.world_model.latent_student import LatentActorCritic, LatentPPOConfig
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import MemoryConfig, Scale

MAZE = MazeDomain(height=5, width=5, max_obstacles=3, max_steps=6)
LATENTS, WIDTH = 4, 5


def parts(width: int = WIDTH) -> tuple[Any, Dreamer]:
    """A backbone with some directions in it, and a memory of three discrete actions or of whatever mazes have."""
    rng = torch.Generator().manual_seed(1)
    backbone = PPCAConfig(latents=LATENTS).build((64, 64), 1)
    frames = torch.randint(0, 256, (40, 64, 64, 3), dtype=torch.uint8, generator=rng)
    backbone.fit(frames, 1, lambda *_: None)
    actions = int(MAZE.engine(1).action_space.n)  # type: ignore[attr-defined]
    memory = MemoryConfig(core=GRUConfig(width=width), gaussians=1).build(LATENTS, actions, seed=1)
    return backbone, Dreamer(
        memory, Scale(torch.full((LATENTS,), 0.1), torch.full((LATENTS,), 2.0), torch.ones(4), 1.0)
    )


def levels(n: int) -> Any:
    return MAZE.sample(n, torch.Generator().manual_seed(3))


def test_a_student_sees_latents_and_what_the_memory_made_of_earlier_ones() -> None:
    backbone, dreamer = parts()
    engine = LatentEngine(MAZE, backbone, dreamer, 2)
    other = MAZE.engine(2)
    observer = MAZE.observer(other)
    other.reset(levels(2))
    observer.reset()
    pictures = [observer.pictures()]
    seen = [engine.reset(levels(2))["latent"]]
    actions = torch.tensor([[2, 0], [2, 1], [2, 2]])
    for action in actions:
        seen.append(engine.step(action).observation["latent"])
        other.step(action)
        pictures.append(observer.pictures())
    latents = torch.stack([backbone.encode(each)[0] for each in pictures])
    torch.testing.assert_close(torch.stack(seen)[..., :LATENTS], ((latents - 0.1) / 2).clamp(-4, 4))
    assert torch.equal(seen[0][:, LATENTS:], torch.zeros(2, WIDTH)), "an episode begins with nothing remembered"
    width = int(other.action_space.n)  # type: ignore[attr-defined]
    numbers = torch.nn.functional.one_hot(actions, width).float()
    followed, _ = dreamer.observe(latents, numbers)
    torch.testing.assert_close(seen[3][:, LATENTS:], followed.state)


def test_a_new_episode_forgets_and_the_others_go_on() -> None:
    backbone, dreamer = parts()
    engine = LatentEngine(MAZE, backbone, dreamer, 2)
    engine.reset(levels(2))
    before = engine.step(torch.tensor([0, 0])).observation["latent"]
    after = engine.reset(mask=torch.tensor([True, False]))["latent"]
    assert torch.equal(after[0, LATENTS:], torch.zeros(WIDTH))
    assert before[0, LATENTS:].abs().max() > 0
    assert torch.equal(after[1], before[1])


def test_the_latent_alone_is_seen_without_the_memory() -> None:
    backbone, dreamer = parts()
    engine = LatentEngine(MAZE, backbone, dreamer, 1, "latent")
    assert engine.reset(levels(1))["latent"].shape == (1, LATENTS)
    assert engine.observation_space["latent"].shape == (LATENTS,)


def episodes() -> list[LatentEpisode]:
    rng = torch.Generator().manual_seed(4)
    found = []
    for length in (3, 9, 9):
        mean = torch.randn(length + 1, LATENTS, generator=rng)
        actions = torch.eye(7)[torch.randint(0, 7, (length,), generator=rng)][:, : parts()[1].memory.actions]
        nothing = torch.zeros(length)
        found.append(LatentEpisode(mean, torch.full_like(mean, -4.0), actions, nothing, nothing))
    return found


def test_dreams_begin_where_episodes_were_observed_from_their_beginning() -> None:
    _, dreamer = parts()
    known = episodes()
    found = recorded_starts(dreamer, known, torch.Generator().manual_seed(1), most=40, beginnings=0.25)
    assert found.latent.shape == (40, LATENTS)
    beginnings = found.state.abs().sum(1) == 0
    assert 10 <= int(beginnings.sum()) <= 20, "a quarter, and who was to begin at the first step by chance"
    assert beginnings[: int(beginnings.sum())].all()
    first = dreamer.clip(dreamer.scale.normalise(torch.stack([each.mean[0] for each in known])))
    assert all((first == latent).all(1).any() for latent in found.latent[beginnings])
    # every step of the three episodes but the last, after which nothing comes
    expected = [
        dreamer.observe(each.mean[: time + 1, None], each.actions[:time, None])[0]
        for each in known
        for time in range(1, len(each))
    ]
    states, latents = torch.cat([each.state for each in expected]), torch.cat([each.latent for each in expected])
    rows = []
    for state, latent in zip(found.state[~beginnings], found.latent[~beginnings], strict=True):
        rows.append(int((states - state).abs().sum(1).argmin()))
        torch.testing.assert_close(states[rows[-1]], state)
        torch.testing.assert_close(latents[rows[-1]], latent)
    assert len(set(rows)) > 8, "all along the episodes"
    with pytest.raises(ValueError, match="there is no episode with a step"):
        recorded_starts(dreamer, [], torch.Generator())


def test_inputs_are_standardised_by_those_of_recorded_steps() -> None:
    inside = dream()
    student = LatentPPOConfig(hidden=8).build(inside.observation_space, inside.action_space, 1, "standard")
    network: Any = student.network
    inputs = torch.tensor([[0.0] * 9, [4.0] * 8 + [0.0]])
    network.standardise(inputs)
    torch.testing.assert_close(network.spread[:8], torch.full((8,), 8.0**0.5 + 0.01))
    prepared = network.prepare({"latent": torch.stack([inputs, inputs * 99])}, torch.zeros(2, 2))
    assert prepared.shape == (1, 4, 9)
    torch.testing.assert_close(prepared[0, 0], torch.tensor([-2 / (8**0.5 + 0.01)] * 8 + [0.0]))
    assert float(prepared.max()) == 10.0, "clipped"
    again = LatentPPOConfig(hidden=8).build(inside.observation_space, inside.action_space, 2, "other")
    again.load_state_dict(student.state_dict())
    assert torch.equal(again.network.mean, network.mean), "kept with the weights"  # type: ignore[arg-type]


def dream(n: int = 3) -> LatentDream:
    backbone, dreamer = parts()
    starts = recorded_starts(dreamer, episodes(), torch.Generator().manual_seed(1))
    space = MAZE.engine(1).action_space
    return LatentDream(dreamer, backbone, starts, n, space, horizon=4, rng=torch.Generator().manual_seed(2))


def test_what_is_trained_in_a_dream_plays_in_the_environment() -> None:
    config = LatentPPOConfig(rollout_steps=6, epochs=1, minibatches=2, hidden=8)
    inside = dream()
    student = config.build(inside.observation_space, inside.action_space, 1, "dreamer")
    trajectories = student.rollout(inside, levels(3))
    assert trajectories.observations["latent"].shape == (6, 3, LATENTS + WIDTH)
    assert trajectories.truncated.any(0).all() or trajectories.terminated.any(), "dreams are cut after four steps"
    assert student.learn(trajectories)
    backbone, dreamer = parts()
    outside = LatentEngine(MAZE, backbone, dreamer, 3)
    assert student.learn(student.rollout(outside, levels(3)))


def test_actions_in_a_box_stay_in_it() -> None:
    box = spaces.Box(torch.tensor([-1.0, 0.0]).numpy(), torch.tensor([1.0, 0.5]).numpy())
    space = spaces.Dict({"latent": spaces.Box(-9, 9, (3,))})
    student = LatentPPOConfig(hidden=6).build(space, box, 1, "driver")
    rng = torch.Generator().manual_seed(1)
    seen: Tensor = torch.randn(500, 3, generator=rng)
    actions, state = student.act({"latent": seen}, student.initial_state(500), rng)
    assert state.shape == (500, 0)
    assert -1 <= actions[:, 0].min() < -0.5
    assert 0.5 < actions[:, 0].max() <= 1
    assert 0 <= actions[:, 1].min() < 0.1
    assert 0.4 < actions[:, 1].max() <= 0.5


def test_messages() -> None:
    rng = torch.Generator()
    vector = spaces.Dict({"latent": spaces.Box(-9, 9, (3,))})
    with pytest.raises(ValueError, match="this student sees a vector called `latent`, not Dict"):
        LatentActorCritic(spaces.Dict({"image": spaces.Box(0, 255, (4, 4, 3))}), spaces.Discrete(3), 4, rng)
    with pytest.raises(ValueError, match="acts in a box or takes discrete actions, not MultiBinary"):
        LatentActorCritic(vector, spaces.MultiBinary(3), 4, rng)
    with pytest.raises(ValueError, match=r"state has 5,000 numbers, too many to be seen: let the student see `latent`"):
        observation_space(parts(5_000)[1], "both")
    assert observation_space(parts(5_000)[1], "latent")["latent"].shape == (LATENTS,)
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
        LatentPPOConfig(hidden=0)
    assert isinstance(dream(1)._now, LatentState | None)
