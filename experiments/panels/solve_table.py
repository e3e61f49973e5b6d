"""Zero-shot results: the solve rate of every level, several methods side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.panels.drawing import css_colour, method_roles
from experiments.panels.page import Panel, join_caption
from experiments.panels.tiles import MISSING, is_number, note, number, percent, text
from experiments.statistics import proportion

Evaluation = Mapping[str, Any]
"""What `clutr eval --json` prints."""

SUMMARY_ROWS = {
    "mean_solved": "Mean over levels",
    "iqm_solved": "IQM over levels",
    "probability_of_improvement": "P(better than the first)",
}
"""What the summary of an evaluation holds, with an interval under the same name and `_interval`."""


def level_interval(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval that a row carries, else the 95 % Wilson interval of a share of its episodes."""
    if "interval" in row:
        low, high = row["interval"]
        return float(low), float(high)
    if not is_number(row["solved"]) or row["episodes"] < 1:
        return None
    interval = proportion(round(row["solved"] * row["episodes"]), row["episodes"])
    return interval.low, interval.high


def _bar(value: float, role: str) -> str:
    filled = f'<i style="width:{100 * min(max(value, 0.0), 1.0):.1f}%;background:{css_colour(role)}"></i>'
    return f'<span class="bar">{filled}</span>'


def _rate_cell(value: object, interval: tuple[float, float] | None, role: str, best: bool) -> str:
    if not is_number(value):
        return f'<td class="rate"><b>{MISSING}</b></td>'
    rate = float(value)  # type: ignore[arg-type]  # is_number has looked
    low_high = f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f}" if interval else ""
    return (
        f'<td class="rate{" best" * best}" style="background:color-mix(in srgb,{css_colour(role)} '
        + f'{14 * min(max(rate, 0.0), 1.0):.1f}%,transparent)"><b>{percent(rate)}</b><small>{low_high}</small>'
        + f"{_bar(rate, role)}</td>"
    )


def _level_rows(evaluations: Sequence[tuple[str, Evaluation]], roles: Mapping[str, str]) -> str:
    by_method = [(method, {row["level"]: row for row in result["levels"]}) for method, result in evaluations]
    rows = []
    for level in dict.fromkeys(name for _, levels in by_method for name in levels):
        found = [levels.get(level) for _, levels in by_method]
        rates = [row["solved"] for row in found if row is not None and is_number(row["solved"])]
        best = max(rates) if len(rates) > 1 and max(rates) > min(rates) else None
        cells = []
        for (method, _), row in zip(by_method, found, strict=True):
            if row is None:
                cells.append(_rate_cell(None, None, roles[method], False))
                continue
            cells.append(_rate_cell(row["solved"], level_interval(row), roles[method], row["solved"] == best))
        if len(by_method) == 1 and found[0] is not None:
            cells.append(f"<td>{_return_text(found[0])}</td><td>{number(found[0]['episodes'])}</td>")
        rows.append(f'<tr><th scope="row">{text(level)}</th>{"".join(cells)}</tr>')
    return "".join(rows)


def _return_text(row: Mapping[str, Any]) -> str:
    mean, spread = row.get("return_mean"), row.get("return_std")
    if not is_number(mean):
        return MISSING
    return f"{mean:.2f} ± {spread:.2f}" if is_number(spread) else f"{mean:.2f}"


def _summary_value(result: Evaluation, key: str) -> tuple[object, tuple[float, float] | None]:
    """A figure of the summary and its interval, as far as they are there; the mean needs no summary.

    Resampling episodes that all ended alike gives an interval without width, which says nothing: it is left out.
    """
    summary = result.get("summary") or {}
    low_high = summary.get(f"{key}_interval")
    interval = (float(low_high[0]), float(low_high[1])) if low_high and low_high[0] < low_high[1] else None
    if key == "mean_solved" and key not in summary:
        rates = [row["solved"] for row in result["levels"] if is_number(row["solved"])]
        return (sum(rates) / len(rates) if rates else None), None
    return summary.get(key), interval


def _summary_rows(evaluations: Sequence[tuple[str, Evaluation]], roles: Mapping[str, str]) -> str:
    rows = []
    for key, title in SUMMARY_ROWS.items():
        cells, found = [], False
        for method, result in evaluations:
            value, interval = _summary_value(result, key)
            found = found or is_number(value)
            cells.append(_rate_cell(value, interval, roles[method], False))
        if found:
            filler = "<td></td><td></td>" if len(evaluations) == 1 else ""
            rows.append(f'<tr><th scope="row">{text(title)}</th>{"".join(cells)}{filler}</tr>')
    return "".join(rows)


def suite_table(suite: str, evaluations: Sequence[tuple[str, Evaluation]]) -> str:
    """The table of one suite as HTML.

    Args:
        suite: its name.
        evaluations: (method, result), one column each.
    """
    roles = method_roles(method for method, _ in evaluations)
    heads = "".join(
        f'<th scope="col"><i class="swatch" style="background:{css_colour(roles[method])}"></i>{text(method)}</th>'
        for method, _ in evaluations
    )
    if len(evaluations) == 1:
        heads += '<th scope="col">return, mean ± s.d.</th><th scope="col">episodes</th>'
    return (
        f'<div class="suite"><h3>{text(suite)}</h3><div class="scroll"><table>'
        + f'<thead><tr><th scope="col">level</th>{heads}</tr></thead>'
        + f"<tbody>{_level_rows(evaluations, roles)}</tbody>"
        + f'<tbody class="total">{_summary_rows(evaluations, roles)}</tbody></table></div></div>'
    )


def _episode_counts(evaluations: Sequence[Evaluation]) -> str:
    counts = sorted({row["episodes"] for result in evaluations for row in result["levels"]})
    if not counts:
        return "no"
    return number(counts[0]) if len(counts) == 1 else f"{number(counts[0])} to {number(counts[-1])}"


def _uncertainty(result: Evaluation) -> str:
    """What an evaluation says of the intervals of its summary."""
    words = str((result.get("summary") or {}).get("uncertainty", ""))
    return f"Last rows: {words}" if words else ""


def solve_table(suites: Mapping[str, Sequence[tuple[str, Evaluation]]], source: str) -> Panel:
    """Zero-shot tables of one or more suites.

    Args:
        suites: by suite name, (method, evaluation) in the order of the columns.
        source: runs and seeds, for the caption.
    """
    suites = {suite: found for suite, found in suites.items() if found}
    title = "Zero-shot transfer"
    rows = [row for found in suites.values() for _, result in found for row in result["levels"]]
    if not suites:
        empty = note("This run has not been evaluated yet: `clutr eval` on it adds the table.")
        return Panel("transfer", title, empty, source)
    body = "".join(suite_table(suite, found) for suite, found in suites.items())
    episodes = "; ".join(
        f"{suite}: {_episode_counts([result for _, result in found])} episodes a level"
        for suite, found in suites.items()
    )
    caption = join_caption(
        "Share of episodes in which the goal was reached, on test levels that no student was trained on; small: 95 % "
        + "interval in per cent.",
        "A level's interval (Wilson) covers the chance in its episodes, not the chance in training: that takes several "
        + "seeds."
        if any("interval" not in row for row in rows)
        else "",
        "Underlined: the best of the row." if any(len(found) > 1 for found in suites.values()) else "",
        *dict.fromkeys(_uncertainty(result) for found in suites.values() for _, result in found),
        f"n = {episodes}; split: test; {source}.",
    )
    return Panel("transfer", title, body, caption)
