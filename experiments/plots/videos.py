"""What a student saw in an episode, as moving pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clutr.experiments.plots.html import number, text
from clutr.experiments.plots.images import video_uri
from clutr.experiments.plots.page import Panel, join_caption

ENLARGED = 3
"""How much larger a picture is shown than the student saw it."""


@dataclass(frozen=True)
class Video:
    """One recorded episode."""

    level: str
    frames: NDArray[np.uint8]
    """`[F, height, width, 3]`: what the student saw before each step, and at the end."""
    solved: bool
    value: float
    """The episode's return."""
    fps: float = 10.0
    """Pictures a second."""


def videos_panel(videos: Sequence[Video], source: str) -> Panel:
    """Moving pictures of episodes.

    Args:
        videos: at least one, in the order of the page.
        source: run, seed and split, for the caption.
    """
    figures = []
    for video in videos:
        _, height, width, _ = video.frames.shape
        end = ', <span class="solved">solved</span>' if video.solved else ""
        figures.append(
            f'<figure class="picture video" style="width:{ENLARGED * width}px">'
            + f'<img src="{video_uri(video.frames, video.fps)}" alt="what the student saw on {text(video.level)}" '
            + f'width="{ENLARGED * width}" height="{ENLARGED * height}" loading="lazy">'
            + f"<figcaption><b>{text(video.level)}</b><br>return {number(round(video.value))}{end}, "
            + f"{number(len(video.frames) - 1)} step{'s' * (len(video.frames) != 2)}</figcaption></figure>"
        )
    caption = join_caption(
        f"What the student saw, a picture a step, at the environment's speed and {ENLARGED} times as large. "
        + "Recorded is the first episode of each level; shown are those of the median and of the best return: the "
        + "second says what can happen rather than what does.",
        f"n = {len(videos)} episodes; split: test; {source}.",
    )
    return Panel("videos", "Through the student's eyes", f'<div class="videos">{"".join(figures)}</div>', caption)
