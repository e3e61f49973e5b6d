"""Experiments by name: `clutr train NAME` launches one, and any field can be overridden."""

from dataclasses import asdict, replace
from typing import Any

from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.ppo import PPOConfig
from clutr.agents.recurrent_pixels import RecurrentPixelPPOConfig
from clutr.curricula.accel import ACCELConfig
from clutr.curricula.alp_gmm import ALPGMMConfig
from clutr.curricula.base import CurriculumConfig
from clutr.curricula.clutr import CLUTRConfig
from clutr.curricula.clutr_joint import CLUTRJointConfig
from clutr.curricula.clutr_replay import CLUTRReplayConfig
from clutr.curricula.latent_accel import LatentACCELConfig
from clutr.curricula.latent_learnability import LatentLearnabilityConfig
from clutr.curricula.ncc import NCCConfig
from clutr.curricula.pace import PACEConfig
from clutr.curricula.paired import FlexiblePAIREDConfig, MinimaxConfig, PAIREDConfig
from clutr.curricula.plr import PLRConfig, RobustPLRConfig
from clutr.curricula.population import PopulationPAIREDConfig
from clutr.curricula.ppo import TeacherOptions
from clutr.curricula.random import DomainRandomisationConfig, MatchedRandomisationConfig, RandomLatentsConfig
from clutr.curricula.repaired import REPAIREDConfig
from clutr.curricula.sfl import SFLConfig
from clutr.curricula.traced import TRACEDConfig
from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import Domain
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.config import Experiment
from clutr.manifold.ariel import ArielConfig
from clutr.manifold.base import ManifoldConfig
from clutr.manifold.combinatorial import CombinatorialConfig
from clutr.manifold.recurrent_set_vae import RecurrentSetVAEConfig
from clutr.manifold.recurrent_vae import CLUTR_PAPER
from clutr.manifold.set_vae import SetVAEConfig

_RECURRENT = RecurrentSetVAEConfig(iterations=6_000, batch_size=128, learning_rate=4e-3, decoder_joins=0.6)
"""A recurrent model that a laptop trains in minutes; `shuffled` is its sorting ablation."""
_CAR_RECURRENT = replace(_RECURRENT, iterations=2_000, latent=48)

MANIFOLD_PRESETS: dict[str, ManifoldConfig] = {
    "fast": SetVAEConfig(iterations=3_000),
    "full": SetVAEConfig(iterations=12_000),
    "clutr-paper": CLUTR_PAPER,
    "debug": SetVAEConfig(iterations=60, batch_size=64, refinements=2, hidden=32, latent=16),
    "unpretrained": SetVAEConfig(iterations=0),
    "ariel": ArielConfig(),
    "combinatorial": CombinatorialConfig(),
    "recurrent": _RECURRENT,
    "shuffled": replace(_RECURRENT, shuffle=True, law="softmax"),
}
"""Task manifolds of mazes by name, for `clutr pretrain maze --preset NAME`."""

CAR_MANIFOLD_PRESETS: dict[str, ManifoldConfig] = {
    "fast": SetVAEConfig(iterations=1_500, latent=48),
    "full": SetVAEConfig(iterations=6_000, latent=48),
    "clutr-paper": CLUTR_PAPER,
    "debug": SetVAEConfig(iterations=60, batch_size=64, refinements=2, hidden=32, latent=16),
    "unpretrained": SetVAEConfig(iterations=0, latent=48),
    "ariel": ArielConfig(),
    "combinatorial": CombinatorialConfig(),
    "recurrent": _CAR_RECURRENT,
    "shuffled": replace(_CAR_RECURRENT, shuffle=True, law="softmax"),
}
"""Task manifolds of roads. 12 control points on a grid of 100 cells are easy to encode: half a minute is enough, and 48
dimensions, whose points agree better with the codes of their levels than 64 (experiments/results/manifold)."""

