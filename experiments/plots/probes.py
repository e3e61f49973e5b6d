"""Charts and tables of what a model has learnt, each with the number that says whether to believe it.

Every function takes a section's values and arrays (`clutr.experiments.reports.probe_report.load_section`) and the
words for the caption; the report and the live page draw with the same ones.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from clutr.experiments.plots.attribution import Arrays
from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import (
    MISSING,
    card,
    facts_table,
    grid,
    heading,
    left_aligned,
    legend,
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
from clutr.experiments.plots.images import grey, strip
from clutr.experiments.plots.page import Panel, join_caption
from clutr.probes.randomisation import SIMILAR
from clutr.probes.state_probes import TRAINED, UNTRAINED

MEMORY_ROLES = {"trained": "method-1", "untrained core": "method-none"}
RUN_ROLES = {"data": "method-0", "constant": "method-2", "dream": "method-4"}


def sanity_check_rows(sections: Mapping[str, tuple[Mapping[str, Any], Any]]) -> list[dict[str, Any]]:
    """All explanations of a probe report by kind, and how many of them passed: `what`, `checked`, `passed`, `words`."""
    rows = []
    found = sections["attribution"][0]["rows"] if "attribution" in sections else []
    for of in dict.fromkeys(row["of"] for row in found):
        for method in dict.fromkeys(row["method"] for row in found if row["of"] == of):
            mine = [row for row in found if row["of"] == of and row["method"] == method]
            good = [row["target"] for row in mine if row["passed"]]
            bad = dict.fromkeys(row["why"].split(" (")[0] for row in mine if not row["passed"])
            words = f"of {', '.join(good)}" if good else ""
            words += ("; otherwise " if good and bad else "") + " / ".join(bad)
            rows.append(_row(f"{method}, by {of}", len(mine), len(good), words, method == "chance"))
    if "state_probes" not in sections:
        return rows + _other_rows(sections)
    told, causal = sections["state_probes"][0]["readings"], sections["state_probes"][0]["causal"]
    mine = [each for each in told if each["representation"] == TRAINED and each["seen"]]
    good = [each for each in mine if each["known"]]
    names = ", ".join(f"{each['quantity'].replace('_', ' ')} ({each['when']})" for each in good)
    rows.append(_row("what the memory knows, beyond controls", len(mine), len(good), names))
    asked = [each for each in causal if each["asked"]]
    used = [each["quantity"].replace("_", " ") for each in asked if each["passed"]]
    rows.append(_row("what it knows is used", len(asked), len(used), ", ".join(used)))
    return rows + _other_rows(sections)


def _other_rows(sections: Mapping[str, tuple[Mapping[str, Any], Any]]) -> list[dict[str, Any]]:
    """The same of maps over past pixels, of maps beside interventions, and of trust and risk, as far as there are."""
    rows = []
    told = sections.get("interventions", ({}, None))[0]
    parts = [("by past pixels", sections.get("past_pixels", ({}, None))[0].get("rows", []))]
    parts += [(f"beside what is {how}", told.get(how, {}).get("rows", [])) for how in ("moved", "repainted")]
    for words, found in parts:
        for method in dict.fromkeys(row["method"] for row in found):
            mine = [row for row in found if row["method"] == method]
            good = [row["target"] for row in mine if row["passed"]]
            of = f"of {', '.join(good)}" if good else ""
            rows.append(_row(f"{method}, {words}", len(mine), len(good), of, method == "chance"))
    for name, words in (("trust", "the horizon of a dream"), ("risk", "the risk of leaving the road")):
        values = sections.get(name, ({"why_empty": ""}, None))[0]
        if "why_empty" not in values:
            rows.append(_row(words, 1, int(values["useful"]), "beyond a constant" if values["useful"] else ""))
    return rows


def _row(what: str, checked: int, passed: int, words: str, control: bool = False) -> dict[str, Any]:
    return {"what": what, "checked": checked, "passed": passed, "words": words, "control": control}


def sanity_checks_panel(sections: Mapping[str, tuple[Mapping[str, Any], Any]], source: str) -> Panel:
    """Which explanations passed their checks."""
    rows = []
    for row in sanity_check_rows(sections):
        words = text(row["words"]) or MISSING
        if row["control"]:
            words = "a control, which ought to fail" + (" and does not" if row["passed"] else "")
        rows.append([text(row["what"]), f"{row['passed']} of {row['checked']}", left_aligned(words)])
    caption = (
        "A map of relevance passes if removing what it calls relevant changes the prediction more than removing "
        + "inputs in random order (by two standard errors), if it predicts what removing inputs does better than an "
        + f"empty map, if maps of models with shuffled weights are less than {SIMILAR} like it, each with its "
        + "interval, and if the prediction itself tells something. A quantity is known if its R^2 beats a control "
        + f"task and the best untrained core beyond the interval over levels. {source}."
    )
    return Panel("checks", "Which explanations passed", table(("explanation", "passed", ""), rows), caption)


# --- state probes

_CAUSAL = {"score": "memory and latent R^2", "read_out": "read-out R^2", "slope": "left of a push"}
"""What is told of each quantity that was pushed, with the headings of its columns: numbers with intervals."""


def _score(reading: Mapping[str, Any]) -> str:
    return with_interval(reading["score"])


def state_probe_panel(values: Mapping[str, Any], source: str) -> Panel:
    """What is known of the true state."""
    readings = values["readings"]
    names = [
        name
        for name in dict.fromkeys(each["representation"] for each in readings)
        if not name.startswith(f"{UNTRAINED} ")  # the first of them stands for all
    ]
    body = ""
    for when in dict.fromkeys(each["when"] for each in readings):
        mine = {(e["quantity"], e["representation"]): e for e in readings if e["when"] == when}
        rows = []
        for quantity in dict.fromkeys(each["quantity"] for each in readings):
            told = mine.get((quantity, TRAINED))
            cells = [text(quantity.replace("_", " "))]
            for name in names:
                each = mine.get((quantity, name))
                cells.append(MISSING if each is None or not each["seen"] else _score(each))
            words = left_aligned(verdict(told["known"], told["why"])) if told is not None else MISSING
            rows.append([*cells, words])
        title = "Now" if when == "now" else f"{when.split()[0]} steps ahead"
        body += heading(title) + table(("R^2 of", *names, "so the memory"), rows)
    causal = values["causal"]
    if causal:
        rows = [
            [
                text(each["quantity"].replace("_", " ")),
                *(with_interval(each[name]) for name in _CAUSAL),
                two_decimals(each["recorded"]),
                two_decimals(each["control"]),
                left_aligned(verdict(each["passed"], each["why"])),
            ]
            for each in causal
        ]
        body += heading(f"Is it used? Memory and latent pushed, read {causal[0]['steps']} dreamt steps on")
        body += table(("quantity", *_CAUSAL.values(), "in recordings", "random", "so"), rows)
    elif "no_causal" in values:
        body += note(f"Whether it is used was not asked: {values['no_causal']}.")
    levels = readings[0]["levels"] if readings else 0
    steps = max((each["rows"] for each in readings), default=0)
    caption = join_caption(
        "Shows how well ridge regression reads the true state from what is seen (latents) and remembered (features, "
        + "cells), on levels that neither probe nor model was fitted on, with 95 % intervals over levels. Steps in "
        + "which a quantity cannot be seen do not count. Known: beyond a control task with random values by place, and "
        + "beyond the best of several untrained cores. It does not show that the model uses what can be read: the "
        + "lower table does. Left of a push: change of what the dream shows over the change that was pushed, in the "
        + "quantity's units; passed if it is more than half of what lasts in the recordings, and nearer to it than if "
        + "the pushed picture simply stayed.",
        f"n = up to {number(steps)} steps of {levels} levels; {source}.",
    )
    return Panel("state", "State probes", body or note("No readings."), caption)


# --- feature maps


def features_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """In which layer objects are lost."""
    objects = values["objects"]
    sentences = "".join(f"<li>{text(each['sentence'])}</li>" for each in objects)
    layers = list(dict.fromkeys(seen["layer"] for each in objects for seen in each["layers"]))
    figure, plot = axes(5.2, 2.6)
    roles = {each["thing"]: f"method-{place % 6}" for place, each in enumerate(objects)}
    for each in objects:
        plot.plot([seen["layer"] for seen in each["layers"]], [seen["overlap"] for seen in each["layers"]],
                  color=placeholder(roles[each["thing"]]), marker="o", markersize=3.5)  # fmt: skip
        plot.plot([seen["layer"] for seen in each["layers"]], [seen["chance"] for seen in each["layers"]],
                  ":", color=placeholder(roles[each["thing"]]), linewidth=1)  # fmt: skip
    plot.set_ylim(-0.03, 1.03)
    label_axes(plot, "", "IoU")
    cards = [card("Visible to each layer", legend(roles) + to_svg(figure, "probe-layers", "IoU by layer"))]
    shown = [name for name in layers if f"thumbnails/{name}" in arrays and name != "pixels"]
    for name in shown:
        maps = arrays[f"thumbnails/{name}"]
        zoom = max(1, 32 // maps.shape[1])
        channels = [grey(each.repeat(zoom, 0).repeat(zoom, 1)) for each in maps]
        about = values["channels"][name]
        remark = f"{about['dead']} of {about['channels']} dead"
        cards.append(
            card(f"{name}: most energetic channels", wide_picture(strip(channels, 1), f"channels of {name}"), remark)
        )
    frames = values["frames"]
    caption = join_caption(
        "Shows how well a ridge regression at each place of a layer finds each object's mask (intersection over "
        + "union on held-out levels, pixel by pixel); dotted: a mask that is everywhere what it is on average. From z "
        + "the whole mask is read. It does not show what other read-outs than linear ones could find.",
        f"Fitted on {frames[0]} frames of training levels, tested on {frames[1]} of others; {source}.",
    )
    return Panel("features", "In which layer objects are lost", f"<ul>{sentences}</ul>{grid(cards)}", caption)


# --- latents


def latents_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """What each latent shows."""
    cards = []
    for place, each in enumerate(values["traversals"]):
        difference = arrays["difference"][place]
        pictures = [*arrays["pictures"][place], grey(difference / max(float(difference.max()), 1e-9))]
        goes_with = (
            f"{each['quantity'].replace('_', ' ')}: r {each['correlation']:.2f}, rank {each['rank']:.2f}, in the "
            + f"sweep {each['in_traversal']:.2f}"
        )
        numbers = f"area {each['area']:.0f} px, {each['frequency']:.1f} waves a picture"
        title = f"Latent {each['latent']}, {each['kl']:.2f} nats"
        below = f'<p class="caption">{text(goes_with)}</p>'
        cards.append(card(title, wide_picture(strip(pictures), title) + below, numbers))
    caption = join_caption(
        "Shows one latent moved by up to 3 standard deviations of its own spread over the data, the others as in a "
        + "real frame, and last where the picture changes. r and rank: correlation with the true quantity that goes "
        + "with it most, over the data; in the sweep: rank correlation with that quantity as a probe reads it from "
        + "the swept pictures, encoded again. A latent that changes nothing is a passive one. It does not show what "
        + "two latents do together.",
        f"The {len(cards)} latents with the most KL of {values['latents']}; frame {values['row']} of the "
        + "recording, not "
        + f"chosen; correlations over n = {number(values['steps'])} steps; {source}.",
    )
    style = "grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr))"
    body = f'<div class="grid" style="{style}">{"".join(cards)}</div>'
    return Panel("latents", "What each latent shows", body, caption)


# --- dynamics


def _curves(plot: Axes, arrays: Arrays, group: str, roles: Mapping[str, str]) -> None:
    for name, role in roles.items():
        if f"{group}/{name}" in arrays:
            plot.plot(arrays[f"{group}/{name}"], color=placeholder(role), linewidth=1.5)


def dynamics_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """How the memory moves."""
    cards = []
    for group, title, y in (
        ("gradient", "How far back slopes look", "share of the gradient"),
        ("occlusion", "What hiding a step costs", "nats a dimension"),
    ):
        figure, plot = axes()
        _curves(plot, arrays, group, MEMORY_ROLES)
        label_axes(plot, "steps ago", y)
        cards.append(card(title, to_svg(figure, f"probe-{group}", title)))
    if "half_life" in arrays:
        figure, plot = axes()
        lives = np.log10(np.clip(arrays["half_life"], 0.1, 1e4))
        plot.hist(lives, bins=24, color=placeholder("accent"))
        plot.set_xticks([-1, 0, 1, 2, 3, 4], ["0.1", "1", "10", "100", "1k", "10k"])
        label_axes(plot, "steps until half a cell is forgotten", "cells")
        gates = values["gates"]
        remark = ", ".join(f"{name} shut {percent(g['low'])}, open {percent(g['high'])}" for name, g in gates.items())
        cards.append(card("Time scales of the cells", to_svg(figure, "probe-half-life", "Half-lives"), remark))
    figure, plot = axes()
    for name, found in values["exponents"].items():
        plot.plot(found["exponents"], color=placeholder(RUN_ROLES["data" if name == "driven" else "dream"]), marker="o",
                  markersize=3)  # fmt: skip
    plot.axhline(0, color=placeholder("muted"), linewidth=0.8)
    label_axes(plot, "exponent", "nats a step")
    remark = ", ".join(f"{name} {two_decimals(found['exponents'][0])}" for name, found in values["exponents"].items())
    cards.append(card("Lyapunov exponents", to_svg(figure, "probe-exponents", "Lyapunov exponents"), remark))
    figure, plot = axes()
    _curves(plot, arrays, "size", RUN_ROLES)
    plot.axvline(values["collapse"]["trained"], color=placeholder("muted"), linewidth=0.8, linestyle=":")
    plot.set_ylim(bottom=0)
    label_axes(plot, "steps", "root mean square of the state")
    cards.append(card("Far beyond the training length", to_svg(figure, "probe-collapse", "State size by step")))
    figure, plot = axes()
    plot.scatter(arrays["plane"][:, 0], arrays["plane"][:, 1], s=3, color=placeholder("accent"), linewidths=0)
    label_axes(plot, "first component", "second component")
    cards.append(card("The memory's features", to_svg(figure, "probe-plane", "Features in their principal plane")))
    roles = {"data": RUN_ROLES["data"], "constant input": RUN_ROLES["constant"], "dream": RUN_ROLES["dream"]}
    caption = join_caption(
        "Shows time scales and stability of the trained memory; where two memories are drawn, the grey one is the "
        + "control whose core was never trained, and what it also does was not learnt. It does not show why.",
        "Exponents: above 0 near states part (driven: by recorded inputs; dreaming: fed with its own predictions).",
        "Collapse is flagged if most units leave the band of three standard deviations of the training length "
        + "(dotted line) and the state has grown by half; on data also the loss must have risen by half a nat a "
        + "dimension.",
        f"{values['past']} steps of the past; {source}.",
    )
    return Panel(
        "dynamics", "How the memory moves", legend(roles | MEMORY_ROLES) + grid(cards) + _facts(values), caption
    )


def _facts(values: Mapping[str, Any]) -> str:
    """What the curves cannot say."""
    rows = []
    for name, horizon in values["horizons"].items():
        spread = values["dimensions"][name]
        rows.append(
            [
                text(name),
                str(horizon["half"]),
                str(horizon["ninety"]),
                f"{horizon['mean']:.1f}",
                f"{spread['participation']:.1f}",
                f"{spread['entropy']:.1f}",
                str(spread["ninety"]),
            ]
        )
    headings = ("memory", "half within", "90 % within", "mean lag", "participation ratio", "entropy rank", "components")
    body = table(headings, rows)
    facts = []
    for name, found in values["exponents"].items():
        dimension = f"{found['dimension']:.1f}" if found["whole"] else f"at least {found['dimension']:.0f}"
        facts.append((f"dimension, {name}", f"{dimension} (Kaplan and Yorke)"))
    for name, points in values["fixed_points"].items():
        facts.append((f"rest under {name}", _rest(points)))
    flagged = [name for name, flag in values["collapse"]["flagged"].items() if flag]
    told = f"flagged: {', '.join(flagged)}" if flagged else "not flagged"
    facts.append((f"collapse in {values['collapse']['steps']} steps", told))
    return body + facts_table(facts)


def _rest(points: list[dict[str, Any]]) -> str:
    if not points:
        return "no fixed or slow point found from the states that were tried"
    kinds = [
        f"{sum(1 for p in points if p['kind'] == kind)} {kind}" for kind in dict.fromkeys(p["kind"] for p in points)
    ]
    slowest = max((p["slowest_steps"] or 0.0 for p in points), default=0.0)
    return f"{', '.join(kinds)}; largest eigenvalue {points[0]['largest']:.3f}; slowest decay {number(slowest)} steps"


# --- health of the latents


def health_panel(values: Mapping[str, Any], source: str) -> Panel:
    """Whether the backbone uses its latents."""
    figure, plot = axes(5.2, 2.4)
    kl = sorted(values["kl_per_dimension"], reverse=True)
    plot.bar(range(len(kl)), kl, color=placeholder("accent"))
    label_axes(plot, "latent", "nats a frame")
    cards = [card("KL of each latent", to_svg(figure, "probe-kl", "KL of each latent"))]
    predicted = values.get("predicted")
    if predicted:
        figure, plot = axes(5.2, 2.4)
        plot.semilogy(predicted["eigenvalues"], color=placeholder("method-0"))
        plot.axhline(predicted["threshold"], color=placeholder("bad"), linewidth=1, linestyle=":")
        label_axes(plot, "direction of the frames", "variance")
        cards.append(
            card("Spectrum of the frames and the decoder's noise", to_svg(figure, "probe-spectrum", "Spectrum"))
        )
    kinds, prior = values["variables"], values.get("prior")
    facts = [
        ("active, mixed, passive", f"{kinds['active']}, {kinds['mixed']}, {kinds['passive']}"),
        ("predicted active", str(values["predicted_active_dimensions"] or MISSING)),
        ("latent-use gap", f"{values['latent_use_gap']:,.0f} nats a frame"),
        ("squared error", f"{values['mse']:.2e} of means, {values['noise']:.2e} of draws"),
        ("holes", f"{percent(prior['hole_rate'])} of draws from the prior" if prior else MISSING),
        ("collapsed", "yes" if values["collapsed"] else "no"),
    ]
    caption = (
        "Shows whether latents are used: active ones are known well for every frame, passive ones are the prior. "
        + "Predicted active are directions whose variance exceeds the decoder's noise (dotted), as a linear VAE would "
        + "keep. The latent-use gap is what it costs to be told another frame's latents. Holes are draws from the "
        + "prior that decoding and encoding moves by more than 3 posterior standard deviations; a world model's "
        + "dreams need not "
        + f"go there. It does not show what the latents mean. n = {values['frames']} frames; {source}."
    )
    return Panel("health", "Are the latents used", grid(cards) + facts_table(facts), caption)


# --- students
