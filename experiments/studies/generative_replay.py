"""Does generative replay keep a world model from forgetting? A memory is trained on one behaviour, then on another.

    python -m clutr.experiments.studies.generative_replay WORLD OUT.json [--passes 4] [--seeds 1,2,3]

WORLD is a directory that `clutr world record` made. Backbone and memory are trained on the episodes of one behaviour
policy (`--old expert`), for so many passes, then the memory alone on those of another (`--new walk`), for as many
gradient steps: without replay, with generative replay, and with the old recording in the dreams' place, the most that
replay can give. Measured on test episodes of both: nats a dimension one step ahead, and the latents' error (NRMSE) of
dreams. Seeds are the memory's: all share the backbone. What OUT.json has already is left alone; OUT.md is its table.
"""

import argparse
import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.world_model.config import WorldModelExperiment
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.world_model.baselines import copy_last
from clutr.world_model.dataset import SPLITS, EpisodeDataset, FrameSource
from clutr.world_model.dream import Dreamer
from clutr.world_model.evaluation import Windows, cut_windows, observe_windows, one_step
from clutr.world_model.latents import LatentEpisode, Streams, encode_episodes
from clutr.world_model.memory import Scale
from clutr.world_model.metrics import nrmse
from clutr.world_model.replay import DreamReplay, DreamStarts, Replay, replay_streams
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions

ARMS = ("not trained on", "without replay", "generative replay", "old recording")
"""What becomes of the old memory."""
KINDS = ("old", "new")
HORIZONS = (1, 10, 25)
PLACES = (0.25, 0.6, 1.0)
"""Shares of an episode, from the middle of each of which a window is cut."""

Split = dict[str, list[LatentEpisode]]


@dataclass
class Recorded:
    """Replays recorded episodes in random order."""

    recorded: Sequence[LatentEpisode]
    share: float

    def episodes(self, steps: int, length: int, rng: torch.Generator) -> list[LatentEpisode]:  # noqa: ARG002
        """See `Replay`."""
        found: list[LatentEpisode] = []
        while sum(map(len, found)) < steps:
            found += [self.recorded[i] for i in torch.randperm(len(self.recorded), generator=rng).tolist()]
        return found


def encoded(experiment: WorldModelExperiment, dataset: EpisodeDataset, policies: Sequence[str]) -> dict[str, Split]:
    """The episodes of all splits of each policy, `old` and `new`, by a backbone that was fitted on the old one's.

    Raises:
        RunError: if a split has no episode of a policy.
    """
    mine = [each for each in dataset.of_split("train") if each.policy == policies[0]]
    if not mine:
        raise RunError(f"{dataset.path} holds no training episodes of {policies[0]!r}")
    backbone = experiment.backbone.build((SIDE, SIDE), experiment.seed)
    frames = FrameSource(dataset, torch.cat([each.indices for each in mine]))
    experiment.backbone.fitting(backbone, frames, experiment.seed).run()
    found: dict[str, Split] = {kind: {} for kind in KINDS}
    for split in SPLITS:
        both = list(zip(dataset.played(split), encode_episodes(dataset, split, backbone.encode), strict=True))
        for kind, policy in zip(KINDS, policies, strict=True):
            found[kind][split] = [episode for about, episode in both if about.policy == policy]
            if not found[kind][split]:
                raise RunError(f"{dataset.path} holds no episodes of {policy!r} in the split {split}")
    return found


def steps_of(training: MemoryTraining) -> int:
    """Gradient steps that were made."""
    return int(next(iter(training.optimiser.state.values()))["step"])


def steps_a_pass(episodes: Sequence[LatentEpisode], streams: int, options: MemoryTrainingOptions) -> int:
    """Gradient steps of a pass; with random offsets, about."""
    rng = torch.Generator().manual_seed(1)
    return len(Streams(episodes, streams, options.length, rng, False, rng if options.random_offsets else None).epoch())


def train(
    experiment: WorldModelExperiment,
    split: Split,
    passes: int,
    old: MemoryTraining | None = None,
    replay: Replay | None = None,
    seed: int = 0,
) -> MemoryTraining:
    """A finished training: of a new memory, or from where an old one is, with or without replay."""
    sample = split["train"][0]
    if old is None:
        memory, scale = experiment.memory.build(sample.mean.shape[1], sample.actions.shape[1], experiment.seed), None
    else:
        memory, scale = copy.deepcopy(old.memory), old.scale
    options = replace(experiment.training, epochs=passes, patience=passes)
    training = MemoryTraining(
        memory, options, split["train"], split["valid"], seed or experiment.seed, scale=scale, replay=replay
    )
    training.run()
    return training


def windows_of(episodes: Sequence[LatentEpisode], context: int, horizon: int) -> list[Windows]:
    """Windows from several places of each episode, where it is long enough.

    Raises:
        RunError: if no episode is.
    """
    found = []
    for place in PLACES:
        parts = [_beginning(episode, round(place * len(episode))) for episode in episodes]
        if any(len(part) + 1 >= context + horizon for part in parts):
            found.append(cut_windows(parts, context, horizon, len(parts)))
    if not found:
        raise RunError(f"no test episode has {context + horizon} frames: record longer ones")
    return found


def _beginning(episode: LatentEpisode, steps: int) -> LatentEpisode:
    """The first steps of an episode."""
    rows = {name: getattr(episode, name)[: steps + 1] for name in ("mean", "log_variance")}
    return LatentEpisode(**rows, **{n: getattr(episode, n)[:steps] for n in ("actions", "rewards", "terminated")})


