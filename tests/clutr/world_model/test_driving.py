"""Driving by latents: roads and pictures of the package, the racing expert, its imitation and evolution."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.car.box2d_env import Box2DEngine
from clutr.envs.car.engine import CarEngine
from clutr.envs.car.road.track import Track
from clutr.envs.domain import SeedLevels
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dreamer
from clutr.world_model.driving import dagger, evolution
from clutr.world_model.driving.controller import Controller, FitOptions, fit, from_actions, restore, to_actions
from clutr.world_model.driving.dagger import DaggerOptions, imitate_expert
from clutr.world_model.driving.drive import Drives, FeatureExtractor, Teaching, drive
from clutr.world_model.driving.evolution import EvolutionOptions, affine, climb, evolve_outputs, returns_of
from clutr.world_model.driving.expert import RacingExpert, RacingStyle, racing_line, speed_profile
from clutr.world_model.driving.roads import PackageRoads
from clutr.world_model.latent_engines import MOST_SEEN
from clutr.world_model.memory import MemoryConfig, Scale

ROADS = PackageRoads(torch.tensor([3, 8]))


def rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def extractor(sees: Any = "both") -> FeatureExtractor:
    """See four latents of a backbone that was fitted to noise, and six numbers of a memory."""
    config = PPCAConfig(latents=4, fitted_on=12)
    backbone = config.build((64, 64), 1)
    config.fitting(backbone, torch.randint(0, 256, (12, 64, 64, 3), dtype=torch.uint8, generator=rng()), 1).run(
        lambda *_: None
    )
    memory = MemoryConfig(core=GRUConfig(width=6), gaussians=1).build(4, 3, seed=1)
    return FeatureExtractor(backbone, Dreamer(memory, Scale(torch.zeros(4), torch.ones(4), torch.ones(4), 1.0)), sees)


def ring(radius: float, n: int = 120) -> Track:
    angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return Track.from_centre_line(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def test_roads_are_those_of_the_package() -> None:
    """The same actions bring the cars of both engines to the same places, and to the same rewards."""
    ours = CarEngine(2, action_repeat=2, zoom_in=True)
    real = Box2DEngine(2, package_tracks=True, action_repeat=2)
    seen, truly = ours.reset(ROADS)["image"], real.reset(SeedLevels(ROADS.seed))["image"]
    assert (seen.float() - truly.float()).abs().mean() < 1.5
    for steer in (0.2, -0.3):
        actions = torch.tensor([[steer, 0.5, 0.0], [-steer, 0.2, 0.1]])
        for _ in range(5):
            one, other = ours.step(actions), real.step(actions)
            torch.testing.assert_close(one.reward, other.reward)
        assert torch.equal(ours.agent_position[:, :3], real.agent_position[:, :3])
    assert (one.observation["image"].float() - other.observation["image"].float()).abs().mean() < 1.5
    assert [track.kerbs.any() for track in ROADS.tracks()] == [True, True]


def test_what_a_controller_gives_by_hand() -> None:
    outputs = torch.tensor([[0.5, 0.3], [-1.0, -0.6], [7.0, -7.0]])
    actions = torch.tensor([[0.2, 0.3, 0.0], [-0.4, 0.0, 0.6], [0.4, 0.0, 1.0]])
    torch.testing.assert_close(to_actions(outputs), actions)
    torch.testing.assert_close(from_actions(actions)[:2], outputs[:2])


def test_a_line_bends_less_and_stays_on_the_road() -> None:
    track = ring(60)
    offset = np.linalg.norm(racing_line(track, 2.0), axis=1) - 60
    np.testing.assert_allclose(offset, -2.0, atol=0.01)  # inside, a circle of as many points is the smallest polygon
    for road in ROADS.tracks():
        line = racing_line(road, 3.0)
        away = np.linalg.norm(line - road.points, axis=1)
        assert 1 < away.max() <= 3.0 + 1e-9

        def bending(points: NDArray[np.float64]) -> float:
            return float((np.diff(np.concatenate([points, points[:2]]), 2, axis=0) ** 2).sum())

        assert bending(line) < 0.8 * bending(road.points)


def test_speed_is_what_bends_and_brakes_allow() -> None:
    style = RacingStyle(side_acceleration=80, deceleration=50, top_speed=70)
    np.testing.assert_allclose(speed_profile(ring(45).points, style), np.sqrt(80 * 45), rtol=1e-3)
    np.testing.assert_allclose(speed_profile(ring(500).points, style), 70)
    line = ROADS.tracks()[0].points
    speed, length = speed_profile(line, style), np.linalg.norm(np.roll(line, -1, 0) - line, axis=1)
    assert (speed**2 - np.roll(speed, -1) ** 2 <= 2 * 50 * length + 1e-6).all()
    assert speed.min() < 45 < speed.max()


def test_the_expert_races() -> None:
    engine = CarEngine(2, action_repeat=4)
    engine.reset(ROADS)
    expert, total = RacingExpert(engine), torch.zeros(2)
    for _ in range(60):
        total += engine.step(expert.act()).reward
        assert engine.cars.on_road.sum(1).min() >= 3
    assert (engine.agent_position[:, 3] > 40).all()
    assert (engine.progress > 0.2).all(), "4.8 seconds"
    assert (total > 200).all()


@pytest.mark.parametrize("hidden", [0, 16])
def test_imitation_finds_a_linear_expert(hidden: int) -> None:
    truth = torch.tensor([[0.3, 0.0], [0.0, -0.2], [0.1, 0.1], [0.0, 0.0]])
    inputs = 2 * torch.randn(2_000, 4, generator=rng()) + 1
    wanted = inputs @ truth + torch.tensor([0.05, -0.1])
    found = fit(inputs, wanted, FitOptions(hidden=hidden, passes=30), rng(2))
    fresh = 2 * torch.randn(100, 4, generator=rng(3)) + 1
    with torch.no_grad():
        error = (found(fresh) - fresh @ truth - torch.tensor([0.05, -0.1])).abs()
    assert float(error.mean()) < (0.1 if hidden else 2e-3), "of actions of either sign up to about 2"
    assert found.weights == (4 * 16 + 16 + 16 * 2 + 2 if hidden else 4 * 2 + 2)
    again = restore(found.state())
    assert torch.equal(again(fresh), found(fresh))
    with pytest.raises(ValueError, match="is fitted to recorded steps, and there are none"):
        fit(inputs[:0], wanted[:0], FitOptions(), rng())


def test_features_follow_as_the_dreamer_observes() -> None:
    both, alone = extractor(), extractor("latent")
    pictures = torch.randint(0, 256, (4, 1, 96, 96, 3), dtype=torch.uint8, generator=rng())
    actions = torch.rand(3, 1, 3, generator=rng())
    seen = [both.extract(pictures[0])]
    for picture, action in zip(pictures[1:], actions, strict=True):
        both.update(action)
        seen.append(both.extract(picture))
    latents = torch.stack([alone.extract(picture) for picture in pictures])
    assert (alone.features, both.features) == (4, 10)
    torch.testing.assert_close(torch.stack(seen)[:, :, :4], latents)
    state, _ = both._dreamer.observe(latents, actions)
    torch.testing.assert_close(seen[-1][:, 4:], state.state)
    both.reset(2)
    assert both.extract(pictures[0].repeat(2, 1, 1, 1))[:, 4:].abs().max() == 0


def test_a_state_that_is_a_map_is_no_input() -> None:
    memory = MemoryConfig(core=GRUConfig(width=MOST_SEEN + 1), gaussians=1).build(4, 3, seed=1)
    dreamer = Dreamer(memory, Scale(torch.zeros(4), torch.ones(4), torch.ones(4), 1.0))
    with pytest.raises(ValueError, match="4,097 numbers, too many to be seen: take latents alone"):
        FeatureExtractor(extractor()._backbone, dreamer, "both")


def test_who_drives_and_what_is_recorded() -> None:
    engine = CarEngine(2, action_repeat=2, max_frames=20, zoom_in=True)
    still = lambda seen: torch.zeros(len(seen), 2)  # noqa: E731
    driven = drive(extractor("latent"), still, ROADS, engine, Teaching(torch.tensor([True, False])))
    assert driven.frames.tolist() == [20, 20]
    assert driven.inputs.shape == (20, 4)
    assert driven.wanted.shape == (20, 2)
    assert (driven.wanted[:, 1] > 0.3).all(), "from rest, the expert wants gas for both"
    assert float(engine.agent_position[0, 3]) > 10 > float(engine.agent_position[1, 3])
    unrecorded = drive(extractor("latent"), still, ROADS, engine)
    assert len(unrecorded.inputs) == len(unrecorded.wanted) == 0
    assert float(unrecorded.returns[1]) == pytest.approx(float(driven.returns[1]))


def test_a_lost_drive_is_not_recorded_further() -> None:
    engine = CarEngine(2, action_repeat=10, max_frames=1000, zoom_in=True)
    left = lambda seen: torch.tensor([[-0.5, 0.4]]).repeat(len(seen), 1)  # noqa: E731
    driven = drive(extractor("latent"), left, ROADS, engine, Teaching(torch.tensor([False, False])))
    assert (driven.frames < 500).all()
    assert (driven.frames > 100).all()
    assert len(driven.inputs) == int(driven.frames.sum()) // 10


def test_the_best_round_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    returns, drivers = iter([50.0, 10.0, 30.0, 20.0]), []

    def played(
        _extractor: FeatureExtractor, steer: Any, levels: PackageRoads, engine: CarEngine, teaching: Teaching, _: None
    ) -> Drives:
        drivers.append(steer)
        assert teaching.drives.tolist() == [len(drivers) == 1] * 2
        n = torch.full((2,), next(returns))
        seen = torch.randn(40, 10, generator=rng(len(drivers)))
        return Drives(n, n.long(), n > 0, seen, seen[:, :2] * 0.1)

    monkeypatch.setattr(dagger, "drive", played)
    found = imitate_expert(extractor(), CarEngine, DaggerOptions(rounds=3, cars=2, fit=FitOptions(hidden=0)), 1)
    assert found.returns == [50, 10, 30, 20]
    assert found.controller is drivers[2]
    assert found.steps == 160
    assert len(found.quality) == 3
    assert min(map(min, found.quality)) > 0.99, "the expert is linear"


def test_evolution_climbs_a_quadratic() -> None:
    top = np.array([0.3, -0.5, 0.1])

    def score(candidates: NDArray[np.float64], generation: int) -> NDArray[np.float64]:
        assert candidates.shape == (8, 3)
        heights: NDArray[np.float64] = 7 - ((candidates - top) ** 2).sum(1)
        return heights

    mean, history = climb(score, np.zeros(3), 0.2, 8, 40, seed=1)
    np.testing.assert_allclose(mean, top, atol=0.02)
    assert history[0] < 6.9
    assert history[-1] > 6.999


def test_candidates_are_affine_maps_on_the_same_roads(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Controller(4, 0, rng())
    changed = affine(base, torch.tensor([2.0, 0.0, 0.0, 1.0, 0.0, 0.5]))
    seen = torch.randn(4, 4, generator=rng())
    torch.testing.assert_close(changed(seen), base(seen) * torch.tensor([2.0, 1.0]) + torch.tensor([0.0, 0.5]))

    def played(_extractor: FeatureExtractor, steer: Any, levels: PackageRoads, engine: Any) -> Drives:
        assert levels.seed[:2].tolist() == levels.seed[2:].tolist()
        outputs: Tensor = steer(seen)
        torch.testing.assert_close(outputs, torch.cat([base(seen[:2]), changed(seen[2:])]))
        n = torch.tensor([1.0, 2.0, 5.0, 9.0])
        return Drives(n, n.long(), n > 0, seen, outputs)

    monkeypatch.setattr(evolution, "drive", played)
    with torch.no_grad():
        found = returns_of([base, changed], extractor("latent"), CarEngine(4), 1, "test", 0)
    assert found.tolist() == [1.5, 7.0]


@pytest.mark.parametrize("better", [True, False])
def test_an_evolution_that_brings_nothing_is_dropped(better: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(controllers: list[Controller], *_: Any) -> Tensor:
        gains = torch.stack([each.gain[0, 0] for each in controllers])
        return gains if len(controllers) == 4 or better else -gains

    monkeypatch.setattr(evolution, "returns_of", judged)
    base, options = Controller(4, 0, rng()), EvolutionOptions(generations=3, population=4, judged=1)
    found, history = evolve_outputs(base, extractor("latent"), CarEngine, options, seed=1)
    assert len(history) == 3
    assert (float(found.gain[0, 0]) > 1) == better
    assert (found is base) == (not better)
    assert evolve_outputs(base, extractor("latent"), CarEngine, EvolutionOptions(), seed=1) == (base, [])
