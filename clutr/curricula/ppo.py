"""Proximal policy optimisation as the teachers use it: a whole batch at once, without a student's recurrent resets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.agents.losses import VALUE_LOSSES, ActionEvaluation, ValueLoss, clipped_losses, normalise, policy_change
from clutr.envs.state import Stateful
from clutr.envs.validation import require_above, require_at_least, require_one_of


@dataclass(frozen=True)
class TeacherOptions:
    """How a teacher learns. The defaults are the published ones for mazes, the same for PAIRED and CLUTR."""

    learning_rate: float = 1e-4
    """Adam's step size of the teacher."""
    epochs: int = 5
    """Passes over each batch of tasks."""
    minibatches: int = 1
    """Parts into which a pass is split."""
    value_loss: ValueLoss = "clipped"
    """Clipped squared error, or (published for car racing) "smooth-l1"."""
    clip: float = 0.2
    """How far the probability ratio and the value may move in one update."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    entropy_coefficient: float = 0.0
    """Weight of the teacher's entropy."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    target_kl: float = 0.0
    """An update ends after the first gradient step whose minibatch finds the policy further than this from the one that
    acted (approximate KL); 0, as published, never ends one."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "epochs", "minibatches")
        require_one_of(self, VALUE_LOSSES, "value_loss")
        require_above(self, 0, "learning_rate", "clip", "max_gradient_norm")
        require_at_least(self, 0, "target_kl")


METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "gradient_norm")
"""What each gradient step reports, as `teacher/NAME`; the gradient's norm is that before it was scaled down."""


class Learner(Stateful):
    """A policy and its optimiser.

    Args:
        policy: the teacher's network.
        options: how it learns.
        rng: splits batches; its owner keeps its state.
    """

    saved = ("policy", "optimiser")

    def __init__(self, policy: nn.Module, options: TeacherOptions, rng: torch.Generator) -> None:
        self.policy = policy
        self.options = options
        self.rng = rng
        self.optimiser = Adam(policy.parameters(), lr=options.learning_rate, eps=1e-5)

    def update(
        self, evaluate: Callable[[Tensor], ActionEvaluation], old: ActionEvaluation, advantages: Tensor, returns: Tensor
    ) -> dict[str, Tensor]:
        """Improve the policy on one batch.

        Args:
            evaluate: evaluates the levels of an index `[b]` under the policy as it then is.
            old: the batch under the policy that acted; levels are the last axis.
            advantages: unnormalised, shaped like `old`'s tensors; each minibatch normalises its own.
            returns: targets of the value, shaped like `old`'s tensors.

        Returns:
            `METRICS`, averaged over gradient steps; 0-d, by name.
        """
        options = self.options
        history = []
        for index in self._minibatches(advantages.shape[-1]):
            before = ActionEvaluation(*(column[..., index] for column in old))
            scaled = normalise(advantages[..., index])
            new = evaluate(index)
            losses = clipped_losses(new, before, scaled, returns[..., index], options.clip, options.value_loss)
            loss = losses.policy + options.value_coefficient * losses.value
            loss = loss - options.entropy_coefficient * losses.entropy
            self.optimiser.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.policy.parameters(), options.max_gradient_norm)
            self.optimiser.step()
            change = policy_change(new.log_probs, before.log_probs, options.clip)
            history.append(torch.stack([*losses, *change, norm]).detach())
            if options.target_kl and float(change.approx_kl) > options.target_kl:
                break
        means = torch.stack(history).mean(0)
        return {f"teacher/{name}": value for name, value in zip(METRICS, means, strict=True)}

    def _minibatches(self, levels: int) -> Iterator[Tensor]:
        """The levels of each gradient step."""
        parts = min(self.options.minibatches, levels)
        for _ in range(self.options.epochs):
            # one part needs no order, and drawing none keeps the generator where it is
            order = torch.arange(levels) if parts == 1 else torch.randperm(levels, generator=self.rng)
            yield from order.chunk(parts)
