"""How fast a world model is recorded, trained and dreamt, beside a plain mixture-density LSTM and one CarRacing-v3."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from clutr.envs.capabilities import SIDE
from clutr.envs.car.domain import CarDomain
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.backbones.vae import VAEConfig
from clutr.world_model.cores.base import CORES
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import Memory, MemoryConfig, Scale
from clutr.world_model.policies import NoisyExpert, RandomWalk
from clutr.world_model.recorder import Recorder
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions

LATENTS, ACTIONS, WIDTH, GAUSSIANS = 32, 3, 256, 5
STREAMS, LENGTH, EPISODES, MOMENTS = 64, 32, 128, 128
HORIZON = 100
CARS = 32
GRIDS = {"geometric": 458, "conv-gru": 264}
"""Latents of cores whose latents lie in a grid: those of their presets."""
GRID_MOMENTS = 32
"""Steps of the episodes that such cores are trained on."""


class PlainMDNRNN(nn.Module):
    """A mixture-density LSTM as most torch code writes it: `nn.LSTM`, one linear layer, `torch.distributions`."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(LATENTS + ACTIONS, WIDTH)
        self.head = nn.Linear(WIDTH, 3 * LATENTS * GAUSSIANS + 2)

    def loss(self, latents: Tensor, actions: Tensor, rewards: Tensor, ends: Tensor) -> Tensor:
        """Negative log-likelihood, reward and end losses of whole sequences `[T + 1, N, ...]`."""
        features, _ = self.lstm(torch.cat([latents[:-1], actions], -1))
        numbers = self.head(features)
        weights, means, sigmas = numbers[..., :-2].unflatten(-1, (LATENTS, 3, GAUSSIANS)).unbind(-2)
        mixture = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(logits=weights),
            torch.distributions.Normal(means, nn.functional.softplus(sigmas) + 0.05),
        )
        loss: Tensor = -mixture.log_prob(latents[1:]).mean()
        loss = loss + (numbers[..., -2] - rewards).square().mean()
        return loss + nn.functional.binary_cross_entropy_with_logits(numbers[..., -1], ends)


def _best(work: Callable[[], int], repeats: int = 3) -> float:
    """Units of work a second, the best of a few."""
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        done = work()
        rates.append(done / (time.perf_counter() - started))
    return max(rates)


def _episodes(count: int = EPISODES, moments: int = MOMENTS, latents: int = LATENTS) -> list[LatentEpisode]:
    rng = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        mean = torch.randn(moments + 1, latents, generator=rng)
        actions, rewards = torch.randn(moments, ACTIONS, generator=rng), torch.randn(moments, generator=rng)
        motion = 0.1 * torch.randn(moments, 3, generator=rng)
        found.append(LatentEpisode(mean, torch.full_like(mean, -4.0), actions, rewards, torch.zeros(moments), motion))
    return found


def _memory(core: str = "lstm") -> Memory:
    if core in GRIDS:
        return MemoryConfig(core=CORES[core](), gaussians=1).build(GRIDS[core], ACTIONS, 1)
    config = MemoryConfig(core=CORES[core](width=WIDTH), gaussians=GAUSSIANS)  # type: ignore[call-arg]
    return config.build(LATENTS, ACTIONS, 1)


def _trained_steps(core: str) -> float:
    """Steps a second of our training, one pass over made-up episodes."""
    options = MemoryTrainingOptions(streams=STREAMS, length=LENGTH, imagination_steps=0)  # as the plain network learns
    episodes = _episodes(STREAMS, GRID_MOMENTS, GRIDS[core]) if core in GRIDS else _episodes()
    training = MemoryTraining(_memory(core), options, episodes, episodes[:1], 1)

    def work() -> int:
        training._pass(episodes, learn=True)
        return sum(map(len, episodes))

    return _best(work, 1 if core in GRIDS else 3)


