"""Curriculum learning via unsupervised task representations: train, evaluate, and look inside.

The names below are imported when they are first used, so that `import clutr`, which registers the environments with
Gymnasium, stays quick in every worker process.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clutr.envs.home import give_caches
from clutr.envs.registration import register

if TYPE_CHECKING:
    from clutr.agents.student import STUDENTS
    from clutr.curricula.base import CURRICULA
    from clutr.envs.car.domain import CarDomain
    from clutr.envs.domain import DOMAINS, LevelError
    from clutr.envs.maze.domain import MazeDomain
    from clutr.experiments.api import (
        compare,
        draw_levels,
        evaluate,
        export,
        film,
        load_manifold,
        load_predictor,
        load_run,
        load_student,
        load_world_model,
        models,
        pretrain,
        read_levels,
        report,
        resume,
        sample_levels,
        suites,
        train,
        write_figures,
    )
    from clutr.experiments.config import Experiment
    from clutr.experiments.files import RunError
    from clutr.experiments.training.lookup import preset
    from clutr.experiments.training.presets import PRESETS
    from clutr.manifold.base import MANIFOLDS

__version__ = "0.1.0"

__all__ = [
    "CURRICULA",
    "DOMAINS",
    "MANIFOLDS",
    "PRESETS",
    "STUDENTS",
    "CarDomain",
    "Experiment",
    "LevelError",
    "MazeDomain",
    "RunError",
    "__version__",
    "compare",
    "draw_levels",
    "evaluate",
    "export",
    "film",
    "load_manifold",
    "load_predictor",
    "load_run",
    "load_student",
    "load_world_model",
    "models",
    "preset",
    "pretrain",
    "read_levels",
    "report",
    "resume",
    "sample_levels",
    "suites",
    "train",
    "write_figures",
]

_ELSEWHERE = {
    "CURRICULA": "clutr.curricula.base",
    "CarDomain": "clutr.envs.car.domain",
    "DOMAINS": "clutr.envs.domain",
    "Experiment": "clutr.experiments.config",
    "LevelError": "clutr.envs.domain",
    "MANIFOLDS": "clutr.manifold.base",
    "MazeDomain": "clutr.envs.maze.domain",
    "PRESETS": "clutr.experiments.training.presets",
    "RunError": "clutr.experiments.files",
    "STUDENTS": "clutr.agents.student",
    "preset": "clutr.experiments.training.lookup",
}
"""Where names live that are not functions of `clutr.experiments.api`."""

give_caches()
register()


def __getattr__(name: str) -> Any:
    """A name of `__all__`, from the module where it lives."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ELSEWHERE.get(name, "clutr.experiments.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
