"""Our students as RLlib's modules."""

from typing import Any

import torch
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from clutr.agents.ppo import PPOOptions, PPOStudent
from clutr.envs.domain import Engine


class StudentModule(TorchRLModule):
    """A student's network, recurrent or of pictures.

    `model_config` has the student's `config`, its `seed` and `name`. With RLlib's own words, batches have `obs` and
    `state_in` for a step, to which it answers `actions` and `state_out`; for training they have what
    `clutr.agents.networks.Network.prepare` gives as `prepared`, and `episode_starts`; the answer is `policy` and
    `values`.
    """

    def setup(self) -> None:
        """Called by RLlib's constructor."""
        options: Any = self.model_config
        self.student: PPOStudent = options["config"].build(
            self.observation_space, self.action_space, options["seed"], options["name"]
        )
        self.network = self.student.network

    def get_initial_state(self) -> Any:
        """Of one environment."""
        return self.network.initial_state(1)[0]

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        policy, values = self.network(batch["prepared"], batch["episode_starts"])
        return {"policy": policy, "values": values}

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        policy, _values, state = self.network.step(batch["obs"], batch["state_in"])
        return {"actions": policy.to_engine(policy.mode()), "state_out": state}

    def _forward_exploration(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        policy, _values, state = self.network.step(batch["obs"], batch["state_in"])
        rng: torch.Generator = batch["rng"]
        return {"actions": policy.to_engine(policy.sample(rng)), "state_out": state}


def module_spec(config: PPOOptions, names: tuple[str, ...], engine: Engine, seed: int) -> MultiRLModuleSpec:
    """The modules of all students, by name."""
    return MultiRLModuleSpec(
        rl_module_specs={
            name: RLModuleSpec(
                module_class=StudentModule,
                observation_space=engine.observation_space,
                action_space=engine.action_space,
                model_config={"config": config, "seed": seed, "name": name},
            )
            for name in names
        }
    )
