"""Whether an explanation may be believed: what `clutr world probe` found out about it."""

import json
from pathlib import Path
from typing import Any


def verdict_of(run: Path, method: str, target: str) -> str:
    """A few words: passed or failed, or how to find out."""
    path = run / "probes" / "pixels.json"
    if not path.exists():
        return "not checked (`clutr world probe` does it)"
    found: Any = json.loads(path.read_text())
    verdict = found.get(target, {}).get(method) if isinstance(found, dict) else None
    if not isinstance(verdict, dict):
        return "not checked for this target"
    return f"{'passed' if verdict.get('passed') else 'FAILED'} its checks, {verdict.get('why', '')}"
