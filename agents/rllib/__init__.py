"""Ray RLlib (Liang et al. 2018, arXiv 1712.09381): our students play on many machines, and learn on one or several.

`RLlibBackend` is all that an experiment needs. Ray itself is imported when its first students are made.
"""

from clutr.agents.rllib.backend import RLlibBackend
from clutr.agents.rllib.config import require_ray

__all__ = ["RLlibBackend", "require_ray"]
