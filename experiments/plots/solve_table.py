"""Zero-shot results: the solve rate or mean return of every level, several methods side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clutr.envs.domain import Metric
from clutr.experiments.evaluation.compare import metric_of
from clutr.experiments.evaluation.statistics import proportion
from clutr.experiments.evaluation_files import EvaluationJson
from clutr.experiments.plots.charts import css_colour, method_roles
from clutr.experiments.plots.html import MISSING, is_number, note, number, percent, say, text
from clutr.experiments.plots.page import Panel, join_caption

Evaluation = EvaluationJson

_LEVEL_KEYS: dict[Metric, str] = {"solved": "solved", "return": "return_mean"}
"""Where a level's row has its figure."""


def summary_rows(metric: Metric) -> dict[str, tuple[str, Metric]]:
    """Title and kind of what the summary holds, with an interval under the same name and `_interval`."""
    rows: dict[str, tuple[str, Metric]] = {
        f"mean_{metric}": ("Mean over levels", metric),
        f"iqm_{metric}": ("IQM over levels", metric),
        "probability_of_improvement": ("P(better than the first)", "solved"),
    }
    return rows | ({"mean_solved": ("Solved, mean over levels", "solved")} if metric == "return" else {})


def level_interval(row: Mapping[str, Any], metric: Metric = "solved") -> tuple[float, float] | None:
    """The interval that a row carries, else that of its episodes: 95 %, of a share or Student's of a mean."""
    if "interval" in row:
        low, high = row["interval"]
        return float(low), float(high)
    if not is_number(row[_LEVEL_KEYS[metric]]) or row["episodes"] < 1:
        return None
    if metric == "solved":
        interval = proportion(round(row["solved"] * row["episodes"]), row["episodes"])
        return interval.low, interval.high
    if row["episodes"] < 2 or not is_number(row.get("return_std")):
        return None
    from scipy import stats  # noqa: PLC0415  # takes half a second

    width = stats.t.ppf(0.975, row["episodes"] - 1) * row["return_std"] / math.sqrt(row["episodes"])
    return row["return_mean"] - width, row["return_mean"] + width


def _bar(share: float, role: str) -> str:
    filled = f'<i style="width:{100 * share:.1f}%;background:{css_colour(role)}"></i>'
    return f'<span class="bar">{filled}</span>'


def _cell(
    value: object,
    interval: tuple[float, float] | None,
    role: str,
    metric: Metric,
    full: float = 1.0,
    best: bool = False,
) -> str:
    """One figure with its interval and a bar, which is full at the value `full`."""
    if not is_number(value):
        return f'<td class="rate"><b>{MISSING}</b></td>'
    share = min(max(float(value) / full, 0.0), 1.0)  # type: ignore[arg-type]  # is_number has looked
    low_high = ""
    if interval:
        low, high = (f"{100 * end:.0f}" if metric == "solved" else say(metric, end) for end in interval)
        low_high = f"{low} to {high}"
    tint = f"background:color-mix(in srgb,{css_colour(role)} {14 * share:.1f}%,transparent)"
    return (
        f'<td class="rate{" best" * best}" style="{tint}"><b>{say(metric, value)}</b><small>{low_high}</small>'
        + f"{_bar(share, role)}</td>"
    )


def _full_bar(evaluations: Sequence[tuple[str, Evaluation]], metric: Metric) -> float:
    """The value whose bar is full: all episodes solved, or the greatest return of the table."""
    if metric == "solved":
        return 1.0
    values = [row[_LEVEL_KEYS[metric]] for _, result in evaluations for row in result["levels"]]
    return max([float(value) for value in values if is_number(value) and value > 0], default=1.0)


def _level_rows(
    evaluations: Sequence[tuple[str, Evaluation]], roles: Mapping[str, str], metric: Metric, full: float
) -> str:
    key = _LEVEL_KEYS[metric]
    by_method = [(method, {row["level"]: row for row in result["levels"]}) for method, result in evaluations]
    rows = []
    for level in dict.fromkeys(name for _, levels in by_method for name in levels):
        found = [levels.get(level) for _, levels in by_method]
        best = _clear_best([row for row in found if row is not None and is_number(row[key])], metric)
        cells = []
        for (method, _), row in zip(by_method, found, strict=True):
            if row is None:
                cells.append(_cell(None, None, roles[method], metric))
                continue
            interval = level_interval(row, metric)
            cells.append(_cell(row[key], interval, roles[method], metric, full, row is best))
        if len(by_method) == 1 and found[0] is not None:
            cells.append(f"<td>{_other_metric(found[0], metric)}</td><td>{number(found[0]['episodes'])}</td>")
        rows.append(f'<tr><th scope="row">{text(level)}</th>{"".join(cells)}</tr>')
    return "".join(rows)


def _clear_best(rows: Sequence[Mapping[str, Any]], metric: Metric) -> Mapping[str, Any] | None:
    """The row whose interval lies above those of all others, if there is one."""
    intervals = [level_interval(row, metric) for row in rows]
    for index, mine in enumerate(intervals):
        others = intervals[:index] + intervals[index + 1 :]
        if mine and others and all(other is not None and mine[0] > other[1] for other in others):
            return rows[index]
    return None


def _other_metric(row: Mapping[str, Any], metric: Metric) -> str:
    """What else is known of a level: the return beside a solve rate, the solve rate beside a return."""
    if metric == "return":
        return percent(row.get("solved"))
    mean, spread = row.get("return_mean"), row.get("return_std")
    if not is_number(mean):
        return MISSING
    return f"{mean:.2f} ± {spread:.2f}" if is_number(spread) else f"{mean:.2f}"


