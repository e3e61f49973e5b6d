"""The process that learns: RLlib's learner with our update."""

from types import SimpleNamespace
from typing import Any

import ray
import torch
import torch.distributed
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from clutr.agents.losses import normalise
from clutr.agents.ppo import PPOStudent
from clutr.agents.rllib.serialization import unpack, unpack_trajectories
from clutr.envs.randomness import named_generator


class ProcessGroup:
    """The learners of torch.distributed's default group, as a `LearnerGroup`."""

    def __init__(self, learners: int) -> None:
        self.learners = learners

    def count(self, samples: int) -> int:
        """See `LearnerGroup`."""
        return int(self.sum(torch.tensor(samples)))

    def normalise(self, advantages: Tensor) -> Tensor:
        """See `LearnerGroup`. Sums of squares are taken in double precision, about zero."""
        values = advantages.double()
        moments = torch.stack([torch.tensor(float(values.numel())).to(values), values.sum(), values.square().sum()])
        number, total, square = self.sum(moments).unbind()
        mean = total / number
        deviation = (square / number - mean.square()).clamp(min=0).sqrt()
        return ((values - mean) / (deviation + 1e-5)).to(advantages.dtype)

    def sum(self, values: Tensor) -> Tensor:
        """See `LearnerGroup`."""
        values = values.clone()
        torch.distributed.all_reduce(values)
        return values


class StudentLearner(TorchLearner):
    """Learns each student's module as `PPOStudent.learn` does, together with the other learners if there are any.

    Each learner has its shard of the environments. Every gradient step is on all learners' samples of a minibatch:
    advantages are normalised over all of them, and gradients are summed over learners once they are complete, so
    several learners do as one does where a rollout is one minibatch.
    """

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:  # noqa: ARG002
        """Register the student's own optimiser."""
        student = self.student(module_id)
        parameters = list(student.network.parameters())
        self.register_optimizer(module_id=module_id, optimizer=student.optimiser, params=parameters)

    def _make_modules_ddp_if_necessary(self) -> None:
        # RLlib would sum gradients in each backward pass; a gradient step of ours may have many.
        if self.config.num_learners > 1:
            peers = ProcessGroup(self.config.num_learners)
            for name in self.module.keys():  # noqa: SIM118 (it is no dict)
                self.student(name).peers = peers

    def student(self, module_id: str) -> PPOStudent:
        """The student whose network the module is."""
        module: Any = self.module[module_id].unwrapped()
        student: PPOStudent = module.student
        return student

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Tensor:  # noqa: ARG002
        """The student's loss of `batch`, which RLlib's own `update` would ask for: see `StudentModule`."""
        student = self.student(module_id)
        samples = SimpleNamespace(**dict(batch) | {"advantages": normalise(batch["advantages"])})
        return student.loss(fwd_out["policy"], fwd_out["values"], samples)[0]

    def learn(self, module_id: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Make one update of a student.

        Args:
            module_id: the student's name.
            payload: `trajectories` (as `pack_trajectories` gives them) and `train` of this learner's environments, the
                state `rng` of the student's generator of minibatches, and the student's whole `state`, None where this
                learner has it from the last update.

        Returns:
            `metrics`, and the student's `state` after the update if this is the first learner.
        """
        student = self.student(module_id)
        if payload["state"] is not None:
            student.load_state_dict(unpack(payload["state"]))
        student.batch_rng.set_state(unpack(payload["rng"]))
        first = self._learner_index == 0
        after = student.batch_rng
        if self.config.num_learners > 1:  # each mixes its own environments
            seed = int(torch.randint(2**62, (), generator=student.batch_rng))
            after, student.batch_rng = student.batch_rng, named_generator(seed, "learner", self._learner_index)
        metrics = student.learn(unpack_trajectories([payload["trajectories"]], self.device), unpack(payload["train"]))
        student.batch_rng = after
        return {"metrics": metrics, "state": student.state_dict() if first else None}


def learn(learner: StudentLearner, name: str, payloads: list[Any]) -> dict[str, Any]:
    """`StudentLearner.learn` with the payload of this learner, a reference if it is on another machine."""
    payload = payloads[learner._learner_index]
    return learner.learn(name, ray.get(payload) if isinstance(payload, ray.ObjectRef) else payload)
