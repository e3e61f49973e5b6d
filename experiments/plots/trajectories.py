"""What a student did on test levels, drawn on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clutr.envs.capabilities import PathScale
from clutr.experiments.plots.html import colour_scale, note, number, picture, text
from clutr.experiments.plots.page import Panel, join_caption


@dataclass(frozen=True)
class Episode:
    """One recorded episode."""

    level: str
    image: NDArray[np.uint8]
    """`[H, W, 3]`: the level with the path on it."""
    solved: bool
    value: float | None
    """The return, where the suite is told by returns."""
    remark: str
    """A few words about the path."""


@dataclass(frozen=True)
class Recorded:
    """Drawn episodes, in the order of the page."""

    episodes: Sequence[Episode]
    about: str = ""
    """What the drawings show."""
    scale: PathScale | None = None
    """What colours stand for."""


def trajectories(recorded: Recorded, source: str) -> Panel:
    """Pictures of episodes, with their level, their end and a few words.

    Args:
        recorded: the episodes.
        source: run, seed and split, for the caption.
    """
    title, episodes = "Paths on the test levels", recorded.episodes
    if not episodes:
        return Panel("paths", title, note("This run has no recorded test episodes: an evaluation adds them."), source)
    pictures = []
    for episode in episodes:
        words = "solved" if episode.solved else "not solved"
        line = f"<b>{text(episode.level)}</b><br>{_end(episode)}, {text(episode.remark)}"
        pictures.append(picture(episode.image, f"{words}: path of the student on {episode.level}", line))
    solved = sum(episode.solved for episode in episodes)
    by_return = [episode.value is not None for episode in episodes]
    caption = join_caption(
        "The student's way on levels it was never trained on.",
        recorded.about,
        "One or two episodes a level, a solved and an unsolved one where there are both, so the pictures say nothing "
        + "of how often it succeeds."
        if not all(by_return)
        else "",
        f"{'Where returns are given: t' if not all(by_return) else 'T'}he episode with the median return of the few "
        + "recorded on each level."
        if any(by_return)
        else "",
        f"n = {len(episodes)} episodes, {solved} of them solved; split: test; {source}.",
    )
    scale = recorded.scale
    legend = colour_scale(scale.low, scale.colours, scale.high) if scale else ""
    body = f'<div class="pictures paths">{"".join(pictures)}</div>{legend}'
    return Panel("paths", title, body, caption)


def _end(episode: Episode) -> str:
    kind, words = ("solved", "solved") if episode.solved else ("failed", "not solved")
    end = f'<span class="{kind}">{words}</span>'
    if episode.value is None:
        return end
    return f"return {number(round(episode.value))}" + (f", {end}" if episode.solved else "")
