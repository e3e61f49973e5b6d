"""The configuration of a world model: recording, backbone, memory, training and evaluation."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clutr.envs.capabilities import PrivilegedState, require
from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import DOMAINS
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.registry import Registry
from clutr.envs.validation import MOST_SIDE_BY_SIDE, require_above, require_at_least, require_at_most, require_within
from clutr.experiments import plain_config
from clutr.world_model.backbones.base import BACKBONES, BackboneConfig
from clutr.world_model.backbones.categorical import CategoricalConfig
from clutr.world_model.backbones.cells import CellsConfig
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.backbones.spatial_vae import SpatialVAEConfig
from clutr.world_model.backbones.vae import VAEConfig
from clutr.world_model.cores.base import CORES
from clutr.world_model.cores.conv_gru import ConvGRUConfig
from clutr.world_model.cores.geometric import GeometricConfig
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.evaluation import EvaluationOptions
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.replay import replay_streams
from clutr.world_model.training import MemoryTrainingOptions


@dataclass(frozen=True)
class RecordOptions:
    """What is recorded."""

    episodes: int = 640
    """Episodes, each on a level of its own."""
    num_envs: int = 32
    """Episodes that are played side by side, and kept in one file."""
    length: int = 125
    """Most actions of an episode."""
    walk: float = 0.3
    """Share of the environments with a random walk of actions."""
    expert: float = 0.7
    """Share with a noisy expert, which knows the true state, at different degrees of aggressiveness."""
    sticky_action_probability: float = 0.0
    """Chance a step that an action of the expert sticks and is repeated for a while, so that mistakes are recorded."""
    students: float = 0.0
    """Share with the trained students of `runs`."""
    runs: tuple[str, ...] = ()
    """Runs whose students play, one of each checkpoint that is kept."""
    proposed: float = 0.0
    """Share of the levels that are drawn from what the curricula of `runs` proposed, instead of at random."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "episodes", "num_envs", "length")
        require_at_most(self, MOST_SIDE_BY_SIDE, "num_envs")
        require_at_least(self, 0, "walk", "expert", "students")
        if self.walk + self.expert + self.students <= 0:
            raise ValueError("nobody plays: one of walk, expert and students must be above 0")
        require_within(self, 0, 1, "sticky_action_probability", "proposed")
        if (self.students or self.proposed) and not self.runs:
            raise ValueError("students and proposed levels come from runs: name at least one with --record.runs")


@dataclass(frozen=True)
class RefitOptions:
    """Whose memory is kept while a VAE is fitted anew, as `clutr world refit` does."""

    of: str = ""
    """Directory of a trained world model with a VAE, whose memory is taken over; nothing: all parts are trained."""
    weight: float = 300.0
    """Of half the squared distance to its latents, in standard deviations, in the loss."""

    def __post_init__(self) -> None:
        require_above(self, 0, "weight")


