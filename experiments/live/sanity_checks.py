"""Whether an explanation may be believed: what `clutr world probe` found out about it."""

import json
import re
from pathlib import Path
from typing import Any


def sanity_check_of(run: Path, method: str, target: str) -> str:
    """A few words: passed or failed, or how to find out.

    Args:
        run: the world model's directory.
        method: of the explanation.
        target: as the page calls it. A quantity of the present is not what the report asks for; the same quantity some
            steps ahead is, so its sanity check is told with the target that it was found for.
    """
    try:
        found = json.loads((run / "probes" / "attribution.json").read_text())
        rows = [row for row in found["rows"] if row["of"] == "pixels" and row["method"] == method]
        return next(
            (_words(row, target) for row in rows if _is_of(row["target"], target)), "not checked for this target"
        )
    except FileNotFoundError:
        return "not checked (`clutr world probe` does it)"
    except (ValueError, KeyError, TypeError):
        return "not checked: probes/attribution.json cannot be read"


def _is_of(reported: str, target: str) -> bool:
    """Whether the report's target is the page's: the reward, the change of latent 3, speed in 10 steps (R^2 0.81)."""
    names = (f"the {target}", f"the change of {target}")
    when = rf"{re.escape(target)} (now|in \d+ steps)( \(R\^2 .+\))?"
    return reported in names or re.fullmatch(when, reported) is not None


def _words(row: dict[str, Any], target: str) -> str:
    asked = "" if row["target"] in (f"the {target}", f"the change of {target}") else f"for {row['target']} it "
    return f"{asked}{'passed' if row['passed'] else 'did not pass'} its checks: {row['why']} (n = {row['predictions']})"
