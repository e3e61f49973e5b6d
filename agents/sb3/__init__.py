"""Stable-Baselines3 (Raffin et al. 2021, JMLR 22(268)): its algorithms as students, our engines as its environments.

`configs` registers the students, `vec_env` is for scripts of one's own, `loaded` evaluates models that others saved.
Stable-Baselines3 itself is imported when one of them is first made.
"""

from clutr.agents.sb3 import configs

__all__ = ["configs"]
