"""Two ways to shape a VAE's latents: kept compatible with an older VAE, and trained to be predictable.

    python -m clutr.experiments.studies.world_model_latents WORLD OUT.json [--seeds 1,2,3]

WORLD is a directory that `clutr world record` made, of cars or mazes. With each seed a VAE ("old") and a memory on its
latents are trained. Then

- a VAE is fitted with another seed, free and compatible (`clutr world refit`), and takes the old one's place, with
  the same memory;
- a VAE is fitted with the same seed to predictable latents (after LARP, arXiv 2410.21264), with a memory of its own.

Measured on test episodes: nats a latent dimension one step ahead; intersection over union of dreamt road or walls, from
windows that begin at several places of each episode; picture error; active latents. What OUT.json has already is left
alone, and what was fitted is kept in a folder beside it; OUT.md is its table.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.envs.capabilities import SIDE
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.storage import RunError, load_state, save_state, write_atomically
from clutr.experiments.world_model.agreement import picture_error
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.manifold.posterior import sample_posterior
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.backbones.compatible import Anchor, CompatibleVAETraining, distance
from clutr.world_model.backbones.vae import VAEBackbone, VAEConfig, VAETraining, measure
from clutr.world_model.dataset import SPLITS, EpisodeDataset, FrameSource
from clutr.world_model.dream import Dreamer
from clutr.world_model.evaluation import cut_windows, observe_windows, one_step
from clutr.world_model.latents import LatentEpisode, encode_episodes
from clutr.world_model.memory import MemoryConfig, Scale
from clutr.world_model.scene import surface_iou
from clutr.world_model.scene_evaluation import palette_of
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions
from clutr.world_model.views import View, view_of

HORIZONS = 1, 5, 10, 25
"""Steps at which dreams are judged."""
CONTEXT = 20
PLACES = 0.4, 0.6, 0.8, 1.0
"""First shares of an episode, in the middle of each of which a window lies."""


@dataclass(frozen=True)
class Setting:
    """What is compared."""

    backbone: VAEConfig
    memory: MemoryConfig
    training: MemoryTrainingOptions
    episodes: int
    """Training episodes of the memory, evenly chosen."""
    compatible_weight: float
    predictable_weights: tuple[float, ...]


SETTING = Setting(
    backbone=VAEConfig(channels=(8, 16, 32, 64), iterations=400, batch_size=32),
    memory=MemoryConfig(),
    training=replace(WORLD_PRESETS["car"].training, epochs=4, patience=4, length=32, imagination_steps=12),
    episodes=60,
    compatible_weight=300.0,
    predictable_weights=(1.0, 10.0),
)


class Pairs:
    """Frames with the one before each in its episode, as frames by number.

    Args:
        frames: of a recording, episode by episode.
    """

    def __init__(self, frames: FrameSource) -> None:
        firsts = torch.tensor([episode.first for episode in frames.dataset.episodes])
        follows = (frames.rows[1:] == frames.rows[:-1] + 1) & ~torch.isin(frames.rows[1:], firsts)
        self.frames, self.numbers = frames, follows.nonzero().flatten() + 1

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Tensor) -> Tensor:
        """`[n, 2, H, W, 3]`: the frame before, and the frame."""
        numbers = self.numbers[index]
        return torch.stack([self.frames[numbers - 1], self.frames[numbers]], 1)


def unpredictable(latents: Tensor, expected: Tensor) -> Tensor:
    """Nats of latents `[N, k]` that what is `expected` of them leaves, less those that it would leave knowing nothing.

    Half the logarithm of their squared error over their own variance in the batch, summed over k: no smaller for
    smaller latents. They are draws, so that one that collapses onto the prior is noise, and costs the most, 0.
    """
    wrong = (latents - expected).square().mean(0)
    return 0.5 * (wrong / latents.var(0, correction=0)).log().sum()


class PredictableVAETraining(VAETraining):
    """Gradient descent on the loss of a VAE and on how well latents follow from those of the frame before.

    The prior, after LARP (arXiv 2410.21264), is linear, learns along and begins by copying.

    Args:
        backbone: what is trained.
        config: how.
        pairs: on what.
        seed: of batches and noise.
        weight: of the prior's error in the loss.
    """

    def __init__(self, backbone: VAEBackbone, config: VAEConfig, pairs: Pairs, seed: int, weight: float) -> None:
        super().__init__(backbone, config, pairs, seed)
        self.weight = weight
        self.prior = nn.utils.skip_init(nn.Linear, backbone.latents, backbone.latents)
        nn.init.eye_(self.prior.weight)
        nn.init.zeros_(self.prior.bias)
        self.optimiser = Adam(chain(backbone.parameters(), self.prior.parameters()), config.learning_rate)

    def loss(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of pairs `[N, 2, H, W, 3]`, latents drawn, and its parts."""
        mean, log_variance = self.backbone.posterior_of(frames.transpose(0, 1).flatten(0, 1))
        now = len(frames)
        loss, parts = self.variational_loss(frames[:, 1], mean[now:], log_variance[now:])
        before, latents = sample_posterior(mean, log_variance, self.rng).split(now)
        nats = unpredictable(latents, self.prior(before))
        return loss + self.weight * nats, parts | {"unpredictable": nats}

    def measured(self) -> dict[str, Any]:
        """What became of the latents: see `measure`."""
        pairs: Any = self.frames
        return measure(self.backbone, pairs.frames)

    def state_dict(self) -> dict[str, Any]:
        """The prior, too."""
        return {**super().state_dict(), "prior": dict(self.prior.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.prior.load_state_dict(state["prior"])


def beginning(episode: LatentEpisode, actions: int) -> LatentEpisode:
    """Its first so many actions."""
    frames = {"mean": episode.mean[: actions + 1], "log_variance": episode.log_variance[: actions + 1]}
    told = {name: getattr(episode, name)[:actions] for name in ("actions", "rewards", "terminated")}
    return LatentEpisode(**frames, **told)


class Comparison:
    """What is fitted, each once, and measured.

    Args:
        dataset: the recording.
        view: of whoever sees its frames.
        setting: what is compared.
        folder: keeps what was fitted.
    """

    def __init__(self, dataset: EpisodeDataset, view: View, setting: Setting, folder: Path) -> None:
        self.dataset, self.view, self.setting, self.folder = dataset, view, setting, folder
        self.frames, self.palette = dataset.frames("train"), palette_of(dataset, view)

    def fit(self, name: str, seed: int, training: Callable[[VAEBackbone, int], VAETraining]) -> tuple[Backbone, Any]:
        """A fitted VAE and what its fitting measured, read where it is kept."""
        backbone = self.setting.backbone.build((SIDE, SIDE), seed)
        fitting, path = training(backbone, seed), self.folder / f"{name}.safetensors"
        if path.exists():
            fitting.load_state_dict(load_state(path))
        started = time.process_time()
        fitting.run()
        if not path.exists():
            fitting.metrics |= {"seconds": time.process_time() - started}
            save_state(path, fitting.state_dict())
        return backbone, fitting.metrics

    def free(self, seed: int) -> tuple[Backbone, Any]:
        """A VAE that nothing is asked of but pictures."""
        config = self.setting.backbone
        return self.fit(f"free-{seed}", seed, lambda backbone, seed: VAETraining(backbone, config, self.frames, seed))

    def compatible(self, seed: int, new_seed: int, old: Backbone, scale: Scale) -> tuple[Backbone, Any]:
        """A VAE of `new_seed` that agrees with the old one of `seed`."""
        config, anchor = self.setting.backbone, Anchor(old, scale.latent_std, self.setting.compatible_weight)

        def training(backbone: VAEBackbone, seed: int) -> VAETraining:
            return CompatibleVAETraining(backbone, config, self.frames, seed, anchor)

        return self.fit(f"compatible-{seed}", new_seed, training)

    def predictable(self, seed: int, weight: float) -> tuple[Backbone, Any]:
        """A VAE whose latents are to follow from those before."""
        config, pairs = self.setting.backbone, Pairs(self.frames)

        def training(backbone: VAEBackbone, seed: int) -> VAETraining:
            return PredictableVAETraining(backbone, config, pairs, seed, weight)

        return self.fit(f"predictable-{weight:g}-{seed}", seed, training)

    def memory(self, name: str, seed: int, backbone: Backbone) -> Dreamer:
        """A memory that was trained on a backbone's latents."""
        setting, path = self.setting, self.folder / f"{name}-{seed}-memory.safetensors"
        memory = setting.memory.build(backbone.latents, self.dataset.action_width, seed)
        if path.exists():
            state = load_state(path)
            memory.load_state_dict(state["best"])
            return Dreamer(memory, Scale.from_state(state["scale"]))
        train, valid = (
            encode_episodes(self.dataset, split, backbone.encode, most=setting.episodes) for split in SPLITS[:2]
        )
        training = MemoryTraining(memory, setting.training, train, valid, seed)
        training.run()
        save_state(path, {"best": training.best, "scale": training.scale.state_dict()})
        return Dreamer(memory, training.scale)

    def judge(self, backbone: Backbone, dreamer: Dreamer, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """One backbone with one memory."""
        test = encode_episodes(self.dataset, "test", backbone.encode)
        return {
            "nll": one_step(test, dreamer)["nll"],
            "iou": self.dreamt(test, backbone, dreamer),
            "mse": picture_error(backbone, self.dataset.frames("test")),
            "active": metrics["active"],
            "kl": sum(metrics["kl"]),
            "fit_seconds": metrics["seconds"],
        }

    def dreamt(self, test: list[LatentEpisode], backbone: Backbone, dreamer: Dreamer) -> list[float]:
        """Mean IoU of the main surface at `HORIZONS` steps of dreams."""
        name, found = next(iter(self.view.surfaces)), []
        horizon, played = max(self.horizons(test)), self.dataset.played("test")
        for place in PLACES:
            parts = [beginning(episode, round(place * len(episode))) for episode in test]
            if max(map(len, parts)) + 1 < CONTEXT + horizon:
                continue
            windows = cut_windows(parts, CONTEXT, horizon, len(parts))
            dream = dreamer.dream(observe_windows(dreamer, windows), windows.actions[CONTEXT - 1 :], horizon)
            told = torch.tensor(self.horizons(test))
            first = torch.tensor([played[n].first + s for n, s in zip(windows.episodes, windows.starts, strict=True)])
            rows = first + (CONTEXT - 1 + told)[:, None]
            masks = self.dataset.column("masks", rows.flatten()).unflatten(0, rows.shape)
            shown = backbone.decode(dream.latents[told - 1].flatten(0, 1)).clamp(0, 1).unflatten(0, rows.shape)
            found.append(surface_iou(shown, masks, self.palette, self.view, self.dataset.objects)[name])
        return [round(value, 4) for value in torch.cat(found, 1).mean(1).tolist()]

    def horizons(self, test: list[LatentEpisode]) -> list[int]:
        """Those of `HORIZONS` for which the longest episode is long enough."""
        longest = max(map(len, test)) + 1 - CONTEXT
        return [horizon for horizon in HORIZONS if horizon <= longest]

    def apart(self, old: Backbone, new: Backbone, scale: Scale) -> float:
        """Root mean squared distance of the posterior means of test frames, in standard deviations of the old ones."""
        frames = self.dataset.frames("test")
        part = frames[torch.linspace(0, len(frames) - 1, min(len(frames), 1_000)).long()]
        total = distance(old.encode(part)[0], new.encode(part)[0], scale.latent_std)
        return float((2 * total / old.latents).sqrt())

    def rows(self, seed: int, new_seed: int, known: dict[str, Any]) -> None:
        """Measure with a seed what is not `known`; VAEs that take the old one's place have `new_seed`."""
        old, metrics = self.free(seed)
        dreamer = self.memory("old", seed, old)
        if "old" not in known:
            known["old"] = self.judge(old, dreamer, metrics)
        for name in ("free", "compatible"):
            if name in known:
                continue
            new, metrics = (
                self.free(new_seed) if name == "free" else self.compatible(seed, new_seed, old, dreamer.scale)
            )
            known[name] = self.judge(new, dreamer, metrics) | {
                "apart": self.apart(old, new, dreamer.scale),
                "mse_of_old_latents": picture_error(new, self.dataset.frames("test"), old),
            }
        for weight in self.setting.predictable_weights:
            if (name := f"predictable, weight {weight:g}") not in known:
                new, metrics = self.predictable(seed, weight)
                known[name] = self.judge(new, self.memory(f"predictable-{weight:g}", seed, new), metrics)


def table(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Means over seeds as Markdown, with the least and the greatest."""

    def cell(values: list[float], digits: int) -> str:
        low, mean, high = min(values), sum(values) / len(values), max(values)
        return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    names = list(dict.fromkeys(name for rows in seeds.values() for name in rows))
    told = HORIZONS[: len(next(iter(seeds.values()))["old"]["iou"])]
    heads = ["VAE", "seeds", "nats a dimension", *(f"IoU at {horizon}" for horizon in told)]
    heads += ["picture error", "active", "from the old means"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in names:
        each = [rows[name] for rows in seeds.values() if name in rows]
        cells = [name, str(len(each)), cell([row["nll"] for row in each], 2)]
        cells += [cell([row["iou"][k] for row in each], 3) for k in range(len(told))]
        cells += [cell([row["mse"] for row in each], 4), cell([row["active"] for row in each], 0)]
        apart = [row["apart"] for row in each if "apart" in row]
        lines.append("| " + " | ".join([*cells, cell(apart, 2) if apart else ""]) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("world", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="1,2,3")
    asked = parser.parse_args(arguments)
    run = WorldModelRun(asked.world)
    dataset = run.dataset()
    view = view_of(run.experiment.domain, dataset.quantities)
    if view is None:
        raise RunError(f"{run.path} holds a recording without surfaces: only cars and mazes can be compared")
    setting = json.loads(json.dumps(asdict(SETTING)))
    found: dict[str, Any] = (
        json.loads(asked.out.read_text()) if asked.out.exists() else {"setting": setting, "seeds": {}}
    )
    if found["setting"] != setting:
        raise RunError(f"{asked.out} was measured with other settings: name another file")
    found |= {"machine": describe_machine(), "threads": torch.get_num_threads(), "frames": len(dataset)}
    found["episodes"] = {split: len(dataset.played(split)) for split in SPLITS}
    folder = asked.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(dataset, view, SETTING, folder)
    seeds = [int(each) for each in asked.seeds.split(",")]
    for seed, following in zip(seeds, [*seeds[1:], seeds[0]], strict=True):
        known = found["seeds"].setdefault(str(seed), {})
        comparison.rows(seed, following if following != seed else seed + 1, known)
        print(seed, json.dumps(known), flush=True)
        write_atomically(asked.out, json.dumps(found, indent=1).encode())
    write_atomically(asked.out.with_suffix(".md"), table(found["seeds"]).encode())


if __name__ == "__main__":
    main()
