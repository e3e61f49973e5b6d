"""Panels of what would happen if: risk under other actions, and maps beside what moved objects do."""

from collections.abc import Mapping, Sequence
from typing import Any

from clutr.experiments.plots.attribution import METHOD_ROLES, Arrays, checks
from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import (
    MISSING,
    card,
    grid,
    heading,
    left_aligned,
    legend,
    note,
    percent,
    table,
    text,
    two_decimals,
    verdict,
    wide_picture,
    with_interval,
)
from clutr.experiments.plots.images import strip, with_relevance
from clutr.experiments.plots.page import Panel, join_caption
from clutr.experiments.plots.questions import empty

CURVES = ("method-0", "method-1", "method-2", "method-3", "method-4", "muted")


def _three_decimals(told: Sequence[float]) -> str:
    value, low, high = (f"{each:.3f}" for each in told)
    return f"{value} <small>{low} to {high}</small>"


def risk_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """The probability of leaving the road by option, against the simulator."""
    title = "The risk of leaving the road within a second"
    if "why_empty" in values:
        return empty("risk", title, values, source)
    roles = dict(zip(values["options"], CURVES, strict=False))
    cards = []
    for name, role in roles.items():
        figure, plot = axes()
        mine = values["by_option"][name]["bins"]
        said, happened = ([each[part] for each in mine] for part in ("said", "happened"))
        below = [value - each["interval"][0] for value, each in zip(happened, mine, strict=True)]
        above = [each["interval"][1] - value for value, each in zip(happened, mine, strict=True)]
        plot.plot([0, 1], [0, 1], ":", color=placeholder("muted"), linewidth=1)
        plot.errorbar(said, happened, yerr=[below, above], color=placeholder(role), marker="o", markersize=4)
        plot.set_xlim(-0.02, 1.02)
        plot.set_ylim(-0.02, 1.02)
        label_axes(plot, "said", "happened")
        drawn = to_svg(figure, f"risk-{name.replace(' ', '-')}", f"What was said of {name}, and how often it happened")
        cards.append(card(name, drawn, f"leaves in {percent(values['by_option'][name]['share'])}"))
    body = legend(roles) + grid(cards)
    rows = []
    for name in (*values["options"], "all but as recorded"):
        each = values["pooled"] if name == "all but as recorded" else values["by_option"][name]
        compared = (_three_decimals(each[part]) for part in ("brier", "constant", "recorded", "gain"))
        rows.append([text(name), percent(each["share"]), *compared, two_decimals(each["auroc"])])
    body += table(
        ("", "leaves the road", "Brier score", "always the share", "by what the recording did", "better by", "AUROC"),
        rows,
    )
    kinds = [
        [text(name) + (" (chosen)" if name == values["chosen"] else ""), f"{each['training']:.3f}",
         _three_decimals(each["held_out"])]
        for name, each in values["readings"].items()
    ]  # fmt: skip
    body += heading("What the probability is made of") + table(("readings", "training roads", "other roads"), kinds)
    pooled = values["pooled"]
    words = f"better than the share by {_words(pooled['gain'])}, than the recording by "
    words += _words(pooled["gain_on_recorded"])
    body += f"<p>{verdict(values['useful'], words)}</p>"
    for n, example in enumerate(values["examples"]):
        real = strip([arrays["frames"][n], *arrays["ended"][n]])
        dreamt = strip([arrays["frames"][n], *arrays["dreamt"][n]])
        told = [
            [text(name), percent(said), "left the road" if left else "stayed"] for name, (said, left) in example.items()
        ]
        pictures = wide_picture(real, "the moment, and the simulator a second later under each option")
        pictures += wide_picture(dreamt, "the moment, and the dream a second later under each option")
        body += card("The moment; a second later in the simulator (above) and dreamt (below)", pictures
                     + table(("option, from left to right", "said", "simulator"), told))  # fmt: skip
    caption = join_caption(
        "How to read it: the simulator is put back to recorded moments of held-out roads with at least two wheels on "
        + "the road, and plays every option for a second. Points on the dotted line are as often true as they say. "
        + "Readings are what the probability is computed from, by logistic regression on training roads: the wheels "
        + "that dreams show, the road under the car in dreamt pictures, the road along the way that the car will take "
        + "over the model's picture of the present, or latents and memory. The kind that is best on training roads is "
        + "chosen. By what the recording did: the probability for who knows whether the recorded actions left the "
        + "road, and not that others are asked about. Lower Brier scores are better.",
        f"n = {values['moments']} moments of {values['levels']} levels, fitted on {values['training_moments']} of "
        + f"{values['training_levels']} others; {values['draws']} dreams each of {values['steps']} steps; the "
        + f"simulator reached {percent(values['replayed'])} of the recorded moments; {source}.",
    )
    return Panel("risk", title, body, caption)


