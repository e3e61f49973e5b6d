"""Trust and risk in figures that were held against what came: fitted once on held-out levels, kept beside the model.

The method of trust is that of the probe report (`clutr.probes.trust`); risk is the lowest reading of the wheels on the
road in drawn dreams, turned into a probability. Every figure of how good they are is of levels that the fit it judges
had not seen; what the page uses is then fitted on all of them.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clutr.experiments import pretrained
from clutr.experiments.live.odds import Odds, calibrated_odds
from clutr.experiments.live.outlook import DRAWS, OFF, SECOND
from clutr.experiments.storage import RunError, load_state, save_state
from clutr.experiments.world_model.probing import ProbeContext, ProbeOptions
from clutr.experiments.world_model.questions import Moments
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, WorldModel, backbone_path, encoded, memory_path
from clutr.probes import trust
from clutr.probes.risk import lowest_reading
from clutr.probes.trust import TrustModel
from clutr.world_model.dataset import SPLITS, EpisodeDataset, EpisodeInfo
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.metrics import LIMIT, nrmse

FILE = "live-calibration.safetensors"
FORMAT = 1
"""Grows when what is fitted changes: older files are then made anew."""
LONGEST = 50
"""Steps that dreams are followed for, to see for how long they hold."""
MOMENTS = 200
"""That are looked at, at least, if episodes are long enough."""
FEWEST = 5
"""Moments that have to end either way for a calibration of risk."""
Figures = dict[str, Any]


@dataclass(frozen=True)
class Calibration:
    """What may be said of a model's moments, and how well each figure held."""

    trust: TrustModel | None
    """None where it could not be fitted."""
    trust_figures: Figures
    """Of `clutr.probes.trust.calibrated_trust`, and `steps`, the longest horizon; or `why_empty`."""
    risk: Odds | None
    """Turns the mean lowest reading of wheels on the road into a probability; None where it could not be fitted."""
    risk_figures: Figures
    """Of `calibrated_odds`, and `steps`, within which wheels leave the road; or `why_empty`."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        model = self.trust
        return {
            "trust": None if model is None else [model.probe._asdict(), model.slack, model.limit],
            "trust_figures": self.trust_figures,
            "risk": None if self.risk is None else list(self.risk),
            "risk_figures": self.risk_figures,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Calibration":
        """The inverse of `state_dict`."""
        told, odds = state["trust"], state["risk"]
        model = None if told is None else TrustModel(LinearProbe(**told[0]), told[1], told[2])
        return cls(model, state["trust_figures"], None if odds is None else Odds(*odds), state["risk_figures"])


def trust_is_useful(known: Calibration) -> bool:
    """Whether the horizon follows the moment, and errs less than always saying the mean (as the probe report asks)."""
    found = known.trust_figures
    if known.trust is None:
        return False
    return bool(found["rank_correlation"][1] > 0 and found["error"][0] < found["constant_error"][0])


def risk_is_useful(known: Calibration) -> bool:
    """Whether the probability is better than always saying how often it happens, beyond the interval."""
    return known.risk is not None and bool(known.risk_figures["gain"][1] > 0)


def calibration_of(
    run: WorldModelRun, model: WorldModel, dataset: EpisodeDataset, read_out: LinearProbe
) -> Calibration:
    """The one that is kept beside the model, or a new one, which is kept if the directory can be written.

    Args:
        run: where it is kept.
        model: what is judged.
        dataset: whose test and validation levels it is judged on; all, which it had not seen, if the model ships.
        read_out: the true state from latents.
    """
    path, of = run.path / FILE, _fingerprint(run, dataset)
    with suppress(RunError, KeyError, TypeError, IndexError):
        kept = load_state(path)
        if kept["of"] == of:
            return Calibration.from_state(kept)
    found = calibrate(run, model, dataset, read_out)
    with suppress(RunError):  # a model that is only read
        save_state(path, {"of": of} | found.state_dict())
    return found


def _fingerprint(run: WorldModelRun, dataset: EpisodeDataset) -> str:
    """Changes with the model, its recording, and what is fitted."""
    digest = hashlib.sha256(f"{FORMAT} {DRAWS} {len(dataset)} {dataset.path}".encode())
    for path in (backbone_path(run), memory_path(run, MEMORIES[0])):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def calibrate(run: WorldModelRun, model: WorldModel, dataset: EpisodeDataset, read_out: LinearProbe) -> Calibration:
    """Fit and judge both: see `calibration_of`."""
    context = ProbeContext(run, model, dataset, ProbeOptions())
    new = pretrained.unpacked(run.path) is not None
    if new:  # what it was recorded on after it was unpacked, it was not trained on
        context.episodes = _episodes(context)
    splits = "all splits, for the model was trained on none of them" if new else "test and validation splits"
    parts: list[tuple[Any, Figures]] = []
    for fit in (_trust, _risk):
        try:
            parts.append(fit(context, read_out))
        except Exception as error:  # few levels, short episodes, whatever a core does: the page says why
            parts.append((None, {"why_empty": " ".join(str(error).split()) or type(error).__name__}))
    return Calibration(parts[0][0], parts[0][1] | {"splits": splits}, parts[1][0], parts[1][1] | {"splits": splits})


def _episodes(context: ProbeContext) -> list[tuple[EpisodeInfo, LatentEpisode]]:
    """All that was recorded, split by split."""
    dataset, backbone = context.dataset, context.model.backbone
    splits = [zip(dataset.played(split), encoded(dataset, backbone, split), strict=True) for split in SPLITS]
    return [each for split in splits for each in split]


def _moments(context: ProbeContext, steps: int) -> Moments:
    """Some of each held-out episode; more of each where there are few."""
    return Moments(context, max(context.options.moments, -(-MOMENTS // len(context.episodes))), steps)


@torch.no_grad()
def _trust(context: ProbeContext, _: LinearProbe) -> tuple[TrustModel, Figures]:
    dreamer, moments = context.dreamer, _moments(context, LONGEST)
    active, std = dreamer.scale.active, dreamer.scale.signal_std
    if not active.any():
        raise ValueError("the backbone has no active latent: dreams of it hold for nothing")
    dreamt = dreamer.dream(moments.starts, moments.actions, moments.steps, keep_states=False).latents
    failed = nrmse(dreamt[..., active], moments.later[..., active], std[active]) > LIMIT
    horizons = torch.where(failed.any(0), failed.float().argmax(0).float(), float(moments.steps))
    flipped = moments.surprised + _strange(context, moments) / trust.LAST
    unfamiliar = {"the picture upside down": flipped}
    rng = context.rng("live trust")
    about = moments.features, horizons, moments.surprised, moments.groups
    model, figures = trust.calibrated_trust(*about, unfamiliar, rng)
    return model, figures | {"steps": moments.steps, "mean_horizon": float(horizons.mean())}


def _strange(context: ProbeContext, moments: Moments) -> Tensor:
    """By how much more an upside down picture surprises than the last frames did, `[N]`."""
    scale, memory = context.dreamer.scale, context.dreamer.memory
    frames = context.dataset.column("frames", moments.rows)
    latents = scale.normalise(context.model.backbone.encode(frames.flip(1))[0])
    _, expected = memory.step(moments.starts.state, moments.starts.latent, moments.actions[0])
    return -expected.latent.log_density(latents)[:, scale.active].mean(-1) - moments.surprised


@torch.no_grad()
def _risk(context: ProbeContext, read_out: LinearProbe) -> tuple[Odds, Figures]:
    quantities = context.dataset.quantities
    if "wheels_on_road" not in quantities:
        raise ValueError("nothing here has wheels that can leave a road")
    moments, column = _moments(context, SECOND), quantities.index("wheels_on_road")
    wheels = torch.stack([
        context.dataset.column("privileged_state", moments.rows + step)[:, column] for step in range(moments.steps + 1)
    ])  # fmt: skip
    rows = (wheels[0] >= 2).nonzero().flatten()
    happened, rng = wheels[1:, rows].amin(0) < OFF, context.rng("live risk")
    count, levels = int(happened.sum()), len(moments.groups[rows].unique())
    if levels < 3 or not FEWEST <= count <= len(rows) - FEWEST:
        raise ValueError(
            f"of {len(rows)} held-out moments on {levels} levels with two wheels on the road, all wheels left it "
            + f"within {moments.steps} steps in {count}: too few, or too few others"
        )
    readings = lowest_reading(
        context.dreamer, moments.starts.branch(rows), moments.actions[:, rows], read_out, column, DRAWS, rng
    ).mean(0)
    odds, figures = calibrated_odds(readings, happened, moments.groups[rows], rng)
    return odds, figures | {"steps": moments.steps, "draws": DRAWS}
