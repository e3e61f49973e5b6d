"""Attribution to past frames, where it is planted which of them matters."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clutr.probes.attribution import AttributionInput, Past, Target
from clutr.probes.intervals import Interval
from clutr.probes.past_pixels import PAST_METHODS, PastPixelInput, check_frames, check_past
from clutr.probes.pixel_attribution import differentiable
from clutr.probes.sanity_checks import Skill
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.memory import MemoryConfig, Scale

N, LENGTH, SIDE, LATENTS = 6, 5, 16, 4


def planted(lag: int | None = None) -> tuple[PastPixelInput, object]:
    """A prediction by a small memory over latents of pictures; with a lag, only that frame matters."""
    rng = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 255, (N, LENGTH, SIDE, SIDE, 3), generator=rng, dtype=torch.uint8)
    config = PPCAConfig(latents=LATENTS, fitted_on=30)
    backbone = config.build((SIDE, SIDE), 1)
    fitting = config.fitting(backbone, frames.flatten(0, 1), 1)
    fitting.run()
    memory = MemoryConfig(core=LSTMConfig(width=8), gaussians=1).build(LATENTS, 1, 1)
    probe = LinearProbe(torch.randn(8, 1, generator=rng), torch.zeros(1), 0.1)
    means = backbone.encode(frames.flatten(0, 1))[0]
    scale = Scale(means.mean(0), means.std(0), means.std(0), 1.0)
    latents = scale.normalise(means).unflatten(0, (N, LENGTH))
    inputs = torch.cat([latents, torch.zeros(N, LENGTH, 1)], 2)
    past = Past(inputs, memory.initial_state(N), torch.zeros(LATENTS + 1), [(n, LENGTH) for n in range(N)])
    mean_frame = frames.float().mean((0, 1))

    asked = PastPixelInput(
        AttributionInput(memory, Target("planted", probe=probe), past),
        differentiable(backbone),
        scale,
        frames.float(),
        mean_frame,
    )
    return (asked if lag is None else _OnlyOne(**vars(asked), lag=lag)), backbone


class _OnlyOne(PastPixelInput):
    """A prediction by the brightness of one corner of one past frame."""

    def __init__(self, *, lag: int, **kept: object) -> None:
        super().__init__(**kept)  # type: ignore[arg-type]
        object.__setattr__(self, "lag", lag)

    def predict_from(self, frames: Tensor, inputs: Tensor, state: Tensor) -> Tensor:  # noqa: ARG002
        return frames[:, -1 - self.lag, :8, :8].mean((1, 2, 3))  # type: ignore[attr-defined]


def test_relevance_adds_up_over_past_frames() -> None:
    asked, _ = planted()
    with torch.no_grad():
        made = asked(asked.frames) - asked(asked.baseline.expand_as(asked.frames))
    found = PAST_METHODS["integrated gradients"](asked)
    assert found.shape == (N, LENGTH, SIDE, SIDE)
    torch.testing.assert_close(found.sum((1, 2, 3)), made, atol=2e-3, rtol=0.02)


def test_the_present_frame_alone_is_what_the_present_map_says() -> None:
    """Every method's sums over the last frame agree with deleting it, and occlusion is that by definition."""
    asked, _ = planted()
    gone = asked.frames.clone()
    gone[:, -1, :8, :8] = asked.baseline[:8, :8]
    with torch.no_grad():
        fallen = asked(asked.frames) - asked(gone)
    hidden = PAST_METHODS["occlusion"](asked)[:, -1, :8, :8]
    torch.testing.assert_close(hidden.sum((1, 2)), fallen, atol=1e-4, rtol=1e-3)


def test_the_frame_that_matters_is_found() -> None:
    asked, _ = planted(lag=2)
    found = PAST_METHODS["gradient x input"](asked)
    shares = found.abs().sum((2, 3))
    assert shares.argmax(1).tolist() == [LENGTH - 3] * N
    assert not bool(found[..., 8:, 8:].any())
    check = check_frames(asked, found)
    assert check.agreement.value > 0.99
    assert check.recency.high < 0.5, "later frames do not matter more"
    other = check_frames(asked, found.roll(1, 1))
    assert other.agreement.high < 0.1


def test_a_map_of_past_frames_is_checked() -> None:
    asked, backbone = planted()
    good, few = Skill(Interval(0.5, 0.4, 0.6)), 4
    rng = torch.Generator().manual_seed(1)
    _, checks, by_frame = check_past(asked, backbone, PAST_METHODS["integrated gradients"], rng, few, good)  # type: ignore[arg-type]
    assert checks.passed, checks.why
    assert by_frame.agreement.low > 0
    noise = torch.randn(asked.frames.shape[:4], generator=rng)
    _, checks, _ = check_past(asked, backbone, lambda _: noise[: len(_.frames)], rng, few, good)  # type: ignore[arg-type]
    assert not checks.passed
    nothing = Skill(Interval(0.01, -0.1, 0.1))
    _, checks, _ = check_past(asked, backbone, PAST_METHODS["integrated gradients"], rng, few, nothing)  # type: ignore[arg-type]
    assert "tells too little" in checks.why


def test_frames_may_be_fewer_than_steps() -> None:
    asked, _ = planted()
    late = replace(asked, frames=asked.frames[:, 2:])
    with torch.no_grad():
        torch.testing.assert_close(late(late.frames), asked(asked.frames), atol=1e-4, rtol=1e-3)
    assert PAST_METHODS["layer-wise relevance"](late).shape == (N, LENGTH - 2, SIDE, SIDE)
    assert late.first(2).frames.shape[0] == 2
    assert len(late.first(2)(late.frames[:2])) == 2
    with pytest.raises(RuntimeError):
        late(asked.frames[:2, 2:])
