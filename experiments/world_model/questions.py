"""What an engineer asks of a trained world model: can I trust it here, what did it see, what would happen if?

Sections of a probe report, like those of `probing`: each takes the model to plain values and arrays.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.experiments.storage import RunError
from clutr.experiments.world_model.run_directory import open_world_model
from clutr.experiments.world_model.training import load_world_model
from clutr.probes import latent_measures, seen_or_invented, trust
from clutr.probes import pixel_attribution as pixels
from clutr.probes.nearest_situations import SituationIndex
from clutr.world_model.backbones.base import to_uint8
from clutr.world_model.dataset import EpisodeInfo
from clutr.world_model.dream import LatentState
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.metrics import LIMIT, nrmse, spectral_error
from clutr.world_model.views import View, view_of

if TYPE_CHECKING:
    from clutr.experiments.world_model.probing import ProbeContext, ProbeResult

SHOWN, STRIP = 3, (1, 5, 10, 20)
"""Moments that are pictured, and steps ahead at which."""


class TooShortError(ValueError):
    """Episodes are too short for what is asked of them."""


def or_why(section: "Callable[[ProbeContext], ProbeResult]") -> "Callable[[ProbeContext], ProbeResult]":
    """A section that says why it is empty where episodes are too short."""

    @functools.wraps(section)
    def measured(context: "ProbeContext") -> "ProbeResult":
        try:
            return section(context)
        except TooShortError as error:
            return {"why_empty": str(error)}, {}

    return measured


class Moments:
    """Moments of held-out episodes, with what came: a few of each, where a dream begins.

    Args:
        context: the model and its episodes.
        each: moments of an episode.
        steps: that are dreamt; fewer if episodes are short.
        episodes: others than the held-out ones.

    Raises:
        TooShortError: if fewer than three levels have episodes that are long enough.
    """

    def __init__(
        self,
        context: "ProbeContext",
        each: int,
        steps: int,
        episodes: "Sequence[tuple[EpisodeInfo, LatentEpisode]] | None" = None,
    ) -> None:
        episodes = context.episodes if episodes is None else episodes
        longest = max((len(seen) for _, seen in episodes), default=0)
        self.steps = min(steps, longest // 2)
        self.places: list[tuple[EpisodeInfo, int]] = []
        """Each moment's episode and step."""
        memory, scale = context.dreamer.memory, context.dreamer.scale
        keys = sorted({episode.key for episode, _ in episodes})
        rng = context.rng("moments")
        state, latent, features, surprised, groups, rows, firsts = [], [], [], [], [], [], []
        actions, later, last = [], [], []
        for episode, seen in episodes:
            count = len(seen) - self.steps
            if count <= trust.LAST:
                continue
            chosen = torch.randperm(count - trust.LAST, generator=rng)[:each].sort().values + trust.LAST
            normal = scale.normalise(seen.mean)
            inputs = torch.cat([normal[:-1], seen.actions], 1)[:, None]
            current, done = memory.initial_state(1), 0
            with torch.no_grad():
                _, expected = memory.scan(memory.initial_state(1), normal[:-1, None], seen.actions[:, None])
                logs = -expected.latent.log_density(normal[1:, None])[:, 0, scale.active].mean(-1)
                for step in chosen.tolist():
                    current, made = memory.core.scan(current, inputs[done:step])
                    done = step
                    state.append(current[0])
                    features.append(made[-1, 0])
                    latent.append(normal[step])
                    surprised.append(logs[step - trust.LAST : step].mean())
                    groups.append(keys.index(episode.key))
                    rows.append(episode.first + step)
                    self.places.append((episode, step))
                    firsts.append(episode.first)
                    actions.append(seen.actions[step : step + self.steps])
                    last.append(seen.actions[step - 1])
                    later.append(seen.mean[step + 1 : step + 1 + self.steps])
        if len(set(groups)) < 3:
            raise TooShortError(
                f"fewer than 3 of the levels have episodes of more than {self.steps + trust.LAST} steps"
            )
        self.starts = LatentState(torch.stack(state), torch.stack(latent))
        self.features, self.surprised = torch.stack(features), torch.stack(surprised)
        self.groups, self.rows, self.firsts = torch.tensor(groups), torch.tensor(rows), firsts
        self.actions, self.later = torch.stack(actions, 1), torch.stack(later, 1)
        self.last = torch.stack(last)

    def chosen(self, count: int) -> list[int]:
        """Some moments, evenly over all: not chosen by what they show."""
        spread: list[int] = torch.linspace(0, len(self.rows) - 1, min(count, len(self.rows))).long().tolist()
        return spread


def _view(context: "ProbeContext") -> View | None:
    return view_of(context.run.experiment.domain, context.dataset.quantities)


