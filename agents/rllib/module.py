"""Our students as RLlib's modules."""

from typing import Any

import torch
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from clutr.agents.ppo import PPOOptions, PPOStudent
from clutr.agents.rllib.data_parallel import DataParallelStudent
from clutr.envs.domain import Engine


class StudentModule(TorchRLModule):
    """A student in a process of RLlib, which moves its network to the process's device.

    Runners and learners use the `student` itself. Its weights and generators come with each of their calls.
    `model_config` has the student's `config` and `name`, and the number of `learners`.
    """

    def setup(self) -> None:
        """Called by RLlib's constructor."""
        options: Any = self.model_config
        config: PPOOptions = options["config"]
        student_type = DataParallelStudent if options["learners"] > 1 else PPOStudent
        observation_space: Any = self.observation_space
        action_space: Any = self.action_space
        self.network = config.network(observation_space, action_space, torch.Generator())
        self.student = student_type(config, self.network, 0, options["name"], "cpu")


def module_spec(config: PPOOptions, names: tuple[str, ...], engine: Engine, learners: int) -> MultiRLModuleSpec:
    """The modules of all students, by name."""
    return MultiRLModuleSpec(
        rl_module_specs={
            name: RLModuleSpec(
                module_class=StudentModule,
                observation_space=engine.observation_space,
                action_space=engine.action_space,
                model_config={"config": config, "name": name, "learners": learners},
            )
            for name in names
        }
    )
