"""Charts and pictures of attributions: what predictions depend on, over time and over the pixels of a frame."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import (
    MISSING,
    card,
    grid,
    heading,
    left_aligned,
    legend,
    table,
    text,
    two_decimals,
    verdict,
    wide_picture,
    with_interval,
)
from clutr.experiments.plots.images import strip, with_relevance
from clutr.experiments.plots.page import Panel, join_caption

Arrays = Mapping[str, NDArray[Any]]

METHOD_ROLES = {
    "gradient x input": "method-0",
    "integrated gradients": "method-1",
    "occlusion": "method-2",
    "layer-wise relevance": "method-3",
    "attention": "method-4",
    "chance": "method-none",
}
"""Colour of each explanation."""


def attribution_panels(values: Mapping[str, Any], arrays: Arrays, source: str) -> list[Panel]:
    """To what predictions are due: when, and where on the picture."""
    return [when(values, arrays, source), where(values, arrays, source)]


def checks(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of sanity checks with their numbers."""
    return table(
        ("prediction", "method", "gap to chance", "infidelity", "like shuffled", "ABPC", "sensitivity", "so"),
        [
            [
                text(row["target"]),
                left_aligned(text(row["method"])),
                f"{row['random_gap']:.2f} ± {row['gap_error']:.2f}",
                with_interval(row["infidelity"]),
                with_interval(row["alike"]),
                two_decimals(row["abpc"]),
                two_decimals(row["sensitivity"]),
                left_aligned(verdict(row["passed"], "" if row["passed"] else row["why"])),
            ]
            for row in rows
        ],
    )


def when(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """Relevance by lag of each prediction, and the checks of each method."""
    rows = [row for row in values["rows"] if row["of"] != "pixels"]
    cards = []
    for place, target in enumerate(dict.fromkeys(row["target"] for row in rows)):
        figure, plot = axes()
        for row in rows:
            if row["target"] != target:
                continue
            shares = arrays[f"by_lag/{target}/{row['method']}"]
            style = "-" if row["passed"] else ":"
            colour = placeholder(METHOD_ROLES.get(row["method"], "muted"))
            plot.plot(np.arange(len(shares)), shares, style, color=colour, linewidth=1.6)
        plot.set_ylim(bottom=0)
        label_axes(plot, "steps ago", "share of relevance")
        cards.append(card(target, to_svg(figure, f"probe-lag-{place}", f"Relevance of {target} by lag")))
    if "recall" in values:
        figure, plot = axes()
        plot.plot(values["recall"], color=placeholder("accent"))
        plot.set_ylim(-0.05, 1.05)
        label_axes(plot, "steps ago", "R^2")
        drawn = to_svg(figure, "probe-recall", "Recall by lag")
        cards.append(card("What the memory still holds", drawn, "in closed form"))
    shown = {name: role for name, role in METHOD_ROLES.items() if any(row["method"] == name for row in rows)}
    count = rows[0]["predictions"] if rows else 0
    caption = join_caption(
        "Shows how much of each prediction's absolute relevance lies how far back, against a baseline of the mean "
        + "latent and mean action; dotted: the method did not pass its checks for this prediction. It does not show "
        + "causes in the environment, only what this model's number depends on.",
        "Gap to chance and ABPC are shares of what the whole past does to the prediction. Layer-wise relevance "
        + "gives inputs that act through gates alone nothing, so occlusion stands beside it.",
        "Infidelity: 0 predicts what removing a fifth of the inputs does, an empty map scores 1. Sensitivity: largest "
        + "relative change under disturbances of 0.05 standard deviations. Like shuffled: rank correlation, lag and "
        + "sizes of inputs taken out, with the maps of models whose every parameter was shuffled.",
        f"n = {count} predictions, {values['past']} steps each; {source}.",
    )
    return Panel("attribution", "What predictions are made of", legend(shown) + grid(cards) + checks(rows), caption)


def where(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """Relevance on the present frame, its checks, and how it agrees with the simulator's masks."""
    rows = [row for row in values["rows"] if row["of"] == "pixels"]
    body = ""
    for target in dict.fromkeys(row["target"] for row in rows):
        cards = [card("the frame", wide_picture(strip(list(arrays["frames"])), "frames"))]
        for row in rows:
            if row["target"] == target:
                maps = arrays[f"pixels/{target}/{row['method']}"]
                pictures = [with_relevance(frame, each) for each, frame in zip(maps, arrays["frames"], strict=True)]
                passed = "passed its checks" if row["passed"] else "did not pass"
                remark = f"{passed}; infidelity {two_decimals(row['infidelity'][0])}"
                cards.append(
                    card(row["method"], wide_picture(strip(pictures), f"{row['method']} for {target}"), remark)
                )
        body += heading(target) + grid(cards)
    things = list(dict.fromkeys(thing for row in rows for thing in row["objects"]))
    agree = table(
        ("prediction", "method", *things),
        [
            [
                text(row["target"]),
                left_aligned(text(row["method"])),
                *(
                    f"{row['objects'][thing]['mass'] / max(row['objects'][thing]['chance'], 1e-9):.1f} <small>NSS "
                    + f"{row['objects'][thing]['nss']:.2f}</small>"
                    if thing in row["objects"]
                    else MISSING
                    for thing in things
                ),
            ]
            for row in rows
        ],
    )
    exact = (
        "The backbone is linear, so latents' relevance reaches pixels by formula." if values["linear_backbone"] else ""
    )
    count = rows[0]["predictions"] if rows else 0
    caption = join_caption(
        "Shows which pixels of the present frame the prediction depends on, against the mean frame: red raises it, "
        + "blue lowers it. It does not show what earlier frames did.",
        exact,
        "Below: share of absolute relevance on each object over the object's share of the picture (1 is chance), "
        + "and NSS, the mean of the standardised map inside the simulator's mask (0 is chance).",
        f"n = {count} frames, {len(arrays['frames'])} of them shown, not chosen; {source}.",
    )
    told = f"<details><summary>The checks of each map</summary>{checks(rows)}</details>"
    return Panel("pixels", "Where on the picture", body + heading("Agreement with objects") + agree + told, caption)
