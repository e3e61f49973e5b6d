"""Evaluations as tables for the terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from clutr.envs.domain import Metric
from clutr.experiments.display import sign
from clutr.experiments.evaluation.compare import Comparison, metric_name, metric_of
from clutr.experiments.evaluation.statistics import Interval

FORMATS: dict[Metric, Callable[[float], str]] = {
    "solved": lambda fraction: f"{fraction:.1%}",
    "return": lambda value: f"{value:,.0f}",
}


def evaluation_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Solve rates or returns level by level, one column a method; the last rows are means and interquartile means."""
    first = next(iter(results.values()))
    metric = metric_of(first)
    say = FORMATS[metric]
    table = Table(title=f"{metric_name(metric)} on {first['suite']}, zero-shot", title_justify="left")
    table.add_column("level")
    for name in results:
        table.add_column(escape(name), justify="right")
    for index, level in enumerate(first["levels"]):
        table.add_row(level["level"], *(_level_cell(result["levels"][index], metric) for result in results.values()))
    table.add_section()
    for name, key in (("mean", f"mean_{metric}"), ("IQM", f"iqm_{metric}")):
        cells = []
        for result in results.values():
            low, high = result["summary"][f"{key}_interval"]
            cells.append(f"{say(result['summary'][key])} [{say(low)}, {say(high)}]")
        table.add_row(name, *cells, style="bold")
    if metric == "return":
        table.add_row("solved", *(f"{result['summary']['mean_solved']:.1%}" for result in results.values()))
    remark = f"{_plus_minus()} standard deviation of the episodes. " if metric == "return" else ""
    table.caption = f"{first['levels'][0]['episodes']} episodes a level. {remark}{first['summary']['uncertainty']}"
    return table


def _plus_minus() -> str:
    return sign("±", "+-")


def _level_cell(row: Mapping[str, Any], metric: Metric) -> str:
    if metric == "solved":
        return f"{row['solved']:.0%}"
    return f"{row['return_mean']:.0f} {_plus_minus()} {row['return_std']:.0f}"


def cvar_table(means: Mapping[str, Mapping[str, Any]]) -> Table:
    """Solve rates on all random solvable levels and on the worst of them, one row a method."""
    fractions = next(iter(means.values()))["worst"]
    table = Table(title="solve rate on random solvable levels", title_justify="left")
    for name in ("method", "levels", "all", *(f"worst {100 * float(fraction):g}%" for fraction in fractions)):
        table.add_column(name, justify="left" if name == "method" else "right")
    for method, found in means.items():
        rates = [found["mean"], *(found["worst"][fraction] for fraction in fractions)]
        table.add_row(escape(method), f"{found['levels']:,}", *(f"{rate:.1%}" for rate in rates))
    return table


def comparison_table(comparison: Comparison) -> Table:
    """A text table: one column a method, solve rates in per cent or returns, with their intervals."""
    returns = comparison.metric == "return"
    name, say = ("Mean return", _number) if returns else ("Solve rate", _percent)
    result = Table(
        title=f"{name} on {escape(comparison.suite)}{'' if returns else ' (%)'}, "
        + f"{comparison.episodes} episodes a level and run",
        caption=escape(f"Evaluated {comparison.evaluated}. {comparison.uncertainty}"),
        caption_justify="left",
    )
    result.add_column("level")
    for method in comparison.methods:
        count = len(method.runs)
        result.add_column(f"{escape(method.method)}\n{count} run{'s' if count > 1 else ''}", justify="right")
    methods = comparison.methods
    for level in methods[0].levels:
        result.add_row(escape(level), *(say(method.levels[level]) for method in methods))
    result.add_section()
    result.add_row("mean", *(say(method.mean) for method in methods))
    result.add_row("median", *(say(method.median) for method in methods))
    result.add_row("interquartile mean", *(say(method.iqm) for method in methods))
    gaps = [method.optimality_gap for method in methods]
    if any(gaps):
        result.add_row("optimality gap", *(say(gap) if gap else "-" for gap in gaps))
    if len(methods) > 1:
        better = [_percent(method.improvement) if method.improvement else "-" for method in methods]
        result.add_row(f"P(better than {escape(comparison.baseline)}){' (%)' if returns else ''}", *better)
    if returns:
        result.add_row("solved (%)", *(f"{100 * method.mean_solved:.1f}" for method in methods))
    else:
        result.add_row("mean return", *(f"{method.mean_return:.3f}" for method in methods))
    return result


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} [{_ends(interval, lambda share: f'{100 * share:.1f}')}]"


def _number(interval: Interval) -> str:
    if interval.low == interval.high:
        return f"{interval.value:,.0f} [all alike]"
    return f"{interval.value:,.0f} [{_ends(interval, lambda value: f'{value:,.0f}')}]"


def _ends(interval: Interval, say: Callable[[float], str]) -> str:
    if interval.one_sided:
        return f">= {say(interval.low)}" if interval.high == 1 else f"<= {say(interval.high)}"
    return f"{say(interval.low)}, {say(interval.high)}"
