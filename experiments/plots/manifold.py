"""How healthy a task manifold is: what it keeps of a task, which dimensions it uses, what its points look like."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import (
    card,
    facts_table,
    grid,
    headline_numbers,
    is_number,
    legend,
    note,
    number,
    percent,
)
from clutr.experiments.plots.manifold_health import PREDICTED, headlines, look_up
from clutr.experiments.plots.page import Panel, join_caption

Histograms = dict[str, tuple[list[float], list[float]]]
"""(values, shares) of each population."""

ACTIVE = 0.1
"""A dimension with less KL than this, in nats, tells the decoder next to nothing."""

MOST_HEADLINES = 11
"""Headline numbers of a health without any known headline."""

KINDS = {"active": "good", "mixed": "method-1", "passive": "muted"}
"""Kinds of latents and their colours."""

WIDTHS = "distribution_widths"
"""Where a manifold's health says how far apart the values of a histogram are."""

_POPULATIONS = ("data", "prior", "decoded")

_SHARES = ("exact", "recall", "precision", "unique", "solvable")


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything in nested mappings that is not a mapping, with its path."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, (*path, str(name)))
    else:
        yield path, value


def _series(value: object) -> list[float]:
    """A list of finite numbers, or nothing."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 1 and all(map(is_number, value)):
        return [float(item) for item in value]
    return []


def _words(path: Sequence[str]) -> str:
    return ", ".join("KL" if part == "kl" else part.replace("_", " ") for part in path)


def _title(path: Sequence[str]) -> str:
    words = _words(path)
    return words[:1].upper() + words[1:]


def _say(path: Sequence[str], value: object) -> str:
    share = any(word in path[-1] for word in _SHARES) and is_number(value) and 0 <= float(str(value)) <= 1
    return percent(value, 1) if share else number(value)


def _kl_card(kl: Sequence[float], kinds: Sequence[str]) -> str:
    """Bars by size, in the colour of each dimension's kind where that was measured."""
    order = np.argsort(-np.asarray(kl), kind="stable")
    ordered = np.asarray(kl)[order]
    known = len(kinds) == len(kl)
    roles = [KINDS.get(kinds[index], "accent") if known else "accent" for index in order]
    figure, plot = axes()
    colours = [placeholder(role) for role in roles]
    plot.bar(np.arange(1, len(ordered) + 1), ordered, width=0.85, color=colours, linewidth=0)
    plot.set_xlim(0, len(ordered) + 1)
    label_axes(plot, "dimension, by size", "nats")
    svg = to_svg(figure, "manifold-kl", f"KL divergence of {len(ordered)} latent dimensions, sorted")
    active = int((ordered > ACTIVE).sum())
    counts = {f"{list(kinds).count(kind)} {kind}": role for kind, role in KINDS.items()} if known else {}
    return card("KL per dimension", svg + legend(counts), f"{active} of {len(ordered)} above {ACTIVE} nats")


def _prediction_card(health: Mapping[str, Any]) -> str:
    """The spectrum of tasks and the threshold above which a linear decoder keeps a direction; "" without one."""
    eigenvalues = _series(look_up(health, ("predicted", "eigenvalues")))
    threshold = look_up(health, ("predicted", "threshold"))
    if not eigenvalues or not is_number(threshold):
        return ""
    dim = len(health.get("kl_per_dimension", []))
    figure, plot = axes()
    place = np.arange(1, len(eigenvalues) + 1)
    values = np.maximum(np.asarray(eigenvalues), 1e-6)
    # the same scale whatever the latent's size, and no bars, which have no foot on a logarithmic axis
    plot.plot(place, values, color=placeholder("accent"), linewidth=1.8)
    plot.axhline(threshold, color=placeholder("bad"), linewidth=1.3, linestyle="--")
    plot.axvline(dim, color=placeholder("muted"), linewidth=1.3, linestyle=":")
    plot.set_yscale("log")
    plot.minorticks_off()
    plot.set_ylim(min(float(values.min()), threshold) / 2, float(values.max()) * 2)
    plot.set_xlim(0, len(eigenvalues) + 1)
    label_axes(plot, "direction of the tasks, by size", "eigenvalue")
    svg = to_svg(figure, "manifold-spectrum", "Eigenvalues of the tasks and the threshold of a linear decoder")
    marks = {"tasks": "accent", f"threshold {number(threshold)}": "bad", f"{dim} latents": "muted"}
    remark = f"predicted {number(health.get(PREDICTED))}, measured {number(health.get('active_dimensions'))}"
    return card("Active dimensions", svg + legend(marks), remark)


def _smoothness_card(health: Mapping[str, Any]) -> str:
    """Edits between the tasks of two points against their distance; "" if that was not measured."""
    steps, edits = (_series(look_up(health, ("smoothness", name))) for name in ("steps", "edits"))
    chance = look_up(health, ("smoothness", "chance"))
    if not steps or len(steps) != len(edits) or not is_number(chance):
        return ""
    figure, plot = axes()
    plot.plot(steps, edits, color=placeholder("accent"), linewidth=1.8, marker="o", markersize=4)
    plot.axhline(chance, color=placeholder("muted"), linewidth=1.3, linestyle="--")
    plot.set_xscale("log")
    plot.set_xticks(steps, [f"{100 * step:g}" for step in steps])
    plot.minorticks_off()
    plot.set_ylim(0, 1.08 * max(chance, *edits))
    label_axes(plot, "step in % of the box's diagonal", "edits")
    svg = to_svg(figure, "manifold-smoothness", "Edits between the tasks of two points by their distance")
    correlation = look_up(health, ("smoothness", "rank_correlation"))
    return card(
        "Smoothness",
        svg + legend({"points a step apart": "accent", "unrelated points": "muted"}),
        f"rank correlation {number(correlation)}",
    )


