"""TRACED: regret as value loss plus transition-prediction error, and credit for what helps with other levels.

Source: "TRACED: Transition-aware Regret Approximation with Co-learnability for Environment Design", arXiv 2506.19997,
and its release. It is ACCEL with another score. A level's difficulty is its positive value loss plus the error of a
recurrent model that predicts the next observation and learns along. Its co-learnability is the mean fall, since their
last visits, of the difficulty of the levels that are replayed the time after it; that is added to its score.

Settled as in the release: both weights are 1, the loss is the absolute error, and a first visit counts as no fall.
Settled here, where it left something open: only batches with replayed levels give and receive credit, and pictures of
more than 12x12 pixels are predicted averaged down to that.
"""

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.agents.networks import linear
from clutr.agents.recurrent import LSTM
from clutr.agents.student import EpisodeStatistics, Student, Trajectories
from clutr.curricula.accel import ACCEL, ACCELConfig
from clutr.curricula.base import CURRICULA, Context, Outcome
from clutr.curricula.scores import Played, positive_value_loss
from clutr.envs.capabilities import Mutation, require
from clutr.envs.domain import LevelBatch
from clutr.envs.state import Stateful
from clutr.envs.validation import require_above, require_at_least

SCORE = "transition_error"
LARGEST = 12
"""Side of the pictures that are predicted."""


