"""The tests that nobody trains on."""

import os
from pathlib import Path

import pytest
import torch
from gymnasium.envs.box2d.car_racing import CarRacing

from clutr.envs.car.domain import SPACING, CarDomain
from clutr.envs.car.road.circuits import CIRCUITS, VARIABLE, Circuit, CircuitError
from clutr.envs.car.road.level import BezierLevels, CentreLineLevels
from clutr.envs.car.suites import _held_out
from clutr.envs.domain import SeedLevels, Suite

# The published table (arXiv 2110.02439): length in units, step limit in frames, and whether it is driven clockwise.
F1 = {
    "Australia": (1687, 1500, True),
    "Austria": (1928, 1500, True),
    "Bahrain": (2790, 2500, True),
    "Belgium": (2167, 1500, True),
    "Brazil": (2838, 2000, False),
    "China": (3035, 2500, True),
    "France": (1922, 2000, True),
    "Germany": (2302, 2000, True),
    "Hungary": (1932, 2000, True),
    "Italy": (2036, 1500, True),
    "Malaysia": (3257, 2500, True),
    "Mexico": (2004, 3000, True),
    "Monaco": (1746, 1500, True),
    "Netherlands": (2578, 2000, True),
    "Portugal": (2735, 2500, True),
    "Russia": (1849, 2000, False),
    "Singapore": (2154, 2000, False),
    "Spain": (2372, 2000, False),
    "UK": (1961, 2000, False),
    "USA": (1861, 2000, False),
}
THROTTLE = torch.tensor([[0.0, 1.0, 0.0]])


def suite(name: str) -> Suite:
    return CarDomain().suites()[name]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_there_is() -> None:
    suites = CarDomain().suites()
    assert list(suites) == ["bezier-heldout", "bezier-small", "f1", "gymnasium", "gymnasium-recoloured"]
    assert all(one.metric == "return" for one in suites.values())
    assert [task.name for task in suites["f1"].tasks] == list(F1)
    assert len(suites["bezier-heldout"].tasks) == 20
    assert suites["bezier-small"].tasks[0].name == suites["bezier-heldout"].tasks[0].name == "Bezier01"


def test_circuits_are_those_of_the_published_table() -> None:
    rows = [(circuit.name, (circuit.length, circuit.step_limit, circuit.clockwise)) for circuit in CIRCUITS]
    assert rows == list(F1.items())
    assert len({circuit.file for circuit in CIRCUITS}) == len({circuit.sha256 for circuit in CIRCUITS}) == 20


@pytest.mark.parametrize("circuit", CIRCUITS, ids=lambda circuit: circuit.name)
def test_every_circuit_has_its_own_limit(circuit: Circuit) -> None:
    # one long action a half: any road will do
    task = CarDomain(action_repeat=circuit.step_limit // 2).suites()["f1"][circuit.name]
    engine = task.engine(1)
    engine.reset(suite("bezier-small").tasks[0].draw(1, generator()))
    still = torch.zeros(1, 3)
    assert [engine.step(still).truncated.item() for _ in range(2)] == [False, True]


def test_held_out_roads_are_fixed_and_off_the_grid() -> None:
    keys = []
    for task in suite("bezier-heldout").tasks:
        levels = task.draw(2, generator())
        assert isinstance(levels, BezierLevels)
        one, other = levels.key()
        assert one == other == task.draw(1, generator(5)).key()[0]
        keys.append(one)
        assert levels.count.tolist() == [12, 12]
        cells = levels.points[0] / SPACING
        assert float((cells - cells.round()).abs().max()) > 0.1
    assert len(set(keys)) == 20
    _held_out.cache_clear()
    torch.manual_seed(1)
    assert [task.draw(1, generator()).key()[0] for task in suite("bezier-heldout").tasks] == keys
    assert [task.draw(1, generator()).key()[0] for task in suite("bezier-small").tasks] == keys[:5]


def test_rewards_are_not_shaped_although_those_of_training_are() -> None:
    task = suite("bezier-small").tasks[0]
    levels = task.draw(1, generator())
    tested, trained = task.engine(1), CarDomain().engine(1)
    tested.reset(levels)
    trained.reset(levels)
    still = torch.zeros(1, 3)
    steps = [(tested.step(still), trained.step(still)) for _ in range(20)]
    assert not bool(steps[-1][0].terminated), "only training stops those early who make no progress"
    assert bool(steps[-1][1].terminated)
    assert float(steps[5][0].reward) == pytest.approx(-0.8)


def test_no_circuit_is_read_before_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monaco = suite("f1")["Monaco"]
    with pytest.raises(CircuitError, match=r"mc-1929\.geojson does not exist"):
        monaco.draw(1, generator())


@pytest.mark.skipif(not Path(os.environ[VARIABLE]).is_dir(), reason="the circuits are not on this machine")
def test_a_circuit_is_played_to_its_own_limit_on_a_larger_playfield() -> None:
    task = suite("f1")["Brazil"]
    levels = task.draw(2, generator())
    assert isinstance(levels, CentreLineLevels)
    assert levels.count.tolist() == [4999, 4999]
    assert float(levels.points.abs().max()) > 2000 / 6, "it does not fit into the usual playfield"
    engine = task.engine(2)
    engine.reset(levels)
    step = engine.step(torch.zeros(2, 3))
    decisions = 1
    while not bool(step.truncated.any() | step.terminated.any()):
        step = engine.step(torch.zeros(2, 3))
        decisions += 1
    assert bool(step.truncated.all())
    assert decisions == 2000 // 8


def test_the_package_is_played_as_it_is() -> None:
    task = suite("gymnasium").tasks[0]
    levels = task.draw(1, generator())
    assert isinstance(levels, SeedLevels)
    engine, real = task.engine(1), CarRacing()
    seen, _ = real.reset(seed=int(levels.seed))
    assert torch.equal(engine.reset(levels)["image"][0], torch.from_numpy(seen))
    for _ in range(3):
        step = engine.step(THROTTLE)
        rewards = []
        for _ in range(8):
            seen, reward, *_ = real.step(THROTTLE[0].numpy())
            rewards.append(float(reward))
        assert float(step.reward) == pytest.approx(sum(rewards), rel=1e-6)
        assert torch.equal(step.observation["image"][0], torch.from_numpy(seen.copy()))


def test_recoloured_means_other_colours() -> None:
    task = suite("gymnasium-recoloured").tasks[0]
    picture = task.engine(1).reset(task.draw(1, generator()))["image"][0]
    assert not bool((picture == torch.tensor([100, 202, 100])).all(-1).any())
