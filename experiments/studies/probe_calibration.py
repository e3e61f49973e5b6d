"""How often the checks of explanations pass what is right and what is wrong, on models whose truth is known.

    python -m clutr.experiments.studies.probe_calibration OUT.json [CASES [CHECK...]]

Writes one JSON object and prints the table of `docs/probes.md`. With names of checks only their rows are measured, and
take the place of those in the file.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clutr.experiments.storage import write_atomically
from clutr.probes.calibration import PLANTED, causal_verdict, check_planted, known_rates
from clutr.probes.planted import PLANTED_VERDICTS

CASES = 100


def _maps(cases: int) -> list[dict[str, Any]]:
    rows = []
    for model, draw in PLANTED.items():
        passed: dict[str, int] = {}
        right: dict[str, bool] = {}
        for seed in range(cases):
            planted = draw(seed)
            right |= {name: each.right for name, each in planted.maps.items()}
            for name, checks in check_planted(planted, seed).items():
                passed[name] = passed.get(name, 0) + checks.passed
        rows += [_row("map of relevance", f"{model}: {name}", right[name], passed[name], cases) for name in passed]
    return rows


def _dreams(seed: int) -> dict[str, bool]:
    cases = {"the dream moves by the speed": True, "the dream ignores the speed": False}
    return {name: causal_verdict(seed, moves) for name, moves in cases.items()}


VERDICTS: dict[str, tuple[Callable[[int], dict[str, bool]], str]] = {
    "known by the memory": (known_rates, "told"),
    "used by the dream": (_dreams, "the dream moves by the speed"),
    **PLANTED_VERDICTS,
}
"""Checks other than those of maps, each with what judges the cases of a seed, and the case that ought to pass."""


def calibrate(cases: int = CASES, checks: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The share of so many drawn cases that passed: of each check (or of those named), model and map one row."""
    rows = _maps(cases) if not checks or "map of relevance" in checks else []
    for check, (verdicts, right) in VERDICTS.items():
        if not checks or check in checks:
            judged = [verdicts(seed) for seed in range(cases)]
            rows += [_row(check, case, case == right, sum(each[case] for each in judged), cases) for case in judged[0]]
    return rows


def _row(check: str, case: str, right: bool, passed: int, cases: int) -> dict[str, Any]:
    return {"check": check, "case": case, "right": right, "passed": passed, "cases": cases}


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| check | case | ought to | passed |", "|---|---|---|---|"]
    for row in rows:
        ought = "pass" if row["right"] else "not pass"
        lines.append(f"| {row['check']} | {row['case']} | {ought} | {row['passed']} of {row['cases']} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Calibrate, keep the numbers and print the table."""
    out, cases = Path(arguments[0]), int(arguments[1]) if len(arguments) > 1 else CASES
    checks = arguments[2:]
    rows = calibrate(cases, checks)
    if checks:
        kept = json.loads(out.read_text())["rows"]
        rows = [row for row in kept if row["check"] not in checks] + rows
    command = f"python -m clutr.experiments.studies.probe_calibration {out.name} {cases}"
    write_atomically(out, json.dumps({"command": command, "rows": rows}, indent=1).encode() + b"\n")
    print(as_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