@or_why
def trust_now(context: "ProbeContext") -> "ProbeResult":
    """For how long a dream from here will hold, and an alarm for the unfamiliar, each with its calibration."""
    moments, scale = Moments(context, context.options.moments, 50), context.dreamer.scale
    if not scale.active.any():
        return {"why_empty": "the backbone has no active latent: dreams of it hold for nothing"}, {}
    dreamt = context.dreamer.dream(moments.starts, moments.actions, moments.steps, keep_states=False).latents
    active = scale.active
    errors = nrmse(dreamt[..., active], moments.later[..., active], scale.signal_std[active])
    failed = errors > LIMIT
    horizons = torch.where(failed.any(0), failed.float().argmax(0).float(), float(moments.steps))
    rng = context.rng("trust")
    unfamiliar = _unfamiliar(context, moments)
    _, found = trust.calibrated_trust(moments.features, horizons, moments.surprised, moments.groups, unfamiliar, rng)
    error, flat = found["error"], found["constant_error"]
    found |= {
        "steps": moments.steps,
        "mean_horizon": float(horizons.mean()),
        "useful": found["rank_correlation"][1] > 0 and error[0] < flat[0],
    }
    return found, {"horizons": horizons.numpy(), "surprise": moments.surprised.numpy()}


def _unfamiliar(context: "ProbeContext", moments: Moments) -> dict[str, Tensor]:
    """Surprise where the last frames do not belong together: of another road, in the wrong order, upside down."""
    scale, memory = context.dreamer.scale, context.dreamer.memory
    frames = context.dataset.column("frames", moments.rows)
    flipped = scale.normalise(context.model.backbone.encode(frames.flip(1))[0])
    other = moments.starts.latent.roll(len(moments.rows) // 2, 0)
    found = {}
    for name, latents in (("a picture of another road", other), ("the picture upside down", flipped)):
        with torch.no_grad():
            # the memory expected what came; it is shown something else
            _, expected = memory.step(moments.starts.state, moments.starts.latent, moments.actions[0])
            logs = expected.latent.log_density(latents)[:, scale.active].mean(-1)
        # one strange frame among the last
        found[name] = moments.surprised + (-logs - moments.surprised) / trust.LAST
    return found


@or_why
def seen_and_invented(context: "ProbeContext") -> "ProbeResult":
    """Which dreamt pixels had been observed, and what the errors of bad predictions are made of."""
    view = _view(context)
    if view is None:
        return {"why_empty": "the geometry of this environment's view is not known"}, {}
    moments = Moments(context, 1, max(STRIP))
    horizons = [step for step in STRIP if step <= moments.steps]
    dataset, backbone = context.dataset, context.model.backbone
    dreamt = context.dreamer.dream(moments.starts, moments.actions, moments.steps, keep_states=False).latents
    picked = moments.chosen(context.options.pictured)
    parts: list[list[Tensor]] = [[] for _ in range(5)]
    for n in picked:
        row = int(moments.rows[n])
        past = torch.arange(moments.firsts[n], row + 1)
        future = row + torch.tensor(horizons)
        states = dataset.column("privileged_state", torch.cat([past, torch.arange(row + 1, row + 1 + max(horizons))]))
        frames, masks = (dataset.column(name, past) for name in ("frames", "masks"))
        told = seen_or_invented.seen_or_invented(view, frames, masks, dataset.objects, states, dataset.quantities)
        steps = [step - 1 for step in horizons]
        true, later = (dataset.column(name, future) for name in ("frames", "masks"))
        with torch.no_grad():
            reconstructed = backbone.decode(backbone.encode(true)[0]).clamp(0, 1)
            shown = backbone.decode(dreamt[steps, n]).clamp(0, 1)
        viewer = seen_or_invented.of_the_viewer(view, later, dataset.objects)
        for part, value in zip(parts, (shown, reconstructed, true, told.seen[steps], viewer), strict=True):
            part.append(value)
    shown, reconstructed, true, seen, viewer = (torch.stack(part, 1) for part in parts)  # [K, P, ...]
    real = true.float() / 255
    budgets = {}
    for place, step in enumerate(horizons):
        budget = seen_or_invented.error_budget(*(each[place] for each in (shown, reconstructed, real, seen, viewer)))
        budgets[str(step)] = budget._asdict()
    share = [float((seen[k] & ~viewer[k]).sum() / (~viewer[k]).sum()) for k in range(len(horizons))]
    spectrum = [spectral_error(shown[k], real[k]).mean(0).tolist() for k in range(len(horizons))]
    values = {
        "horizons": horizons, "budget": budgets, "seen_share": share, "spectrum": spectrum, "moments": len(picked),
    }  # fmt: skip
    few = slice(0, SHOWN)
    dream = to_uint8(shown[:, few])
    arrays: dict[str, NDArray[Any]] = {
        "true": true[:, few].numpy(),
        "dream": dream.numpy(),
        "tinted": seen_or_invented.tint(dream, seen[:, few]).numpy(),
    }
    return values, arrays


@or_why
def situations(context: "ProbeContext") -> "ProbeResult":
    """The recorded training situations that are most like a moment."""
    dataset, moments = context.dataset, Moments(context, 1, 1)
    rows = dataset.rows("train")
    rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), 4 * context.options.frames)).long()]
    firsts = torch.tensor([episode.first for episode in dataset.episodes])
    order = firsts.argsort()
    group = order[torch.searchsorted(firsts[order], rows, right=True) - 1]
    with torch.no_grad():
        latents = torch.cat(
            [context.model.backbone.encode(dataset.column("frames", part))[0] for part in rows.split(500)]
        )
    try:
        index = SituationIndex(latents, rows, group, context.dreamer.scale)
        picked = moments.chosen(SHOWN)
        found = index.nearest(context.dreamer.scale.restore(moments.starts.latent), 3)
    except ValueError as error:
        return {"why_empty": str(error)}, {}
    shown = torch.cat([moments.rows[picked][:, None], found.rows[picked]], 1)
    frames = dataset.column("frames", shown.flatten()).unflatten(0, shown.shape)
    state = dataset.column("privileged_state", found.rows[:, 0])
    mine = dataset.column("privileged_state", moments.rows)
    spread = mine.std(0).clamp(min=1e-6)
    apart = ((state - mine).abs() / spread).mean(0)
    chance = ((mine - mine.roll(1, 0)).abs() / spread).mean(0)
    return {
        "distances": found.distances[:, 0].tolist(),
        "indexed": len(rows),
        "moments": len(moments.rows),
        "apart": dict(zip(dataset.quantities, apart.tolist(), strict=True)),
        "chance": dict(zip(dataset.quantities, chance.tolist(), strict=True)),
    }, {"frames": frames.numpy()}


