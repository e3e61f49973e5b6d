"""Says when the updates of a student or a teacher have been too large, or next to nothing, for long."""

from collections import deque
from collections.abc import Callable, Mapping

HEALTHY_KL = 1e-3, 5e-2
"""Approximate KL from the policy that acted, averaged over an update's gradient steps: below, a policy hardly moves;
above, it forgets (arXiv 1707.06347 tries targets from 0.003 to 0.03)."""
HEALTHY_CLIP_FRACTION = 0.4
"""Fraction of ratios outside the clip range, above which most of a batch has no gradient."""
WINDOW = 25
"""Updates over which both are averaged."""


class UpdateWatch:
    """Looks at every update's metrics, and says at most one line about each policy.

    Args:
        say: receives the line: whose policy, by how much, and what to change.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._seen: dict[str, deque[tuple[float, float]]] = {}
        self._warned: set[str] = set()

    def __call__(self, metrics: Mapping[str, float]) -> None:
        """Take in one update's metrics; a policy that did not learn in it has none there."""
        for name, divergence in metrics.items():
            who, _, quantity = name.rpartition("/")
            clipped = metrics.get(f"{who}/clip_fraction")
            if quantity != "approx_kl" or clipped is None or who in self._warned:
                continue
            seen = self._seen.setdefault(who, deque(maxlen=WINDOW))
            seen.append((divergence, clipped))
            line = _verdict(who, *(sum(column) / WINDOW for column in zip(*seen, strict=True)))
            if line and len(seen) == WINDOW:
                self._warned.add(who)
                self._say(line)


def _verdict(who: str, divergence: float, clipped: float) -> str | None:
    """The line about a policy with this mean approximate KL and clip fraction; None if they are healthy."""
    options = "curriculum" if who == "teacher" else "student"
    least, most = HEALTHY_KL
    if divergence > most or clipped > HEALTHY_CLIP_FRACTION:
        found = f"approximate KL {divergence:.2g} (healthy: up to {most:g})"
        also = f"{clipped:.0%} of ratios clipped (up to {HEALTHY_CLIP_FRACTION:.0%})"
        cure = f"lower {options}.learning_rate, or set {options}.target_kl to 0.03"
        return f"the last {WINDOW} updates of the {who} changed its policy too much: {found}, {also}; {cure}"
    if divergence < least:
        found = f"approximate KL {divergence:.2g} (healthy: from {least:g})"
        cure = f"raise {options}.learning_rate or {options}.minibatches"
        return f"the last {WINDOW} updates of the {who} hardly changed its policy: {found}; {cure}"
    return None
