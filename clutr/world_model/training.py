"""Training the memory: truncated backpropagation over streams of episodes, with carried states and early stopping.

Trained on recorded latents alone, the memory drifts when it is fed with its own predictions. So the last steps of every
chunk are also dreamt, from expected latents, with the recorded ones as targets (for the idea: overshooting, arXiv
1811.04551, section 4; scheduled sampling, arXiv 1506.03099). Their loss is the squared error, not the density, because
the mixture is to state the uncertainty one step ahead.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least, require_one_of
from clutr.world_model.cores.base import MovingCore
from clutr.world_model.latents import Chunk, LatentEpisode, Streams
from clutr.world_model.memory import Memory, Prediction, Scale
from clutr.world_model.motion_training import MotionTraining, fixed
from clutr.world_model.replay import STEPS, Replay, replay_streams


@dataclass(frozen=True)
class MemoryTrainingOptions:
    """How the memory is trained."""

    epochs: int = 30
    """Most passes over the training episodes."""
    streams: int = 64
    """Episodes side by side in a batch."""
    length: int = 32
    """Steps of each chunk, on which a gradient step is made; the state is carried to the next ones."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the step size stays, or falls to 0 along a cosine over all passes."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    reward_weight: float = 1.0
    """Weight of the reward's squared error, in squared standard deviations, against the nats of a latent dimension."""
    termination_weight: float = 1.0
    """Weight of the termination's cross-entropy."""
    patience: int = 5
    """Passes without a better validation loss after which it stops."""
    imagination_steps: int = 16
    """Steps at the end of each chunk that are also dreamt; 0 for none."""
    motion_passes: int = 0
    """Passes before all others that train motion alone, without the map, of cores that predict it; the others then
    leave it as it is. 0: motion is trained with the rest."""
    motion_weight: float = 1.0
    """Weight of how far the predicted motion lets the view be out of place, of cores that predict it."""
    dream_weight: float = 1.0
    """Weight of the losses of dreamt steps."""
    sample: bool = True
    """Draw latents from the backbone's Gaussians anew in each pass, instead of taking their means."""
    random_offsets: bool = False
    """Begin chunks, and so dreams, at random steps of an episode, drawn anew in each pass, instead of at multiples of
    `length`, whose dreams are learnt by heart."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "epochs", "streams", "length", "patience")
        require_above(self, 0, "learning_rate", "max_gradient_norm")
        require_at_least(self, 0, "reward_weight", "termination_weight", "motion_weight", "dream_weight")
        require_at_least(self, 0, "motion_passes")
        require_one_of(self, ("constant", "cosine"), "schedule")
        if not 0 <= self.imagination_steps < self.length:
            raise ValueError(
                f"imagination_steps must be at least 0 and less than length, {self.length}, "
                + f"got {self.imagination_steps}"
            )


def losses(
    found: Prediction,
    chunk: Chunk,
    latents: Tensor,
    reward_std: float,
    dreamt: bool = False,
    moving: MovingCore | None = None,
) -> Tensor:
    """Mean losses `[4]` of the recorded steps of a chunk: latent, reward, termination, motion; zeros if there are none.

    Args:
        found: what was expected, `[T, B]`.
        chunk: what came.
        latents: `[T + 1, B, D]`, normalised.
        reward_std: by which rewards are divided.
        dreamt: a latent's loss is half the squared error of what is expected instead of nats, both a dimension; errors
            of motion add up.
        moving: the core, if it predicts its motion.
    """
    real = chunk.real.float()
    if dreamt:
        latent = 0.5 * (found.latent.mean() - latents[1:]).square().mean(-1)
    else:
        latent = -found.latent.log_density(latents[1:]).mean(-1)
    reward = (found.reward - chunk.rewards / reward_std).square()
    termination = F.binary_cross_entropy_with_logits(found.termination, chunk.terminated, reduction="none")
    motion = torch.zeros_like(reward)
    if moving is not None and found.motion is not None:
        true = torch.where(chunk.motion.isnan(), found.motion.detach(), chunk.motion)  # unknown: nothing to learn
        motion = moving.displacement(found.motion, true, dreamt)
    parts = latent, reward, termination, motion
    return torch.stack([(each * real).sum() for each in parts]) / real.sum().clamp(min=1)


def scale_of(episodes: Sequence[LatentEpisode]) -> Scale:
    """The scale of latents and rewards of some episodes."""
    means, spreads, rewards = zip(*((e.mean, e.log_variance, e.rewards) for e in episodes), strict=True)
    return Scale.of(torch.cat(means), torch.cat(spreads), torch.cat(rewards))


LOSSES = (
    ("nll", "reward", "termination", "motion"),
    ("dream_mse", "dream_reward", "dream_termination", "dream_motion"),
)
"""Of observed and of dreamt steps: nats a latent dimension or half its squared error; squared standard deviations
of the reward; nats of the termination; of the motion what `MovingCore.displacement` says, 0 where none is predicted."""
SHOWN = "train_nll", "valid_nll", "valid_dream_mse"
"""Losses that are shown during training."""
CONVERGED = 0.01
"""A training has converged if its last tenth gained less than this share of all that it gained."""


class Convergence(NamedTuple):
    """Whether more passes would have helped."""

    converged: bool
    best_epoch: int
    """The pass whose weights are kept, from 1."""
    epochs: int
    """Passes that were made."""
    late_gain: float
    """By how much the validation loss fell in the last tenth of the passes, as a share of how much it fell in all."""


def convergence(losses: Sequence[float]) -> Convergence:
    """Judge a training by its validation losses, one a pass. Raises `ValueError` if there are none."""
    if not losses:
        raise ValueError("convergence is judged by the losses of at least one pass")
    best, tail = min(losses), max(1, len(losses) // 10)
    before = min(losses[:-tail], default=losses[0])
    gained = losses[0] - best
    late = max(0.0, before - best) / gained if gained > 0 else 0.0
    return Convergence(len(losses) > tail and late < CONVERGED, losses.index(best) + 1, len(losses), late)


def _named(split: str, parts: Tensor) -> dict[str, float]:
    """Losses `[K, 4]` by name: `train_nll` and so on."""
    return {
        f"{split}_{name}": float(value)
        for names, row in zip(LOSSES, parts, strict=False)
        for name, value in zip(names, row, strict=True)
    }


def _join(found: Sequence[Prediction], how: Callable[[list[Tensor]], Tensor]) -> Prediction:
    """Predictions one after the other in time: chunks concatenated, or steps stacked."""
    columns = (how(list(column)) for column in zip(*(each.latent for each in found), strict=True))
    mixture: Any = type(found[0].latent)(*columns)
    motions = [each.motion for each in found if each.motion is not None]
    rewards, terminations = (how([getattr(each, name) for each in found]) for name in ("reward", "termination"))
    return Prediction(mixture, rewards, terminations, how(motions) if motions else None)


class MemoryTraining:
    """One training of a memory, which can be stopped after any pass and resumed bit for bit.

    Args:
        memory: what is trained, from here on; at the end it has the weights of the best pass.
        options: how.
        train: training episodes.
        valid: validation episodes.
        seed: of order and noise.
        scale: that of a memory which was trained before and is trained on; None: that of the training episodes.
        replay: gives a share of every batch, beside training episodes; of that batches are no larger, but more.

    Raises:
        ValueError: if there are no episodes to train or to validate on, or the share is none or all of a batch.
    """

    def __init__(
        self,
        memory: Memory,
        options: MemoryTrainingOptions,
        train: Sequence[LatentEpisode],
        valid: Sequence[LatentEpisode],
        seed: int,
        scale: Scale | None = None,
        replay: Replay | None = None,
    ) -> None:
        if not train or not valid:
            raise ValueError("the memory needs episodes to train and to validate on: record more")
        self.memory, self.options, self.seed = memory, options, seed
        self.device = next(memory.parameters()).device
        self.scale = (scale_of(train) if scale is None else scale).to(self.device)
        memory.use_scale(self.scale)
        if memory.moving is not None and scale is None:
            motions = [episode.motion for episode in train if episode.motion is not None]
            if not motions:
                raise ValueError("this core learns from true motion, which is known of cars and mazes only")
            memory.moving.use_motion(torch.cat(motions).to(self.device))
        self.train, self.valid = train, valid
        self.motion: MotionTraining | None = None
        moving = memory.moving if options.motion_passes and scale is None else None
        if moving is not None and all(parameter.requires_grad for parameter in moving.motion_parameters()):
            self.motion = MotionTraining(memory, self.scale, options.motion_passes, train, valid, seed)
        self.optimiser = self._new_optimiser()
        self.rng = named_generator(seed, "memory", "training")
        self.offsets = named_generator(seed, "memory", "offsets") if options.random_offsets else None
        self.replay, self.replayed = replay, 0 if replay is None else replay_streams(replay.share, options.streams)
        self.replay_rng = named_generator(seed, "memory", "replay")
        self.epoch, self.best_epoch, self.best_loss = 0, 0, float("inf")
        self.best: dict[str, Tensor] = {name: value.clone() for name, value in memory.state_dict().items()}
        self.history: list[dict[str, float]] = []

    def _new_optimiser(self) -> Adam:
        """Of everything that is trained, but for motion that was learnt before."""
        learnt = set() if self.motion is None else {id(parameter) for parameter in self.motion.parameters}
        trained = [each for each in self.memory.parameters() if each.requires_grad and id(each) not in learnt]
        return Adam(trained, self.options.learning_rate)

    @property
    def convergence(self) -> Convergence:
        """Whether more passes would have helped."""
        return convergence([row["valid_loss"] for row in self.history if "valid_loss" in row] or [self.best_loss])

    @property
    def done(self) -> bool:
        """Whether all passes were made, or the last ones were no better."""
        return self.epoch >= self.options.epochs or self.epoch - self.best_epoch >= self.options.patience

    def run(self, progress: Progress = lambda *_: None) -> None:
        """Train to the end and keep the best weights."""
        before = 0 if self.motion is None else self.motion.passes
        whole = before + self.options.epochs
        if self.motion is not None:
            self.motion.run(lambda done, _, metrics: progress(done, whole, metrics))
        while not self.done:
            self.one_epoch()
            progress(before + self.epoch, whole, self.history[-1])
        self.memory.load_state_dict(self.best)

    def one_epoch(self) -> None:
        """One pass over the training episodes, then one over the validation episodes."""
        with fixed([] if self.motion is None else self.motion.parameters):
            trained = self._pass(self.train, learn=True)
        with torch.no_grad():
            tested = self._pass(self.valid, learn=False)
        self.epoch += 1
        loss = self._total(tested).item()
        self.history.append(_named("train", trained) | _named("valid", tested) | {"valid_loss": loss})
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.epoch
            self.best = {name: value.clone() for name, value in self.memory.state_dict().items()}

    def _total(self, parts: Tensor) -> Tensor:
        """The loss, of parts `[K, 4]`: of observed steps and, if K is 2, of dreamt ones."""
        options = self.options
        weights = torch.tensor(
            [1.0, options.reward_weight, options.termination_weight, options.motion_weight], device=parts.device
        )
        kinds = torch.tensor([1.0, options.dream_weight], device=parts.device)[: len(parts)]
        return (parts @ weights * kinds).sum()

    def _pass(self, episodes: Sequence[LatentEpisode], learn: bool) -> Tensor:
        """Mean losses `[K, 4]` over all recorded steps."""
        options, memory = self.options, self.memory
        memory.train(learn)
        state = memory.initial_state(options.streams)
        kinds = 2 if options.imagination_steps else 1
        sums, steps = torch.zeros(kinds, 4, device=self.device), torch.zeros(kinds, 1, device=self.device)
        chunks = self._batches(episodes, learn)
        for number, recorded in enumerate(chunks):
            chunk = recorded.to(self.device)
            if memory.moving is not None:
                chunk = replace(chunk, motion=memory.moving.in_deviations(chunk.motion))
            before = torch.where(chunk.first[:, None], memory.initial_state(options.streams), state.detach())
            state, parts = self._losses(chunk, before)
            state = self._without_padding(chunk, before, state)
            if learn:
                self._set_learning_rate(number / len(chunks))
                self.optimiser.zero_grad()
                self._total(parts).backward()
                nn.utils.clip_grad_norm_(memory.parameters(), options.max_gradient_norm)
                self.optimiser.step()
            count = torch.stack(
                [each.real.sum() for each in (chunk, chunk.after(options.length - options.imagination_steps))]
            )
            sums += parts.detach() * count[: len(parts), None]
            steps += count[: len(parts), None]
        memory.train(False)
        return sums / steps.clamp(min=1)

    def _batches(self, episodes: Sequence[LatentEpisode], learn: bool) -> list[Chunk]:
        """The batches of a pass: of training episodes those that are replayed take the last streams."""
        options = self.options
        if not learn:
            rng = named_generator(self.seed, "memory", "validation")
            return Streams(episodes, options.streams, options.length, rng, sample=False).epoch()
        streams = options.streams - self.replayed
        chunks = Streams(episodes, streams, options.length, self.rng, options.sample, self.offsets).epoch()
        if self.replay is None:
            return chunks
        steps = (len(chunks) * options.length + STEPS) * self.replayed  # the last batches are full, too
        again = self.replay.episodes(steps, options.length, self.replay_rng)
        replayed = Streams(again, self.replayed, options.length, self.replay_rng, options.sample).epoch()
        return [a.beside(b) for a, b in zip(chunks, replayed, strict=False)]  # those are no fewer

    def _set_learning_rate(self, share: float) -> None:
        """Adam's step size, when `share` of a pass is done."""
        if self.options.schedule == "cosine":
            done = (self.epoch + share) / self.options.epochs
            for group in self.optimiser.param_groups:
                group["lr"] = self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    @torch.no_grad()
    def _without_padding(self, chunk: Chunk, before: Tensor, state: Tensor) -> Tensor:
        """The states `[B, S]` after the last recorded steps, where the next chunk carries on from a padded one."""
        state, sizes = state.clone(), chunk.real.sum(0).tolist()
        for stream in chunk.goes_on.nonzero().flatten().tolist():
            if sizes[stream] < self.options.length:
                rows = slice(0, sizes[stream]), slice(stream, stream + 1)
                latents = self.scale.normalise(chunk.latents[rows])
                state[stream] = self.memory.scan(before[stream : stream + 1], latents, chunk.actions[rows])[0][0]
        return state

    def _losses(self, chunk: Chunk, state: Tensor) -> tuple[Tensor, Tensor]:
        """The state after the chunk, and the losses `[K, 4]` of observed and of dreamt steps."""
        memory, latents, reward_std = self.memory, self.scale.normalise(chunk.latents), self.scale.reward_std
        moving = memory.moving
        if not self.options.imagination_steps:
            state, found = memory.scan(state, latents[:-1], chunk.actions)
            return state, losses(found, chunk, latents, reward_std, moving=moving)[None]
        begin = self.options.length - self.options.imagination_steps
        state, before = memory.scan(state, latents[:begin], chunk.actions[:begin])
        dreaming, latent, dreamt = state, latents[begin], []
        state, behind = memory.scan(state, latents[begin:-1], chunk.actions[begin:])
        for action in chunk.actions[begin:]:
            dreaming, expected = memory.step(dreaming, latent, action)
            dreaming = memory.dreaming(dreaming, True)
            latent = expected.latent.mean()
            dreamt.append(expected)
        observed = losses(_join([before, behind], torch.cat), chunk, latents, reward_std, moving=moving)
        alone = losses(_join(dreamt, torch.stack), chunk.after(begin), latents[begin:], reward_std, True, moving)
        return state, torch.stack([observed, alone])

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue between two passes."""
        return {
            "memory": dict(self.memory.state_dict()),
            "scale": self.scale.state_dict(),
            "best": dict(self.best),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            **({} if self.offsets is None else {"offsets": self.offsets.get_state()}),
            **({} if self.replay is None else {"replay": self.replay_rng.get_state()}),
            **({} if self.motion is None else {"motion": self.motion.state_dict()}),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "history": [dict(row) for row in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        if "motion" not in state and self.motion is not None:
            self.motion = None  # a training that was begun without goes on without
            self.optimiser = self._new_optimiser()
        self.memory.load_state_dict(state["memory"])
        self.scale = Scale.from_state(state["scale"]).to(self.device)
        self.best = {name: value.to(self.device, copy=True) for name, value in state["best"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.set_state(state["rng"])
        if self.offsets is not None:
            self.offsets.set_state(state["offsets"])
        if self.replay is not None:
            self.replay_rng.set_state(state["replay"])
        if self.motion is not None:
            self.motion.load_state_dict(state["motion"])
        self.epoch, self.best_epoch, self.best_loss = state["epoch"], state["best_epoch"], state["best_loss"]
        self.history = [dict(row) for row in state["history"]]
