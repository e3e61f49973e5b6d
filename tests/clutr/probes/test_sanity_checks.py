"""Verdicts: a map that matters passes, chance and maps that do not notice the weights do not."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.probes.attribution import AttributionInput, Past, Target, attention, integrated_gradients, occlusion
from clutr.probes.intervals import Interval
from clutr.probes.mask_agreement import mask_agreement
from clutr.probes.pixel_attribution import PixelAttributionInput, differentiable, gradient_times_pixels
from clutr.probes.randomisation import parts_of, shuffle_backbone, shuffle_memory
from clutr.probes.sanity_checks import Skill, check_latents, check_map, check_pixels, check_steps
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.aaren import AarenConfig
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.memory import MemoryConfig, Scale

D, A, T, N = 4, 1, 5, 12
WEIGHTS = torch.tensor([4.0, -2.0, 1.0, 0.5, 0.0, 3.0])


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def explained(core: object, seed: int = 1) -> AttributionInput:
    memory = MemoryConfig(core=core, gaussians=1).build(D, A, seed)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.mul_(3.0)
        if isinstance(core, LSTMConfig):  # as if learnt: two latents and the far past matter, the others do not
            lstm: Any = memory.get_submodule("core.lstm")
            lstm.weight_ih_l0[:, 1:4] = 0
            lstm.bias_ih_l0[8:16] = 4.0
    inputs = torch.randn(N, T, D + A, generator=generator(seed))
    return AttributionInput(memory, Target("reward"), Past(inputs, memory.initial_state(N), torch.zeros(D + A), []))


def test_the_checks_of_a_linear_model_by_hand() -> None:
    inputs = torch.rand(N, 6, generator=generator()) + 0.5
    oracle = inputs * WEIGHTS

    def model(present: Tensor) -> Tensor:
        return (present * inputs) @ WEIGHTS

    others = [torch.randn(N, 6, generator=generator(seed)) for seed in range(2, 18)]
    good = check_map(model, oracle, others, generator(), moved=[oracle, 1.5 * oracle], parts={"head": others[0]})
    assert good.passed, good.why
    assert good.why.startswith("what it calls relevant matters (by ")
    assert good.infidelity == pytest.approx((0, 0, 0), abs=1e-9), "its parts add up to what removing them does"
    assert good.sensitivity == pytest.approx(0.5)
    assert (good.predictions, good.shuffles, set(good.similarity)) == (N, 16, {"head"})
    backwards = check_map(model, -oracle, others, generator())
    assert backwards.abpc == pytest.approx(-good.abpc, rel=1e-4)
    assert not backwards.passed
    assert "what it calls relevant matters no more than chance (-" in backwards.why
    assert "no better than an empty map's 1.00 (infidelity 4.00 [" in backwards.why
    blind = check_map(model, oracle, [oracle] * 4, generator())
    assert not blind.passed
    assert blind.why == "shuffled weights give much the same map (similarity 1.00 [1.00, 1.00], limit 0.3)"
    noise = check_map(model, others[0], others[1:], generator())
    assert not noise.passed
    assert noise.plain()["passed"] is False
    assert isinstance(noise.plain()["infidelity"], list)


def test_a_map_worse_than_an_empty_one_does_not_pass_though_its_order_is_right() -> None:
    inputs = torch.rand(N, 6, generator=generator()) + 0.5
    others = [torch.randn(N, 6, generator=generator(seed)) for seed in range(2, 18)]
    found = check_map(lambda present: (present * inputs) @ WEIGHTS, 5 * inputs * WEIGHTS, others, generator())
    assert found.random_gap > 2 * found.gap_error
    assert found.infidelity.value == pytest.approx(16, rel=1e-4)
    assert not found.passed


def test_of_a_prediction_that_tells_nothing_no_map_passes() -> None:
    inputs = torch.rand(N, 6, generator=generator()) + 0.5
    others = [torch.randn(N, 6, generator=generator(seed)) for seed in range(2, 18)]
    oracle = inputs * WEIGHTS
    skill = Skill(Interval(0.1, -0.05, 0.2))
    found = check_map(lambda present: (present * inputs) @ WEIGHTS, oracle, others, generator(), skill=skill)
    assert not found.passed
    assert found.why == (
        "the prediction itself tells too little to be explained: its R^2 on held-out levels is 0.10 [-0.05, 0.20]"
    )


def test_parts_are_shuffled_and_nothing_else() -> None:
    memory = explained(LSTMConfig(width=6)).memory
    torch.nn.init.normal_(memory.mixture.bias, generator=generator())
    assert parts_of(memory) == ("head", "candidate", "gates", "everything")
    for part in parts_of(memory):
        other = shuffle_memory(memory, part, generator())
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
            mine, theirs = (dict(m.named_parameters())[f"core.lstm.{name}"].chunk(4) for m in (memory, other))
            same = [torch.equal(a, b) for a, b in zip(mine, theirs, strict=True)]
            expected = {
                "head": [True] * 4,
                "candidate": [True, True, False, True],
                "gates": [False, False, True, False],
                "everything": [False] * 4,
            }
            assert same == expected[part]
            for a, b in zip(mine, theirs, strict=True):
                assert sorted(a.flatten().tolist()) == sorted(b.flatten().tolist())
        for value in ("weight", "bias"):
            same_head = torch.equal(getattr(memory.mixture, value), getattr(other.mixture, value))
            assert same_head == (part in ("candidate", "gates"))
    assert parts_of(explained(AarenConfig(width=4, heads=2, values=2)).memory) == ("head", "core", "everything")


def test_good_maps_of_an_lstm_pass_and_chance_does_not() -> None:
    asked = explained(LSTMConfig(width=8))
    relevance, checks = check_latents(asked, integrated_gradients, generator())
    assert relevance.shape == asked.past.inputs.shape
    assert checks.passed, checks.why
    assert set(checks.similarity) == {"head", "candidate", "gates"}
    assert check_latents(asked, occlusion, generator(), nudges=0, shuffles=3)[1].sensitivity is None
    rng = generator(5)
    _, chance = check_latents(asked, lambda q: torch.randn(q.past.inputs.shape, generator=rng), generator())
    assert not chance.passed


def test_maps_of_moments_have_no_sign() -> None:
    asked = explained(AarenConfig(width=8, heads=2, values=3))
    relevance, checks = check_steps(asked, attention, generator())
    assert relevance.shape == (N, T)
    assert checks.shuffles == 16


def test_maps_of_pixels() -> None:
    rng = generator()
    frames = (torch.rand(N, 4, 4, 3, generator=rng).repeat_interleave(4, 1).repeat_interleave(4, 2) * 255).byte()
    config = PPCAConfig(latents=D)
    backbone = config.build((16, 16), 1)
    config.fitting(backbone, frames, 1).run()
    asked = PixelAttributionInput(
        explained(LSTMConfig(width=8)),
        differentiable(backbone),
        Scale(torch.zeros(D), torch.ones(D), torch.ones(D), 1.0),
        frames.float(),
        frames.float().mean(0),
    )
    relevance, checks = check_pixels(asked, backbone, gradient_times_pixels, rng)
    assert relevance.shape == (N, 16, 16)
    assert set(checks.similarity) == {"head", "candidate", "gates", "encoder"}
    assert checks.random_gap > 0
    other: Any = shuffle_backbone(backbone, rng)
    assert not torch.equal(other.directions, backbone.directions)
    assert torch.equal(other.variances, backbone.variances)


def test_agreement_by_object() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.uint8)
    masks[0, :2] = 1  # half the picture
    masks[1, 0, 0] = 1
    relevance = torch.zeros(3, 4, 4)
    relevance[0, 0, 0] = -2.0  # inside, and of either sign
    relevance[1, 3, 3] = 1.0
    found = mask_agreement(relevance, masks, ("nothing", "thing", "never"))
    assert set(found) == {"nothing", "thing"}
    assert found["thing"]["frames"] == 2
    assert found["thing"]["mass"] == 0.5
    assert found["thing"]["pointing"] == 0.5
    assert found["thing"]["chance"] == pytest.approx((8 / 16 + 1 / 16) / 2)
