"""A trained world model on the table, to be probed: what every section of a probe report takes from."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, WorldModel, encoded
from clutr.manifold.posterior import kl_to_standard_normal
from clutr.probes import state_probes
from clutr.probes.attribution_inputs import Past, Target, cut_pasts
from clutr.probes.linear_probes import Probe
from clutr.world_model.dataset import EpisodeDataset, EpisodeInfo
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode

Arrays = dict[str, NDArray[Any]]
ProbeResult = tuple[dict[str, Any], Arrays]
"""A section's plain values, and its arrays by name."""

READABLE = 0.1
"""R^2 above which a probe reads a quantity at all."""
EXAMPLES = 3
"""Predictions of which pictures are kept."""


@dataclass(frozen=True)
class ProbeOptions:
    """How much is probed; small episodes and few levels make less of it."""

    past: int = 20
    """Moments of the past that predictions are explained by."""
    predictions: int = 32
    """Predictions that are explained by past latents."""
    pictured: int = 16
    """Of those, how many are explained by pixels."""
    quantities: int = 2
    """True quantities whose expectation is explained, beside the reward and a latent."""
    ahead: int = 10
    """Moments ahead at which the true state is read."""
    moments: int = 6_000
    """Moments that linear probes are fitted and tested on."""
    frames: int = 1_000
    """Frames on which feature maps are fitted; half as many of other levels test them."""
    sweeps: int = 8
    """Latents of the latent grid."""
    exponents: int = 8
    """Lyapunov exponents."""
    steps: int = 400
    """Moments of their trajectories."""
    warm_up: int = 100
    """Of them only turn the directions."""
    starts: int = 16
    """States from which fixed points are searched."""
    search: int = 800
    """Most gradient steps of that search."""
    beyond: int = 16
    """Times the training length that the memory runs in the test of state collapse."""
    seed: int = 1
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        for name in ("past", "predictions", "pictured", "ahead", "moments", "frames", "sweeps", "exponents", "starts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.steps <= self.warm_up:
            raise ValueError(f"steps must be more than the warm-up's {self.warm_up}, got {self.steps}")
        if self.beyond < 2:
            raise ValueError(f"beyond must be at least 2, got {self.beyond}")


@dataclass
class ProbeContext:
    """A trained world model on the table: what every section takes from."""

    run: WorldModelRun
    model: WorldModel
    recording: EpisodeDataset
    options: ProbeOptions
    progress: Progress = field(default=lambda *_: None)

    @cached_property
    def episodes(self) -> list[tuple[EpisodeInfo, LatentEpisode]]:
        """Episodes of levels that nobody trained on, as recorded and as seen; of the test and validation levels."""
        found = []
        for split in ("test", "valid"):
            found += list(
                zip(self.recording.played(split), encoded(self.recording, self.model.backbone, split), strict=True)
            )
        if len({episode.key for episode, _ in found}) < 3:
            raise RunError(f"{self.run.path} holds too few episodes to probe: record at least 30")
        return found

    @property
    def seen(self) -> list[LatentEpisode]:
        """The same, as the backbone sees them."""
        return [seen for _, seen in self.episodes]

    @property
    def dreamer(self) -> Dreamer:
        """The trained memory."""
        return self.model.dreamers[MEMORIES[0]]

    @cached_property
    def kl(self) -> Tensor:
        """KL of each latent in nats, mean over the probed frames `[k]`."""
        parts = ("mean", "log_variance")
        mean, spread = (torch.cat([getattr(seen, name) for seen in self.seen]) for name in parts)
        return kl_to_standard_normal(mean, spread).mean(0)

    @cached_property
    def mean_frame(self) -> Tensor:
        """Of training frames: see `EpisodeDataset.mean_frame`."""
        return self.recording.mean_frame()

    @cached_property
    def known(self) -> tuple[state_probes.StateProbeData, list[state_probes.ProbeScore], dict[str, Probe]]:
        """Moments, readings and probes of the true state."""
        options = self.options
        longest = max(len(seen) for seen in self.seen)
        rng = self.rng("knowledge")
        found = state_probes.gather(
            self.recording, self.episodes, self.model.dreamers, min(options.ahead, longest // 2), options.moments, rng
        )
        backbone = self.model.backbone
        modes = state_probes.pixel_pca(self.recording, found.rows, backbone.latents, backbone.masked_rows)
        found.representations["pixel modes"] = modes
        return found, *state_probes.read_all(found, self.recording.quantities, options.seed)

    def past(self) -> Past:
        """Stretches of the past that predictions are explained by."""
        length = min(self.options.past, max(len(seen) for seen in self.seen))
        memory, scale = self.dreamer.memory, self.dreamer.scale
        return cut_pasts(self.seen, memory, scale, length, self.options.predictions, self.rng("past"))

    def rng(self, purpose: str) -> torch.Generator:
        """A generator for one purpose."""
        return named_generator(self.options.seed, "world probe", purpose)

    def targets(self) -> list[Target]:
        """What is explained: the reward, the latent that tells most, and the quantities that are best foretold.

        Quantities of `ahead` moments later come first, if a probe reads them at all (R^2 above 0.1), then those of now.
        """
        found, readings, probes = self.known
        scale, memory = self.dreamer.scale, f"features, {MEMORIES[0]}"
        latent = int((scale.signal_std / scale.latent_std).argmax())
        targets = [Target("the reward"), Target(f"the change of latent {latent}", latent=latent)]
        read = [each for each in readings if each.representation == memory]
        read.sort(key=lambda each: (each.score > READABLE, each.when != "now", each.score), reverse=True)
        names: list[str] = []
        for each in read:
            if each.quantity in names or len(names) == self.options.quantities:
                continue
            names.append(each.quantity)
            moment = "now" if each.when == "now" else f"in {found.horizon} moments"
            targets.append(
                Target(
                    f"{each.quantity.replace('_', ' ')} {moment} (R^2 {each.score:.2f})",
                    probe=probes[f"{memory} {each.when}"],
                    column=self.recording.quantities.index(each.quantity),
                )
            )
        return targets
