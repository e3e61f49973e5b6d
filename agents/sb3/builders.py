"""Students made of their options: which of Stable-Baselines3's algorithms, with which policy."""

import copy
import math
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.logger import Logger

from clutr.agents.sb3.configs import (
    SB3A2CConfig,
    SB3DQNConfig,
    SB3Options,
    SB3PPOConfig,
    SB3RecurrentPPOConfig,
    SB3SACConfig,
)
from clutr.agents.sb3.off_policy import DQNStudent, OffPolicyStudent, SACStudent
from clutr.agents.sb3.policies import ActorCriticPlayer, QPlayer, RecurrentPlayer, SACPlayer
from clutr.agents.sb3.preprocessing import View, student_view
from clutr.agents.sb3.randomness import OwnRandomness
from clutr.agents.sb3.recurrent import RecurrentStudent
from clutr.agents.sb3.students import OnPolicyStudent
from clutr.envs.randomness import derive_seed


class Making:
    """What every student is made of.

    Args:
        config: the options.
        observation_space: of one environment.
        action_space: of one environment.
        seed: of the run.
        name: of the student; with the seed it determines every generator.
        device: where it plays and learns.
    """

    def __init__(
        self,
        config: SB3Options,
        observation_space: spaces.Dict,
        action_space: gymnasium.Space[Any],
        seed: int,
        name: str,
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        self.view: View = student_view(observation_space, config.shrink)
        self.action_space = copy.deepcopy(action_space)
        self.randomness = OwnRandomness(derive_seed(seed, name, "sb3"), device)
        self.sees_pictures = len(self.view.space.shape or ()) == 3

    def require(self, kind: type[gymnasium.Space[Any]], what: str) -> None:
        """Raises `ValueError` for another kind of actions."""
        if not isinstance(self.action_space, kind):
            raise ValueError(f"this student takes {what} actions, not {self.action_space}")

    def model(self, algorithm: Any, policy: str = "{}Policy", **options: Any) -> Any:
        """An algorithm of Stable-Baselines3 that knows spaces but no environment, as after loading one."""
        config = self.config
        policy_options = options.pop("policy_kwargs", {}) | {"net_arch": [config.hidden, config.hidden]}
        if self.sees_pictures:
            policy_options["features_extractor_kwargs"] = {"features_dim": config.features}
        options |= {"learning_rate": config.learning_rate, "gamma": config.discount, "device": self.device}
        kind = policy.format("Cnn" if self.sees_pictures else "Mlp")
        with self.randomness():
            model = algorithm(kind, None, policy_kwargs=policy_options, _init_setup_model=False, **options)
            model.observation_space, model.action_space, model.n_envs = self.view.space, self.action_space, 1
            model._setup_model()
        model.set_logger(Logger(None, []))
        return model


def make(making: Making) -> OnPolicyStudent | OffPolicyStudent:
    """The student that the options describe. Raises `ValueError` if it cannot play in these spaces."""
    config, randomness, view = making.config, making.randomness, making.view
    match config:
        case SB3RecurrentPPOConfig():
            model = _ppo(making, config, RecurrentPPO, "{}LstmPolicy", {"lstm_hidden_size": config.memory})
            return RecurrentStudent(config, model, RecurrentPlayer(model.policy, view), randomness)
        case SB3PPOConfig():
            model = _ppo(making, config, PPO, "{}Policy", {})
            return OnPolicyStudent(config, model, ActorCriticPlayer(model.policy, view), randomness)
        case SB3A2CConfig():
            model = making.model(A2C, **_on_policy(config))
            return OnPolicyStudent(config, model, ActorCriticPlayer(model.policy, view), randomness)
        case SB3DQNConfig():
            making.require(spaces.Discrete, "discrete")
            # the target network is updated by the student, who counts gradient steps
            model = making.model(DQN, max_grad_norm=config.max_gradient_norm, **_off_policy(config))
            return DQNStudent(config, model, QPlayer(model.q_net, view), randomness)
        case SB3SACConfig():
            making.require(spaces.Box, "continuous")
            dimensions = math.prod(making.action_space.shape or ())
            model = making.model(SAC, target_entropy=-dimensions, tau=config.tau, **_off_policy(config))
            return SACStudent(config, model, SACPlayer(model, view), randomness)
    raise TypeError(f"no student is made of {type(config).__name__}")


def _on_policy(config: SB3PPOConfig | SB3A2CConfig) -> dict[str, Any]:
    return {
        "n_steps": config.rollout_steps,
        "gae_lambda": config.gae_lambda,
        "ent_coef": config.entropy_coefficient,
        "vf_coef": config.value_coefficient,
        "max_grad_norm": config.max_gradient_norm,
    }


def _ppo(making: Making, config: SB3PPOConfig, algorithm: Any, policy: str, policy_options: dict[str, Any]) -> Any:
    options = _on_policy(config) | {"n_epochs": config.epochs, "clip_range": config.clip}
    return making.model(algorithm, policy, policy_kwargs=policy_options, **options)


def _off_policy(config: SB3DQNConfig | SB3SACConfig) -> dict[str, Any]:
    return {"buffer_size": config.buffer_size, "batch_size": config.batch_size}
