"""The process that learns: RLlib's learner with our update."""

from typing import Any

import ray
import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from clutr.agents.ppo import PPOStudent
from clutr.agents.rllib.serialization import unpack, unpack_trajectories
from clutr.envs.randomness import named_generator


class StudentLearner(TorchLearner):
    """Updates each student as `PPOStudent.learn` does, together with the other learners if there are any."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:  # noqa: ARG002
        """Register the student's own optimiser."""
        student = self.student(module_id)
        parameters = list(student.network.parameters())
        self.register_optimizer(module_id=module_id, optimizer=student.optimiser, params=parameters)

    def _make_modules_ddp_if_necessary(self) -> None:
        """Leave modules as they are: RLlib would sum gradients in each backward pass, of which we may need many."""

    def student(self, module_id: str) -> PPOStudent:
        """The student whose network the module is."""
        module: Any = self.module[module_id]
        student: PPOStudent = module.student
        return student

    def compute_loss_for_module(self, **_: Any) -> Tensor:
        """Part of RLlib's own `update`, which is not used."""
        raise NotImplementedError("students learn with `StudentLearner.learn`")

    def learn(self, module_id: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Make one update of a student.

        Args:
            module_id: the student's name.
            payload: `trajectories` (as `pack_trajectories` gives them) and `train` of this learner's environments, the
                state `rng` of the student's generator of minibatches, the run's `progress` from 0 to 1, and the
                student's whole `state`, None where this learner has it from the last update.

        Returns:
            `metrics`, and the student's `state` after the update if this is the first learner.
        """
        student = self.student(module_id)
        if payload["state"] is not None:
            student.load_state_dict(unpack(payload["state"]))
        student.batch_rng.set_state(unpack(payload["rng"]))
        student.schedule(payload["progress"])
        shared = student.batch_rng
        if self.config.num_learners > 1:  # each shuffles its own environments
            seed = int(torch.randint(2**62, (), generator=shared))
            student.batch_rng = named_generator(seed, "learner", self._learner_index)
        metrics = student.learn(unpack_trajectories([payload["trajectories"]], self.device), unpack(payload["train"]))
        student.batch_rng = shared
        return {"metrics": metrics, "state": student.state_dict() if self._learner_index == 0 else None}


def learn(learner: StudentLearner, name: str, payloads: list[Any]) -> dict[str, Any]:
    """`StudentLearner.learn` with the payload of this learner, a reference if it is on another machine."""
    payload = payloads[learner._learner_index]
    return learner.learn(name, ray.get(payload) if isinstance(payload, ray.ObjectRef) else payload)