@CURRICULA.register("traced")
@dataclass(frozen=True)
class TRACEDConfig(ACCELConfig):
    """TRACED on top of ACCEL. The defaults are the published ones for mazes of 60 blocks."""

    transition_weight: float = 1.0
    """Weight of the transition-prediction error in a level's difficulty, beside its positive value loss."""
    colearnability_weight: float = 1.0
    """Weight of co-learnability in a level's score."""
    model_width: int = 128
    """Width of the model's LSTM."""
    model_learning_rate: float = 1e-4
    """AdamW's step size of the model (weight decay 1e-5)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "transition_weight", "colearnability_weight")
        require_at_least(self, 1, "model_width")
        require_above(self, 0, "model_learning_rate")
        if self.levels_per_rollout > 1:
            raise ValueError("TRACED measures an environment's rollout as a whole: levels_per_rollout must be 1")
        if self.score != "positive_value_loss":
            raise ValueError(f"TRACED's difficulty is made of positive_value_loss, got the score {self.score!r}")

    def build(self, context: Context) -> "TRACED":
        """Make the curriculum. Raises `ValueError` if the domain lacks `Mutation`."""
        require(context.domain, Mutation, "TRACED")
        return TRACED(self, context)


class TransitionModel(nn.Module):
    """Predicts the next observation's picture from those before it and the actions.

    Args:
        observation_space: of the students, with an `image` `[H, W, C]` of bytes.
        action_space: of the students.
        width: of the encoder and the LSTM.
        rng: draws the initial weights.
    """

    def __init__(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        width: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        image = observation_space["image"]
        assert image.shape is not None
        height, columns, channels = image.shape
        self.side = min(height, LARGEST), min(columns, LARGEST)
        self.scale = 10.0 if height <= LARGEST else 255.0  # symbols, as students see them, or pixels
        self.actions = int(action_space.n) if isinstance(action_space, gymnasium.spaces.Discrete) else 0
        size = math.prod(self.side) * channels
        acts = self.actions or math.prod(action_space.shape or ())
        self.encoder = linear(size, width, rng)
        self.core = LSTM(width + acts, width, rng)
        self.decoder = linear(width, size, rng)

    def prepare(self, image: Tensor) -> Tensor:
        """Pictures `[T, N, H, W, C]` as they are predicted, `[T, N, size]` float32."""
        small = image.flatten(0, 1).movedim(-1, 1).float() / self.scale
        if small.shape[2:] != self.side:
            small = F.adaptive_avg_pool2d(small, self.side)
        prepared: Tensor = small.flatten(1).unflatten(0, image.shape[:2])
        return prepared

    def forward(self, images: Tensor, actions: Tensor, episode_starts: Tensor) -> Tensor:
        """Predictions `[T, N, size]` of the pictures after each of `images` `[T, N, size]`."""
        acts = F.one_hot(actions, self.actions) if self.actions else actions
        inputs = torch.cat([F.relu(self.encoder(images)), acts.to(images)], dim=-1)
        state = images.new_zeros(images.shape[1], 2 * self.core.hidden_size)
        hidden, _ = self.core(inputs, episode_starts, state)
        predictions: Tensor = self.decoder(hidden)
        return predictions


class TransitionLearner(Stateful):
    """A model and its optimiser.

    Args:
        model: what learns.
        learning_rate: of AdamW.
    """

    saved = ("model", "optimiser")

    def __init__(self, model: TransitionModel, learning_rate: float) -> None:
        self.model = model
        self.optimiser = Adam(list(model.parameters()), learning_rate, weight_decay=1e-5, decoupled_weight_decay=True)

    def errors(self, played: Trajectories) -> Tensor:
        """Mean absolute error of each environment `[N]`, before one gradient step on the mean over all steps.

        The last step of an episode leads to nothing that is observed, so it does not count.
        """
        images = self.model.prepare(played.observations["image"].cpu())
        starts = played.episode_starts.cpu()
        predicted = self.model(images[:-1], played.actions[:-1].cpu(), starts[:-1])
        counted = (~starts[1:]).float()
        each = (predicted - images[1:]).abs().mean(-1) * counted
        loss = each.sum() / counted.sum().clamp(min=1)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimiser.step()
        means: Tensor = each.detach().sum(0) / counted.sum(0).clamp(min=1)
        return means


class TRACED(ACCEL):
    """ACCEL by difficulty and co-learnability.

    Args:
        config: the options.
        context: the experiment.
    """

    saved = (*ACCEL.saved, "predictor", "difficulties", "credited")

    def __init__(self, config: TRACEDConfig, context: Context) -> None:
        super().__init__(config, context)
        self.weights = config.transition_weight, config.colearnability_weight
        engine = context.domain.engine(1)
        spaces = engine.observation_space, engine.action_space
        model = TransitionModel(*spaces, config.model_width, context.generator("transition model"))
        self.predictor = TransitionLearner(model, config.model_learning_rate)
        self.score = self.difficulty
        self.difficulties: dict[str, float] = {}
        """Of the levels in the buffer at their last visits, by key."""
        self.credited: LevelBatch | None = None
        """Levels that were replayed last, to which the progress of the next ones is credited."""

    def require_student(self, student: Student) -> None:
        """See `Measuring`. Any student will do."""

    def measure(self, student: Student, played: Trajectories) -> dict[str, Tensor]:  # noqa: ARG002
        """See `Measuring`."""
        return {SCORE: self.predictor.errors(played)}

    def difficulty(self, levels: LevelBatch, statistics: EpisodeStatistics, best_return: Tensor) -> Tensor:  # noqa: ARG002
        """Positive value loss plus the weighted transition-prediction error. `[B]`."""
        return positive_value_loss(Played(statistics, best_return, None)) + self.weights[0] * statistics.scores[SCORE]

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Score as ACCEL does, then credit progress. Returns what ACCEL returns, and `colearnability`."""
        levels = outcome.proposal.levels
        replayed = self.buffer.find(levels) >= 0
        found = super().observe(outcome)
        now = dict(zip(levels.key(), found["score"].tolist(), strict=True))
        progress = [self.difficulties[key] - now[key] for key in now if key in self.difficulties]
        credit = sum(progress) / len(progress) if progress else 0.0
        if bool(replayed.any()):
            if self.credited is not None:
                rows = self.buffer.find(self.credited)
                self.buffer.scores[rows[rows >= 0]] += self.weights[1] * credit
            self.credited = levels[replayed]
        self.difficulties = {key: value for key, value in (self.difficulties | now).items() if key in self.buffer}
        return found | {"colearnability": torch.tensor(credit)}
