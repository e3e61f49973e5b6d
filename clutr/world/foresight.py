"""Does the memory foresee that an episode ends? Dreams that begin some moments before."""

from collections.abc import Sequence
from typing import Any

import torch

from clutr.world.dream import Dreamer
from clutr.world.latents import LatentEpisode

AHEAD = (1, 5, 10)
"""Moments that are dreamt."""


def foresee_ends(episodes: Sequence[LatentEpisode], dreamer: Dreamer, ahead: Sequence[int] = AHEAD) -> dict[str, Any]:
    """How well a moment that ends an episode is told from one that does not.

    Asked for the last moment of each episode, which the world ended or which nobody played on from, and for its middle,
    which ended nothing. All but the last k moments before are seen, and those are dreamt under the recorded actions.

    Args:
        episodes: of latents and actions.
        dreamer: what is asked.
        ahead: k, at least 1 each.

    Returns:
        `ends`, how many episodes the world ended; and `auroc` by k (as text), the chance that an end is held more
        likely than another moment: 0.5 knows nothing, None where there are not both.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  # takes a second

    found: dict[str, float | None] = {}
    for moments in ahead:
        chances, truth = [], []
        for episode in episodes:
            for last in {len(episode) - 1, len(episode) // 2}:
                begin = last + 1 - moments
                if begin < 1:
                    continue
                seen, _ = dreamer.watch(episode.mean[: begin + 1, None], episode.actions[:begin, None])
                dream = dreamer.dream(seen, episode.actions[begin : last + 1, None], moments)
                chances.append(float(dream.ends[-1, 0]))
                truth.append(bool(episode.ends[last] > 0))
        both = any(truth) and not all(truth)
        found[str(moments)] = float(roc_auc_score(truth, chances)) if both else None
    return {"ends": sum(bool(torch.any(episode.ends > 0)) for episode in episodes), "auroc": found}
