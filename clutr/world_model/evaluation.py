"""The error of dreams against recorded episodes, by horizon, beside baselines; calibration; termination prediction."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.validation import require_at_least
from clutr.world_model.baselines import LinearDynamics, copy_last, damped_velocity, mean_latent
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.memory import Scale
from clutr.world_model.metrics import calibration, mse, nrmse, psnr, spectral_error, ssim, valid_horizon

Pictures = Callable[[Tensor], Tensor]
"""Latents `[n, D]` to pictures `[n, H, W, 3]` in [0, 1]."""
SAME = 1e-8
"""Variance up to which rewards are called equal: a share of it would be a share of rounding."""


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured."""

    context: int = 20
    """Frames that are observed before a dream begins."""
    horizon: int = 100
    """Steps that are dreamt."""
    windows: int = 128
    """Dreams, one an episode, of episodes that are long enough."""
    pictured: int = 48
    """Dreams of which pictures are compared."""
    horizons: tuple[int, ...] = (1, 2, 3, 5, 7, 10, 15, 20, 25, 35, 50, 75, 100)
    """Steps at which pictures are compared."""

    def __post_init__(self) -> None:
        require_at_least(self, 2, "context")
        require_at_least(self, 1, "horizon", "windows", "pictured")
        if not self.horizons or min(self.horizons) < 1:
            raise ValueError(f"horizons must be at least one number above 0, got {self.horizons}")


class Windows(NamedTuple):
    """Stretches of E episodes: a context of C frames, then a horizon of H steps."""

    latents: Tensor
    """`[C + H, E, D]`."""
    actions: Tensor
    """`[C + H - 1, E, A]`."""
    rewards: Tensor
    """`[H, E]`: of the actions of the horizon, the first of which is taken in the context's last frame."""
    episodes: list[int]
    """Which episodes."""
    starts: list[int]
    """Where in each its stretch begins."""
    past_latents: list[Tensor]
    """`[S + C, D]` each: from the episode's beginning, where alone a memory can begin, to the context's end."""
    past_actions: list[Tensor]
    """`[S + C - 1, A]` each."""


def cut_windows(episodes: Sequence[LatentEpisode], context: int, horizon: int, most: int) -> Windows:
    """One stretch of each episode that is long enough, from its middle.

    Raises:
        ValueError: if no episode is long enough.
    """
    length = context + horizon
    chosen = [number for number, episode in enumerate(episodes) if len(episode) + 1 >= length][:most]
    if not chosen:
        longest = max((len(episode) + 1 for episode in episodes), default=0)
        raise ValueError(
            f"no episode has {length} frames (context {context} and horizon {horizon}); most have {longest}"
        )
    starts = [(len(episodes[number]) + 1 - length) // 2 for number in chosen]
    places = list(zip(chosen, starts, strict=True))

    def stack(name: str, first: int, count: int) -> Tensor:
        return torch.stack([getattr(episodes[n], name)[s + first : s + first + count] for n, s in places], 1)

    return Windows(
        latents=stack("mean", 0, length),
        actions=stack("actions", 0, length - 1),
        rewards=stack("rewards", context - 1, horizon),
        episodes=chosen,
        starts=starts,
        past_latents=[episodes[number].mean[: start + context] for number, start in places],
        past_actions=[episodes[number].actions[: start + context - 1] for number, start in places],
    )


def observe_windows(dreamer: Dreamer, windows: Windows) -> LatentState:
    """The latent states of E windows at the ends of their contexts, each observed from its episode's beginning.

    In training a memory's first state is an episode's beginning; observed from anywhere else it dreams worse.
    """
    found: dict[int, LatentState] = {}
    lengths = [len(latents) for latents in windows.past_latents]
    for length in set(lengths):  # those of equal length side by side
        mine = [number for number, each in enumerate(lengths) if each == length]
        latents, actions = (
            torch.stack([past[number] for number in mine], 1) for past in (windows.past_latents, windows.past_actions)
        )
        seen, _ = dreamer.observe(latents, actions)
        found |= {number: seen.branch(torch.tensor([row])) for row, number in enumerate(mine)}
    return LatentState(*(torch.cat(column) for column in zip(*(found[n] for n in range(len(lengths))), strict=True)))


def fit_linear(episodes: Sequence[LatentEpisode]) -> LinearDynamics:
    """The linear baseline, fitted on training episodes."""
    return LinearDynamics.fit(
        torch.cat([episode.mean[:-1] for episode in episodes]),
        torch.cat([episode.actions for episode in episodes]),
        torch.cat([episode.mean[1:] for episode in episodes]),
    )


class LatentRollouts(NamedTuple):
    """What each method predicts for the horizons of E windows."""

    latents: dict[str, Tensor]
    """`[H, E, D]` by method."""
    rewards: dict[str, Tensor]
    """`[H, E]` of methods that predict rewards."""
    seen: dict[str, Tensor] = {}  # noqa: RUF012 (never changed)
    """`[H, E, rows, columns]` of methods that tell what they have seen from what they invent."""


def roll_out(
    windows: Windows, dreamers: Mapping[str, Dreamer], linear: LinearDynamics, context: int, scale: Scale
) -> LatentRollouts:
    """Let every dreamer and every baseline predict."""
    shown, horizon = windows.latents[:context], len(windows.rewards)
    ahead = windows.actions[context - 1 :]
    latents = {
        "copy last": copy_last(shown, horizon),
        "mean": mean_latent(scale.latent_mean, shown.shape[1], horizon),
        "damped velocity": damped_velocity(shown, horizon),
        "linear": linear.roll(shown, ahead),
    }
    rewards: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}
    for name, dreamer in dreamers.items():
        dream = dreamer.dream(observe_windows(dreamer, windows), ahead, horizon)
        latents[name], rewards[name] = dream.latents, dream.rewards
        if dream.seen is not None:
            seen[name] = dream.seen
    return LatentRollouts(latents, rewards, seen)