def _summary_value(result: Evaluation, key: str, metric: Metric) -> tuple[object, tuple[float, float] | None]:
    """A figure of the summary and its interval, as far as they are there; the mean needs no summary.

    Resampling episodes that all ended alike gives an interval without width, which says nothing: it is left out.
    """
    summary = result.get("summary") or {}
    low_high = summary.get(f"{key}_interval")
    interval = (float(low_high[0]), float(low_high[1])) if low_high and low_high[0] < low_high[1] else None
    if key == f"mean_{metric}" and key not in summary:
        column = _LEVEL_KEYS[metric]
        values = [row[column] for row in result["levels"] if is_number(row[column])]
        return (sum(values) / len(values) if values else None), None
    return summary.get(key), interval


def _summary_rows(
    evaluations: Sequence[tuple[str, Evaluation]], roles: Mapping[str, str], metric: Metric, full: float
) -> str:
    rows = []
    for key, (title, kind) in summary_rows(metric).items():
        cells, found = [], False
        for method, result in evaluations:
            value, interval = _summary_value(result, key, metric)
            found = found or is_number(value)
            cells.append(_cell(value, interval, roles[method], kind, full if kind == metric else 1.0))
        if found:
            filler = "<td></td><td></td>" if len(evaluations) == 1 else ""
            rows.append(f'<tr><th scope="row">{text(title)}</th>{"".join(cells)}{filler}</tr>')
    return "".join(rows)


def suite_table(suite: str, evaluations: Sequence[tuple[str, Evaluation]], remarks: Sequence[str] = ()) -> str:
    """The table of one suite as HTML.

    Args:
        suite: its name.
        evaluations: (method, result), one column each.
        remarks: sentences below it.
    """
    roles = method_roles(method for method, _ in evaluations)
    metric = metric_of(evaluations[0][1])
    full = _full_bar(evaluations, metric)
    heads = "".join(
        f'<th scope="col"><i class="swatch" style="background:{css_colour(roles[method])}"></i>{text(method)}</th>'
        for method, _ in evaluations
    )
    if len(evaluations) == 1:
        other = "return, mean ± s.d." if metric == "solved" else "solved"
        heads += f'<th scope="col">{other}</th><th scope="col">episodes</th>'
    remark = "<span>mean return</span>" if metric == "return" else ""
    return (
        f'<div class="suite"><h3>{text(suite)}{remark}</h3><div class="scroll"><table>'
        + f'<thead><tr><th scope="col">level</th>{heads}</tr></thead>'
        + f"<tbody>{_level_rows(evaluations, roles, metric, full)}</tbody>"
        + f'<tbody class="total">{_summary_rows(evaluations, roles, metric, full)}</tbody></table></div>'
        + f"{''.join(note(remark) for remark in remarks)}</div>"
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


def _what_is_shown(suites: Mapping[str, Sequence[tuple[str, Evaluation]]]) -> str:
    shown = {
        "solved": "share of episodes in which the goal was reached",
        "return": "mean undiscounted return of the episodes, and in how many the goal was reached (solved)",
    }
    suite_metrics = dict.fromkeys(metric_of(found[0][1]) for found in suites.values())
    words = "; or ".join(shown[metric] for metric in suite_metrics)
    return f"{words[0].upper()}{words[1:]}, on test levels that no student was trained on; small: 95 % interval" + (
        " in per cent." if list(suite_metrics) == ["solved"] else "."
    )


def _level_intervals(suites: Mapping[str, Sequence[tuple[str, Evaluation]]]) -> str:
    """What the levels' intervals are, where they were made from episodes."""
    suite_metrics = {
        metric_of(found[0][1])
        for found in suites.values()
        if any("interval" not in row for _, result in found for row in result["levels"])
    }
    kinds = [
        words
        for metric, words in (("solved", "Wilson, where all agree Clopper-Pearson, one-sided"), ("return", "Student"))
        if metric in suite_metrics
    ]
    if not kinds:
        return ""
    return (
        f"A level's interval ({', '.join(kinds)}) covers the chance in its episodes, not the chance in training: that "
        + "takes several seeds."
    )


def solve_table(
    suites: Mapping[str, Sequence[tuple[str, Evaluation]]],
    source: str,
    remarks: Mapping[str, Sequence[str]] | None = None,
) -> Panel:
    """Zero-shot tables of one or more suites.

    Args:
        suites: by suite name, (method, evaluation) in the order of the columns.
        source: runs and seeds, for the caption.
        remarks: sentences below each suite's table.
    """
    suites = {suite: found for suite, found in suites.items() if found}
    title = "Zero-shot transfer"
    if not suites:
        empty = note("This run has not been evaluated yet: `clutr eval` on it adds the table.")
        return Panel("transfer", title, empty, source)
    body = "".join(suite_table(suite, found, (remarks or {}).get(suite, ())) for suite, found in suites.items())
    episodes = "; ".join(
        f"{suite}: {_episode_counts([result for _, result in found])} episodes a level"
        for suite, found in suites.items()
    )
    caption = join_caption(
        _what_is_shown(suites),
        _level_intervals(suites),
        "Underlined: above all others of the row, beyond the intervals." if 'class="rate best"' in body else "",
        *dict.fromkeys(_uncertainty(result) for found in suites.values() for _, result in found),
        f"n = {episodes}; split: test; {source}.",
    )
    return Panel("transfer", title, body, caption)
