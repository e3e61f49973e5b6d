"""Ray RLlib (Liang et al. 2018, arXiv 1712.09381): our students play on many machines, and learn on one or several.

`config` registers the backend, which is all that an experiment needs. Ray itself is imported when one is first made.
"""

from clutr.agents.rllib import config

__all__ = ["config"]
