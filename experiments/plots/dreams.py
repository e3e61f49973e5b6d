"""Dreams to step through, and whether the memory is as sure as it should be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import card, facts_table, grid, legend
from clutr.experiments.plots.images import sheet_uri
from clutr.experiments.plots.page import Panel, join_caption
from clutr.experiments.plots.world_model import ROLES

KINDS = "Reality", "Reconstruction", "Dream", "Error"
"""Of a video's pictures, in order."""


def player(videos: Sequence[NDArray[np.uint8]], context: int, source: str, kinds: Sequence[str] = KINDS) -> Panel:
    """Reality, reconstruction, dream and error (or whatever `kinds` says) side by side, with a slider over the steps.

    Args:
        videos: `[K, T, side, side, 3]` each, of one length.
        context: steps that were watched before the dream.
        source: the run, for the caption.
        kinds: names of the K pictures of a step.
    """
    steps = videos[0].shape[1]
    caption = join_caption(
        f"Green while fed with reality (the first {context} frames), red while dreaming.",
        (
            "The dream is under the recorded actions, each step expected from the one before; the error is its "
            + "absolute difference to reality. It does not show what else might have come."
            if kinds == KINDS
            else "Each branch dreams from the same step. Reality is black from where the recording ends."
        ),
        f"Split: test; n = {len(videos)} dreams, not chosen; {source}.",
    )
    body = "".join(
        f'<div class="dream fed" data-context="{context}" data-steps="{steps}"><div class="screens">'
        + "".join(_screen(video[row : row + 1], kind) for row, kind in enumerate(kinds))
        + '</div><div class="transport"><button type="button">Play</button><input type="range" min="0" '
        + f'max="{steps - 1}" value="{context - 1}" aria-label="step of dream {number + 1}"><output></output>'
        + "</div></div>"
        for number, video in enumerate(videos)
    )
    return Panel("player", "Step through a dream", body, caption)


def _screen(video: NDArray[np.uint8], kind: str) -> str:
    return (
        f'<figure class="picture"><div class="screen" role="img" aria-label="{kind.lower()}" '
        + f'style="background-image:url({sheet_uri(video)})"></div><figcaption>{kind}</figcaption></figure>'
    )


def _sure(found: Mapping[str, Any]) -> str:
    """How often outcomes fell in each tenth of what was expected: flat if the memory is as sure as it should be."""
    figure, plot = axes()
    for name, told in found.items():
        shares = np.array(told["pit"]) * len(told["pit"])
        plot.stairs(shares, np.linspace(0, 1, len(shares) + 1), color=placeholder(ROLES[name]), linewidth=1.8)
    plot.axhline(1, color=placeholder("muted"), linewidth=0.8)
    plot.set_ylim(bottom=0)
    label_axes(plot, "probability of less, as expected", "times as often")
    return card("Calibration", to_svg(figure, "world-pit", "Outcomes by their expected probability"))


def _spectrum(found: Mapping[str, Any], horizons: Sequence[int]) -> str:
    """The share of each frequency band's power that is wrong in the dream, by horizon."""
    figure, plot = axes()
    bands = np.array(found["trained"]["spectrum"], dtype=np.float64).T
    for number, band in enumerate(bands):
        shade = 1.0 - 0.75 * number / max(1, len(bands) - 1)
        plot.plot(horizons, band, color=placeholder("method-1"), alpha=shade, linewidth=1.8, label=f"band {number + 1}")
    plot.set_ylim(bottom=0)
    plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    plot.legend(fontsize=8, frameon=False, labelcolor=placeholder("muted"), ncols=2)
    label_axes(plot, "steps ahead", "share of power")
    return card("Error by spatial frequency", to_svg(figure, "world-spectrum", "Wrong power by frequency band"))


def _terminations(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How well terminations are predicted, by steps ahead."""
    trained = told["trained"]
    if all(area is None for area in trained["auroc"].values()):
        return [("termination prediction", "no test episode was terminated by the environment")]
    return [
        (
            f"termination prediction {ahead} step{'' if ahead == '1' else 's'} ahead "
            + f"(AUROC, {trained['terminations']} terminations)",
            ", ".join(f"{each['auroc'][ahead]:.2f} ({name})" for name, each in told.items()),
        )
        for ahead, area in trained["auroc"].items()
        if area is not None
    ]


def certainty(found: Mapping[str, Any], source: str) -> Panel:
    """Calibration of the next step, and which frequencies of the picture go wrong.

    Args:
        found: what `evaluate_world_model` measured.
        source: the run, for the caption.
    """
    step = found["one_step"]
    charts = [_sure(step), _spectrum(found["pictures"], found["horizons"])]
    rows = [
        (
            f"{100 * float(level):g} % interval",
            ", ".join(f"{100 * told['coverage'][level]:.1f} % ({name})" for name, told in step.items()),
        )
        for level in step["trained"]["coverage"]
    ]
    rows += _terminations(found["termination"])
    caption = join_caption(
        "Calibration: a flat line at 1 means that outcomes are as spread as expected; a hump in the middle, that the "
        + "memory is less sure than it could be; horns at the ends, that it is too sure. Taken over every latent of "
        + "every test frame with all before it seen; the table says how many outcomes fell into central intervals. "
        + "Termination prediction: how much more likely an end was held than other steps: 1 is always, 0.5 is chance. "
        + "Frequencies: band 1 is the coarsest octave of the picture; at 1 nothing of it is right.",
        f"Split: test; {source}.",
    )
    body = legend({name: ROLES[name] for name in step}) + grid(charts) + facts_table(rows)
    return Panel("certainty", "Is it as sure as it should be?", body, caption)
