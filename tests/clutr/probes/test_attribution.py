"""To what a prediction is due: identities on a memory that is linear, and agreement of methods on one that is not."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clutr.probes.attribution import (
    METHODS,
    AttributionInput,
    Past,
    Target,
    attention,
    by_lag,
    completeness,
    cut_pasts,
    gradient_times_input,
    integrated_gradients,
    layerwise_relevance,
    methods_for,
    occlusion,
    predict,
    random_relevance,
)
from clutr.probes.open_lstm import OpenLSTM, lrp_slopes
from clutr.probes.pixel_attribution import (
    PixelAttributionInput,
    differentiable,
    gradient_times_pixels,
    integrated_pixels,
    layerwise_pixels,
    occluded_pixels,
    propagate_to_pixels,
)
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.backbones.haar import HaarConfig
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.backbones.residual import ResidualConfig
from clutr.world_model.backbones.vae import VAEConfig
from clutr.world_model.cores.aaren import AarenConfig
from clutr.world_model.cores.lstm_gru import GRUConfig, LSTMConfig
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.memory import MemoryConfig, Scale

D, A, T, N = 3, 2, 6, 5


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class SumConfig:
    """A core whose features are what it saw, fading by half each step."""

    def build(self, inputs: int, rng: torch.Generator) -> "SumCore":  # noqa: ARG002
        return SumCore(inputs)


class SumCore(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.width = inputs

    def initial_state(self, n: int) -> Tensor:
        return torch.zeros(n, self.width)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        state = 0.5 * state + x
        return state, state

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        features = []
        for x in xs:
            state, _ = self.step(state, x)
            features.append(state)
        return state, torch.stack(features)


def explained(core: object, target: Target | None = None, seed: int = 1) -> AttributionInput:
    config = MemoryConfig(core=core, gaussians=2)  # type: ignore[arg-type]
    memory = config.build(D, A, seed)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.mul_(3.0)
    rng = generator(seed)
    past = Past(
        inputs=torch.randn(N, T, D + A, generator=rng),
        state=memory.core.scan(memory.initial_state(N), torch.randn(4, N, D + A, generator=rng))[0].detach(),
        baseline=torch.tensor([0.0, 0.0, 0.0, 0.3, -0.2]),
        origins=[],
    )
    return AttributionInput(memory, target or Target("reward"), past)


def test_on_a_linear_memory_all_agree_with_the_formula() -> None:
    asked = explained(SumConfig())
    weights = asked.memory.outcome.weight[0].detach()
    fading = 0.5 ** torch.arange(T - 1, -1, -1.0)
    exact = fading[:, None] * weights * (asked.past.inputs - asked.past.baseline)
    for explain in (gradient_times_input, integrated_gradients, occlusion):
        torch.testing.assert_close(explain(asked), exact, atol=1e-5, rtol=1e-4)
        assert completeness(asked, explain(asked)) < 1e-4
    assert completeness(asked, torch.zeros(N, T, D + A)) == pytest.approx(1)


def test_integrated_gradients_add_up_and_slopes_do_not() -> None:
    asked = explained(LSTMConfig(width=8))
    assert completeness(asked, integrated_gradients(asked)) < 0.01
    assert completeness(asked, gradient_times_input(asked)) > 0.05


def test_occlusion_by_hand() -> None:
    asked = explained(GRUConfig(width=4))
    found = occlusion(asked)
    inputs = asked.past.inputs.clone()
    inputs[:, 2, 3] = 0.3
    with torch.no_grad():
        expected = asked(asked.past.inputs) - asked(inputs)
    torch.testing.assert_close(found[:, 2, 3], expected)


@pytest.mark.parametrize("target", [Target("reward"), Target("latent 1", latent=1)])
def test_layer_wise_relevance_is_that_of_each_sequence_alone(target: Target) -> None:
    asked = explained(LSTMConfig(width=8), target)
    found = layerwise_relevance(asked)
    core: Any = asked.memory.core
    opened = OpenLSTM.of(core.lstm)
    for n in range(N):
        h, c = asked.past.state[n].chunk(2)
        features = opened.run(asked.past.inputs[n], h, c).h[-1]
        read, constant = (part[0].detach() for part in target.read(asked.memory, features[None]))
        alone = lrp_slopes(opened, asked.past.inputs[n], read, float(constant), start=(h, c))
        alone = alone * (asked.past.inputs[n] - asked.past.baseline)
        torch.testing.assert_close(found[n], alone, atol=1e-5, rtol=1e-3)
    with pytest.raises(TypeError, match="layer-wise relevance is for LSTMs, not for GRUCore"):
        layerwise_relevance(explained(GRUConfig(width=4)))
    assert set(methods_for(asked.memory)) == set(METHODS)
    assert set(methods_for(explained(GRUConfig(width=4)).memory)) == set(METHODS) - {"layer-wise relevance"}


def test_targets_are_what_the_memory_says() -> None:
    asked = explained(LSTMConfig(width=8))
    memory, past = asked.memory, asked.past
    xs = past.inputs.transpose(0, 1)
    with torch.no_grad():
        _, expected = memory.scan(past.state, xs[..., :D], xs[..., D:])
        change = predict(memory, Target("latent 2", latent=2), past.inputs, past.state)
        torch.testing.assert_close(change, expected.latent.mean()[-1, :, 2] - xs[-1, :, 2])
        torch.testing.assert_close(asked(past.inputs), expected.reward[-1])
        _, features = memory.core.scan(past.state, xs)
        found = LinearProbe(torch.randn(8, 2, generator=generator()), torch.tensor([1.0, 2.0]), 0.1)
        read = predict(memory, Target("speed", probe=found, column=1), past.inputs, past.state)
        torch.testing.assert_close(read, found(features[-1])[:, 1])
    other = Target("speed", probe=found, column=1).shuffled(generator())
    assert other.probe is not None
    assert sorted(other.probe.weights[:, 1].tolist()) == sorted(found.weights[:, 1].tolist())
    assert not torch.equal(other.probe.weights, found.weights)


def test_attention_is_a_softmax_over_all_that_came() -> None:
    asked = explained(AarenConfig(width=6, heads=2, values=3))
    found = attention(asked)
    rng = generator(1)
    inputs = torch.randn(N, T, D + A, generator=rng)
    before = torch.randn(4, N, D + A, generator=rng)
    everything = torch.cat([before, inputs.transpose(0, 1)])
    core: Any = asked.memory.core
    expected = core.attention(everything)[4:].mean(-1).T
    torch.testing.assert_close(found, expected)
    with pytest.raises(TypeError, match="attention is Aaren's, not of LSTMCore"):
        attention(explained(LSTMConfig(width=4)))


def test_shares_by_lag() -> None:
    relevance_ = torch.zeros(2, 3, 2)
    relevance_[0, 2, 0] = -3.0
    relevance_[1, 1, 1] = 2.0
    assert by_lag(relevance_).tolist() == [0.5, 0.5, 0.0]
    assert by_lag(relevance_.abs().sum(-1)).tolist() == [0.5, 0.5, 0.0]
    assert random_relevance(explained(SumConfig()), generator()).shape == (N, T, D + A)


def test_pasts_are_stretches_of_episodes_with_the_memory_of_what_came_before() -> None:
    rng = generator()
    episodes = [
        LatentEpisode(torch.randn(n + 1, D, generator=rng), torch.zeros(n + 1, D), torch.rand(n, A, generator=rng),
                      torch.zeros(n), torch.zeros(n))
        for n in (3, 9, 12)
    ]  # fmt: skip
    memory = MemoryConfig(core=LSTMConfig(width=4)).build(D, A, 1)
    scale = Scale.of(torch.cat([e.mean for e in episodes]), torch.zeros(27, D), torch.zeros(1))
    found = cut_pasts(episodes, memory, scale, 5, 8, rng)
    assert sorted(number for number, _ in found.origins) == [1, 2]
    for row, (number, last) in enumerate(found.origins):
        episode = episodes[number]
        whole = torch.cat([scale.normalise(episode.mean[:-1]), episode.actions], 1)
        torch.testing.assert_close(found.inputs[row], whole[last - 4 : last + 1])
        with torch.no_grad():
            complete, _ = memory.core.scan(memory.initial_state(1), whole[: last + 1, None])
            resumed, _ = memory.core.scan(found.state[row : row + 1], found.inputs[row][:, None])
        torch.testing.assert_close(resumed, complete, atol=1e-5, rtol=1e-4)
    actions = torch.cat([e.actions for e in episodes]).mean(0)
    torch.testing.assert_close(found.baseline, torch.cat([torch.zeros(D), actions]))
    with pytest.raises(ValueError, match="no episode has 13 steps to explain; the longest has 12"):
        cut_pasts(episodes, memory, scale, 13, 8, rng)


# --- pixels


def frames_of(n: int, seed: int = 2) -> Tensor:
    """Smooth random pictures of 16x16."""
    coarse = torch.rand(n, 3, 4, 4, generator=generator(seed))
    smooth = nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")
    return (smooth.permute(0, 2, 3, 1) * 255).to(torch.uint8)


def backbone_of(config: object) -> Backbone:
    found: Backbone = config.build((16, 16), 1)  # type: ignore[attr-defined]
    config.fitting(found, frames_of(60), 1).run()  # type: ignore[attr-defined]
    return found


def explained_pixels(core: object, backbone: Backbone) -> PixelAttributionInput:
    frames = frames_of(N, 3).float()
    asked = explained(core)
    scale = Scale(torch.zeros(D), torch.ones(D), torch.ones(D), 1.0)
    return PixelAttributionInput(asked, differentiable(backbone), scale, frames, frames_of(60).float().mean(0))


@pytest.mark.parametrize("config", [PPCAConfig(latents=D), HaarConfig(latents=D, levels=4)])
def test_through_a_transparent_backbone_pixels_are_exact(config: object) -> None:
    backbone = backbone_of(config)
    asked = explained_pixels(SumConfig(), backbone)
    with torch.no_grad():
        made = asked(asked.frames) - asked(asked.baseline.expand_as(asked.frames))
        latents = asked.latents(asked.frames) - asked.latents(asked.baseline[None])
    weights = asked.latents_input.memory.outcome.weight[0, :D].detach()
    exact = propagate_to_pixels(asked, weights.expand_as(latents))
    torch.testing.assert_close(exact.sum((1, 2)), made, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(gradient_times_pixels(asked), exact, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(integrated_pixels(asked), exact, atol=1e-5, rtol=1e-3)
    hidden = occluded_pixels(asked)
    square = exact[:, :8, :8].sum((1, 2))
    torch.testing.assert_close(hidden[:, :8, :8].sum((1, 2)), square, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(hidden[:, 0, 0], square / 64, atol=1e-5, rtol=1e-3)


def test_what_is_shared_out_is_the_sum_of_the_filters() -> None:
    """For principal modes a latent's filter is its direction over its spread: worked out from the definition."""
    backbone = backbone_of(PPCAConfig(latents=D))
    asked = explained_pixels(SumConfig(), backbone)
    wanted = torch.tensor([[1.0, 0.0, -2.0]]).expand(N, -1)
    state = backbone.state_dict()
    filters = state["directions"] * ((state["variances"] - state["noise"]).sqrt() / state["variances"])[:, None]
    away = ((asked.frames - asked.baseline) / 255).flatten(1)
    parts = away[:, None] * filters  # [N, D, pixels]
    expected = (wanted[..., None] * parts).sum(1).view(N, 16, 16, 3).sum(-1)
    torch.testing.assert_close(propagate_to_pixels(asked, wanted), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("config", [
    VAEConfig(latents=D, channels=(4, 4), iterations=2, batch_size=4),
    ResidualConfig(base=PPCAConfig(latents=D), width=4, iterations=1, batch_size=4),
])  # fmt: skip
def test_through_a_black_box_integrated_gradients_add_up(config: object) -> None:
    backbone = backbone_of(config)
    asked = explained_pixels(LSTMConfig(width=8), backbone)
    torch.testing.assert_close(asked.encode(asked.frames), backbone.encode(frames_of(N, 3))[0], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        made = asked(asked.frames) - asked(asked.baseline.expand_as(asked.frames))
    found = integrated_pixels(asked)
    assert float((found.sum((1, 2)) - made).abs().mean() / made.abs().mean()) < 0.1
    slopes = torch.randn(N, D, generator=generator())
    with torch.no_grad():
        parts = slopes * (asked.latents(asked.frames) - asked.latents(asked.baseline[None]))
    shared = propagate_to_pixels(asked, slopes, 32).sum((1, 2))
    torch.testing.assert_close(shared, parts.sum(1), atol=0.02 * float(parts.abs().sum(1).max()), rtol=0.02)
    assert layerwise_pixels(asked).shape == (N, 16, 16)
