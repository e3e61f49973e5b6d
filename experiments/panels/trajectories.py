"""What a student did on test levels, drawn on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.panels.page import Panel, join_caption
from experiments.panels.tiles import note, number, picture, text


@dataclass(frozen=True)
class Episode:
    """One recorded episode."""

    level: str
    image: NDArray[np.uint8]
    """`[H, W, 3]`: the level with the path on it."""
    solved: bool
    moves: int
    """Cells that the path entered."""


def trajectories(episodes: Sequence[Episode], source: str) -> Panel:
    """Pictures of episodes, with their level, their end and their length.

    Args:
        episodes: in the order of the page.
        source: run, seed and split, for the caption.
    """
    title = "Paths on the test levels"
    if not episodes:
        return Panel("paths", title, note("This run has no recorded test episodes: an evaluation adds them."), source)
    pictures = []
    for episode in episodes:
        end, words = ("solved", "solved") if episode.solved else ("failed", "not solved")
        line = f'<b>{text(episode.level)}</b><br><span class="{end}">{words}</span>, {number(episode.moves)} moves'
        pictures.append(picture(episode.image, f"{words}: path of the student on {episode.level}", line))
    solved = sum(episode.solved for episode in episodes)
    caption = join_caption(
        "The student's way from its start to where the episode ended, on levels it was never trained on; the line "
        + "grows stronger with time. One or two episodes a level, a solved and an unsolved one where there are both, "
        + "so the pictures say nothing of how often it succeeds.",
        f"n = {len(episodes)} episodes, {solved} of them solved; split: test; {source}.",
    )
    return Panel("paths", title, f'<div class="pictures paths">{"".join(pictures)}</div>', caption)
