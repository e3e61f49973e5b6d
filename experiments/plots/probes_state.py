"""Pictures of what a world model knows, in which layer things are lost, and what each latent shows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import MISSING, card, grid, legend, note, number, text
from clutr.experiments.plots.page import Panel, join_caption
from clutr.experiments.plots.probes import (
    READABLE,
    Arrays,
    badge,
    heading,
    image,
    is_used,
    reading_holds,
    strip,
    table,
    two,
)

# --- knowledge


_CAUSAL = (
    "quantity",
    "state R^2",
    "read-out R^2",
    "slope",
    "correlation",
    "random",
    "slope, typical",
    "random",
    "used",
)


def _score(reading: Mapping[str, Any]) -> str:
    return f"{reading['score']:.2f} <small>sel. {reading['selectivity']:.2f}</small>"


def knowledge_panel(values: Mapping[str, Any], _arrays: Arrays, source: str) -> Panel:
    """What is known of the true state."""
    readings = values["readings"]
    names = list(dict.fromkeys(each["representation"] for each in readings))
    body = ""
    for moment in dict.fromkeys(each["when"] for each in readings):
        mine = {(e["quantity"], e["representation"]): e for e in readings if e["when"] == moment}
        rows = []
        for quantity in dict.fromkeys(each["quantity"] for each in readings):
            cells = [text(quantity.replace("_", " "))]
            for name in names:
                each = mine.get((quantity, name))
                cells.append(MISSING if each is None else _score(each))
            told, control = (mine.get((quantity, f"features, {m}")) for m in ("trained", "untrained core"))
            holds = told is not None and reading_holds(told, control["score"] if control else 0.0)
            rows.append([*cells, badge(holds)])
        title = "Now" if moment == "now" else f"{moment.split()[0]} moments ahead"
        body += heading(title) + table(("R^2 of", *names, "the memory's"), rows)
    causal = values["causal"]
    if causal:
        rows = [
            [
                text(each["quantity"].replace("_", " ")),
                two(each["score"]),
                two(each["read_out"]),
                two(each["slope"]),
                two(each["correlation"]),
                two(each["control_slope"]),
                two(each["typical_slope"]),
                two(each["typical_control_slope"]),
                badge(is_used(each)) if min(each["score"], each["read_out"]) >= READABLE else "cannot tell",
            ]
            for each in causal
        ]
        body += heading(f"Is it used? The state pushed, read {causal[0]['moments']} dreamt moments on")
        body += table(_CAUSAL, rows)
    count = readings[0]["rows"] if readings else 0
    levels = readings[0]["levels"] if readings else 0
    caption = join_caption(
        "Shows how well ridge regression reads the true state from what is seen (latents) and remembered (features, "
        + "cells), on levels that neither probe nor model was fitted on; sel. is the score beyond that of a control "
        + "task with random values by place. It does not show that the model uses what can be read: the lower table "
        + "does. Slope: change of what the dream shows over the change that was pushed, in the quantity's units; 1 if "
        + "it is fully used; typical: pushed as states usually differ where the quantity does, not by weight.",
        f"n = {number(count)} moments of {levels} levels, split by level; {source}.",
    )
    return Panel("knowledge", "What it knows of the true state", body or note("No readings."), caption)


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
        maps = (arrays[f"thumbnails/{name}"] * 255).astype(np.uint8)
        zoom = max(1, 32 // maps.shape[1])
        tiles = [np.repeat(each.repeat(zoom, 0).repeat(zoom, 1)[..., None], 3, -1) for each in maps]
        about = values["channels"][name]
        remark = f"{about['dead']} of {about['channels']} dead"
        cards.append(card(f"{name}: most energetic channels", image(strip(tiles, 1), f"channels of {name}"), remark))
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
    for place, each in enumerate(values["sweeps"]):
        difference = arrays["difference"][place]
        shade = (255 * difference / max(float(difference.max()), 1e-9)).astype(np.uint8)
        pictures = [*arrays["pictures"][place], np.repeat(shade[..., None], 3, -1)]
        goes_with = (
            f"{each['quantity'].replace('_', ' ')}: r {each['correlation']:.2f}, rank {each['rank']:.2f}, in the "
            + f"sweep {each['in_sweep']:.2f}"
        )
        numbers = f"area {each['area']:.0f} px, {each['frequency']:.1f} waves a picture"
        title = f"Latent {each['latent']}, {each['kl']:.2f} nats"
        below = f'<p class="caption">{text(goes_with)}</p>'
        cards.append(card(title, image(strip(pictures), title) + below, numbers))
    caption = join_caption(
        "Shows one latent moved by up to 3 standard deviations of its own spread over the data, the others as in a "
        + "real frame, and last where the picture changes. r and rank: correlation with the true quantity that goes "
        + "with it most, over the data; in the sweep: rank correlation with that quantity as a probe reads it from "
        + "the swept pictures, encoded again. A latent that changes nothing is a passive one. It does not show what "
        + "two latents do together.",
        f"The {len(cards)} latents with the most KL of {values['latents']}; frame {values['row']} of the "
        + "recording, not "
        + f"chosen; correlations over n = {number(values['moments'])} moments; {source}.",
    )
    style = "grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr))"
    body = f'<div class="grid" style="{style}">{"".join(cards)}</div>'
    return Panel("latents", "What each latent shows", body, caption)
