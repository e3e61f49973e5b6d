"""The headline numbers of a manifold's health, and what each of them means in a sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from clutr.experiments.plots.html import is_number, number, percent

MEANINGS = {"collapsed": "whether so few latents are active that most of the box's directions change nothing"}
"""Of numbers that are no headlines."""
PREDICTED = "predicted_active_dimensions"


@dataclass(frozen=True)
class Headline:
    """One number of a health."""

    path: tuple[str, ...]
    """Where it is."""
    title: str
    meaning: str
    """A sentence without its full stop."""


_SHARES = (
    Headline(("recovery", "task_exact"), "task exact", "held-out tasks that encoding and decoding leave as they were"),
    Headline(("recovery", "tail_exact"), "tail exact", "held-out tasks whose last tokens (goal, agent) came back"),
    Headline(("recovery", "set_recall"), "set recall", "obstacles or control points that came back"),
    Headline(("recovery", "set_precision"), "set precision", "what came back that belongs there"),
    Headline(("prior_uniform", "validity"), "validity", "random points of the box that decode without any repair"),
    Headline(("prior_uniform", "unique"), "uniqueness", "different levels among those of random points"),
    Headline(("prior_uniform", "novelty"), "novelty", "levels of random points that are no training tasks"),
    Headline(("prior_uniform", "coverage"), "coverage", "kinds of held-out tasks that random points reach"),
    Headline(("data", "coverage"), "coverage of data", "the same for as many fresh tasks: the most to hope for"),
    Headline(("prior_uniform", "hole_rate"), "hole rate", "random points that are no likely code of their own level"),
)

_NUMBERS = (
    Headline(("prior_uniform", "agreement"), "agreement", "points and the codes of their levels: 1 the same, 0 chance"),
    Headline(("smoothness", "rank_correlation"), "smoothness", "rank correlation of distance and edits: 1 is smooth"),
    Headline(("active_dimensions",), "active dimensions", "latents whose mean varies with the task (Burda et al.)"),
    Headline((PREDICTED,), "predicted active", "latents that a linear decoder of the same tasks would use"),
    Headline(("variables", "active"), "active variables", "latents that are well known for every task"),
    Headline(("variables", "mixed"), "mixed variables", "latents in between: known a little, or for some tasks only"),
    Headline(("variables", "passive"), "passive variables", "latents that tell nothing: steps along them do nothing"),
    Headline(("latent_use_gap",), "latent-use gap", "nats that a task costs more with another task's latent"),
    Headline(("reconstruction",), "reconstruction", "nats that a task costs the decoder that knows its latent"),
    Headline(("kl",), "KL", "nats that the latent tells of a task"),
    Headline(("code_length",), "code length", "nats that a held-out task costs; of exact coders, less is better"),
)

HEADLINES = _SHARES + _NUMBERS


def look_up(health: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """What is at a path of nested mappings; None if it leads nowhere."""
    found: Any = health
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def headlines(health: Mapping[str, Any]) -> list[tuple[Headline, str]]:
    """The headline numbers that were measured, with what to say."""
    found = [(headline, look_up(health, headline.path)) for headline in HEADLINES]
    return [
        (each, percent(value, 1) if each in _SHARES else number(value)) for each, value in found if is_number(value)
    ]


def health_table(health: dict[str, Any]) -> Table:
    """The headline numbers of a manifold's health with a sentence each; all others are left to the report.

    Plain numbers that are no known headline, such as those of somebody else's manifold, follow without a word.
    """
    table = Table(title="health of the task manifold", title_justify="left")
    for name in ("what", "value", "meaning"):
        table.add_column(name, justify="right" if name == "value" else "left", no_wrap=name != "meaning")
    known = headlines(health)
    for headline, value in known:
        table.add_row(headline.title, value, headline.meaning)
    shown = {headline.path for headline, _ in known}
    for name, value in health.items():
        if (name,) not in shown and isinstance(value, bool | int | float | str):
            said = f"{value:.4g}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), said, MEANINGS.get(name, ""))
    return table
