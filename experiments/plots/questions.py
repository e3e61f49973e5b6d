"""Panels of what an engineer asks of a world model: trust, what was seen, risk, situations, interventions, latents.

Each takes a section's values and arrays and the words for the caption. A section that could not be measured says why.
"""

from collections.abc import Mapping
from typing import Any

from clutr.experiments.plots.attribution import Arrays
from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import (
    card,
    facts_table,
    grid,
    left_aligned,
    note,
    number,
    percent,
    table,
    text,
    two_decimals,
    verdict,
    wide_picture,
    with_interval,
)
from clutr.experiments.plots.images import strip
from clutr.experiments.plots.page import Panel, join_caption
from clutr.probes.trust import CONFIDENCE, FALSE_ALARMS


def empty(name: str, title: str, values: Mapping[str, Any], source: str) -> Panel:
    """A panel of what could not be measured: why."""
    return Panel(name, title, note(f"Not measured: {values['why_empty']}."), f"{source}.")


def trust_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """For how long a dream from this moment will hold, and the alarm for the unfamiliar."""
    title = "How long will a dream from here hold"
    if "why_empty" in values:
        return empty("trust", title, values, source)
    figure, plot = axes()
    plot.hist(arrays["horizons"], bins=range(int(values["steps"]) + 2), color=placeholder("accent"))
    label_axes(plot, "steps that a dream held", "moments")
    cards = [card("Dreams of held-out moments", to_svg(figure, "trust-horizons", "Steps that dreams held"))]
    words = f"error {values['error'][0]:.1f} steps, {values['constant_error'][0]:.1f} for always saying the mean"
    rows = [
        ["said and true horizon, rank correlation", with_interval(values["rank_correlation"]), "0 knows nothing"],
        ["error of the said horizon, steps", with_interval(values["error"]), words],
        ["lower bound holds", with_interval(values["coverage"]), f"{CONFIDENCE:g} if calibrated"],
        ["alarms on familiar roads", with_interval(values["false_alarms"]), f"{FALSE_ALARMS:g} if calibrated"],
        *(
            [text(f"alarms for {name}"), two_decimals(share), "1 sees it always"]
            for name, share in values["alarms"].items()
        ),
    ]
    body = grid(cards) + table(("", "measured", "compare"), [[*row[:2], left_aligned(text(row[2]))] for row in rows])
    body += (
        f"<p>{verdict(values['useful'], 'it tells more than the mean horizon does' if values['useful'] else words)}</p>"
    )
    caption = join_caption(
        "How to read it: a dream holds while its latents are within 0.4 standard deviations of what came. Before a "
        + "dream begins, its horizon is read from the memory by ridge regression; nine in ten moments ought to hold "
        + "at least as long as the lower bound says. The alarm is raised where the last frames were more surprising "
        + "than 95 % of familiar ones. It does not show why a dream fails.",
        f"n = {values['moments']} moments of {values['levels']} levels, each judged by fits on others; {source}.",
    )
    return Panel("trust", title, body, caption)


def seen_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """Which dreamt pixels had been observed, and what errors are made of."""
    title = "Seen or invented, and what errors are made of"
    if "why_empty" in values:
        return empty("seen", title, values, source)
    horizons = values["horizons"]
    cards = []
    for n in range(arrays["true"].shape[1]):
        strips = [strip(list(arrays[name][:, n])) for name in ("true", "dream", "tinted")]
        pictures = "".join(
            wide_picture(each, words)
            for each, words in zip(strips, ("what came", "dream", "dream, invented pixels tinted"), strict=True)
        )
        cards.append(card("what came, the dream, and what of it was invented", pictures))
    names = ("backbone", "motion", "unseen", "viewer")
    rows = [
        [
            f"{step}",
            percent(values["seen_share"][place]),
            *(percent(values["budget"][str(step)][name]) for name in names),
            *(two_decimals(each) for each in values["spectrum"][place]),
        ]
        for place, step in enumerate(horizons)
    ]
    waves = ("longest waves", "long", "short", "shortest")
    body = grid(cards) + table(
        ("steps ahead", "had been seen", "error: backbone", "motion", "unseen", "viewer", *waves), rows
    )
    caption = join_caption(
        "How to read it: tinted pixels had never been in view, by the simulator's motion; nobody can know them. The "
        + "error's shares add up to all of it: what encoding and decoding loses, what is wrong where the world had "
        + "been seen, where it had not, and on the car and the indicators. A share below 0 is better than the "
        + "reconstruction. Waves: the share of each spatial frequency band's power that is wrong.",
        f"n = {values['moments']} dreams of held-out levels, {arrays['true'].shape[1]} shown, not chosen, "
        + f"{', '.join(map(str, horizons))} steps ahead; {source}.",
    )
    return Panel("seen", title, body, caption)


