"""Attribution of predictions to the pictures before the present one, a section of a probe report."""

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.probes import attribution, past_pixels
from clutr.probes.pixel_attribution import differentiable

if TYPE_CHECKING:
    from clutr.experiments.world_model.probing import ProbeContext, ProbeResult

TARGETS = 2
"""Predictions that are explained: the reward, and the true quantity that is best predicted."""
SHOWN = 2
"""Predictions of which pictures are kept."""


def past_pictures(context: "ProbeContext") -> "ProbeResult":
    """To which pixels of past frames, through the memory, predictions are due."""
    past = context.past().first(context.options.pictured)
    length = min(context.options.frames_back, past.inputs.shape[1])
    last = torch.tensor([context.episodes[number][0].first + step for number, step in past.origins])
    rows = last[:, None] + torch.arange(1 - length, 1)
    frames = context.dataset.column("frames", rows.flatten()).unflatten(0, rows.shape).float()
    memory, backbone = context.dreamer.memory, context.model.backbone
    methods = dict(past_pixels.PAST_METHODS)
    if "layer-wise relevance" not in attribution.methods_for(memory):
        methods.pop("layer-wise relevance")
    chosen = context.targets()
    chosen = [chosen[0], *chosen[2:]][:TARGETS]
    found: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {"frames": frames[:SHOWN].to(torch.uint8).numpy()}
    for target in chosen:
        inner = attribution.AttributionInput(memory, target, past)
        asked = past_pixels.PastPixelInput(
            inner, differentiable(backbone), context.dreamer.scale, frames, context.mean_frame
        )
        noise = partial(_random, rng=context.rng(f"chance {target.name} past pixels"))
        skill = context.skills[target.name]
        every: dict[str, past_pixels.ExplainPast] = {**methods, "chance": noise}
        for name, explain in every.items():
            rng = context.rng(f"{target.name} {name} past pixels")
            relevance, checks, by_frame = past_pixels.check_past(
                asked, backbone, explain, rng, context.options.shuffles, skill
            )
            shares = attribution.by_lag(relevance.abs().sum((-1, -2)))
            told = {"target": target.name, "method": name, "of": "past pixels", "skill": list(skill.score)}
            frame = {"frames": list(by_frame.agreement), "recency": list(by_frame.recency)}
            found.append(told | {"shares": shares.tolist()} | frame | checks.plain())
            arrays[f"map/{target.name}/{name}"] = relevance[:SHOWN].detach().numpy()
            context.progress(len(found), len(chosen) * (len(methods) + 1), {})
    return {"rows": found, "length": length}, arrays


def _random(explained: past_pixels.PastPixelInput, rng: torch.Generator) -> Tensor:
    """Random relevance, the control of all methods."""
    return torch.randn(explained.frames.shape[:4], generator=rng)
