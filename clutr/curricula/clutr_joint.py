"""CLUTR whose task VAE goes on learning with the teacher: the ablations of its frozen manifold.

Source: the ablations of arXiv 2210.10243: the pretrained VAE is finetuned, or learnt from nothing, while the teacher
trains. How is not published; the choice here: after each batch the VAE takes gradient steps of its own loss on the
proposed tasks, drawn in proportion to their regret, so that the manifold comes to favour what the teacher looks for.
Whether the VAE starts pretrained is the experiment's `manifold` (`iterations: 0` leaves it as it was drawn).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clutr.curricula.base import CURRICULA, Context, Outcome
from clutr.curricula.clutr import CLUTR, CLUTROptions
from clutr.manifold.vae import VAEManifold

MAX_GRADIENT_NORM = 5.0
"""As in pretraining."""
LAST_ITERATION = 1_000_000_000
"""Stands for the last iteration of a pretraining: beyond every schedule, whether it counts shares or iterations."""


@CURRICULA.register("clutr-joint")
@dataclass(frozen=True)
class CLUTRJointConfig(CLUTROptions):
    """CLUTR with a task VAE that goes on learning."""

    vae_learning_rate: float = 1e-3
    """Adam's step size of the VAE."""
    vae_steps: int = 5
    """Gradient steps of the VAE after each batch of tasks."""
    vae_batch: int = 128
    """Tasks of each of them, drawn with replacement from the last proposals."""
    vae_window: int = 2_048
    """How many of the last proposed tasks it learns from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vae_learning_rate <= 0:
            raise ValueError(f"vae_learning_rate must be above 0, got {self.vae_learning_rate}")
        for name in ("vae_steps", "vae_batch", "vae_window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def build(self, context: Context) -> "CLUTRJoint":
        """Make the curriculum. Raises `ValueError` if the experiment's manifold is no task VAE."""
        return CLUTRJoint(self, context)


class CLUTRJoint(CLUTR):
    """CLUTR on a manifold that moves.

    Args:
        config: the options.
        context: the experiment; its manifold must be a task VAE, and is changed.
    """

    def __init__(self, config: CLUTRJointConfig, context: Context) -> None:
        super().__init__(config, context, "clutr-joint")
        if not isinstance(self.manifold, VAEManifold):
            raise ValueError("the curriculum 'clutr-joint' goes on training a task VAE, and this manifold is none")
        self.vae = self.manifold
        self.config = config
        self.rng = context.generator("vae")
        self.optimiser = torch.optim.Adam(list(self.vae.network.parameters()), config.vae_learning_rate)
        self.tasks = torch.zeros(0, self.vae.domain.max_tokens, dtype=torch.int64)
        """Token sequences of the last proposals."""
        self.regrets = torch.zeros(0)
        """What each of them was worth."""

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Teach the teacher, then the VAE. Returns what CLUTR returns, and the VAE's losses.

        Raises:
            RuntimeError: if nothing was proposed since the last call.
        """
        found = super().observe(outcome)
        tokens = self.vae.domain.to_tokens(outcome.proposal.levels)
        self.tasks = torch.cat([self.tasks, tokens])[-self.config.vae_window :]
        self.regrets = torch.cat([self.regrets, found["regret"]])[-self.config.vae_window :]
        return found | self._learn()

    def _learn(self) -> dict[str, Tensor]:
        network = self.vae.network
        chances = self.regrets.clamp(min=0).double() + 1e-6  # uniform where no task has any regret
        history: list[dict[str, Tensor]] = []
        network.train(True)
        for _ in range(self.config.vae_steps):
            rows = torch.multinomial(chances, self.config.vae_batch, replacement=True, generator=self.rng)
            loss, parts = network.loss(self.tasks[rows], LAST_ITERATION, LAST_ITERATION, self.rng)
            self.optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(list(network.parameters()), MAX_GRADIENT_NORM)
            self.optimiser.step()
            history.append({name: value.detach() for name, value in parts.items()})
        network.train(False)
        return {f"vae/{name}": torch.stack([step[name] for step in history]).mean() for name in history[0]}

    def state_dict(self) -> dict[str, Any]:
        """CLUTR's state, the VAE and its data. Raises `RuntimeError` between `propose` and `observe`."""
        return super().state_dict() | {
            "vae": dict(self.vae.network.state_dict()),
            "vae_optimiser": self.optimiser.state_dict(),
            "tasks": self.tasks.clone(),
            "regrets": self.regrets.clone(),
            "vae_rng": self.rng.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`; a proposal under way is forgotten."""
        super().load_state_dict(state)
        self.vae.network.load_state_dict(state["vae"])
        self.optimiser.load_state_dict(state["vae_optimiser"])
        self.tasks, self.regrets = state["tasks"].clone(), state["regrets"].clone()
        self.rng.set_state(state["vae_rng"])