def errors(windows: Sequence[Windows], dreamer: Dreamer | None, context: int, scale: Scale) -> list[float]:
    """NRMSE at `HORIZONS`, means over windows, of a dreamer or, if it is None, of copying the last frame."""
    active, wrong = scale.active, []
    for each in windows:
        horizon = len(each.rewards)
        if dreamer is None:
            found: Tensor = copy_last(each.latents[:context], horizon)
        else:
            ahead = each.actions[context - 1 :]
            found = dreamer.dream(observe_windows(dreamer, each), ahead, horizon, keep_states=False).latents
        wrong.append(nrmse(found[..., active], each.latents[context:][..., active], scale.signal_std[active]))
    mean = torch.cat(wrong, 1).mean(1)
    return [round(float(mean[min(horizon, len(mean)) - 1]), 5) for horizon in HORIZONS]


def measure(experiment: WorldModelExperiment, splits: Mapping[str, Split], passes: int, share: float) -> dict[str, Any]:
    """Train a memory, train it on in every way, and measure all on test episodes of both policies."""
    context, horizon = experiment.evaluation.context, min(max(HORIZONS), experiment.evaluation.horizon)
    windows = {kind: windows_of(splits[kind]["test"], context, horizon) for kind in KINDS}
    old, options = train(experiment, splits["old"], passes), experiment.training
    frozen = Dreamer(copy.deepcopy(old.memory), old.scale)
    starts = DreamStarts.recorded(
        frozen, splits["old"]["train"], named_generator(experiment.seed, "memory", "dream starts")
    )
    replays: dict[str, Replay | None] = {
        "without replay": None,
        "generative replay": DreamReplay(frozen, starts, share),
        "old recording": Recorded(splits["old"]["train"], share),
    }
    trained = {"not trained on": old}
    for name, replay in replays.items():
        streams = options.streams - (0 if replay is None else replay_streams(share, options.streams))
        more = max(1, round(steps_of(old) / steps_a_pass(splits["new"]["train"], streams, options)))
        trained[name] = train(experiment, splits["new"], more, old, replay, experiment.seed + 1_000)
    found: dict[str, Any] = {"steps": {name: steps_of(each) for name, each in trained.items()}}
    found["kept_numbers"] = sum(each.numel() for each in starts.state_dict().values())
    found |= {"nll": {}, "nrmse": {}, "episodes": {}, "windows": {}}
    for kind in KINDS:
        test = splits[kind]["test"]
        found["episodes"][kind] = {split: len(each) for split, each in splits[kind].items()}
        found["windows"][kind] = sum(len(each.episodes) for each in windows[kind])
        dreamers = {name: Dreamer(each.memory, old.scale) for name, each in trained.items()}
        found["nll"][kind] = {name: round(one_step(test, dreamer)["nll"], 5) for name, dreamer in dreamers.items()}
        found["nrmse"][kind] = {
            name: errors(windows[kind], each, context, old.scale) for name, each in dreamers.items()
        }
        found["nrmse"][kind]["copy last"] = errors(windows[kind], None, context, old.scale)
    return found


def table(found: Mapping[str, Any]) -> str:
    """Means over seeds as Markdown, with the least and the greatest where there are several."""
    heads = ["", *(f"{kind}: {what}" for kind in KINDS for what in ("nats", *(f"NRMSE at {h}" for h in HORIZONS)))]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    each = list(found["seeds"].values())

    def cell(values: list[float]) -> str:
        mean, low, high = sum(values) / len(values), min(values), max(values)
        return f"{mean:.2f}" + (f" [{low:.2f}, {high:.2f}]" if len(values) > 1 else "")

    for name in (*ARMS, "copy last"):
        cells = [name]
        for kind in KINDS:
            cells.append(cell([row["nll"][kind][name] for row in each]) if name in ARMS else "")
            cells += [cell([row["nrmse"][kind][name][k] for row in each]) for k in range(len(HORIZONS))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("world", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--old", default="expert", help="the behaviour policy that is learnt first")
    parser.add_argument("--new", default="walk", help="the one that comes after")
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--share", type=float, default=0.5, help="of every batch that is replayed")
    parser.add_argument("--seeds", default="1,2,3")
    asked = parser.parse_args(arguments)
    run = WorldModelRun(asked.world)
    dataset = run.dataset()
    budget = {"old": asked.old, "new": asked.new, "passes": asked.passes, "share": asked.share}
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {"budget": budget, "seeds": {}}
    if found["budget"] != budget:
        raise RunError(f"{asked.out} has seeds of the budget {found['budget']}: name another file")
    found |= {"machine": describe_machine(), "threads": torch.get_num_threads(), "horizons": list(HORIZONS)}
    missing = [int(each) for each in asked.seeds.split(",") if each not in found["seeds"]]
    splits = encoded(run.experiment, dataset, (asked.old, asked.new)) if missing else {}
    for seed in missing:
        row = measure(replace(run.experiment, seed=seed), splits, asked.passes, asked.share)
        found["seeds"][str(seed)] = row
        print(seed, row["nll"]["old"], flush=True)
        write_atomically(asked.out, json.dumps(found, indent=1).encode())
    write_atomically(asked.out.with_suffix(".md"), table(found).encode())


if __name__ == "__main__":
    main()
