"""Updates that are too large, or next to nothing, for long are said once a policy."""

import pytest

from clutr.experiments.training.update_watch import WINDOW, UpdateWatch


def said(who: str, *updates: tuple[float, float], repeat: int = WINDOW) -> list[str]:
    """The lines after `repeat` rounds of updates with these (approximate KL, clip fraction)."""
    lines: list[str] = []
    watch = UpdateWatch(lines.append)
    for _ in range(repeat):
        for divergence, clipped in updates:
            watch({f"{who}/approx_kl": divergence, f"{who}/clip_fraction": clipped, "regret": 1.0})
    return lines


def test_healthy_updates_are_not_mentioned() -> None:
    assert said("protagonist", (0.02, 0.15)) == []
    assert said("protagonist", (0.06, 0.2), (0.0, 0.0)) == [], "what counts is the mean"


def test_too_large_updates_are_said_once() -> None:
    found = "approximate KL 0.21 (healthy: up to 0.05), 52% of ratios clipped (up to 40%)"
    cure = "lower student.learning_rate, or set student.target_kl to 0.03"
    line = f"the last {WINDOW} updates of the protagonist changed its policy too much: {found}; {cure}"
    assert said("protagonist", (0.21, 0.52)) == [line]
    assert said("protagonist", (0.21, 0.52), repeat=4 * WINDOW) == [line]
    assert said("protagonist", (0.21, 0.52), repeat=WINDOW - 1) == []


def test_clipping_alone_is_too_large() -> None:
    (line,) = said("teacher", (0.04, 0.69))
    assert "69% of ratios clipped" in line
    assert "set curriculum.target_kl to 0.03" in line


def test_updates_that_do_nothing_are_said() -> None:
    (line,) = said("teacher", (1e-5, 0.0))
    found = "approximate KL 1e-05 (healthy: from 0.001)"
    cure = "raise curriculum.learning_rate or curriculum.minibatches"
    assert line == f"the last {WINDOW} updates of the teacher hardly changed its policy: {found}; {cure}"


@pytest.mark.parametrize("metrics", [{}, {"protagonist/entropy": 1.0}, {"protagonist/approx_kl": 9.0}])
def test_updates_without_both_figures_do_not_count(metrics: dict[str, float]) -> None:
    lines: list[str] = []
    watch = UpdateWatch(lines.append)
    for _ in range(2 * WINDOW):
        watch(metrics)
    assert lines == []