def _plain_steps() -> float:
    """The same of the plain network on batches of the same shape."""
    plain = PlainMDNRNN()
    optimiser = torch.optim.Adam(plain.parameters(), 1e-3)
    latents, actions = torch.randn(LENGTH + 1, STREAMS, LATENTS), torch.randn(LENGTH, STREAMS, ACTIONS)
    rewards, ends = torch.randn(LENGTH, STREAMS), torch.zeros(LENGTH, STREAMS)

    def work() -> int:
        for _ in range(EPISODES * MOMENTS // (LENGTH * STREAMS)):
            optimiser.zero_grad()
            plain.loss(latents, actions, rewards, ends).backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimiser.step()
        return EPISODES * MOMENTS

    return _best(work)


def _dreamt_steps(n: int) -> float:
    """Steps a second of n dreams side by side, with drawn latents."""
    nothing, one = torch.zeros(LATENTS), torch.ones(LATENTS)
    dreamer = Dreamer(_memory(), Scale(nothing, one, one, 1.0))
    state = LatentState(dreamer.memory.initial_state(n), torch.zeros(n, LATENTS))
    actions, rng = torch.zeros(HORIZON, n, ACTIONS), torch.Generator().manual_seed(1)

    def work() -> int:
        dreamer.dream(state, actions, HORIZON, temperature=1.0, rng=rng)
        return HORIZON * n

    return _best(work)


def _recorded_frames() -> float:
    recorder = Recorder(
        CarDomain(shaped=False),
        CARS,
        60,
        lambda engine: [
            (RandomWalk(engine.action_space, CARS), CARS // 2),
            (NoisyExpert(engine.action_space, CARS), CARS // 2),
        ],
        1,
    )
    recorder.round(0)  # compiles, and draws the first roads
    rounds = iter(range(1, 100))
    return _best(lambda: len(recorder.round(next(rounds)).part.frames))


def _package_frames() -> float | None:
    """Decisions a second of one CarRacing-v3, each of eight frames of which the last is drawn; None without Box2D."""
    try:
        import gymnasium  # noqa: PLC0415

        env = gymnasium.make("CarRacing-v3")
        env.reset(seed=1)
    except (ImportError, gymnasium.error.DependencyNotInstalled):
        return None

    def work() -> int:
        for _ in range(80):
            env.step(env.action_space.sample())
        return 10

    return _best(work)


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Measure recording, both kinds of training, and dreaming. Needs about a minute."""
    progress("recording")
    recorded, package = _recorded_frames(), _package_frames()
    what = f"recording: frames of {CARS} cars with masks and true state, one decision each"
    found = [Measurement(what, recorded, "frames/s")]
    if package is not None:
        found = [
            Measurement.beside(what, recorded, "frames/s", "decisions of one CarRacing-v3, pictures only", package)
        ]
    progress("the backbones")
    frames = torch.randint(0, 256, (2_000, SIDE, SIDE, 3), dtype=torch.uint8)
    vae = VAEConfig(iterations=10**6)
    training = vae.fitting(vae.build((SIDE, SIDE), 1), frames, 1)

    def steps() -> int:
        for _ in range(8):
            training.step()
        return 8 * vae.batch_size

    found.append(Measurement("V: VAE, 32 latents, training", _best(steps), "frames/s"))

    def modes() -> int:
        config = PPCAConfig()
        config.fitting(config.build((SIDE, SIDE), 1), frames, 1).run()
        return len(frames)

    found.append(Measurement("V: 32 principal modes, fitting", _best(modes, 1), "frames/s"))
    progress("the memories")
    peer, plain = "plain nn.LSTM mixture-density network, the same size", _plain_steps()
    for core in CORES:
        if core in GRIDS:  # of another size than the plain network
            what = f"M: {core} over {GRIDS[core]} latents in a grid, {STREAMS} x {LENGTH}, training"
            found.append(Measurement(what, _trained_steps(core), "steps/s"))
            continue
        what = f"M: {core} {WIDTH}, {GAUSSIANS} Gaussians, {STREAMS} x {LENGTH}, training"
        found.append(Measurement.beside(what, _trained_steps(core), "steps/s", peer, plain))
    progress("dreams")
    for n in (1, 256):
        found.append(Measurement(f"dreaming, {n} at once", _dreamt_steps(n), "steps/s"))
    return found
