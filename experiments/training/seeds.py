"""Seeds in words. Without torch, so that what cannot be read is told at once."""

import re
from collections.abc import Sequence

from clutr.experiments.files import RunError


def parse_seeds(text: str | int | Sequence[int]) -> tuple[int, ...]:
    """Seeds in words, such as `1-5` or `1,4,7-9`, or as a list. Raises `RunError` if they are none, or one is twice."""
    parts = [str(part).strip() for part in ([text] if isinstance(text, int) else text)]
    parts = [part.strip() for part in text.split(",")] if isinstance(text, str) else parts
    seeds: list[int] = []
    for part in parts:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise RunError(f"seeds are numbers and ranges such as 1-5 or 1,4,7, got {part!r}")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) < len(seeds):
        raise RunError(f"a seed is named twice in {text!r}")
    return tuple(seeds)
