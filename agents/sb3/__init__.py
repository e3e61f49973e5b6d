"""Stable-Baselines3 (Raffin et al. 2021, JMLR 22(268)): its algorithms as students, our engines as its environments.

The algorithms' configurations are registered here, `vec_env` is for scripts of one's own, `loading` evaluates models
that others saved. Stable-Baselines3 itself is imported when one of them is first used.
"""

from clutr.agents.sb3.a2c import SB3A2CConfig
from clutr.agents.sb3.dqn import SB3DQNConfig
from clutr.agents.sb3.ppo import SB3PPOConfig
from clutr.agents.sb3.recurrent_ppo import SB3RecurrentPPOConfig
from clutr.agents.sb3.sac import SB3SACConfig

__all__ = ["SB3A2CConfig", "SB3DQNConfig", "SB3PPOConfig", "SB3RecurrentPPOConfig", "SB3SACConfig"]
