import json

import pytest
import torch
from torch import Tensor

from clutr.manifold import health
from clutr.manifold.set_vae import SetNetwork, SetVAEConfig
from clutr.manifold.sets import split_parts
from clutr.manifold.vae import VAEManifold
from envs.domain import LevelBatch
from envs.maze.domain import MazeDomain

WORLD = MazeDomain(height=5, width=5, max_obstacles=8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def untrained(domain: MazeDomain = WORLD) -> VAEManifold:
    return SetVAEConfig(latent=20, hidden=16, refinements=1).build(domain, 1)


def test_tasks_split_into_set_and_tail() -> None:
    members, tail = split_parts(torch.tensor([[1, 3, 4, 2], [3, 1, 0, 0]]), 4, 2)
    assert members.tolist() == [[True, False, True, False], [False] * 4]
    assert tail.tolist() == [[4, 2], [3, 1]]


def test_recovery_by_hand() -> None:
    tokens = torch.tensor([[1, 2, 5, 3, 4], [1, 2, 9, 8, 0], [3, 7, 0, 0, 0], [6, 1, 2, 0, 0]])
    decoded = torch.tensor([[1, 2, 5, 3, 4], [1, 5, 9, 8, 0], [3, 6, 0, 0, 0], [1, 2, 0, 0, 0]])
    # sets: 3 of 3, 1 of 2 and one invented, 0 of 0, 0 of 1; the third task's last token is wrong
    assert health.recovery(tokens, decoded, 9, 2) == pytest.approx(
        {"tail_exact": 3 / 4, "set_recall": 4 / 6, "set_precision": 4 / 5, "task_exact": 1 / 4}
    )


def test_tasks_without_a_tail_are_sets_alone() -> None:
    members, tail = split_parts(torch.tensor([[1, 3, 4], [2, 0, 0]]), 4, 0)
    assert members.tolist() == [[True, False, True, True], [False, True, False, False]]
    assert tail.shape == (2, 0)
    found = health.recovery(torch.tensor([[1, 3, 4], [2, 3, 0]]), torch.tensor([[1, 3, 4], [2, 4, 5]]), 5, 0)
    assert found == pytest.approx({"set_recall": 4 / 5, "set_precision": 4 / 6, "task_exact": 1 / 2})


def test_the_bins_of_a_property_suit_its_values() -> None:
    assert health.bin_width(torch.tensor([0.0, 3.0, 170.0])) == 1  # counts
    assert health.bin_width(torch.tensor([0.5, 0.5])) == 1
    assert health.bin_width(torch.tensor([750.5, 1657.4])) == 50  # 30.2 at least
    assert health.bin_width(torch.tensor([1.56, 4.55])) == pytest.approx(0.1)
    assert health.bin_width(torch.tensor([0.0, 0.031])) == pytest.approx(0.002)
    assert health.histogram(torch.tensor([74.0, 76.0, 124.0, 900.0]), 4, 50.0) == [0.0, 0.25, 0.5, 0.25]


def test_histograms_count_shares_and_gather_what_lies_beyond() -> None:
    assert health.histogram(torch.tensor([0.0, 1.0, 1.0, 7.0]), 3) == [0.25, 0.5, 0.25]
    assert health.histogram(torch.tensor([]), 2) == [0.0, 0.0]


def test_total_variation_by_hand() -> None:
    assert health.total_variation([0.5, 0.5, 0.0], [0.25, 0.25, 0.5]) == 0.5
    assert health.total_variation([1.0, 0.0], [0.0, 1.0]) == 1
    assert health.total_variation([0.3, 0.7], [0.3, 0.7]) == 0


def test_agreement_is_one_for_equal_points_and_none_for_unrelated_ones() -> None:
    points = torch.rand(4_000, 8, generator=generator()) * 8 - 4
    assert health.agreement(points, points) == 1
    assert abs(health.agreement(points, torch.rand(4_000, 8, generator=generator(1)) * 8 - 4)) < 0.05
    assert abs(health.agreement(points, torch.zeros(4_000, 8))) < 0.05
    # codes with an independent error of the points' own variance: distance v, by chance 3 v
    assert health.agreement(points, points + points.roll(7, 0)) == pytest.approx(2 / 3, abs=0.03)


def test_what_is_measured_is_plain_and_adds_up() -> None:
    found = health.measure(untrained(), generator(), tasks=300)
    assert json.loads(json.dumps(found)) == found
    assert len(found["kl_per_dimension"]) == 20
    assert found["kl"] == pytest.approx(sum(found["kl_per_dimension"]), rel=1e-4)
    assert found["recovery"].keys() == {"tail_exact", "set_recall", "set_precision", "task_exact"}
    assert "recovery_at_25" not in found
    assert found["distributions"].keys() == {"path_length", "wall_count"}
    assert found["distribution_widths"] == {"path_length": 1, "wall_count": 1}
    for populations in found["distributions"].values():
        assert populations.keys() == {"data", "prior_uniform", "prior_gaussian"}
        assert len({len(shares) for shares in populations.values()}) == 1
        for shares in populations.values():
            assert sum(shares) == pytest.approx(1, abs=1e-5)
    for prior in ("prior_uniform", "prior_gaussian"):
        assert found[prior]["repairs_per_task"].keys() == {
            "repeated_obstacle",
            "obstacle_under_goal_or_agent",
            "too_many_obstacles",
            "missing_goal_or_agent",
            "agent_on_goal",
        }
        assert 0 < found[prior]["unique"] <= 1
        assert 0 <= found[prior]["solvable"] <= 1
        for distance in found[prior]["total_variation"].values():
            assert 0 <= distance <= 1


def test_measuring_twice_gives_the_same_and_changes_nothing() -> None:
    manifold = untrained()
    assert health.measure(manifold, generator(5), 100) == health.measure(manifold, generator(5), 100)
    assert manifold.health() == {}


def test_only_solvable_levels_enter_the_distributions() -> None:
    found = health.measure(untrained(), generator(), tasks=500)
    assert found["data"]["solvable"] < 1
    # the longest path in 25 cells has 24 moves; 26 stands for no path at all
    assert len(found["distributions"]["path_length"]["data"]) <= 25


def test_tasks_of_twenty_five_are_reported_where_there_are_any() -> None:
    found = health.measure(untrained(MazeDomain(height=6, width=6, max_obstacles=25)), generator(), tasks=100)
    assert found["recovery_at_25"].keys() == found["recovery"].keys()


def test_a_collapsed_model_is_detected() -> None:
    manifold = untrained()
    network = manifold.network
    assert isinstance(network, SetNetwork)
    assert not health.measure(manifold, generator(), 200)["collapsed"]
    with torch.no_grad():
        network.mean.weight[1:] = 0
        network.log_variance[1:] = 0
        network.mean.bias[1:] = 0
    found = health.measure(manifold, generator(), 200)
    assert found["active_dimensions"] == 1
    assert found["collapsed"] is True
    assert found["kl_per_dimension"][1:] == [0.0] * 19
    assert found["prior_uniform"]["agreement"] < 0.1


class Perfect(VAEManifold):
    """Keeps a task's tokens in its code as they are."""

    def encode(self, levels: LevelBatch) -> Tensor:
        return self.domain.to_tokens(levels).float()

    def decode_tokens(self, latents: Tensor) -> Tensor:
        return latents.long()


def test_a_manifold_that_forgets_nothing_recovers_everything() -> None:
    network = SetVAEConfig(latent=10, hidden=8, refinements=1).build(WORLD, 1).network
    found = health.measure(Perfect(network, WORLD, 10, 4.0, "cdf"), generator(), tasks=200)
    assert found["recovery"] == {"tail_exact": 1, "set_recall": 1, "set_precision": 1, "task_exact": 1}
