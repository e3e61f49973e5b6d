"""Small parts of a page: numbers, legends, pictures. Everything that comes from outside is escaped here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from clutr.envs.domain import Metric
from clutr.experiments.plots.charts import css_colour
from clutr.experiments.plots.images import png_uri

MISSING = "\u2013"
"""What stands where a number was not measured."""


def text(value: object) -> str:
    """Any value as HTML text, also safe inside a quoted attribute."""
    return escape(str(value), quote=True)


def is_number(value: object) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(float(value))


def number(value: object, digits: int = 3) -> str:
    """A number with `digits` significant digits and thousands apart; a dash if there is none."""
    if not is_number(value):
        return MISSING
    exact = float(value)  # type: ignore[arg-type]  # is_number has looked
    if exact == int(exact) and abs(exact) < 1e15:
        return f"{int(exact):,}".replace(",", "\u202f")
    if abs(exact) >= 1000:
        return f"{exact:,.0f}".replace(",", "\u202f")
    if abs(exact) < 1e-3:
        return f"{exact:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(exact))))
    return f"{exact:.{decimals}f}"


def percent(value: object, digits: int = 0) -> str:
    """A fraction as a percentage."""
    return f"{100 * float(value):.{digits}f}\u202f%" if is_number(value) else MISSING  # type: ignore[arg-type]


def say(metric: Metric, value: object) -> str:
    """A solve rate as a percentage, a return as a whole number or, if it is small, with two decimals."""
    if metric == "solved" or not is_number(value):
        return percent(value)
    exact = float(value)  # type: ignore[arg-type]  # is_number has looked
    return number(round(exact)) if abs(exact) >= 10 else f"{exact:.2f}"


def duration(seconds: object) -> str:
    """Seconds as a person says them."""
    if not is_number(seconds):
        return MISSING
    total = round(float(seconds))  # type: ignore[arg-type]  # is_number has looked
    hours, minutes = total // 3600, total // 60 % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {total % 60:02d} s" if minutes else f"{total} s"


def headline_numbers(facts: Iterable[tuple[str, str, str]]) -> str:
    """Headline numbers in a row: (what, value, a remark or nothing)."""
    items = [
        f'<div class="headline"><dt>{text(what)}</dt><dd>{text(value)}'
        + (f"<small>{text(remark)}</small>" if remark else "")
        + "</dd></div>"
        for what, value, remark in facts
    ]
    return f'<dl class="headlines">{"".join(items)}</dl>' if items else ""


def legend(entries: Mapping[str, str]) -> str:
    """Names with the colour roles they are drawn in."""
    items = (f'<li><i style="background:{css_colour(role)}"></i>{text(name)}</li>' for name, role in entries.items())
    return f'<ul class="legend">{"".join(items)}</ul>' if entries else ""


def colour_scale(low: str, colours: Sequence[str], high: str) -> str:
    """Colours as a bar between what its ends stand for."""
    gradient = f"linear-gradient(90deg,{','.join(colours)})"
    return f'<div class="scale">{text(low)}<i style="background:{gradient}"></i>{text(high)}</div>'


def card(title: str, body: str, remark: str = "") -> str:
    """A titled box in a grid; `body` is HTML."""
    aside = f"<span>{text(remark)}</span>" if remark else ""
    return f'<div class="card"><h3>{text(title)}{aside}</h3>{body}</div>'


def grid(cards: Sequence[str]) -> str:
    """Cards side by side, as many as fit."""
    return f'<div class="grid">{"".join(cards)}</div>'


def picture(image: np.ndarray[Any, Any], alternative: str, caption: str = "") -> str:
    """A picture `[H, W, 3]` uint8; `caption` is HTML."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    source = png_uri(image)
    return f'<figure class="picture"><img src="{source}" alt="{text(alternative)}" loading="lazy">{below}</figure>'


def wide_picture(image: np.ndarray[Any, Any], alternative: str) -> str:
    """A picture `[H, W, 3]` uint8 as wide as its box."""
    style = "width:100%;image-rendering:pixelated;border-radius:3px"
    return f'<img src="{png_uri(image)}" alt="{text(alternative)}" style="{style}" loading="lazy">'


def facts_table(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    rows = (f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in facts)
    return f'<div class="scroll"><table class="facts">{"".join(rows)}</table></div>'


def note(message: str) -> str:
    """A sentence where a picture would be, when there is nothing to draw."""
    return f'<p class="note">{text(message)}</p>'


def verdict(passed: bool, words: str) -> str:
    """What was compared, marked only where a check was passed: a number below a limit is no fault of the model."""
    return f'<b class="solved">passed</b> <small>{text(words)}</small>' if passed else f"<small>{text(words)}</small>"


def with_interval(told: Sequence[float] | None) -> str:
    """A number and its 95 % interval, [value, low, high], or a dash."""
    if told is None:
        return MISSING
    value, low, high = (two_decimals(each) for each in told)
    return f"{value} <small>{low} to {high}</small>"


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


def left_aligned(cell: str) -> str:
    """A cell of words, which run from the left."""
    return f'<div style="text-align:left;white-space:normal">{cell}</div>'


def heading(words: str) -> str:
    """A small heading between the parts of a panel."""
    return f'<h4 style="margin-top:22px">{text(words)}</h4>'


def two_decimals(value: object) -> str:
    """A number with two decimals, or a dash; above 10 it does not matter how much."""
    if not is_number(value):
        return MISSING
    exact = float(value)  # type: ignore[arg-type]  # is_number has looked
    return "> 10" if exact > 10 else f"{exact:.2f}"
