"""What observers are told: pictures, objects and the true state, against numbers worked by hand."""

import numpy as np
import pytest
import torch

from clutr.envs.capabilities import SIDE
from clutr.envs.car.domain import CarDomain
from clutr.envs.car.engine import CarEngine
from clutr.envs.car.observer import OBJECTS, CarObserver, shrink
from clutr.envs.car.road.text import parse as parse_road
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.observer import MazeObserver
from clutr.envs.maze.text import parse as parse_maze


def test_pictures_shrink_by_area() -> None:
    pictures = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    twice = pictures.double().repeat_interleave(2, 1).repeat_interleave(2, 2)
    expected = twice.view(2, 64, 3, 64, 3, 3).mean((2, 4))
    assert torch.equal(shrink(pictures), expected.round().to(torch.uint8)), "ninths are never halfway"
    assert (shrink(torch.full((1, 96, 96, 3), 77, dtype=torch.uint8)) == 77).all()


@pytest.fixture(scope="module")
def driven() -> tuple[CarEngine, CarObserver]:
    domain = CarDomain(shaped=False)
    engine = domain.engine(3)
    assert isinstance(engine, CarEngine)
    engine.reset(domain.sample(3, torch.Generator().manual_seed(3)))
    return engine, domain.observer(engine)


def test_a_car_that_just_starts_is_on_the_centre_line(driven: tuple[CarEngine, CarObserver]) -> None:
    engine, observer = driven
    engine.start_at(torch.tensor([0.0, 0.3, 0.9]))
    engine.reset()
    state = observer.privileged_state()
    for name in ("lateral_offset", "heading_error", "forward_speed", "side_speed", "yaw_rate"):
        assert state[name].abs().max() < 0.05, name
    for car, share in enumerate((0.0, 0.3, 0.9)):
        track = engine.tracks[car]
        position = torch.tensor(track.points[int(share * len(track))])
        assert float(state["x"][car]) == pytest.approx(float(position[0]), abs=0.05)
        assert float(state["y"][car]) == pytest.approx(float(position[1]), abs=0.05)


def test_offsets_and_speeds_have_signs(driven: tuple[CarEngine, CarObserver]) -> None:
    engine, observer = driven
    engine.reset()
    for _ in range(3):
        engine.step(torch.tensor([[-1.0, 0.2, 0.0], [0.0, 0.2, 0.0], [1.0, 0.2, 0.0]]))
    state = observer.privileged_state()
    assert (state["forward_speed"] > 1).all()
    assert state["yaw_rate"][0] > 0.05, "steering to the left turns counter-clockwise"
    assert state["yaw_rate"][2] < -0.05
    assert (state["progress"] > 0).all()
    assert ((state["wheels_on_road"] >= 0) & (state["wheels_on_road"] <= 4)).all()


def test_a_road_that_turns_left_has_positive_curvature_ahead() -> None:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = "".join(f"{166 + 100 * np.cos(a):.3f} {166 + 100 * np.sin(a):.3f}\n" for a in angles)
    engine = CarEngine(1)
    engine.reset(parse_road(circle))
    state = CarObserver(engine).privileged_state()
    # counter-clockwise around a circle with a radius of 100 units
    assert float(state["curvature_ahead"]) == pytest.approx(0.01, rel=0.35)
    track = engine.tracks[0]
    assert track.turns.sum() == pytest.approx(2 * np.pi, abs=1e-6)


def test_objects_of_a_road_picture(driven: tuple[CarEngine, CarObserver]) -> None:
    engine, observer = driven
    engine.reset()
    masks, pictures = observer.masks(), observer.pictures()
    bar = masks == OBJECTS.index("indicators")
    assert bar[:, 56:].all()
    assert not bar[:, :56].any()
    car = (masks == OBJECTS.index("car")).nonzero().float()
    assert 0.7 * SIDE < car[:, 1].mean() < 0.8 * SIDE, "a quarter of the picture above its lower edge"
    assert 0.48 * SIDE < car[:, 2].mean() < 0.52 * SIDE
    assert 5 <= len(car) / 3 <= 60
    grass = pictures[masks == OBJECTS.index("grass")].float().mean(0)
    road = pictures[masks == OBJECTS.index("road")].float().mean(0)
    assert grass[1] > 190
    assert grass[0] < 130
    assert (road - road.mean()).abs().max() < 15, "grey"


def test_starts_are_checked() -> None:
    engine = CarEngine(2)
    with pytest.raises(RuntimeError, match="the first reset needs levels"):
        engine.start_at(torch.zeros(2))
    engine.reset(CarDomain().sample(2, torch.Generator().manual_seed(1)))
    for shares in (torch.zeros(3), torch.tensor([0.0, 1.0])):
        with pytest.raises(ValueError, match=r"shares must be 2 numbers in \[0, 1\)"):
            engine.start_at(shares)


def test_the_truth_of_a_maze_by_hand() -> None:
    """The agent looks down; the goal is two cells below and one to the left of it, hence to its right."""
    levels = parse_maze("#######\n#...v.#\n#.#...#\n#..G..#\n#######")
    engine = MazeEngine(1, 3, 5, max_steps=20)
    engine.reset(levels)
    observer = MazeObserver(engine)
    observer.reset()
    state = {name: float(value) for name, value in observer.privileged_state().items()}
    assert state == {
        "row": 0,
        "column": 3,
        "heading_sine": 1,
        "heading_cosine": 0,
        "goal_in_view": 1,
        "goal_ahead": 2,
        "goal_right": 1,
        "visited": pytest.approx(1 / 15),
    }
    engine.step(torch.tensor([2]))  # one cell ahead
    state = {name: float(value) for name, value in observer.privileged_state().items()}
    assert (state["row"], state["goal_ahead"], state["goal_right"]) == (1, 1, 1)
    assert state["visited"] == pytest.approx(2 / 15)
    observer.reset(torch.tensor([True]))
    assert float(observer.privileged_state()["visited"]) == pytest.approx(1 / 15)
    # in the picture the goal is one cell up and one to the right of the agent, at the bottom in the middle
    masks = observer.masks()[0]
    assert masks[60, 32] == MazeObserver.objects.index("agent")
    assert masks[48, 44] == MazeObserver.objects.index("goal")
    assert (masks == MazeObserver.objects.index("goal")).sum() == 144


def test_a_lost_car_is_lost_at_most() -> None:
    """Far from the road the offset says no more than that, so that a few such frames do not rule every average."""
    domain = CarDomain(shaped=False)
    engine = domain.engine(1)
    observer = domain.observer(engine)
    engine.reset(domain.sample(1, torch.Generator().manual_seed(1)))
    for _ in range(60):
        engine.step(torch.tensor([[0.05, 1.0, 0.0]]))
    assert float(observer.privileged_state()["lateral_offset"].abs()) == 20.0
    assert float(observer._state()["lateral_offset"].abs()) > 20.0
