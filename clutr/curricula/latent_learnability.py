"""Learnability over the task manifold, predicted by a surrogate: no rollouts are spent on screening.

SFL (arXiv 2408.15099) plays thousands of levels to find out which ones the student solves sometimes. Here a small
network learns, from the levels that were trained on anyway, how a point of the manifold turns out for the student, and
the next levels are those of many random points whose outcome it thinks is the most uncertain. Own construction.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.agents.networks import linear
from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.envs.state import Stateful
from clutr.envs.validation import require_above, require_at_least, require_one_of, require_within

LEAST_VARIANCE = 1e-4
"""Added to the variance of a standardised return in the likelihood, so that no return is infinitely certain."""


@CURRICULA.register("latent-learnability")
@dataclass(frozen=True)
class LatentLearnabilityConfig:
    """Training on the points of the manifold that a surrogate predicts to be the most learnable."""

    target: Literal["solved", "return"] = "solved"
    """What is predicted: the chance p that an episode is solved, with learnability p (1 - p); or mean and variance of
    an episode's return, with learnability the variance (domains where nothing is solved or failed)."""
    candidates: int = 1_024
    """Random points of which the levels of a batch are chosen."""
    chosen_fraction: float = 0.5
    """Fraction of the environments that play chosen points; the others play random ones, from which it learns best."""
    window: int = 4_096
    """Most recent levels that it learns from, since the student changes."""
    batch: int = 256
    """Levels of each gradient step."""
    gradient_steps: int = 20
    """Gradient steps an update."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    hidden: int = 128
    """Width of its two hidden layers."""

    def __post_init__(self) -> None:
        require_one_of(self, ("solved", "return"), "target")
        require_at_least(self, 1, "candidates", "window", "batch", "gradient_steps", "hidden")
        require_within(self, 0, 1, "chosen_fraction")
        require_above(self, 0, "learning_rate")

    def build(self, context: Context) -> "LatentLearnability":
        """Make the curriculum. Raises `ValueError` if the experiment has no manifold."""
        return LatentLearnability(self, context)


class Surrogate(nn.Module):
    """Predicts how episodes at a point of the manifold turn out.

    Args:
        dim: dimensions of the manifold.
        hidden: width.
        rng: draws the initial weights.
    """

    def __init__(self, dim: int, hidden: int, rng: torch.Generator) -> None:
        super().__init__()
        layers = linear(dim, hidden, rng), nn.ReLU(), linear(hidden, hidden, rng), nn.ReLU(), linear(hidden, 2, rng)
        self.layers = nn.Sequential(*layers)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """For points `[B, dim]` of [-1, 1]^dim: a logit or mean `[B]`, and a log-variance `[B]`."""
        first, second = self.layers(points).unbind(-1)
        return first, second

    def learnability(self, points: Tensor, target: str) -> Tensor:
        """Predicted p (1 - p), or variance of the standardised return, `[B]`."""
        first, second = self(points)
        chance = first.sigmoid()
        learnability: Tensor = chance * (1 - chance) if target == "solved" else second.exp()
        return learnability

    def loss(
        self, points: Tensor, outcomes: Tensor, episodes: Tensor, target: str, spread: Tensor | float = 0.0
    ) -> Tensor:
        """Negative log-likelihood of all episodes, a mean over them, without its constant. 0-d.

        Args:
            points: `[B, dim]` of [-1, 1]^dim.
            outcomes: mean outcome of the episodes at each point `[B]`.
            episodes: how many they were `[B]`; points without any weigh nothing.
            target: "solved", Bernoulli; or "return", Gaussian.
            spread: variance of a point's own returns around their mean `[B]`.
        """
        first, second = self(points)
        if target == "solved":
            losses = F.binary_cross_entropy_with_logits(first, outcomes, reduction="none")
        else:
            variance = second.exp() + LEAST_VARIANCE
            losses = 0.5 * (variance.log() + ((outcomes - first).square() + spread) / variance)
        loss: Tensor = (losses * episodes).sum() / episodes.sum().clamp(min=1)
        return loss


class LatentLearnability(Stateful):
    """Training on points of the manifold that are predicted to be learnable.

    Args:
        config: the options.
        context: the experiment; its manifold is needed.
    """

    students: tuple[str, ...] = ("protagonist",)
    saved = ("_pending", "surrogate", "optimiser", "points", "outcomes", "spread", "episodes", "rng")

    def __init__(self, config: LatentLearnabilityConfig, context: Context) -> None:
        self.config = config
        self.manifold = context.require_manifold("latent-learnability")
        self.rng = context.generator("latents")
        self.surrogate = Surrogate(self.manifold.dim, config.hidden, context.generator("surrogate"))
        self.optimiser = Adam(self.surrogate.parameters(), config.learning_rate)
        self.points = torch.zeros(0, self.manifold.dim)
        """The last points that were played, scaled to [-1, 1]."""
        self.outcomes = torch.zeros(0)
        """Solved fraction or mean return of each."""
        self.spread = torch.zeros(0)
        """Variance of each one's returns around their mean."""
        self.episodes = torch.zeros(0)
        """Episodes behind each outcome: one, the first of its environment."""
        self._pending: Pending[Tensor] = Pending()

    @torch.no_grad()
    def propose(self, n: int) -> Proposal:
        """The best of many random points, and random ones."""
        self._pending.require_none()
        low, high = self.manifold.bounds
        chosen = round(self.config.chosen_fraction * n) if len(self.points) else 0
        candidates = 2 * torch.rand(max(self.config.candidates, n), self.manifold.dim, generator=self.rng) - 1
        score = self.surrogate.learnability(candidates, self.config.target)
        best = score.argsort(descending=True, stable=True)[:chosen]
        rest = 2 * torch.rand(n - chosen, self.manifold.dim, generator=self.rng) - 1
        points = torch.cat([candidates[best], rest])
        self._pending.put(points)
        latents = low + (high - low) * (points + 1) / 2
        return Proposal.everyone(self.manifold.decode(latents), len(self.students), latents)

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Learn from what happened.

        Returns:
            `predicted` learnability `[B]` before learning from the batch; the surrogate's `surrogate/loss`, and its
            `surrogate/calibration`: the fraction of the batch's levels that was solved, minus the predicted fraction
            (target "solved").
        """
        points, config = self._pending.take(), self.config
        solved = config.target == "solved"
        outcomes = outcome.solved[0] if solved else outcome.mean_return[0]
        episodes = torch.ones_like(outcomes)  # one outcome an environment, however many it finished after it
        spread = (outcome.square_return[0] - outcome.mean_return[0].square()).clamp(min=0)
        with torch.no_grad():
            predicted = self.surrogate.learnability(points, config.target)
            missed = (outcomes - self.surrogate(points)[0].sigmoid()) * episodes
            bias = missed.sum() / episodes.sum().clamp(min=1) if solved else torch.tensor(0.0)
        self.points = torch.cat([self.points, points])[-config.window :]
        self.outcomes = torch.cat([self.outcomes, outcomes])[-config.window :]
        self.spread = torch.cat([self.spread, spread])[-config.window :]
        self.episodes = torch.cat([self.episodes, episodes])[-config.window :]
        return {"predicted": predicted, "surrogate/loss": self._learn(), "surrogate/calibration": bias}

    def _standardised(self) -> tuple[Tensor, Tensor]:
        """Returns and their spread in units of the standard deviation of all episodes in the window."""
        weight = self.episodes / self.episodes.sum().clamp(min=1)
        mean = (weight * self.outcomes).sum()
        centred = self.outcomes - mean
        variance = (weight * (centred.square() + self.spread)).sum()
        # a thousandth of the returns' size at least: where all are alike, rounding must not pass for spread
        variance = torch.maximum(variance, 1e-6 * (1 + mean.square()))
        return centred / variance.sqrt(), self.spread / variance

    def _learn(self) -> Tensor:
        target = self.config.target
        outcomes, spread = (self.outcomes, self.spread) if target == "solved" else self._standardised()
        losses = []
        for _ in range(self.config.gradient_steps):
            rows = torch.randint(len(self.points), (self.config.batch,), generator=self.rng)
            loss = self.surrogate.loss(self.points[rows], outcomes[rows], self.episodes[rows], target, spread[rows])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.detach())
        return torch.stack(losses).mean()
