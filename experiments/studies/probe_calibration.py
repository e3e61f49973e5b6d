"""How often the checks of explanations pass what is right and what is wrong, on models whose truth is known.

    python -m clutr.experiments.studies.probe_calibration OUT.json [CASES]

Writes one JSON object and prints the table of `docs/probes.md`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from clutr.experiments.storage import write_atomically
from clutr.probes.calibration import PLANTED, causal_verdict, check_planted, known_rates
from clutr.probes.planted import PLANTED_VERDICTS

CASES = 100


def calibrate(cases: int = CASES) -> list[dict[str, Any]]:
    """The share of so many drawn cases that passed: of each check, model and map one row."""
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
    told = [known_rates(seed) for seed in range(cases)]
    for name in told[0]:
        rows.append(_row("known by the memory", name, name == "told", sum(each[name] for each in told), cases))
    for moves, name in ((True, "the dream moves by the speed"), (False, "the dream ignores the speed")):
        passed_here = sum(causal_verdict(seed, moves) for seed in range(cases))
        rows.append(_row("used by the dream", name, moves, passed_here, cases))
    for check, (verdicts, right_one) in PLANTED_VERDICTS.items():
        judged = [verdicts(seed) for seed in range(cases)]
        rows += [_row(check, case, case == right_one, sum(each[case] for each in judged), cases) for case in judged[0]]
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
    rows = calibrate(cases)
    command = f"python -m clutr.experiments.studies.probe_calibration {out.name} {cases}"
    write_atomically(out, json.dumps({"command": command, "rows": rows}, indent=1).encode() + b"\n")
    print(as_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
