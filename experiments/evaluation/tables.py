"""Evaluations as tables for the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from clutr.envs.domain import Metric
from clutr.experiments.display import Fitted, sign
from clutr.experiments.evaluation.compare import Comparison, metric_name, metric_of
from clutr.experiments.evaluation.statistics import Interval

FORMATS: dict[Metric, Callable[[float], str]] = {
    "solved": lambda fraction: f"{fraction:.1%}",
    "return": lambda value: f"{value:,.0f}",
}


def evaluation_table(results: Mapping[str, Mapping[str, Any]]) -> Fitted:
    """Solve rates or returns level by level, one column a method; the last rows are means and interquartile means."""
    first = next(iter(results.values()))
    metric = metric_of(first)
    say = FORMATS[metric]

    def make(names: Sequence[str], narrow: bool, last: bool) -> Table:
        shown, between = [results[name] for name in names], "\n" if narrow else " "
        table = Table(title=f"{metric_name(metric)} on {first['suite']}, zero-shot", title_justify="left")
        table.caption_justify = "left"
        table.add_column("level", no_wrap=True)
        for name in names:
            table.add_column(escape(name), justify="right", no_wrap=True)
        for index, level in enumerate(first["levels"]):
            table.add_row(level["level"], *(_level_cell(result["levels"][index], metric) for result in shown))
        table.add_section()
        for name, key in (("mean", f"mean_{metric}"), ("IQM", f"iqm_{metric}")):
            cells = []
            for result in shown:
                low, high = result["summary"][f"{key}_interval"]
                cells.append(f"{say(result['summary'][key])}{between}[{say(low)}, {say(high)}]")
            table.add_row(name, *cells, style="bold")
        if metric == "return":
            table.add_row("solved", *(f"{result['summary']['mean_solved']:.1%}" for result in shown))
        if last:
            remark = f"{_plus_minus()} standard deviation of the episodes. " if metric == "return" else ""
            episodes = first["levels"][0]["episodes"]
            table.caption = f"{episodes} episodes a level. {remark}{first['summary']['uncertainty']}"
        return table

    return Fitted(list(results), make)


def _plus_minus() -> str:
    return sign("±", "+-")


def _level_cell(row: Mapping[str, Any], metric: Metric) -> str:
    if metric == "solved":
        return f"{row['solved']:.0%}"
    return f"{row['return_mean']:.0f} {_plus_minus()} {row['return_std']:.0f}"


def cvar_table(means: Mapping[str, Mapping[str, Any]]) -> Fitted:
    """Solve rates on all random solvable levels and on the worst of them, one row a method."""

    def make(columns: Sequence[str], _narrow: bool, _last: bool) -> Table:
        table = Table(title="solve rate on random solvable levels", title_justify="left")
        table.add_column("method", no_wrap=True)
        for name in columns:
            table.add_column(name, justify="right", no_wrap=True)
        for method, found in means.items():
            rates = {"all": found["mean"]} | {_worst(fraction): rate for fraction, rate in found["worst"].items()}
            cells = {"levels": f"{found['levels']:,}"} | {name: f"{rate:.1%}" for name, rate in rates.items()}
            table.add_row(escape(method), *(cells[name] for name in columns))
        return table

    fractions = next(iter(means.values()))["worst"]
    return Fitted(["levels", "all", *map(_worst, fractions)], make)


def _worst(fraction: str) -> str:
    return f"worst {100 * float(fraction):g}%"


def comparison_table(comparison: Comparison) -> Fitted:
    """A text table: one column a method, solve rates in per cent or returns, with their intervals."""
    returns, several = comparison.metric == "return", len(comparison.methods) > 1
    name, spell = ("Mean return", _number) if returns else ("Solve rate", _percent)
    title = f"{name} on {escape(comparison.suite)}{'' if returns else ' (%)'}, "
    title += f"{comparison.episodes} episodes a level and run"

    def make(names: Sequence[str], narrow: bool, last: bool) -> Table:
        def cell(interval: Interval, spell: Callable[[Interval], str] = spell) -> str:
            return spell(interval).replace(" [", "\n[") if narrow else spell(interval)

        methods = [method for method in comparison.methods if method.method in names]
        result = Table(title=title, caption_justify="left")
        result.add_column("level", no_wrap=True)
        for method in methods:
            count = len(method.runs)
            head = f"{escape(method.method)}\n{count} run{'s' if count > 1 else ''}"
            result.add_column(head, justify="right", no_wrap=True)
        for level in methods[0].levels:
            result.add_row(escape(level), *(cell(method.levels[level]) for method in methods))
        result.add_section()
        result.add_row("mean", *(cell(method.mean) for method in methods))
        result.add_row("median", *(cell(method.median) for method in methods))
        result.add_row("interquartile mean", *(cell(method.iqm) for method in methods))
        gaps = [method.optimality_gap for method in methods]
        if any(gaps):
            result.add_row("optimality gap", *(cell(gap) if gap else "-" for gap in gaps))
        if several:
            better = [cell(method.improvement, _percent) if method.improvement else "-" for method in methods]
            words = f"P(better than {escape(comparison.baseline)}){' (%)' if returns else ''}"
            result.add_row(words.replace(" than ", " than\n") if narrow else words, *better)
        if returns:
            result.add_row("solved (%)", *(f"{100 * method.mean_solved:.1f}" for method in methods))
        else:
            result.add_row("mean return", *(f"{method.mean_return:.3f}" for method in methods))
        if last:
            result.caption = escape(f"Evaluated {comparison.evaluated}. {comparison.uncertainty}")
        return result

    return Fitted([method.method for method in comparison.methods], make)


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
