"""Dreams: they go on from where the watching stopped, and branches share their past."""

import pytest
import torch

from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dreamer
from clutr.world_model.memory import MemoryConfig, Scale


def dreamer() -> Dreamer:
    memory = MemoryConfig(core=GRUConfig(width=12), gaussians=2).build(3, 2, seed=1)
    std = torch.tensor([1.0, 2.0, 0.5])
    return Dreamer(memory, Scale(torch.tensor([1.0, 2.0, 3.0]), std, std, 10.0))


def inputs(steps: int = 6, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(2)
    return torch.randn(steps + 1, n, 3, generator=rng), torch.randn(steps, n, 2, generator=rng)


def test_watching_is_what_the_memory_saw_and_can_be_parted() -> None:
    one = dreamer()
    latents, actions = inputs()
    latent_state, expected = one.observe(latents, actions)
    torch.testing.assert_close(one.scale.restore(latent_state.latent), latents[-1])
    assert expected.reward.shape == (6, 4)
    first, _ = one.observe(latents[:4], actions[:3])
    second, _ = one.observe(latents[3:], actions[3:], first.state)
    torch.testing.assert_close(second.state, latent_state.state)
    with pytest.raises(ValueError, match="at least one action between two frames"):
        one.observe(latents[:1], actions[:0])


def test_a_dream_of_one_moment_is_the_expectation() -> None:
    one = dreamer()
    latents, actions = inputs()
    latent_state, _ = one.observe(latents[:-1], actions[:-1])
    dream = one.dream(latent_state, actions[-1:], horizon=1)
    _, expected = one.memory.step(latent_state.state, latent_state.latent, actions[-1])
    torch.testing.assert_close(dream.latents[0], one.scale.restore(expected.latent.mean().clamp(-4, 4)))
    torch.testing.assert_close(dream.rewards[0], 10 * expected.reward)
    torch.testing.assert_close(dream.terminations[0], expected.termination.sigmoid())


@pytest.mark.parametrize("temperature", [None, 1.5])
def test_dreams_stay_where_something_was_seen(temperature: float | None) -> None:
    one = dreamer()
    latents, actions = inputs()
    latent_state, _ = one.observe(one.scale.restore(100 * one.scale.normalise(latents)), actions)
    rng = torch.Generator().manual_seed(1)
    dream = one.dream(latent_state, actions, horizon=6, temperature=temperature, rng=rng)
    normal = one.scale.normalise(dream.latents).abs()
    assert normal.max() == pytest.approx(4, abs=1e-4)
    assert (normal < 3.9).any()


def test_dreams_are_fed_with_themselves() -> None:
    one = dreamer()
    latents, actions = inputs()
    latent_state, _ = one.observe(latents, actions)
    whole = one.dream(latent_state, actions, horizon=6)
    again = one.dream(latent_state, actions, horizon=3)
    torch.testing.assert_close(whole.latents[:3], again.latents)
    third, _ = one.step(latent_state, actions[0], None)
    for action in actions[1:3]:
        third, _ = one.step(third, action, None)
    rest = one.dream(third, actions[3:], horizon=3)
    torch.testing.assert_close(whole.latents[3:], rest.latents)


def test_branches_share_their_past_and_part_by_chance() -> None:
    one = dreamer()
    latents, actions = inputs()
    latent_state, _ = one.observe(latents, actions)
    branched = latent_state.branch(torch.tensor([1, 1, 1]))
    together = one.dream(branched, actions[:, 1:2].expand(6, 3, 2), horizon=6)
    torch.testing.assert_close(together.latents[:, 0], together.latents[:, 2])
    rng = torch.Generator().manual_seed(3)
    apart = one.dream(branched, actions[:, 1:2].expand(6, 3, 2), horizon=6, temperature=1.0, rng=rng)
    assert not torch.allclose(apart.latents[:, 0], apart.latents[:, 2])
    same = one.dream(
        branched, actions[:, 1:2].expand(6, 3, 2), horizon=6, temperature=1.0, rng=torch.Generator().manual_seed(3)
    )
    assert torch.equal(apart.latents, same.latents)


def test_a_policy_sees_the_dream() -> None:
    one = dreamer()
    latents, actions = inputs()
    latent_state, _ = one.observe(latents, actions)
    seen = []

    def follow(latent: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        seen.append(latent)
        assert state.shape == latent_state.state.shape
        return latent[:, :2]

    dream = one.dream(latent_state, follow, horizon=3)
    torch.testing.assert_close(seen[0], latents[-1])
    torch.testing.assert_close(seen[1], dream.latents[0])
    assert dream.states.shape == (3, *latent_state.state.shape)
