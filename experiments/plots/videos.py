"""What a student saw in an episode, as moving pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clutr.experiments.plots.html import number, text
from clutr.experiments.plots.images import STEPS_A_SECOND, video_uri
from clutr.experiments.plots.page import Panel, join_caption

ENLARGED = 3
"""How much larger a picture is shown than the student saw it."""


@dataclass(frozen=True)
class Video:
    """One filmed episode."""

    level: str
    frames: NDArray[np.uint8]
    """`[F, height, width, 3]`: what the student saw before each step, and at the end."""
    solved: bool
    value: float
    """The episode's return."""


def films(filmed: Sequence[Video], source: str) -> Panel:
    """Moving pictures of episodes.

    Args:
        filmed: at least one, in the order of the page.
        source: run, seed and split, for the caption.
    """
    figures = []
    for film in filmed:
        _, height, width, _ = film.frames.shape
        end = ', <span class="solved">solved</span>' if film.solved else ""
        figures.append(
            f'<figure class="picture film" style="width:{ENLARGED * width}px">'
            + f'<img src="{video_uri(film.frames)}" alt="what the student saw on {text(film.level)}" '
            + f'width="{ENLARGED * width}" height="{ENLARGED * height}" loading="lazy">'
            + f"<figcaption><b>{text(film.level)}</b><br>return {number(round(film.value))}{end}, "
            + f"{number(len(film.frames) - 1)} step{'s' * (len(film.frames) != 2)}</figcaption></figure>"
        )
    caption = join_caption(
        f"What the student saw, a picture a step, {STEPS_A_SECOND:g} steps a second and {ENLARGED} times as large. "
        + "Filmed is the first episode of each level; shown are that of the median return and the best, so the second "
        + "says what can happen rather than what does.",
        f"n = {len(filmed)} episodes; split: test; {source}.",
    )
    return Panel("films", "Through the student's eyes", f'<div class="films">{"".join(figures)}</div>', caption)