def _list(values: Tensor) -> list[float | None]:
    """Plain numbers; None where there was nothing to measure."""
    return [None if math.isnan(value) else round(value, 6) for value in values.tolist()]


def latent_curves(windows: Windows, rollouts: LatentRollouts, context: int, scale: Scale) -> dict[str, Any]:
    """For each method the latent error by horizon, and how long it is valid; over active dimensions only.

    Returns:
        By method: `nrmse`, a list over horizons 1..H, and `valid_horizon` with its 95 % interval over episodes, NRMSE
        above 0.4 or above that of copying the last frame.
    """
    active, true = scale.active, windows.latents[context:]
    std = scale.signal_std[active]
    errors = {name: nrmse(found[..., active], true[..., active], std) for name, found in rollouts.latents.items()}
    copying: NDArray[np.float64] = errors["copy last"].T.double().numpy()
    curves = {}
    for name, error in errors.items():
        held = valid_horizon(error.T.double().numpy(), copying)
        interval = {"value": held.value, "interval": [held.low, held.high]}
        curves[name] = {"nrmse": _list(error.mean(1)), "valid_horizon": interval}
    return curves


def outcome_curves(windows: Windows, rollouts: LatentRollouts) -> dict[str, Any]:
    """Reward errors by horizon of each method that predicts rewards; for terminations see `predict_terminations`.

    Returns:
        By method: `reward_mae`, the mean absolute error, which the median of skewed rewards makes small; and
        `reward_error_share`, the mean squared error over the rewards' variance, by which a constant scores 1; None
        everywhere if they do not vary.
    """
    variance = windows.rewards.var(correction=0)
    found = {}
    for name, rewards in rollouts.rewards.items():
        wrong = rewards - windows.rewards
        squared = wrong.square().mean(1)
        share = _list(squared / variance) if float(variance) > SAME else [None] * len(squared)
        found[name] = {"reward_mae": _list(wrong.abs().mean(1)), "reward_error_share": share}
    return found


def picture_curves(
    rollouts: LatentRollouts,
    decode: Pictures,
    true: Tensor,
    masks: Tensor,
    objects: Sequence[str],
    horizons: Sequence[int],
) -> dict[str, Any]:
    """Pictures of the first P windows at some horizons.

    Args:
        rollouts: latents of at least P windows.
        decode: the backbone's.
        true: `[K, P, H, W, 3]` uint8: the frames that came, at each of K horizons.
        masks: `[K, P, H, W]` uint8: their objects.
        objects: the masks' names.
        horizons: K numbers from 1.

    Returns:
        By method, lists over horizons: `mse`, `psnr`, `ssim`, `mse_in/OBJECT` of what is ever seen (None at a horizon
        where it is not), and `spectrum`, of each horizon the share of each frequency band's power that is wrong.
    """
    real = true.float() / 255
    pictured = true.shape[1]
    found = {}
    for name, latents in rollouts.latents.items():
        chosen = latents[[horizon - 1 for horizon in horizons]][:, :pictured]
        shown = decode(chosen.flatten(0, 1)).clamp(0, 1).view(real.shape)
        curves: dict[str, Any] = {
            "mse": _list(mse(shown, real).mean(1)),
            "psnr": _list(psnr(shown, real).mean(1)),
            "ssim": _list(ssim(shown, real).mean(1)),
            "spectrum": [_list(row) for row in spectral_error(shown, real).mean(1)],
        }
        for number, thing in enumerate(objects):
            inside = masks == number
            if inside.any():
                curves[f"mse_in/{thing}"] = _list(mse(shown, real, inside).nanmean(1))
        found[name] = curves
    return found


def physical_curves(
    rollouts: LatentRollouts,
    read_out: LinearProbe,
    privileged_state: Tensor,
    quantities: Sequence[str],
    visible: Tensor | None = None,
) -> dict[str, dict[str, list[float | None]]]:
    """Root mean squared error of each quantity as read from predicted latents, by horizon, in its units.

    Args:
        rollouts: `[H, E, D]` by method.
        read_out: fitted on training frames.
        privileged_state: `[H, E, Q]`.
        quantities: names.
        visible: `[H, E, Q]` bool: where a quantity could be seen in the true picture; others do not count.
    """
    found = {}
    for name, latents in rollouts.latents.items():
        squared = (read_out(latents) - privileged_state).square()
        if visible is not None:
            squared = squared.masked_fill(~visible, math.nan)
        errors = squared.nanmean(1).sqrt()
        found[name] = {quantity: _list(errors[:, column]) for column, quantity in enumerate(quantities)}
    return found