FIFTY_BLOCKS = MazeDomain()
"""CLUTR's mazes: 13x13 cells, up to 50 obstacles, 250 steps."""

LIGHT_STUDENT = PPOConfig(
    torso="symbols", hidden=128, head=64, learning_rate=7e-4, epochs=2, minibatches=8, discount=0.99, rollout_steps=256
)
"""Learns fastest in ten minutes among those of experiments/results/student-updates.json (docs/figures.md)."""

_TEACHER: dict[str, Any] = {
    "learning_rate": 1e-3,
    "hidden": 64,
    "entropy_coefficient": 0.01,
    "target_kl": 0.01,
    "start": "uniform",
}

STRONG_TEACHER = CLUTRConfig(**_TEACHER)
"""The published teacher is tiny and slow; this one starts uniform and moves within hundreds of updates, in steps that
are too small to follow the noise of the regret."""

LIGHT_CAR_STUDENT = PixelPPOConfig(torso="small", learning_rate=5e-4, epochs=2, minibatches=16, target_kl=0.03)
"""Small convolutions on pictures of a quarter of the height and width, and two epochs, which end at a KL of 0.03. It
learns fastest at equal processor time among those of experiments/results/student-updates.json (docs/figures.md)."""

RECURRENT_CAR_STUDENT = RecurrentPixelPPOConfig(
    torso="light", learning_rate=3e-4, epochs=5, minibatches=4, target_kl=0.03
)
"""One picture and a memory instead of four pictures; a minibatch is of whole environments."""

MAZE_CURRICULA: dict[str, CurriculumConfig] = {
    "dr": DomainRandomisationConfig(),
    # as many obstacles as uniform points of `MANIFOLD_PRESETS["fast"]` have: nine in ten between 31 and 50
    "dr-matched": MatchedRandomisationConfig(property="wall_count", least=31, most=50),
    "minimax": MinimaxConfig(),
    "paired": PAIREDConfig(),
    "flexible-paired": FlexiblePAIREDConfig(),
    "population-paired": PopulationPAIREDConfig(),
    "repaired": REPAIREDConfig(replacement=False),
    "plr": PLRConfig(replacement=False),
    "robust-plr": RobustPLRConfig(replacement=False),
    "parallel-plr": RobustPLRConfig(replacement=False, parallel=True),
    "accel": ACCELConfig(replacement=False),
    "parallel-accel": ACCELConfig(replacement=False, parallel=True),
    "traced": TRACEDConfig(replacement=False),
    "pace": PACEConfig(),
    "sfl": SFLConfig(),
    "ncc": NCCConfig(score="discounted_regret", learning_rate=0.005, entropy=0.032, adaptive=True),
    "alp-gmm": ALPGMMConfig(),
}
"""Curricula of mazes that need no task manifold, as published but for what `docs/method.md` says of replay and NCC."""

_WITHOUT_ENTROPY = ("paired", "flexible-paired", "population-paired", "repaired", "accel", "parallel-accel", "traced")
"""Published without an entropy bonus for their students in mazes (arXiv 2110.02439, 2203.01302, 2506.19997)."""

MAZE_LATENT_CURRICULA: dict[str, CurriculumConfig] = {
    "random-latent": RandomLatentsConfig(),
    "clutr": STRONG_TEACHER,
    "clutr-flexible": replace(STRONG_TEACHER, regret="flexible"),
    "clutr-joint": CLUTRJointConfig(**_TEACHER),
    "clutr-replay": CLUTRReplayConfig(**_TEACHER, replacement=False),
    "latent-accel": LatentACCELConfig(),
    "latent-alp-gmm": ALPGMMConfig(space="latent"),
    "latent-learnability": LatentLearnabilityConfig(),
}
"""Those that choose points of the task manifold."""

STRONG_CAR_TEACHER = replace(STRONG_TEACHER, noise=4, normalise_regret=True, value_loss="smooth-l1")

_PUBLISHED_CAR_TEACHER = TeacherOptions(learning_rate=3e-4, epochs=8, minibatches=4, value_loss="smooth-l1")