@dataclass(frozen=True)
class WorldModelExperiment:
    """A world model: with the dataset, `world.yaml` alone reproduces it."""

    domain: PrivilegedState
    """The environment."""
    record: RecordOptions = field(default_factory=RecordOptions)
    """What is recorded."""
    backbone: BackboneConfig = field(default_factory=VAEConfig)
    """Encodes and decodes frames."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """Predicts latents, rewards and terminations."""
    training: MemoryTrainingOptions = field(default_factory=MemoryTrainingOptions)
    """How the memory is trained."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    """How dreams are evaluated."""
    refit: RefitOptions = field(default_factory=RefitOptions)
    """Whether the memory of another world model is kept."""
    recording: str = ""
    """Folder of a dataset that was recorded or imported before and is used instead; nothing: one is recorded."""
    continues: str = ""
    """Directory of a trained world model whose backbone is kept and whose memories are trained on."""
    replay: float = 0.5
    """Share of every batch that dreams of that world model make up, so that less is forgotten (generative replay)."""
    seed: int = 1
    """Seed of everything."""

    def __post_init__(self) -> None:
        require_at_least(self, 0, "seed")
        require_within(self, 0, 1, "replay")
        if self.continues and self.refit.of:
            raise ValueError(
                f"a memory is trained on or kept, not both: continues {self.continues}, refit.of {self.refit.of}"
            )
        if self.continues and self.replay:
            replay_streams(self.replay, self.training.streams)
        require(self.domain, PrivilegedState, "a world model")


_DEBUG = {
    "backbone": VAEConfig(latents=6, channels=(4, 8, 8), iterations=20, batch_size=8),
    "memory": MemoryConfig(core=LSTMConfig(width=12), gaussians=2),
    "training": MemoryTrainingOptions(epochs=2, streams=4, length=8, imagination_steps=4),
    "evaluation": EvaluationOptions(context=3, horizon=5, windows=4, pictured=2, horizons=(1, 3, 5)),
}

_LIGHT_VAE = VAEConfig(channels=(16, 32, 64, 128))
"""Half as wide as the published one, and four times as fast: two cores have no hour for it."""

_CONVERGING = MemoryTrainingOptions(
    epochs=40,
    streams=8,
    length=64,
    schedule="cosine",
    patience=40,
    imagination_steps=48,
    random_offsets=True,
    reward_weight=0.05,
    termination_weight=0.2,
)
"""Many small batches, a step size that falls, and outcomes that weigh about as much as two latents of 32."""

WORLD_PRESETS: dict[str, WorldModelExperiment] = {
    # 25 steps a second: with the students' 6 even the next view is hardly predictable;
    # dreams of two seconds in training, without which longer ones diverge;
    # sticky actions, without which a recording hardly shows what comes of mistakes
    "car": WorldModelExperiment(
        CarDomain(shaped=False, action_repeat=2),
        RecordOptions(length=250, sticky_action_probability=0.02),
        backbone=_LIGHT_VAE,
        training=_CONVERGING,
    ),
    "car-fast": WorldModelExperiment(
        CarDomain(shaped=False, action_repeat=2),
        RecordOptions(episodes=192, length=250, sticky_action_probability=0.02),
        backbone=PPCAConfig(),
        training=replace(_CONVERGING, epochs=8, patience=8, imagination_steps=24),
    ),
    "car-geometric": WorldModelExperiment(
        CarDomain(shaped=False, action_repeat=2),
        RecordOptions(length=250, sticky_action_probability=0.02),
        backbone=CellsConfig(latents=488),
        memory=MemoryConfig(core=GeometricConfig(), gaussians=1),
        training=replace(
            _CONVERGING,
            epochs=6,
            patience=6,
            length=32,
            streams=16,
            imagination_steps=16,
            motion_passes=48,
            motion_weight=0.5,
            max_gradient_norm=5.0,
        ),
    ),
    # latents in a grid, each of whose places has a small memory and sees its neighbours
    "car-spatial": WorldModelExperiment(
        CarDomain(shaped=False, action_repeat=2),
        RecordOptions(length=250, sticky_action_probability=0.02),
        backbone=SpatialVAEConfig(),
        memory=MemoryConfig(core=ConvGRUConfig(), gaussians=1),
        training=replace(_CONVERGING, epochs=12, patience=12, length=32, streams=16, imagination_steps=16),
    ),
    # classes instead of numbers, drawn whole in dreams
    "car-categorical": WorldModelExperiment(
        CarDomain(shaped=False, action_repeat=2),
        RecordOptions(length=250, sticky_action_probability=0.02),
        backbone=CategoricalConfig(),
        memory=MemoryConfig(classes=CategoricalConfig().classes),
        training=_CONVERGING,
    ),
    "maze": WorldModelExperiment(
        MazeDomain(),
        RecordOptions(episodes=1_280, num_envs=64, length=100),
        backbone=_LIGHT_VAE,
        evaluation=EvaluationOptions(context=10, horizon=50, horizons=(1, 2, 5, 10, 20, 35, 50)),
    ),
    # motion in mazes is exact: what was seen stays where it is, and the rest is invented
    "maze-geometric": WorldModelExperiment(
        MazeDomain(),
        RecordOptions(episodes=640, num_envs=64, length=100),
        backbone=CellsConfig(latents=75, rows=5, columns=5, channels=3, box=(2, 2, 62, 62), smooth=False),
        memory=MemoryConfig(
            core=GeometricConfig(width=64, view="maze", rows=5, columns=5, channels=3, map_cell=1.0), gaussians=1
        ),
        training=replace(_CONVERGING, epochs=12, patience=12, length=32, streams=16, imagination_steps=12),
        evaluation=EvaluationOptions(context=10, horizon=50, horizons=(1, 2, 5, 10, 20, 35, 50)),
    ),
    "car-debug": WorldModelExperiment(
        CarDomain(shaped=False),
        RecordOptions(episodes=24, num_envs=8, length=12),
        **_DEBUG,  # type: ignore[arg-type]
    ),
    "maze-debug": WorldModelExperiment(
        MazeDomain(height=5, width=5, max_obstacles=5, max_steps=20),
        RecordOptions(episodes=96, num_envs=32, length=20, walk=0.6, expert=0.4),
        **_DEBUG,  # type: ignore[arg-type]
    ),
}
"""World models by name."""

_REGISTRIES: dict[str, Registry[Any]] = {"domain": DOMAINS, "backbone": BACKBONES, "base": BACKBONES, "core": CORES}


def to_yaml(experiment: WorldModelExperiment) -> str:
    """A world model's configuration as the text of `world.yaml`."""
    return plain_config.to_yaml(experiment, _REGISTRIES)


def to_plain(experiment: WorldModelExperiment) -> dict[str, Any]:
    """A world model's configuration as nested plain data, complete: defaults are written out."""
    plain: dict[str, Any] = plain_config.to_plain(experiment, _REGISTRIES)
    return plain


def from_yaml(text: str) -> WorldModelExperiment:
    """The inverse of `to_yaml`. Raises `RunError` naming field, value and what is allowed."""
    experiment: WorldModelExperiment = plain_config.from_yaml(text, _REGISTRIES, WorldModelExperiment, "world.yaml")
    return experiment


def read(path: Path) -> WorldModelExperiment:
    """The world model that a file describes. Raises `RunError` naming file, field, value and what is allowed."""
    experiment: WorldModelExperiment = plain_config.read_yaml(path, _REGISTRIES, WorldModelExperiment)
    return experiment