@or_why
def latent_tests(context: "ProbeContext") -> "ProbeResult":
    """Latents under jitter and quantised, fewest directions, pictures of the memory, a slow factor that is missed."""
    known, _, _ = context.state_probe_data
    scale, backbone, dreamer = context.dreamer.scale, context.model.backbone, context.dreamer
    frames = context.dataset.column("frames", known.rows[:200]).float()
    stable = latent_measures.jitter_stability(pixels.differentiable(backbone), frames, scale.signal_std)
    means = known.representations["latents"]
    features = known.representations["features, trained"]
    principal = latent_measures.stitching(
        means, known.representations["pixel PCA"], known.groups, context.rng("stitching")
    )
    other = _stitched(context, known.rows, means, known.groups) if context.options.other else None
    moments = Moments(context, 1, 10)
    active = scale.active
    quantised = {}
    for levels in (3, 5, 9, 33):
        latent = latent_measures.quantise(moments.starts.latent, torch.ones_like(scale.latent_std), levels)
        dream = dreamer.dream(moments.starts._replace(latent=latent), moments.actions, moments.steps, keep_states=False)
        quantised[str(levels)] = _error(dream.latents, moments, scale.signal_std, active)
    plain = dreamer.dream(moments.starts, moments.actions, moments.steps, keep_states=False)
    quantised["not quantised"] = _error(plain.latents, moments, scale.signal_std, active)
    exponents = []
    with torch.no_grad():
        for seen in context.seen:
            if len(seen) >= 64 and active.any():
                _, expected = dreamer.observe(seen.mean[:, None], seen.actions[:, None])
                wrong = (scale.normalise(seen.mean[1:]) - expected.latent.mean()[:, 0])[:, active]
                exponents.append(sum(latent_measures.hurst_exponent(each) for each in wrong.T[:8]) / len(wrong.T[:8]))
    away = features - features.mean(0)
    directions = torch.linalg.eigh(away.T.double() @ away.double()).eigenvectors[:, -4:].flip(1).T.float()
    pictures = latent_measures.memory_pictures(features, means, backbone.decode, torch.cat([directions, -directions]))
    return {
        "jitter": list(stable),
        "fewest": {str(share): latent_measures.fidelity(means, share) for share in (0.5, 0.8, 0.95, 0.99)},
        "latents": means.shape[1],
        "stitching_pixel_pca": list(principal),
        "stitching": other,
        "quantised": quantised,
        "steps": moments.steps,
        "hurst": sum(exponents) / len(exponents) if exponents else None,
        "episodes": len(exponents),
    }, {"memory": to_uint8(pictures.detach().clamp(0, 1)).numpy()}


def _stitched(context: "ProbeContext", rows: Tensor, means: Tensor, groups: Tensor) -> dict[str, Any]:
    """How well a linear map leads from these latents to another model's of the same frames, and back.

    Raises:
        RunError: if there is no such model, it is not trained, or is of another environment.
    """
    name = context.options.other
    found = open_world_model(Path(name), lambda _: nullcontext(lambda *_: None))
    mine, its = (type(run.experiment.domain).__name__ for run in (context.run, found))
    if mine != its:
        raise RunError(f"{name} is of another environment: latents of a {its} and a {mine} are not of the same frames")
    backbone = load_world_model(found).backbone
    with torch.no_grad():
        others = torch.cat([backbone.encode(context.dataset.column("frames", part))[0] for part in rows.split(500)])
    pairs = {"to": (means, others), "from": (others, means)}
    return {"other": name} | {
        way: list(latent_measures.stitching(a, b, groups, context.rng("stitching to another")))
        for way, (a, b) in pairs.items()
    }


def _error(dreamt: Tensor, moments: Moments, std: Tensor, active: Tensor) -> float | None:
    if not active.any():
        return None
    return float(nrmse(dreamt[..., active], moments.later[..., active], std[active]).mean())
