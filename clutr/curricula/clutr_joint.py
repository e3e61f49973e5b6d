"""CLUTR whose task VAE goes on learning with the teacher: the ablations of its frozen manifold.

Source: the ablations of arXiv 2210.10243: the pretrained VAE is finetuned, or learnt from nothing, while the teacher
trains. How is not published; the choice here: after each batch the VAE takes gradient steps of its own loss on the
proposed tasks, drawn in proportion to their regret, so that the manifold comes to favour what the teacher looks for.
Whether the VAE starts pretrained is the experiment's `manifold` (`iterations: 0` leaves it as it was drawn).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.curricula.base import CURRICULA, Context, Outcome
from clutr.curricula.clutr import CLUTR, CLUTROptions
from clutr.envs.validation import require_above, require_at_least
from clutr.manifold.vae import VAEManifold

MAX_GRADIENT_NORM = 5.0
"""As in pretraining."""
LAST_ITERATION = 1_000_000_000
"""Stands for the last iteration of a pretraining: beyond every schedule, whether it counts fractions or iterations."""


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
        require_above(self, 0, "vae_learning_rate")
        require_at_least(self, 1, "vae_steps", "vae_batch", "vae_window")

    def build(self, context: Context) -> "CLUTRJoint":
        """Make the curriculum. Raises `ValueError` if the experiment's manifold is no task VAE."""
        return CLUTRJoint(self, context)


class CLUTRJoint(CLUTR):
    """CLUTR on a manifold that moves.

    Args:
        config: the options.
        context: the experiment; its manifold must be a task VAE, and is changed.
    """

    saved = (*CLUTR.saved, "network", "optimiser", "tasks", "regrets", "rng")

    def __init__(self, config: CLUTRJointConfig, context: Context) -> None:
        super().__init__(config, context, "clutr-joint")
        if not isinstance(self.manifold, VAEManifold):
            raise ValueError("the curriculum 'clutr-joint' goes on training a task VAE, and this manifold is none")
        self.network, self.domain = self.manifold.network, self.manifold.domain
        self.config = config
        self.rng = context.generator("vae")
        self.optimiser = Adam(list(self.network.parameters()), config.vae_learning_rate)
        self.tasks = torch.zeros(0, self.domain.max_tokens, dtype=torch.int64)
        """Token sequences of the last proposals."""
        self.regrets = torch.zeros(0)
        """What each of them was worth."""

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Teach the teacher, then the VAE. Returns what CLUTR returns, and the VAE's losses."""
        found = super().observe(outcome)
        tokens = self.domain.to_tokens(outcome.proposal.levels)
        self.tasks = torch.cat([self.tasks, tokens])[-self.config.vae_window :]
        self.regrets = torch.cat([self.regrets, found["regret"]])[-self.config.vae_window :]
        return found | self._learn()

    def _learn(self) -> dict[str, Tensor]:
        network = self.network
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