def _words(told: Sequence[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*told)


def interventions_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """Which maps had said what interventions do."""
    title = "Do maps tell what changing the world does"
    if "why_empty" in values:
        return empty("interventions", title, values, source)
    body, counts = "", []
    for how, words in (("moved", "Objects moved in the simulator"), ("repainted", "Parts repainted")):
        mine = values[how]
        body += heading(words)
        if "why_empty" in mine:
            body += note(f"Not measured: {mine['why_empty']}.")
            continue
        if how == "moved":
            cards = [
                card(
                    f"the moment; {', '.join(values['shown'])}", wide_picture(strip([frame, *changed]), "moved objects")
                )
                for frame, changed in zip(arrays["frames"], arrays["moved"], strict=True)
            ]
            body += grid(cards)
        rows = [
            [text(row["target"]), left_aligned(text(row["method"])), with_interval(row["agreement"]),
             with_interval(row["beyond_even"]), verdict(row["passed"], "") if row["passed"] else MISSING]
            for row in mine["rows"]
        ]  # fmt: skip
        body += table(("prediction", "map", "rank correlation", "beyond an even map", "tells"), rows)
        counts.append(f"{mine['pictures']} pictures, {len(mine['changes'])} changes of each ({how})")
    caption = join_caption(
        "How to read it: at the recorded moment the road is bent, kerbs are put there or taken away, walls and goals "
        + "are moved in the simulator, and the picture is drawn anew; or road, kerb or walls in a square are repainted "
        + "as what surrounds them. The prediction is made again. Given is the rank correlation of the size of its "
        + "change with the map's relevance on what changed. Larger changes do more, so a map that is the same "
        + "everywhere has a correlation, too: a map tells more than that if it is better picture by picture, beyond "
        + "the interval, and the prediction itself tells something. Chance: a random map.",
        f"n = {'; '.join(counts)}; {source}.",
    )
    return Panel("interventions", title, body, caption)


def past_pixels_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """To which pixels of past frames predictions are due."""
    title = "What earlier pictures did"
    body = ""
    for target in dict.fromkeys(row["target"] for row in values["rows"]):
        mine = [row for row in values["rows"] if row["target"] == target]
        figure, plot = axes()
        for row in mine:
            colour = placeholder(METHOD_ROLES.get(row["method"], "muted"))
            plot.plot(row["shares"], "-" if row["passed"] else ":", color=colour, linewidth=1.6)
        plot.set_ylim(bottom=0)
        label_axes(plot, "frames ago", "share of relevance")
        place = len(body)
        cards = [card("by frame", to_svg(figure, f"past-pixels-{place}", f"Relevance of {target} by frame"))]
        for n, frames in enumerate(arrays["frames"]):
            pictures = wide_picture(strip(list(frames)), "the last frames")
            for row in mine:
                if row["method"] != "chance":
                    maps = arrays[f"map/{target}/{row['method']}"][n]
                    # one scale for all frames: older ones matter less
                    flat = with_relevance(frames.reshape(-1, *frames.shape[2:]), maps.reshape(-1, maps.shape[-1]))
                    pictures += f"<small>{text(row['method'])}</small>"
                    pictures += wide_picture(strip(list(flat.reshape(frames.shape))), f"{row['method']} for {target}")
            cards.append(card("frames, the present last, and maps", pictures))
        frame_rows = [
            [text(row["method"]), with_interval(row["frames"]), with_interval(row["recency"])] for row in mine
        ]
        body += heading(target) + grid(cards)
        body += table(("map", "which frame matters, rank correlation", "later ones matter more"), frame_rows)
    shown = {name: role for name, role in METHOD_ROLES.items() if any(r["method"] == name for r in values["rows"])}
    caption = join_caption(
        "Shows which pixels of past frames, which are out of sight and act through the memory, the prediction depends "
        + "on, against the mean frame: red raises it, blue lowers it; dotted: the map did not pass its checks. Those "
        + "delete squares of past frames, as for the present one. Which frame matters: rank correlation of a frame's "
        + "relevance with what replacing the whole frame by the mean frame does, beside the same for saying that later "
        + "frames matter more.",
        f"n = {values['rows'][0]['predictions']} predictions, {values['length']} frames each; {source}.",
    )
    return Panel("past", title, legend(shown) + body + checks(values["rows"]), caption)