_CAR_REPLAY: dict[str, Any] = {
    "score": "positive_value_loss",
    "priority": "power",
    "temperature": 1.0,
    "staleness": 0.7,
    "capacity": 2_900,
    "replay_probability": 0.5,
    "replacement": False,
}
"""Published for PLR on cars, but for the capacity: 8,000 for 2,750 updates, here scaled to 1,000 of them, so that it is
half full, and replay begins, after the same fraction of a run."""

_CAR_PAIRED: dict[str, Any] = asdict(_PUBLISHED_CAR_TEACHER) | {
    "discount": 0.99,
    "gae_lambda": 0.9,
    "noise": 4,
    "normalise_regret": True,
    "network": "convolutional",
    "mask_used": True,
}
"""Published for PAIRED on cars."""

_CAR_REPAIRED: dict[str, Any] = {"score": "grounded_positive", "entropy_coefficient": 0.01}

CAR_CURRICULA: dict[str, CurriculumConfig] = {
    "plr": PLRConfig(**_CAR_REPLAY),
    "robust-plr": RobustPLRConfig(**_CAR_REPLAY),
    "repaired": REPAIREDConfig(**_CAR_PAIRED | _CAR_REPLAY | _CAR_REPAIRED),
    "accel": ACCELConfig(**_CAR_REPLAY),
    "traced": TRACEDConfig(**_CAR_REPLAY),
    "pace": PACEConfig(capacity=2_900),
    "sfl": SFLConfig(score="return_variance", environments=4, candidates=64, kept=16),
    "ncc": NCCConfig(score="return_variance", environments=4, candidates=64, kept=16),
    "population-paired": PopulationPAIREDConfig(**_CAR_PAIRED | {"regret": "flexible"}),
    "alp-gmm": ALPGMMConfig(),
}
"""Curricula of cars that need no task manifold."""

_CLUTR = Experiment(
    domain=FIFTY_BLOCKS,
    curriculum=STRONG_TEACHER,
    student=LIGHT_STUDENT,
    manifold=MANIFOLD_PRESETS["fast"],
    total_steps=20_000_000,
    evaluate_suite="dcd7",
)
_DEBUG = Experiment(
    domain=MazeDomain(height=5, width=5, max_obstacles=6, max_steps=20),
    curriculum=DomainRandomisationConfig(),
    student=PPOConfig(rollout_steps=32, hidden=16, head=8, torso="symbols", torso_width=16, epochs=2, minibatches=2),
    num_envs=8,
    total_steps=8 * 32 * 6,
    evaluate_every=3,
    evaluate_suite="random",
    evaluate_episodes=20,
    checkpoint_every=2,
    record_every=2,
)
_DEMO = Experiment(
    domain=MazeDomain(height=9, width=9, max_obstacles=25, max_steps=100),
    curriculum=STRONG_TEACHER,
    student=replace(LIGHT_STUDENT, rollout_steps=128),
    manifold=SetVAEConfig(iterations=600),
    num_envs=64,
    total_steps=800_000,
    evaluate_every=33,
    evaluate_suite="small",
    evaluate_episodes=10,
    checkpoint_every=20,
    record_every=10,
)
_CAR = Experiment(
    domain=CarDomain(),
    curriculum=STRONG_CAR_TEACHER,
    student=LIGHT_CAR_STUDENT,
    manifold=CAR_MANIFOLD_PRESETS["fast"],
    num_envs=16,
    total_steps=2_000_000,
    evaluate_every=25,
    evaluate_suite="bezier-small",
    evaluate_episodes=4,
    checkpoint_every=5,
    record_every=10,
)
_CAR_DEBUG = replace(
    _CAR,
    domain=CarDomain(max_frames=32),
    curriculum=DomainRandomisationConfig(),
    student=replace(LIGHT_CAR_STUDENT, rollout_steps=4, epochs=1, minibatches=2),
    manifold=None,
    num_envs=2,
    total_steps=2 * 4 * 4,
    evaluate_every=0,
    checkpoint_every=2,
    record_every=2,
)


