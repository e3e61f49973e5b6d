"""Panels of what a student looks at, knows and uses."""

from collections.abc import Mapping
from typing import Any

from clutr.experiments.plots.attribution import Arrays
from clutr.experiments.plots.html import (
    MISSING,
    card,
    facts_table,
    left_aligned,
    number,
    table,
    text,
    two_decimals,
    verdict,
    wide_picture,
    with_interval,
)
from clutr.experiments.plots.images import strip, with_relevance
from clutr.experiments.plots.page import Panel, join_caption
from clutr.probes.student_probes import is_remembered
from clutr.probes.student_steps import UNTRAINED


def looks_panel(name: str, values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """What the student looks at: saliency over an episode, and its score."""
    looks = values["looks"]
    heat = [with_relevance(frame, each) for frame, each in zip(arrays["frames"], arrays["saliency"], strict=True)]
    pictures = wide_picture(strip(list(arrays["frames"])), "steps of an episode")
    pictures += wide_picture(strip(heat), "how much hiding each part changes the next action")
    steps = ", ".join(str(each) for each in arrays["steps"].tolist())
    body = card(f"Steps {steps} of one episode, and what matters to the next action", pictures)
    rows = [
        ("hiding by falling saliency changes the action more than in random order by", looks["deletion"]),
        ("showing by falling saliency brings it nearer than in random order by", looks["insertion"]),
        ("hiding changes it more than by an untrained student's map by", looks["beyond_untrained"]),
    ]
    body += table(("", "measured"), [[text(words), with_interval(told)] for words, told in rows])
    words = f"of a mean change of {looks['size']:.2f} in random order"
    body += f"<p>{verdict(looks['passed'], words)}</p>"
    things = []
    for thing, each in looks["objects"].items():
        share = two_decimals(each["mass"] / max(each["chance"], 1e-9))
        things.append((thing, f"{share} times its share of the picture, NSS {two_decimals(each['nss'])}"))
    body += facts_table(things)
    caption = join_caption(
        "How to read it: each part of the picture is hidden in turn; red is what changes the distribution of the next "
        + "action. The map is right if hiding parts by falling saliency changes the action faster than hiding them in "
        + "random order, and showing them brings it back faster; and if it does better than the map of a student with "
        + "random weights. Changes are shares of the largest possible one. NSS: the standardised map's mean on the "
        + "object, 0 is chance.",
        f"n = {looks['moments']} moments of other levels than the one shown; {source}.",
    )
    return Panel(f"looks-{name}", f"What the {name} looks at", body, caption)


def knows_panel(name: str, values: Mapping[str, Any], source: str) -> Panel:
    """What a student remembers, or knows beyond its present view."""
    names = [
        each
        for each in dict.fromkeys(each["representation"] for each in values["readings"])
        if not each.startswith(f"{UNTRAINED} ")  # the first of them stands for all
    ]
    mine = {(each["quantity"], each["representation"]): each for each in values["readings"]}
    rows = []
    for quantity, memory in values["memory"].items():
        cells = [with_interval(mine[quantity, each]["score"]) for each in names]
        view, untrained = (with_interval(memory[each]) for each in ("beyond_view", "beyond_untrained"))
        words = "" if is_remembered(memory) else "not beyond both"
        rows.append([text(quantity.replace("_", " ")), *cells, view, untrained, verdict(is_remembered(memory), words)])
    headings = ("R^2 of", *names, "beyond the view", "beyond untrained", "known")
    caption = join_caption(
        "Shows how well ridge regression reads the true state from what the student's actor reads (hidden), on levels "
        + "that the probe was not fitted on; beside it what can be read from the present view, and from students with "
        + "random weights that saw the same. Known: at least 0.05 more than both, the best of several untrained "
        + "students, beyond the interval over levels; of a student with a memory: remembered. It does not show that "
        + "the student acts on it.",
        f"n = {number(values['rows'])} steps on {values['levels']} random levels, split by level; {source}.",
    )
    return Panel(f"memory-{name}", f"What the {name} remembers and knows", table(headings, rows), caption)


def uses_panel(name: str, values: Mapping[str, Any], source: str) -> Panel:
    """Which of what it knows its actions follow."""
    rows = []
    for each in values["uses"]:
        cells = [text(each["quantity"].replace("_", " ")), with_interval(each["score"])]
        if each["asked"]:
            words = "" if each["passed"] else "no more than random pushes"
            cells += [with_interval(each["effect"]), two_decimals(each["control"]), text(larger_means(values, each))]
        else:
            words = "not asked: little of it can be read"
            cells += [MISSING] * 3
        rows.append([*cells, left_aligned(verdict(each["passed"], words))])
    caption = join_caption(
        "How to read it: what the actor reads is pushed the way in which it typically differs where the quantity does, "
        + "by one standard deviation of the quantity, up and down. Given is by how much the action changes (1 is the "
        + "largest possible change), the largest such change of 16 random pushes as long, and what changes most when "
        + "the quantity is larger. Used: more than every random push, beyond the interval over levels.",
        f"{source}.",
    )
    headings = ("quantity", "R^2", "action changes by", "random pushes, at most", "larger means", "used")
    return Panel(f"uses-{name}", f"What the {name} acts on", table(headings, rows), caption)


def larger_means(values: Mapping[str, Any], use: Mapping[str, Any]) -> str:
    """Which actions become more or less likely, or larger, where the quantity is larger: the two that change most."""
    moved = sorted(zip(values["actions"], use["moves"], strict=False), key=lambda pair: -abs(pair[1]))[:2]
    return ", ".join(f"{action} {change:+.2f}" for action, change in moved)
