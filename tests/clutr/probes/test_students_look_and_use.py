"""What students look at and use, of students whose answers are planted; and a car student from its episodes on."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.agents.distributions import Categorical, ScaledBeta
from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.envs.car.domain import CarDomain
from clutr.probes.planted import Follower, Looker, planted_moments, planted_steps, saliency_verdicts
from clutr.probes.student_probes import acted, action_distance, probe_memory, probe_use, span_of
from clutr.probes.student_saliency import curves, parts_of
from clutr.probes.student_steps import StudentSteps, collect, network_of


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- what actions follow


class Steering(Follower):
    """Numbers instead of choices: the first of them follows."""

    def __init__(self, steps: StudentSteps) -> None:
        super().__init__(steps)
        self.low, self.high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 1.0])

    def _heads(self, features: Tensor) -> tuple[Any, None]:
        told = features @ self.weights
        share = torch.stack([torch.sigmoid(told), torch.full_like(told, 0.5)], 1)
        return ScaledBeta(1 + 8 * share, 9 - 8 * share, self.low, self.high), None


@pytest.mark.parametrize("kind", [Follower, Steering])
def test_what_actions_follow_is_used_and_what_is_only_known_is_not(kind: type[Follower]) -> None:
    passed = {"used": 0, "known, not used": 0, "not known": 0}
    for seed in range(4):
        steps = planted_steps(seed)
        for use in probe_use(kind(steps), steps, seed):
            passed[use.quantity] += use.passed
            assert use.asked == (use.quantity != "not known")
            if use.quantity == "used":
                assert use.moves[0] > 0.1, "more of the first action, or further to the right"
    assert passed == {"used": 4, "known, not used": 0, "not known": 0}


def test_distances_of_actions_by_hand() -> None:
    one, other = (Categorical(torch.tensor([each]).log()) for each in ([0.5, 0.5], [0.9, 0.1]))
    assert float(action_distance(acted(one), acted(other), None)) == pytest.approx(0.4)
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 1.0])
    left, right = (ScaledBeta(torch.tensor([each]), torch.tensor([[1.0, 1.0]]), low, high)
                   for each in ([1.0, 1.0], [3.0, 1.0]))  # fmt: skip
    span = span_of(SimpleNamespace(low=low, high=high))
    assert float(action_distance(acted(left), acted(right), span)) == pytest.approx(0.125)
    assert span_of(SimpleNamespace()) is None


# --- what it looks at


def test_maps_that_show_where_a_student_looks_pass_and_others_do_not() -> None:
    found = [saliency_verdicts(seed) for seed in range(4)]
    assert {name: sum(each[name] for each in found) for name in found[0]} == {
        "its own": 4, "random": 0, "of another student": 0,
    }  # fmt: skip


def test_deletion_and_insertion_by_hand() -> None:
    student, moments = Looker(1), planted_moments(1, 1)
    student.weights = torch.zeros(9, 9)
    student.weights[2, 3] = 5.0  # one cell decides
    moments.observation["image"][:] = 1
    cell = 2 * 9 + 3
    first = torch.cat([torch.tensor([cell]), torch.arange(cell), torch.arange(cell + 1, 81)])
    orders = torch.stack([first, first.flip(0)])
    deleted, inserted = curves(student, moments.observation, moments.state, orders)
    whole = float(torch.tensor(10.0).sigmoid() - 0.5)
    assert deleted.tolist() == pytest.approx([whole, 0.0], abs=1e-5)
    assert inserted.tolist() == pytest.approx([0.0, whole], abs=1e-5)
    assert parts_of(torch.zeros(1, 96, 96, 3)) == (8, 12, 12)


# --- a car student


def test_a_car_student_is_probed() -> None:
    domain = CarDomain(max_frames=64)
    engine = domain.engine(1)
    config = PixelPPOConfig(torso="light", head=8)
    student, *untrained = (
        config.build(engine.observation_space, engine.action_space, seed, "student") for seed in (1, 2)
    )
    steps, moments = collect(domain, student, untrained, 4, 1, most_steps=6)
    assert set(steps.representations) == {"view", "hidden", "untrained hidden"}
    assert len(steps.groups) == 4 * 6
    assert steps.representations["hidden"].shape == (24, 256)
    assert steps.visited.shape == (24, 0)
    assert moments.steps.tolist() == [0, 1, 2, 3, 3, 3, 3, 4, 5], "all of the first, and the third of each"
    with torch.no_grad():  # what was kept is what it saw
        given = network_of(student).torso
        assert given.width == 256
        before = [
            network_of(student).step(moments.rows(torch.tensor([n])).observation, moments.state[[n]])[1] for n in (0, 5)
        ]
    assert len({float(each) for each in before}) == 2
    found = probe_memory(steps, 1)
    assert {"forward_speed", "lateral_offset", "wheels_on_road"} < set(found["memory"])
    assert "visited cells" not in found["memory"]
    assert {each.quantity for each in probe_use(network_of(student), steps, 1)} <= set(steps.quantities)
