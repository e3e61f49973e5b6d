"""Imitation by ridge: it finds a linear expert, needs the memory where the expert does, and gets worse with noise."""

import pytest
import torch
from torch import Tensor

from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dreamer
from clutr.world_model.imitation import imitate, recorded_inputs
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import MemoryConfig, Scale

LOW, HIGH = torch.tensor([-1.0]), torch.tensor([1.0])


def dreamer() -> Dreamer:
    memory = MemoryConfig(core=GRUConfig(width=6), gaussians=1).build(2, 1, seed=1)
    return Dreamer(memory, Scale(torch.zeros(2), torch.full((2,), 0.5), torch.ones(2), 1.0))


def episodes(remembers: bool) -> list[LatentEpisode]:
    """Experts whose action is half the first latent, of the present or of the step before."""
    rng, found = torch.Generator().manual_seed(1), []
    for _ in range(10):
        mean, nothing = 0.5 * torch.randn(31, 2, generator=rng), torch.zeros(30)
        shown = torch.cat([torch.zeros(1), mean[:-2, 0]]) if remembers else mean[:-1, 0]
        found.append(LatentEpisode(mean, torch.zeros_like(mean), 0.5 * shown[:, None], nothing, nothing))
    return found


def test_an_expert_of_the_present_is_imitated() -> None:
    policy, quality = imitate(dreamer(), episodes(False), "latent", LOW, HIGH)
    assert float(quality) > 0.999
    latents: Tensor = torch.tensor([[0.6, 9.0], [-0.4, 0.0], [1.9, 0.0]])
    found = policy(latents, torch.zeros(3, 6))
    torch.testing.assert_close(found[1:2], torch.tensor([[-0.2]]), atol=5e-3, rtol=0)
    assert (found <= 1).all()


def test_an_expert_of_the_past_needs_the_memory() -> None:
    known = episodes(True)
    alone, both = (float(imitate(dreamer(), known, sees, LOW, HIGH)[1]) for sees in ("latent", "both"))
    assert alone < 0.1
    assert both > alone + 0.2


def test_inputs_are_what_the_memory_made_of_the_steps_before() -> None:
    one, known = dreamer(), episodes(False)[:1]
    inputs, actions = recorded_inputs(one, known, "both")
    assert torch.equal(actions, known[0].actions)
    assert inputs[0, 2:].abs().max() == 0
    state, _ = one.observe(known[0].mean[:6, None], known[0].actions[:5, None])
    torch.testing.assert_close(inputs[5, 2:], state.state[0])


def test_noise_takes_over() -> None:
    policy, _ = imitate(dreamer(), episodes(False), "latent", LOW, HIGH)
    policy.rng = torch.Generator().manual_seed(1)
    latents, state = torch.tensor([[0.6, 0.0]]), torch.zeros(1, 6)
    sure = policy(latents, state)
    policy.noise = 1.0
    chance = torch.cat([policy(latents, state) for _ in range(400)])
    assert [float(chance.min()), float(chance.max())] == [-1, 1]
    assert (chance[1:] - chance[:-1]).abs().mean() < 0.3, "it wanders"
    policy.noise = 0.5
    half = policy(latents, state)
    torch.testing.assert_close(2 * half - sure, 2 * policy._wander - 1)  # type: ignore[operator]
    with pytest.raises(ValueError, match="imitation needs at least 2 episodes of an expert, got 1"):
        imitate(dreamer(), episodes(False)[:1], "latent", LOW, HIGH)