def situations_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """The recorded situations that are most like a moment."""
    title = "What the model was trained on that is most like it"
    if "why_empty" in values:
        return empty("situations", title, values, source)
    cards = [
        card("the moment, then its nearest", wide_picture(strip(list(each)), "a moment and its nearest situations"))
        for each in arrays["frames"]
    ]
    rows = [
        [text(name.replace("_", " ")), two_decimals(value), two_decimals(values["chance"][name])]
        for name, value in values["apart"].items()
    ]
    body = grid(cards) + table(("true quantity", "apart from the nearest", "from any moment"), rows)
    caption = join_caption(
        "How to read it: of the training frames those whose latents are nearest, each of a level of its own. Apart: "
        + "mean difference of the true quantity in its standard deviations; as large as from any moment means that "
        + "the latents do not go by it.",
        f"n = {values['moments']} held-out moments, {number(values['indexed'])} training frames; {source}.",
    )
    return Panel("situations", title, body, caption)


def latent_tests_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """Small measures of latents and memory."""
    title = "Latents and memory in single numbers"
    if "why_empty" in values:
        return empty("small", title, values, source)
    spread = f"{values['jitter'][0]:.3f} [{values['jitter'][1]:.3f}, {values['jitter'][2]:.3f}]"
    fewest = ", ".join(f"{count} for {percent(float(share))}" for share, count in values["fewest"].items())
    errors = ", ".join(f"{name}: {two_decimals(value)}" for name, value in values["quantised"].items())
    facts = [
        ("moved by jitter of 2 of 255, in standard deviations", spread),
        (f"fewest directions of {values['latents']} latents for a share of their variance", fewest),
        ("pixel PCA by a linear map of the latents, R^2 on other levels", with_words(values["stitching_pixel_pca"])),
        (f"error {values['steps']} steps on, in standard deviations, start quantised to so many values", errors),
        (
            "Hurst exponent of one-step residuals",
            f"{two_decimals(values['hurst'])} over {values['episodes']} episodes; 0.5 misses nothing slow"
            if values["hurst"] is not None
            else "not measured: no held-out episode has 64 steps",
        ),
    ]
    if values.get("stitching"):
        other = values["stitching"]
        told = f"{with_words(other['to'])}; back {with_words(other['from'])}"
        facts.insert(3, (f"the latents of {other['other']} by a linear map of these, R^2 on other levels", told))
    shown = wide_picture(strip(list(arrays["memory"])), "scenes along the memory's principal directions")
    body = grid([card("Scenes along the memory's four main directions, either way", shown)]) + facts_table(facts)
    caption = join_caption(
        "How to read it: latents that jitter moves much make prediction harder; a start that may be quantised coarsely "
        + "holds little detail that dreams need; residuals with a Hurst exponent above 0.5 follow something slow that "
        + "the memory misses. Scenes are latents that ridge regression reads from the memory, decoded.",
        f"{source}.",
    )
    return Panel("small", title, body, caption)


def with_words(told: list[float]) -> str:
    """A number and its interval as plain text."""
    return f"{told[0]:.2f} [{told[1]:.2f}, {told[2]:.2f}]"