def one_step(episodes: Sequence[LatentEpisode], dreamer: Dreamer) -> dict[str, Any]:
    """How well the next latent is predicted from all earlier ones.

    Returns:
        `nll` in nats a dimension; `gaussian_nll`, that of one Gaussian with the data's mean and variance, which knows
        nothing; `pit`, the share of outcomes in each tenth of what was expected; and `coverage` of central intervals.
    """
    logs, naive, places = [], [], []
    for episode in episodes:
        _, expected = dreamer.observe(episode.mean[:, None], episode.actions[:, None])
        following = dreamer.scale.normalise(episode.mean[1:, None])
        logs.append(expected.latent.log_density(following).flatten())
        places.append(expected.latent.distribution(following).flatten())
        naive.append((0.5 * following.square() + 0.5 * np.log(2 * np.pi)).flatten())
    told = calibration(torch.cat(places))
    return {
        "nll": -float(torch.cat(logs).mean()),
        "gaussian_nll": float(torch.cat(naive).mean()),
        "pit": told.histogram,
        "coverage": {str(level): share for level, share in told.coverage.items()},
    }


def calibration_ahead(
    windows: Windows,
    dreamer: Dreamer,
    context: int,
    horizons: Sequence[int] = (1, 10, 50),
    draws: int = 32,
    seed: int = 1,
) -> dict[str, Any]:
    """Whether dreams that are drawn spread as much as what comes, k steps ahead.

    Args:
        windows: of recorded episodes.
        dreamer: dreams each of them `draws` times at temperature 1.
        context: of the windows.
        horizons: k, of which those beyond the windows are left out.
        draws: dreams of each window.
        seed: of the draws.

    Returns:
        By k (as text) `coverage`, the share of outcomes inside central intervals of the draws, of active latents, and
        `pit`, the share of outcomes in each tenth of the draws.
    """
    rng = torch.Generator().manual_seed(seed)
    starts = observe_windows(dreamer, windows)
    count, told = len(starts.latent), [horizon for horizon in horizons if horizon <= len(windows.rewards)]
    rows = torch.arange(count).repeat(draws)
    actions = windows.actions[context - 1 : context - 1 + max(told, default=0)][:, rows]
    dream = dreamer.dream(starts.branch(rows), actions, len(actions), 1.0, rng, keep_states=False)
    found = {}
    for horizon in told:
        drawn = dream.latents[horizon - 1].view(draws, count, -1)
        true = windows.latents[context - 1 + horizon]
        below = (drawn < true).sum(0)[:, dreamer.scale.active].double()
        chance = torch.rand(below.shape, generator=rng, dtype=torch.float64)  # ranks are spread evenly over their bins
        result = calibration((below + chance) / (draws + 1))
        coverage = {str(level): share for level, share in result.coverage.items()}
        found[str(horizon)] = {"coverage": coverage, "pit": result.histogram}
    return found


AHEAD = (1, 5, 10)
"""Steps ahead at which terminations are predicted."""


def predict_terminations(
    episodes: Sequence[LatentEpisode], dreamer: Dreamer, ahead: Sequence[int] = AHEAD
) -> dict[str, Any]:
    """How well steps that terminate an episode are told from others, k steps ahead.

    The last step of each episode, which terminated or truncated it, and its middle step are predicted. All but the last
    k steps are observed, and those are dreamt under the recorded actions.

    Args:
        episodes: of latents and actions.
        dreamer: makes the predictions.
        ahead: k, at least 1 each.

    Returns:
        `terminations`, how many episodes terminated; and `auroc` by k (as text), the area under the ROC curve: 0.5 is
        chance, None where there are not both kinds of steps.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  # takes a second

    terminated: dict[int, list[bool]] = {steps: [] for steps in ahead}
    chances: dict[int, list[float]] = {steps: [] for steps in ahead}
    for episode in episodes:
        asked = {(last + 1 - steps, steps) for last in (len(episode) - 1, len(episode) // 2) for steps in ahead}
        state, at = None, 0
        for begin, steps in sorted(asked):
            if begin < 1:
                continue
            if begin > at:
                latents, actions = episode.mean[at : begin + 1, None], episode.actions[at:begin, None]
                seen, _ = dreamer.observe(latents, actions, state)
                state, at = seen.state, begin
            dream = dreamer.dream(seen, episode.actions[begin : begin + steps, None], steps)
            chances[steps].append(float(dream.terminations[-1, 0]))
            terminated[steps].append(bool(episode.terminated[begin + steps - 1] > 0))
    areas = {
        str(steps): float(roc_auc_score(ended, chances[steps])) if any(ended) and not all(ended) else None
        for steps, ended in terminated.items()
    }
    return {"terminations": sum(bool(torch.any(episode.terminated > 0)) for episode in episodes), "auroc": areas}
