"""How healthy a task manifold is: what it keeps of a task, which dimensions it uses, what its points look like."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.panels.drawing import axes, label_axes, placeholder, to_svg
from experiments.panels.page import Panel, join_caption
from experiments.panels.tiles import card, facts_table, grid, is_number, legend, note, number, percent, tiles

Histograms = dict[str, tuple[list[float], list[float]]]
"""(values, shares) of each population."""

ACTIVE = 0.1
"""A dimension with less KL than this, in nats, tells the decoder next to nothing."""

HEADLINES = 11

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


def _kl_card(kl: Sequence[float]) -> str:
    ordered = np.sort(np.asarray(kl))[::-1]
    figure, plot = axes()
    plot.bar(np.arange(1, len(ordered) + 1), ordered, width=0.85, color=placeholder("accent"), linewidth=0)
    plot.set_xlim(0, len(ordered) + 1)
    label_axes(plot, "dimension, by size", "nats")
    svg = to_svg(figure, "manifold-kl", f"KL divergence of {len(ordered)} latent dimensions, sorted")
    active = int((ordered > ACTIVE).sum())
    return card("KL per dimension", svg, f"{active} of {len(ordered)} above {ACTIVE} nats")


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
    """Tiles, tables and charts of what was measured after pretraining.

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
    cards = [_kl_card(kl)] if kl else []
    for name, histograms in _distributions(series, widths).items():
        cards.append(_distribution_card(f"manifold-{len(cards)}", name[:1].upper() + name[1:], histograms))
    headline = [(_title(path), _say(path, value), "") for path, value in numbers.items()][:HEADLINES]
    body = tiles(headline) + grid(cards)
    rest = [(_title(path), _say(path, value)) for path, value in numbers.items()][HEADLINES:]
    if rest:
        body += f"<details><summary>{len(rest)} further measurements</summary>{facts_table(rest)}</details>"
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
        f"Split: tasks held out of pretraining; {source}.",
    )
    return Panel("manifold", title, body, caption)
