"""Pictures of what a world model has learnt: each explanation with the number that says whether to believe it.

Every function takes a section's values and arrays (`clutr.experiments.reports.probe_report.load_section`) and the
words for the caption; the report and the live page draw with the same ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clutr.experiments.plots.charts import axes, label_axes, placeholder, png_uri, to_svg
from clutr.experiments.plots.html import MISSING, card, grid, is_number, legend, text
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
MEMORY_ROLES = {"trained": "method-1", "untrained core": "method-none"}
RUN_ROLES = {"data": "method-0", "constant": "method-2", "dream": "method-4"}
ENLARGED = 3
"""How much larger than their pixels pictures are shown."""


def badge(passed: bool) -> str:
    """Whether a check was passed, as a coloured word."""
    return f'<b class="{"solved" if passed else "failed"}">{"passed" if passed else "failed"}</b>'


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of HTML cells."""
    head = "".join(f"<th>{text(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{cell}</td>" if i else f'<th scope="row">{cell}</th>' for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def left(cell: str) -> str:
    """A cell of words, which run from the left."""
    return f'<div style="text-align:left;white-space:normal">{cell}</div>'


def heading(words: str) -> str:
    """A small heading between the parts of a panel."""
    return f'<h4 style="margin-top:22px">{text(words)}</h4>'


def two(value: object) -> str:
    """A number with two decimals, or a dash; above 10 it does not matter how much."""
    if not is_number(value):
        return MISSING
    exact = float(value)  # type: ignore[arg-type]  # is_number has looked
    return "> 10" if exact > 10 else f"{exact:.2f}"


def verdict_rows(bundle: Mapping[str, tuple[Mapping[str, Any], Any]]) -> list[dict[str, Any]]:
    """All explanations of a bundle by kind, and how many of them passed: `what`, `checked`, `passed`, `words`."""
    rows = []
    found = bundle["attribution"][0]["rows"]
    for of in dict.fromkeys(row["of"] for row in found):
        for method in dict.fromkeys(row["method"] for row in found if row["of"] == of):
            mine = [row for row in found if row["of"] == of and row["method"] == method]
            good = [row["target"] for row in mine if row["passed"]]
            bad = dict.fromkeys(row["why"].split(" (")[0] for row in mine if not row["passed"])
            words = f"of {', '.join(good)}" if good else ""
            words += ("; otherwise " if good and bad else "") + " / ".join(bad)
            rows.append(_row(f"{method}, by {of}", len(mine), len(good), words, method == "chance"))
    told, causal = bundle["knowledge"][0]["readings"], bundle["knowledge"][0]["causal"]
    control = _scores(told, "features, untrained core")
    mine = [each for each in told if each["representation"] == "features, trained"]
    good = [each for each in mine if reading_holds(each, control.get((each["quantity"], each["when"]), 0.0))]
    names = ", ".join(f"{each['quantity'].replace('_', ' ')} ({each['when']})" for each in good)
    rows.append(_row("linear probes of the memory", len(mine), len(good), names))
    asked = [each for each in causal if min(each["score"], each["read_out"]) >= READABLE]
    used = [each["quantity"].replace("_", " ") for each in asked if is_used(each)]
    rows.append(_row("what probes read is used", len(asked), len(used), ", ".join(used)))
    return rows


def _row(what: str, checked: int, passed: int, words: str, control: bool = False) -> dict[str, Any]:
    return {"what": what, "checked": checked, "passed": passed, "words": words, "control": control}


def _scores(readings: Sequence[Mapping[str, Any]], name: str) -> dict[tuple[str, str], float]:
    return {(each["quantity"], each["when"]): each["score"] for each in readings if each["representation"] == name}


def reading_holds(reading: Mapping[str, Any], untrained: float) -> bool:
    """Whether a probe says something: selectivity above 0.1, and 0.05 above the untrained core."""
    return bool(reading["selectivity"] > 0.1 and reading["score"] > max(untrained, 0.0) + 0.05)


READABLE = 0.1
"""R^2 below which a probe or a read-out tells too little to ask whether what it reads is used."""
_ANSWER = ("slope", "correlation", "control_slope")


def is_used(causal: Mapping[str, Any]) -> bool:
    """Whether a state that is pushed along a probe that reads something, answers in a dream that can be read.

    Along the probe's weights or as states typically differ, by half of the push, and thrice as much as at random.
    """
    if min(causal["score"], causal["read_out"]) < READABLE:
        return False
    return any(
        causal[f"{kind}slope"] > max(0.5, 3 * abs(causal[f"{kind}control_slope"]))
        and causal[f"{kind}correlation"] > 0.5
        for kind in ("", "typical_")
    )


def verdicts(bundle: Mapping[str, tuple[Mapping[str, Any], Any]], source: str) -> Panel:
    """Which explanations passed their checks."""
    rows = []
    for row in verdict_rows(bundle):
        words = text(row["words"]) or MISSING
        if row["control"]:
            words = "a control, which ought to fail" + (" and does not" if row["passed"] else "")
        rows.append([text(row["what"]), f"{row['passed']} of {row['checked']}", left(words)])
    caption = (
        "A map of relevance passes if removing what it calls relevant changes the prediction more than removing "
        + "inputs in random order (by two standard errors), and if its rank correlation with the map of a model with "
        + "shuffled weights is below 0.5. A probe holds with a selectivity above 0.1 and an R^2 of at least 0.05 "
        + "above that of the "
        + f"untrained core. {source}."
    )
    return Panel("verdicts", "Which explanations passed", table(("explanation", "passed", ""), rows), caption)


# --- attribution


def attribution_panels(values: Mapping[str, Any], arrays: Arrays, source: str) -> list[Panel]:
    """To what predictions are due: when, and where on the picture."""
    return [when(values, arrays, source), where(values, arrays, source)]


def checks(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of verdicts with their numbers."""
    return table(
        ("prediction", "method", "verdict", "gap to chance", "ABPC", "like shuffled", "infidelity", "sensitivity"),
        [
            [
                text(row["target"]),
                left(text(row["method"])),
                f'<span title="{text(row["why"])}">{badge(row["passed"])}</span>',
                f"{row['random_gap']:.3f} ± {row['gap_error']:.3f}",
                two(row["abpc"]),
                two(row["similarity"]["everything"]),
                two(row["infidelity"]),
                two(row["sensitivity"]),
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
        label_axes(plot, "moments ago", "share of relevance")
        cards.append(card(target, to_svg(figure, f"probe-lag-{place}", f"Relevance of {target} by lag")))
    if "recall" in values:
        figure, plot = axes()
        plot.plot(values["recall"], color=placeholder("accent"))
        plot.set_ylim(-0.05, 1.05)
        label_axes(plot, "moments ago", "R^2")
        drawn = to_svg(figure, "probe-recall", "Recall by lag")
        cards.append(card("What the memory still holds", drawn, "in closed form"))
    shown = {name: role for name, role in METHOD_ROLES.items() if any(row["method"] == name for row in rows)}
    count = rows[0]["predictions"] if rows else 0
    caption = join_caption(
        "Shows how much of each prediction's absolute relevance lies how far back, against a baseline of the mean "
        + "latent and mean action; dotted: the method failed its checks for this prediction. It does not show causes "
        + "in the world, only what this model's number depends on.",
        "Gap to chance and ABPC are shares of what the whole past does to the prediction. Layer-wise relevance "
        + "gives inputs that act through gates alone nothing, so occlusion stands beside it.",
        "Infidelity: 0 foretells what removing a fifth of the inputs does, 1 says nothing. Sensitivity: largest "
        + "relative change under disturbances of 0.05 standard deviations. Like shuffled: rank correlation with the "
        + "same map of a model whose weights were shuffled.",
        f"n = {count} predictions, {values['past']} moments each; {source}.",
    )
    return Panel("attribution", "What predictions are made of", legend(shown) + grid(cards) + checks(rows), caption)


def heat(relevance: NDArray[np.floating[Any]], frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Relevance `[H, W]` over a greyed frame `[H, W, 3]` uint8: red raises the prediction, blue lowers it."""
    size = max(float(np.quantile(np.abs(relevance), 0.99)), 1e-30)
    strength = np.clip(np.abs(relevance) / size, 0, 1)[..., None]
    grey = 0.5 * np.repeat(frame.mean(-1, keepdims=True), 3, -1) + 90
    colour = np.where(relevance[..., None] > 0, np.array([225.0, 60, 40]), np.array([40.0, 90, 225]))
    shown: NDArray[np.uint8] = np.clip(grey * (1 - strength) + colour * strength, 0, 255).astype(np.uint8)
    return shown


def strip(pictures: Sequence[NDArray[np.uint8]], gap: int = 2) -> NDArray[np.uint8]:
    """Pictures of equal size side by side, enlarged."""
    spaced = []
    for picture in pictures:
        spaced += [picture, np.full((picture.shape[0], gap, 3), 255, np.uint8)]
    joined: NDArray[np.uint8] = np.concatenate(spaced[:-1], 1).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    return joined


def image(picture: NDArray[np.uint8], alternative: str) -> str:
    """A picture `[H, W, 3]` as wide as its box."""
    style = "width:100%;image-rendering:pixelated;border-radius:3px"
    return f'<img src="{png_uri(picture)}" alt="{text(alternative)}" style="{style}" loading="lazy">'


def where(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """Relevance on the present frame, its checks, and how it agrees with the simulator's masks."""
    rows = [row for row in values["rows"] if row["of"] == "pixels"]
    body = ""
    for target in dict.fromkeys(row["target"] for row in rows):
        cards = [card("the frame", image(strip(list(arrays["frames"])), "frames"))]
        for row in rows:
            if row["target"] == target:
                maps = arrays[f"pixels/{target}/{row['method']}"]
                pictures = [heat(each, frame) for each, frame in zip(maps, arrays["frames"], strict=True)]
                remark = f"{'passed' if row['passed'] else 'FAILED'}, gap {row['random_gap']:.2f}"
                cards.append(card(row["method"], image(strip(pictures), f"{row['method']} for {target}"), remark))
        body += heading(target) + grid(cards)
    things = list(dict.fromkeys(thing for row in rows for thing in row["objects"]))
    agree = table(
        ("prediction", "method", *things),
        [
            [
                text(row["target"]),
                left(text(row["method"])),
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
