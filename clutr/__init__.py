"""The ideas: how a task becomes a point, and who chooses the next task."""

from clutr.envs.registration import register

__version__ = "0.1.0"

register()
