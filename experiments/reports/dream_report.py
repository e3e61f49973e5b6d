"""Dreams from a recorded step, and how it might have gone otherwise: branches under recorded or other actions."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least, require_one_of
from clutr.experiments.files import expanded, require_writable
from clutr.experiments.plots.dreams import player
from clutr.experiments.plots.page import Panel, render_page
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.world_model.episodes import RecordedEpisode
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, load_world_model
from clutr.world_model.backbones.base import Backbone, to_uint8
from clutr.world_model.dataset import SPLITS, EpisodeDataset
from clutr.world_model.dream import Dream
from clutr.world_model.error_regression import RegressionOptions, regress
from clutr.world_model.policies import RandomWalk


@dataclass(frozen=True)
class DreamOptions:
    """Which step is dreamt on from, and how."""

    split: str = "test"
    """Of which episodes: train, valid or test."""
    episode: int = 0
    """Which of them, from 0."""
    start: int = 20
    """Frames that are observed before the dream begins."""
    horizon: int = 100
    """Steps that are dreamt; fewer where the actions end before."""
    actions: str = "recorded"
    """recorded; random, a walk of its own in each branch; or a CSV file with an action a row (its numbers or index)."""
    branches: int = 3
    """Dreams side by side."""
    temperature: float = 1.0
    """Of the draws of latents; 0 for the expected ones, which all branches share if their actions do."""
    error_regression: bool = False
    """Infer the memory's state at the start by error regression on the observed frames."""
    seed: int = 1
    """Of draws and walks."""

    def __post_init__(self) -> None:
        require_one_of(self, SPLITS, "split")
        require_at_least(self, 1, "horizon", "branches")
        require_at_least(self, 2, "start")  # so that an action is observed
        require_at_least(self, 0, "episode", "temperature")


def dream_on(run: WorldModelRun, options: DreamOptions) -> Path:
    """Dream, and write `dreams/NAME.html` with `NAME.npz` (latents, rewards, terminations, actions) beside it.

    Returns:
        The page's path.

    Raises:
        RunError: if there is no such step, or the actions cannot be read.
    """
    folder = run.path / "dreams"
    require_writable(folder, "Nothing was dreamt.")
    found = branches(run, options)
    folder.mkdir(exist_ok=True)
    _keep(folder / f"{found.name}.npz", found.dream, found.actions)
    lead = "One recorded step, dreamt on several times: what the branches share, the memory is sure of."
    panel = dream_panel(run, options, found)
    page = render_page(f"{run.path.name}: {found.name}", "Dream", lead, [panel], _headlines(options, found.dream))
    path = folder / f"{found.name}.html"
    write_atomically(path, page.encode())
    return path


@dataclass(frozen=True)
class Branches:
    """Dreams on from one recorded step."""

    name: str
    dream: Dream
    actions: Tensor
    """`[H, B, A]`."""
    video: NDArray[np.uint8]
    """`[2 + B, T, side, side, 3]`: reality, black from where the recording ends; reconstruction; each branch."""


def dream_panel(run: WorldModelRun, options: DreamOptions, found: Branches | None = None) -> Panel:
    """A dream to step through, dreamt now if it is not `found` yet. Raises as `dream_on`."""
    found = found or branches(run, options)
    kinds = ("Reality", "Reconstruction", *(f"Branch {number + 1}" for number in range(options.branches)))
    return player([found.video], options.start, f"{run.path.name}: seed {options.seed}", kinds)


def branches(run: WorldModelRun, options: DreamOptions) -> Branches:
    """Dream. Raises as `dream_on`."""
    model, dataset = load_world_model(run), run.dataset()
    dreamer = model.dreamers[MEMORIES[0]]
    episode = _episode(dataset, options)
    with torch.no_grad():
        means = model.backbone.encode(episode.frames)[0]
    actions = _actions(options, episode, run.experiment.domain.engine(1).action_space)
    latents = means[: options.start, None].expand(-1, options.branches, -1)
    past = episode.actions[: options.start - 1, None].expand(-1, options.branches, -1)
    state, _ = dreamer.observe(latents, past)
    if options.error_regression:
        state = regress(dreamer.memory, dreamer.scale, latents, past, RegressionOptions()).latent_state
    warm = options.temperature or None
    dream = dreamer.dream(state, actions, len(actions), warm, named_generator(options.seed, "dream", "draws"))
    name = f"{options.split}-{options.episode}-{options.start}-{Path(options.actions).stem}"
    video = _video(model.backbone, episode.frames, means, dream, options.start)
    return Branches(name, dream, actions, video)


