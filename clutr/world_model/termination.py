"""Does the memory foresee that an episode ends? Dreams that begin some moments before."""

from collections.abc import Sequence
from typing import Any

import torch

from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode

AHEAD = (1, 5, 10)
"""Moments that are dreamt."""


def predict_terminations(
    episodes: Sequence[LatentEpisode], dreamer: Dreamer, ahead: Sequence[int] = AHEAD
) -> dict[str, Any]:
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

    truth: dict[int, list[bool]] = {moments: [] for moments in ahead}
    chances: dict[int, list[float]] = {moments: [] for moments in ahead}
    for episode in episodes:
        asked = {(last + 1 - moments, moments) for last in (len(episode) - 1, len(episode) // 2) for moments in ahead}
        state, at = None, 0
        for begin, moments in sorted(asked):
            if begin < 1:
                continue
            if begin > at:
                latents, actions = episode.mean[at : begin + 1, None], episode.actions[at:begin, None]
                seen, _ = dreamer.observe(latents, actions, state)
                state, at = seen.state, begin
            dream = dreamer.dream(seen, episode.actions[begin : begin + moments, None], moments)
            chances[moments].append(float(dream.ends[-1, 0]))
            truth[moments].append(bool(episode.ends[begin + moments - 1] > 0))
    areas = {
        str(moments): float(roc_auc_score(ended, chances[moments])) if any(ended) and not all(ended) else None
        for moments, ended in truth.items()
    }
    return {"ends": sum(bool(torch.any(episode.ends > 0)) for episode in episodes), "auroc": areas}
