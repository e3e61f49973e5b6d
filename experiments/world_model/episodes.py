"""Episodes that a page shows: recorded ones, or a person playing in the simulator."""

from typing import Protocol

import torch
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.domain import Domain, LevelBatch
from clutr.experiments.storage import RunError, load_state
from clutr.world_model.dataset import EpisodeDataset, EpisodeInfo
from clutr.world_model.recorder import part_path


class OpenEpisode(Protocol):
    """T frames and what was done between them; what is still to come of it may not be known yet."""

    about: str
    """In words."""
    frames: Tensor
    """`[T, side, side, 3]` uint8."""
    masks: Tensor
    """`[T, side, side]` uint8."""
    privileged_state: Tensor
    """`[T, Q]`: the true state."""
    actions: Tensor
    """`[T - 1, A]`: one-hot where actions are discrete."""
    rewards: Tensor
    """`[T - 1]`."""

    over: bool
    """Whether no frame comes behind the last one."""

    @property
    def driven(self) -> bool:
        """Whether a person chooses the actions."""
        ...

    def advance(self, action: Tensor) -> bool:
        """Take an action `[A]`. Returns whether a frame came of it: none does behind the end."""
        ...


class RecordedEpisode:
    """A recorded episode.

    Args:
        dataset: where it is.
        episode: which.
    """

    driven = False
    over = True

    def __init__(self, dataset: EpisodeDataset, episode: EpisodeInfo) -> None:
        rows = episode.indices
        self.frames, self.masks, self.privileged_state = (
            dataset.column(name, rows) for name in ("frames", "masks", "privileged_state")
        )
        self.actions, self.rewards = dataset.actions(rows[:-1]), dataset.column("rewards", rows[:-1])
        self.about = f"recorded with {episode.policy}"

    def advance(self, action: Tensor) -> bool:  # noqa: ARG002
        """What was recorded does not change."""
        return False


class SimulatedEpisode:
    """A level in the simulator, from its start, one action at a time.

    Args:
        domain: the environment.
        level: one level.
    """

    driven = True
    about = "the simulator, and you play"

    def __init__(self, domain: PrivilegedState, level: LevelBatch) -> None:
        self._engine = domain.engine(1)
        self._observer = domain.observer(self._engine)
        self._discrete = int(getattr(self._engine.action_space, "n", 0))
        width = self._discrete or int((self._engine.action_space.shape or (1,))[0])
        self._engine.reset(level)
        self._observer.reset()
        self.over = False
        self.actions, self.rewards = torch.zeros(0, width), torch.zeros(0)
        self.frames, self.masks, self.privileged_state = self._observer.pictures(), self._observer.masks(), self._true()

    def _true(self) -> Tensor:
        return torch.stack(list(self._observer.privileged_state().values()), 1)

    def advance(self, action: Tensor) -> bool:
        """See `OpenEpisode`."""
        if self.over:
            return False
        step = self._engine.step(action.argmax(0, keepdim=True) if self._discrete else action[None])
        self.over = bool((step.terminated | step.truncated).any())
        self.frames = torch.cat([self.frames, self._observer.pictures()])
        self.masks = torch.cat([self.masks, self._observer.masks()])
        self.privileged_state = torch.cat([self.privileged_state, self._true()])
        self.actions = torch.cat([self.actions, action[None]])
        self.rewards = torch.cat([self.rewards, step.reward.cpu()])
        return True


def level_of(dataset: EpisodeDataset, domain: Domain, episode: EpisodeInfo) -> LevelBatch:
    """The level that an episode was played on. Raises `RunError` if the dataset does not hold it."""
    path = part_path(dataset.path, episode.part).with_suffix(".safetensors")
    if not path.exists():
        raise RunError(f"{path} is missing: the dataset does not hold the levels of its episodes")
    levels = domain.level_type.from_tensors(load_state(path))
    keys = levels.key()
    if episode.key not in keys:
        raise RunError(f"{path} does not hold the level {episode.key}")
    return levels[keys.index(episode.key)]
