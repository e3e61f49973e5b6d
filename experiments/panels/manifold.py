"""How healthy a task manifold is."""

from collections.abc import Mapping
from typing import Any

from experiments.panels.page import Panel
from experiments.panels.tiles import note


def manifold(health: Mapping[str, Any] | None, source: str) -> Panel:
    """Tiles and histograms of a manifold's health."""
    return Panel("manifold", "Health of the task manifold", note("Its health was not measured."), source)
