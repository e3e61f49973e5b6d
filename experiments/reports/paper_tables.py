"""A comparison as a table for papers: LaTeX, Markdown and CSV."""

import csv
import io
import re

from clutr.experiments.evaluation.compare import Comparison, MethodResult, metric_name
from clutr.experiments.evaluation.statistics import Interval

Rows = list[tuple[str, list[Interval | None]]]

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def table_rows(comparison: Comparison) -> Rows:
    """Levels, then aggregates, then the probability of improvement: a name, and an interval of each method."""
    methods = comparison.methods
    rows: Rows = [(level, [method.levels[level] for method in methods]) for level in methods[0].levels]

    def add(name: str, found: list[Interval | None]) -> None:
        if any(each is not None for each in found):
            rows.append((name, found))

    add("mean", [method.mean for method in methods])
    add("median", [method.median for method in methods])
    add("IQM", [method.iqm for method in methods])
    add("optimality gap", [method.optimality_gap for method in methods])
    add(f"P(better than {comparison.baseline})", [method.improvement for method in methods])
    return rows


def as_csv(comparison: Comparison) -> str:
    """A line for each row and method: `row, method, value, low, high, one_sided`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "method", "value", "low", "high", "one_sided"])
    for name, found in table_rows(comparison):
        for method, interval in zip(comparison.methods, found, strict=True):
            if interval is not None:
                numbers = [f"{number:.6g}" for number in (interval.value, interval.low, interval.high)]
                writer.writerow([name, method.method, *numbers, str(interval.one_sided).lower()])
    return text.getvalue()


def as_markdown(comparison: Comparison, command: str) -> str:
    """A table, with the sentence that says what its intervals are, and the command."""
    lines = [[metric_name(comparison.metric), *map(_head, comparison.methods)]]
    lines.append(["---", *["---:"] * len(comparison.methods)])
    lines += [[name, *(_cell(each, comparison) for each in found)] for name, found in table_rows(comparison)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    return f"{table}\n\n{caption(comparison)}\n\nMade by `{command}`.\n"


def as_latex(comparison: Comparison, command: str) -> str:
    """A `tabular` for the package booktabs, with caption and command as comments."""
    rows = [[metric_name(comparison.metric), *map(_head, comparison.methods)]]
    body = [[name, *(_cell(each, comparison) for each in found)] for name, found in table_rows(comparison)]
    levels = len(comparison.methods[0].levels)
    line = [f"  {' & '.join(map(escape, row))} \\\\" for row in [*rows, *body]]
    parts = [
        f"% {command}",
        *(f"% {sentence}" for sentence in caption(comparison).split("\n")),
        f"\\begin{{tabular}}{{l{'r' * len(comparison.methods)}}}",
        "  \\toprule",
        line[0],
        "  \\midrule",
        *line[1 : 1 + levels],
        "  \\midrule",
        *line[1 + levels :],
        "  \\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(parts) + "\n"


def caption(comparison: Comparison) -> str:
    """Suite, what was played and what the intervals are, in sentences."""
    return (
        f"Suite {comparison.suite}, {comparison.episodes} episodes a level of each run, {comparison.evaluated}. "
        + f"In brackets: {comparison.uncertainty}"
    )


def escape(text: str) -> str:
    """Text as LaTeX shows it."""
    plain = re.sub(r"[\\~^]", lambda found: _LATEX[found[0]], text)
    return re.sub(r"(?<!\\)[&%$#_]", lambda found: "\\" + found[0], plain)


def _head(method: MethodResult) -> str:
    runs = len(method.runs)
    return f"{method.method} (n = {runs})"


def _cell(interval: Interval | None, comparison: Comparison) -> str:
    if interval is None:
        return "-"
    shares = comparison.metric == "solved" or (0 <= interval.low <= interval.high <= 1)
    value, low, high = (
        f"{100 * number:.1f}" if shares else f"{number:,.1f}"
        for number in (interval.value, interval.low, interval.high)
    )
    return f"{value} [{low}, {high}]"