def _episode(dataset: EpisodeDataset, options: DreamOptions) -> RecordedEpisode:
    """The chosen episode."""
    known = dataset.played(options.split)
    if options.episode >= len(known):
        raise RunError(f"the split {options.split} has {len(known)} episodes, numbered from 0: no {options.episode}")
    chosen = known[options.episode]
    if options.start >= chosen.rows:
        raise RunError(f"episode {options.episode} has {chosen.rows} frames: start must be less, got {options.start}")
    return RecordedEpisode(dataset, chosen)


def _actions(options: DreamOptions, episode: RecordedEpisode, space: gymnasium.Space[Any]) -> Tensor:
    """What is done in the dreams, `[H, B, A]`."""
    if options.actions == "recorded":
        ahead = episode.actions[options.start - 1 :][: options.horizon]
        return ahead[:, None].expand(-1, options.branches, -1)
    if options.actions == "random":
        walk, rng = RandomWalk(space, options.branches), named_generator(options.seed, "dream", "walk")
        steps = torch.stack([walk.draw(rng) for _ in range(options.horizon)])
    else:
        chosen = read_actions(expanded(options.actions), space)[: options.horizon]
        steps = chosen[:, None].expand(-1, options.branches, *chosen.shape[1:])
    return F.one_hot(steps, int(space.n)).float() if isinstance(space, spaces.Discrete) else steps


def read_actions(path: Path, space: gymnasium.Space[Any]) -> Tensor:
    """Actions of a CSV file, a row each, `[H, ...]`: as an engine takes them.

    Raises:
        RunError: naming the line that is wrong.
    """
    try:
        lines = [row for row in csv.reader(path.read_text().splitlines()) if row]
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"actions: recorded, random, or a CSV file; cannot read {path}: {error}") from None
    found = []
    for number, row in enumerate(lines, 1):
        try:
            values = [float(cell) for cell in row]
        except ValueError:
            raise RunError(f"{path}, line {number}: {','.join(row)!r} is not numbers") from None
        action: Any = np.array(values, np.float32)
        if isinstance(space, spaces.Discrete):
            action = int(values[0]) if len(values) == 1 and values[0].is_integer() else None
        if action is None or not space.contains(action):
            raise RunError(f"{path}, line {number}: {','.join(row)} is no action of {space}")
        found.append(torch.as_tensor(action))
    if not found:
        raise RunError(f"{path} holds no actions")
    return torch.stack(found)


def _keep(path: Path, dream: Dream, actions: Tensor) -> None:
    arrays = {
        "latents": dream.latents,
        "rewards": dream.rewards,
        "terminations": dream.terminations,
        "actions": actions,
    }
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **{name: value.numpy() for name, value in arrays.items()})
    write_atomically(path, content.getvalue())


@torch.no_grad()
def _video(backbone: Backbone, frames: Tensor, means: Tensor, dream: Dream, start: int) -> NDArray[np.uint8]:
    """Reality (black where nothing was recorded), reconstruction and each branch, `[2 + B, T, side, side, 3]`."""
    total = start + len(dream.latents)
    frames = frames[:total]
    real = torch.zeros(total, *frames.shape[1:], dtype=torch.uint8)
    real[: len(frames)] = frames
    again = torch.zeros_like(real)
    again[: len(frames)] = to_uint8(backbone.decode(means[:total]))
    seen = to_uint8(backbone.decode(means[:start]))
    dreamt = [torch.cat([seen, to_uint8(backbone.decode(latents))]) for latents in dream.latents.unbind(1)]
    return torch.stack([real, again, *dreamt]).numpy()


def _headlines(options: DreamOptions, dream: Dream) -> list[tuple[str, str, str]]:
    total, chance = dream.rewards.sum(0), float(1 - (1 - dream.terminations).prod(0).mean())
    return [
        ("Step", str(options.start), f"of {options.split} episode {options.episode}"),
        ("Actions", Path(options.actions).stem, f"{len(dream.latents)} steps"),
        ("Temperature", f"{options.temperature:g}", f"{options.branches} branches"),
        ("Reward dreamt", f"{float(total.mean()):.2f}", f"{float(total.min()):.2f} to {float(total.max()):.2f}"),
        ("Chance of termination", f"{100 * chance:.0f} %", "mean over branches"),
    ]