def _maze(name: str, curriculum: CurriculumConfig) -> Experiment:
    entropy = 0.0 if name in _WITHOUT_ENTROPY else LIGHT_STUDENT.entropy_coefficient
    student = replace(LIGHT_STUDENT, entropy_coefficient=entropy)
    return replace(_CLUTR, curriculum=curriculum, student=student, manifold=None)


PRESETS: dict[str, Experiment] = {
    "car-clutr": _CAR,
    "car-clutr-paper": replace(
        _CAR,
        curriculum=CLUTRConfig(**asdict(_PUBLISHED_CAR_TEACHER), noise=4, hidden=8, normalise_regret=True),
        student=PixelPPOConfig(),
        manifold=CLUTR_PAPER,
    ),
    "car-paired": replace(
        _CAR,
        curriculum=PAIREDConfig(**_CAR_PAIRED),
        manifold=None,
    ),
    "car-dr": replace(_CAR, curriculum=DomainRandomisationConfig(), manifold=None),
    "car-dr-recurrent": replace(
        _CAR, curriculum=DomainRandomisationConfig(), student=RECURRENT_CAR_STUDENT, manifold=None
    ),
    **{f"car-{name}": replace(_CAR, curriculum=each, manifold=None) for name, each in CAR_CURRICULA.items()},
    "car-clutr-replay": replace(
        _CAR,
        curriculum=CLUTRReplayConfig(
            **_TEACHER, replacement=False, noise=4, normalise_regret=True, value_loss="smooth-l1"
        ),
    ),
    "car-latent-accel": replace(_CAR, curriculum=LatentACCELConfig(**_CAR_REPLAY)),
    "car-latent-learnability": replace(_CAR, curriculum=LatentLearnabilityConfig(target="return")),
    "car-random-latent": replace(_CAR, curriculum=RandomLatentsConfig()),
    "car-clutr-debug": replace(_CAR_DEBUG, curriculum=STRONG_CAR_TEACHER, manifold=CAR_MANIFOLD_PRESETS["debug"]),
    "car-paired-debug": replace(_CAR_DEBUG, curriculum=PAIREDConfig(network="convolutional", mask_used=True)),
    "car-dr-debug": _CAR_DEBUG,
    **{f"maze-{name}": _maze(name, each) for name, each in MAZE_CURRICULA.items()},
    **{f"maze-{name}": replace(_CLUTR, curriculum=each) for name, each in MAZE_LATENT_CURRICULA.items()},
    "maze-clutr-paper": replace(
        _CLUTR,
        curriculum=CLUTRConfig(),
        student=PPOConfig(entropy_coefficient=0.0),
        manifold=CLUTR_PAPER,
        total_steps=500_000_000,
    ),
    "maze-clutr-debug": replace(_DEBUG, curriculum=STRONG_TEACHER, manifold=MANIFOLD_PRESETS["debug"]),
    "maze-paired-debug": replace(_DEBUG, curriculum=PAIREDConfig(filters=4, recurrent=16)),
    "maze-dr-debug": _DEBUG,
    "maze-random-latent-debug": replace(_DEBUG, curriculum=RandomLatentsConfig(), manifold=MANIFOLD_PRESETS["debug"]),
    "demo-clutr": _DEMO,
    "demo-dr": replace(_DEMO, curriculum=DomainRandomisationConfig(), manifold=None),
}
"""Whole experiments by name."""

MANIFOLD_PRESETS_BY_DOMAIN: dict[str, tuple[Domain, dict[str, ManifoldConfig]]] = {
    "maze": (FIFTY_BLOCKS, MANIFOLD_PRESETS),
    "car": (CarDomain(), CAR_MANIFOLD_PRESETS),
}
"""By domain: what its manifolds are trained on, and their presets."""
