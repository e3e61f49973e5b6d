"""How long work tells of its progress."""

from collections.abc import Callable

Progress = Callable[[int, int, dict[str, float]], None]
"""Called as `progress(done, total, metrics)`."""
