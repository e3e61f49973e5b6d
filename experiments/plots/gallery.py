"""The curriculum over time: levels that it proposed at several updates of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clutr.experiments.plots.charts import short_count
from clutr.experiments.plots.html import note, picture, text
from clutr.experiments.plots.page import Panel, join_caption


@dataclass(frozen=True)
class Snapshot:
    """Some of the levels that were proposed at one update."""

    steps: int
    images: NDArray[np.uint8]
    """`[K, H, W, 3]`."""
    captions: Sequence[str]
    """K lines of plain text."""
    remark: str = ""
    """About the whole proposal, as plain text."""


def spread(length: int, count: int) -> list[int]:
    """At most `count` different indices of `range(length)`, evenly apart, with both ends."""
    if length <= 0 or count <= 0:
        return []
    return sorted({round(position) for position in np.linspace(0, length - 1, min(length, count))})


def order_by(scores: NDArray[Any] | None, length: int) -> NDArray[np.int64]:
    """Indices from the lowest score to the highest, unmeasured ones last; as they come without scores."""
    if scores is None:
        return np.arange(length)
    return np.argsort(np.where(np.isfinite(scores), scores, np.inf), kind="stable")


def gallery(snapshots: Sequence[Snapshot], source: str, ranking: str = "") -> Panel:
    """Rows of pictures, an update each.

    Args:
        snapshots: in order of time.
        source: run and seed, for the caption.
        ranking: how the pictures of a row were chosen and ordered.
    """
    title = "The curriculum over time"
    snapshots = [snapshot for snapshot in snapshots if len(snapshot.images)]
    if not snapshots:
        return Panel("curriculum", title, note("This run has recorded no proposed levels yet."), source)
    rows = []
    for snapshot in snapshots:
        pictures = "".join(
            picture(image, f"level proposed at {snapshot.steps} steps", _two_lines(caption))
            for image, caption in zip(snapshot.images, snapshot.captions, strict=True)
        )
        aside = f"<b>{short_count(snapshot.steps)} steps</b>{text(snapshot.remark)}"
        rows.append(f'<div class="snapshot"><div>{aside}</div><div class="pictures">{pictures}</div></div>')
    shown = sum(len(snapshot.images) for snapshot in snapshots)
    caption = join_caption(
        "Levels that the curriculum chose for training, top to bottom in order of time. A few of each proposal: they "
        + "show the kind of level, not how often it comes.",
        ranking,
        f"n = {shown} levels of {len(snapshots)} update{'s' * (len(snapshots) != 1)}; split: training; {source}.",
    )
    return Panel("curriculum", title, "".join(rows), caption)


def _two_lines(caption: str) -> str:
    return "<br>".join(text(line) for line in caption.splitlines())
