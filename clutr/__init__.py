"""The ideas: how a task becomes a point, and who chooses the next task."""

__version__ = "0.1.0"
