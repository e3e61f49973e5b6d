"""What would happen if: the simulator put back to recorded moments, moved objects, and the risk of options."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.probes import risk
from clutr.probes.event_probability import Logistic
from clutr.probes.interventions import agreements, check_with_interventions, repaint
from clutr.probes.moved_objects import ASIDE, BEND, _on_roads, change_kerb, move_curve, moved_objects
from clutr.probes.planted import intervention_verdicts, planted_interventions, planted_risk, risk_verdicts
from clutr.probes.simulator import RecordedMoment, played_on, simulated, true_state
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.memory import MemoryConfig, Scale
from clutr.world_model.scene import Palette
from clutr.world_model.views import CarView, Geometry

CARS, MAZES = CarDomain(action_repeat=2, shaped=False), MazeDomain(height=5, width=5, max_obstacles=5)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recorded(domain: PrivilegedState, steps: Sequence[int]) -> tuple[Any, list[RecordedMoment], list[str], Tensor]:
    """Levels, moments, quantities, and the pictures there, of episodes that were played until then."""
    n, rng = len(steps), generator(7)
    engine: Any = domain.engine(n)
    levels = domain.sample(n, rng)
    engine.reset(levels)
    if hasattr(engine, "start_at"):
        engine.start_at(torch.rand(n, generator=rng))
        engine.reset()
    observer = domain.observer(engine)
    observer.reset()
    states, pictures, actions = [true_state(observer)], [observer.pictures()], []
    for _ in range(max(steps)):
        discrete = hasattr(engine.action_space, "n")
        action = torch.randint(3, (n, 1), generator=rng).float() if discrete else torch.rand(n, 3, generator=rng) * 0.6
        engine.step(action[:, 0].long() if discrete else action)
        actions.append(action)
        states.append(true_state(observer))
        pictures.append(observer.pictures())
    moments = [
        RecordedMoment(torch.stack(actions)[:step, row], states[0][row], states[step][row])
        for row, step in enumerate(steps)
    ]
    shown = torch.stack([pictures[step][row] for row, step in enumerate(steps)])
    return levels, moments, list(observer.quantities), shown


@pytest.mark.parametrize("domain", [CARS, MAZES])
def test_recorded_moments_are_reached_and_played_on_from(domain: Any) -> None:
    levels, moments, quantities, pictures = recorded(domain, (9, 3, 6))
    found = simulated(domain, levels, moments, quantities)
    assert found.reached.tolist() == [True] * 3
    assert torch.equal(domain.observer(found.engine).pictures(), pictures)
    wrong = [moments[0], moments[1]._replace(state=moments[1].state + 1), moments[2]]
    assert simulated(domain, levels, wrong, quantities).reached.tolist() == [True, False, True]
    with pytest.raises(ValueError, match="2 moments on 3 levels: each needs one"):
        simulated(domain, levels, moments[:2], quantities)


def test_options_are_played_from_the_same_moment() -> None:
    levels, moments, quantities, pictures = recorded(CARS, (12, 8))
    engine = simulated(CARS, levels, moments, quantities).engine
    gas, brake = (torch.tensor([0.0, *each]).expand(10, 2, 3) for each in ((1.0, 0.0), (0.0, 0.8)))
    found = played_on(CARS, engine, {"gas": gas, "brake": brake})
    speed = quantities.index("forward_speed")
    assert torch.equal(found["gas"].states[0], found["brake"].states[0])
    assert bool((found["gas"].states[-1, :, speed] > found["brake"].states[-1, :, speed] + 1).all())
    assert found["gas"].states.shape == (11, 2, len(quantities))
    assert torch.equal(CARS.observer(engine).pictures(), pictures), "the engine stays where it was"


# --- moved objects


def test_a_curve_is_moved_here_and_nowhere_else() -> None:
    (track,) = CARS.sample(1, generator()).tracks()
    spacing = track.length / len(track)
    moved = move_curve(track, 50, 10.0, ASIDE)
    away = torch.from_numpy(moved.points - track.points).norm(dim=1)
    middle = 50 + round(10 / spacing)
    assert float(away[middle]) == pytest.approx(ASIDE, rel=0.05)
    reach = int(BEND / spacing) + 1
    assert not bool(away[: middle - reach].any())
    assert not bool(away[middle + reach + 1 :].any())
    left = -torch.tensor([torch.tensor(track.directions[middle]).cos(), torch.tensor(track.directions[middle]).sin()])
    assert float(torch.from_numpy(moved.points - track.points)[middle] @ left.double()) > 0
    kerbs = change_kerb(track, 50, 10.0).kerbs != track.kerbs
    assert kerbs.any()
    assert not kerbs[: middle - reach].any()
    again = change_kerb(change_kerb(track, 50, 10.0), 50, 10.0)
    near = slice(middle - 2, middle + 3)
    assert again.kerbs[near].any() == track.kerbs[near].any(), "put there and taken away, or the other way round"


def test_roads_are_drawn_anew_under_cars_that_stay() -> None:
    levels, moments, quantities, pictures = recorded(CARS, (6, 4, 9, 5))
    engine = simulated(CARS, levels, moments, quantities).engine
    same = _on_roads(engine, engine.tracks)
    assert torch.equal(CARS.observer(same).pictures(), pictures)
    names, made = moved_objects(CARS, engine, generator())
    assert made.frames.shape == (len(names), 4, 64, 64, 3)
    assert len(names) == len(set(names)) == 12
    assert bool(made.changed.flatten(2).any(2).any(0).all()), "each car sees some change"
    still = made.frames[~made.changed] - pictures.float().expand_as(made.frames)[~made.changed]
    assert float(still.abs().max()) < 3
    assert torch.equal(CARS.observer(engine).pictures(), pictures)
    assert all(name.startswith("kerb") for name in moved_objects(CARS, engine, generator(), ("kerb",))[0])
    with pytest.raises(TypeError, match="nothing is known of the objects of a str"):
        moved_objects(CARS, "engine", generator())


def test_a_wall_is_its_cell_and_a_goal_is_two() -> None:
    levels, moments, quantities, pictures = recorded(MAZES, (2, 1, 3))
    engine = simulated(MAZES, levels, moments, quantities).engine
    names, made = moved_objects(MAZES, engine, generator())
    assert len(names) == engine.view**2 - 1 + 4
    tile = 64 // engine.view
    areas = made.changed.sum((-1, -2))
    assert set(areas[:-4].unique().tolist()) == {0, tile**2}, "a cell, or beyond the maze's ring"
    assert set(areas[-4:].unique().tolist()) <= {0, tile**2, 2 * tile**2}
    assert int((areas[-4:] > 0).sum()) > 0
    assert torch.equal(MAZES.observer(engine).pictures(), pictures)


# --- maps beside interventions


def test_right_maps_pass_beside_interventions_and_wrong_ones_do_not() -> None:
    found = [intervention_verdicts(seed) for seed in range(8)]
    assert {name: sum(each[name] for each in found) for name in found[0]} == {
        "exact": 8, "random": 0, "of another model": 0, "the same everywhere": 0,
    }  # fmt: skip


def test_agreement_by_hand() -> None:
    maps, made, effects = planted_interventions(1)
    relevance = maps["exact"]
    assert float(agreements(relevance, made, effects).min()) > 0.4
    assert bool(agreements(relevance, made, effects, least=11).isnan().all())
    assert check_with_interventions(relevance, made, torch.zeros_like(effects)) is None


def test_only_what_was_named_is_repainted() -> None:
    masks = torch.ones(2, 8, 8, dtype=torch.uint8)
    masks[:, :, 4:] = 0
    frames = torch.full((2, 8, 8, 3), 100.0)
    frames[masks == 0] = 20.0
    made = repaint(frames, masks, ("grass", "road"), ("road",), "grass")
    assert made.frames.shape == (16, 2, 8, 8, 3)
    assert not bool(made.changed[:, :, :, 4:].any())
    assert float(made.frames[0, 0, 0, 0, 0]) == 20.0
    with pytest.raises(ValueError, match="no picture shows grass"):
        repaint(frames[:, :, :4], masks[:, :, :4], ("grass", "road"), ("road",), "grass")


# --- risk


def test_a_risk_that_is_told_is_told_with_its_reliability() -> None:
    for seed in range(2):
        train, test = (planted_risk(place + seed, True) for place in (0, 100))
        train, test = (each._replace(recorded=each.happened[0]) for each in (train, test))
        model, found = risk.counterfactual_risk(train, test, ("as recorded", "b"), generator())
        assert model.kind == found["chosen"] == "reading"
        b = found["by_option"]["b"]
        assert b["auroc"] > 0.8
        assert b["gain"][1] > 0.02
        assert b["gain"][0] == pytest.approx(b["constant"][0] - b["brier"][0], abs=1e-6)
        for each in b["bins"]:
            assert each["interval"][0] - 0.12 <= each["said"] <= each["interval"][1] + 0.12
        # of the first option the recording tells all
        assert found["by_option"]["as recorded"]["recorded"][0] < 0.01
        assert found["pooled"] == b, "which does not count for what is asked"
        assert found["useful"]


def test_a_risk_that_beats_the_recording_is_useful_and_noise_is_not() -> None:
    found = [risk_verdicts(seed) for seed in range(2)]
    assert found == [{"told by a reading": True, "told by nothing": False}] * 2


def test_what_never_happened_is_said_to_be_rare() -> None:
    never = Logistic.fit(torch.randn(50, 2, generator=generator()), torch.zeros(50, dtype=torch.bool), 1.0)
    assert float(never(torch.zeros(3, 2)).max()) == pytest.approx(0.5 / 51)


def test_leaving_the_road_by_hand() -> None:
    wheels = torch.tensor([[0.0, 4.0, 4.0], [4.0, 2.0, 1.0], [4.0, 0.0, 1.0]])
    assert risk.leaves_road(wheels).tolist() == [False, True, False], "the present does not count"
    options = risk.options_of(torch.tensor([[0.1, 0.2, 0.3]]), 4)
    assert set(options) == {"go on", "brake", "steer left", "steer right", "straight on"}
    torch.testing.assert_close(options["go on"][3, 0], torch.tensor([0.1, 0.2, 0.3]))
    assert float(options["steer left"][0, 0, 0]) < 0 < float(options["steer right"][0, 0, 0])


def test_road_under_and_along_by_hand() -> None:
    geometry = Geometry(row=12, column=8, right_scale=1.0, ahead_scale=2.0, rows=16, columns=16)
    pictures = torch.zeros(1, 16, 16, 3)
    pictures[:, :8] = 1.0
    palette = Palette((3, 5), torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    roads = risk.road_map(pictures, palette, [5])
    assert roads[0, :, 0].tolist() == [1.0] * 8 + [0.0] * 8
    ways = torch.tensor([[[0.0, 0.0], [0.0, 4.0], [5.0, 4.0], [0.0, 99.0]]])  # here, four ahead, and to the right
    assert risk.road_along(roads, ways, geometry)[0].tolist() == pytest.approx([0, 1, 1, 1])
    under = risk.road_under(torch.ones(2, 64, 64), CarView.geometry)
    assert under.tolist() == [1.0, 1.0]


def test_ways_follow_the_speeds() -> None:
    rng = generator(3)
    speeds = torch.randn(200, 3, generator=rng) * torch.tensor([20.0, 2.0, 0.5])
    places = torch.stack([torch.stack([-0.5 * t**2 * speeds[:, 0] * speeds[:, 2], t * speeds[:, 0]], 1)
                          for t in (0.5, 1.0)], 1)  # fmt: skip
    ways = risk.Ways.fit(speeds, places)
    torch.testing.assert_close(ways(speeds), places, atol=1.0, rtol=0.05)


def test_the_lowest_reading_of_dreams() -> None:
    memory = MemoryConfig(core=LSTMConfig(width=4), gaussians=1).build(3, 1, 1)
    starts = LatentState(memory.initial_state(5), torch.randn(5, 3, generator=generator()))
    read = LinearProbe(torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([2.0]), 0.1)
    dreamer = Dreamer(memory, Scale(torch.zeros(3), torch.ones(3), torch.ones(3), 1.0))
    found = risk.lowest_reading(dreamer, starts, torch.zeros(4, 5, 1), read, 0, 7, generator())
    assert found.shape == (7, 5)
    assert bool((found.std(0) > 0).all()), "dreams are drawn"
    one = risk.lowest_reading(dreamer, starts, torch.zeros(1, 5, 1), read, 0, 7, generator())
    assert float(found.mean()) < float(one.mean()), "more steps reach lower"
