"""Which pixels of the present frame speak for what the memory says of a target."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.experiments.live.state_readout import StateReadout
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.episodes import OpenEpisode
from clutr.probes.attribution import AttributionInput, Past, Target
from clutr.probes.pixel_attribution import ExplainPixels, PixelAttributionInput, differentiable
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dream import Dreamer

LOOK_BACK = 8
"""Steps of the past that the memory is asked with."""


def explain_pixels(
    dreamer: Dreamer,
    backbone: Backbone,
    known: StateReadout,
    episode: OpenEpisode,
    means: Tensor,
    state: Callable[[int], Tensor],
    frame: int,
    explain: ExplainPixels,
    target: Target,
) -> NDArray[np.float32]:
    """Relevance `[side, side]` of a frame's pixels.

    Args:
        dreamer: whose memory is asked.
        backbone: what encodes frames.
        known: of them; the mean frame is what stands for "nothing there".
        episode: of which the frame is.
        means: its latents `[T, D]`, normalised.
        state: the memory's before it sees a frame.
        frame: which.
        explain: the method.
        target: what the memory is asked for.

    Raises:
        RunError: if no action was taken in the frame yet, or the method is not for this memory.
    """
    if frame >= len(episode.actions):
        raise RunError("the last frame says nothing of what comes: no action was taken in it")
    begin = max(0, frame - LOOK_BACK)
    stretch = slice(begin, frame + 1)
    inputs = torch.cat([means[stretch], episode.actions[stretch]], 1)[None]
    baseline = torch.cat([torch.zeros(means.shape[1]), episode.actions.mean(0)])
    question = AttributionInput(dreamer.memory, target, Past(inputs, state(begin), baseline, [(0, frame)]))
    asked = PixelAttributionInput(
        question, differentiable(backbone), dreamer.scale, episode.frames[[frame]].float(), known.mean_frame
    )
    try:
        found: NDArray[np.float32] = explain(asked)[0].detach().numpy()
    except TypeError as error:  # not for this core
        raise RunError(str(error)) from None
    return found