def _distribution_card(name: str, title: str, found: Histograms) -> str:
    """Shares over a property's values: `found` holds (values, shares) of each population."""
    figure, plot = axes()
    roles = dict(zip(found, ("muted", "accent", "method-1", "method-2"), strict=False))
    for index, (population, role) in enumerate(roles.items()):
        values, shares = found[population]
        colour = placeholder(role)
        plot.step(values, shares, where="mid", color=colour, linewidth=1.5)
        if index == 0:
            plot.fill_between(values, shares, step="mid", color=colour, alpha=0.15, linewidth=0)
    plot.set_ylim(bottom=0)
    taken = [value for values, shares in found.values() for value, share in zip(values, shares, strict=True) if share]
    step = next(values[1] for values, _ in found.values())
    plot.set_xlim(min(taken) - step, max(taken) + step)
    plot.xaxis.set_major_locator(MaxNLocator(6, integer=step == 1))
    label_axes(plot, title.lower(), "share")
    svg = to_svg(figure, name, f"Distribution of {title.lower()}: {', '.join(found)}")
    return card(title, svg + legend(roles))


def _distributions(series: Mapping[tuple[str, ...], list[float]], widths: Mapping[str, float]) -> dict[str, Histograms]:
    """Histograms of one property for several populations: those whose paths differ in the population alone."""
    found: dict[str, Histograms] = {}
    for path, counts in series.items():
        population = next((part for part in path if any(word in part for word in _POPULATIONS)), None)
        total = sum(counts)
        if population is None or len(counts) < 3 or min(counts) < 0 or total <= 0:
            continue
        parts = [part for part in path if part not in (population, "distributions")]
        name = _words(parts)
        values = [widths.get(parts[-1], 1.0) * place for place in range(len(counts))] if parts else []
        shares = [count / total for count in counts]
        found.setdefault(name, {})[population.replace("_", " ")] = (values, shares)
    return {name: populations for name, populations in found.items() if len(populations) > 1}


def manifold(health: Mapping[str, Any] | None, source: str) -> Panel:
    """Headline numbers, tables and charts of what was measured after pretraining.

    Args:
        health: nested plain values, as a manifold's `health()` gives; whatever is not there is not shown.
        source: the run, for the caption.
    """
    title = "Health of the task manifold"
    if not health:
        return Panel("manifold", title, note("Its health was not measured."), source)
    leaves = dict(_leaves(health))
    series = {path: found for path, value in leaves.items() if (found := _series(value))}
    widths = health.get(WIDTHS, {})
    numbers = {path: value for path, value in leaves.items() if is_number(value) and path[0] != WIDTHS}
    kl = next((found for path, found in series.items() if "kl" in path[-1].lower().split("_")), [])
    kinds = health.get("kinds", [])
    cards = [_kl_card(kl, kinds)] if kl else []
    cards += [each for each in (_prediction_card(health), _smoothness_card(health)) if each]
    for name, histograms in _distributions(series, widths).items():
        cards.append(_distribution_card(f"manifold-{len(cards)}", name[:1].upper() + name[1:], histograms))
    known = headlines(health)
    shown = {each.path for each, _ in known}
    rest = [(_title(path), _say(path, value)) for path, value in numbers.items() if path not in shown]
    most = 0 if known else MOST_HEADLINES
    facts = [(each.title[:1].upper() + each.title[1:], value, each.meaning) for each, value in known]
    body = headline_numbers(facts + [(name, value, "") for name, value in rest[:most]]) + grid(cards)
    if rest[most:]:
        table = facts_table(rest[most:])
        body += f"<details><summary>{len(rest[most:])} further measurements</summary>{table}</details>"
    caption = join_caption(
        "Measured after pretraining and before the curriculum, during which the manifold stays as it is.",
        "Recovery: encoded, decoded and compared with the original; "
        + (
            "tail: the last tokens of a task (a maze's goal and agent), set: the others (its obstacles)."
            if "tail_exact" in health["recovery"]
            else "set: the tokens of a task."
        )
        if "recovery" in health
        else "",
        "Histograms: the last value also counts all beyond it; data are sampled tasks, priors are decoded points."
        if "distributions" in health
        else "",
        "A dimension whose KL to the prior is near 0 carries nothing: the decoder ignores it." if kl else "",
        "Active: every task's posterior is much narrower than the prior; passive: it is the prior; mixed: neither."
        if kinds
        else "",
        "Smoothness: in how many cells and last tokens the tasks of two points differ; a step of 10 % moves each "
        + "dimension by about a tenth of its range."
        if "smoothness" in health
        else "",
        f"Split: tasks held out of pretraining; {source}.",
    )
    return Panel("manifold", title, body, caption)
