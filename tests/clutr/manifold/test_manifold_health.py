import json
import math

import pytest
import torch
from torch import Tensor

from clutr.envs.domain import LevelBatch
from clutr.envs.maze.domain import MazeDomain
from clutr.manifold import health, posterior
from clutr.manifold.pretrain import pretrain
from clutr.manifold.recurrent_vae import RecurrentNetwork, RecurrentVAEConfig
from clutr.manifold.set_vae import SetNetwork, SetVAEConfig
from clutr.manifold.sets import split_parts
from clutr.manifold.smoothness import reflect, smoothness
from clutr.manifold.vae import VAEManifold, into_box

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def untrained(domain: MazeDomain = DOMAIN) -> VAEManifold:
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


def test_histograms_count_fractions_and_gather_what_lies_beyond() -> None:
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


def test_coverage_by_hand() -> None:
    data = {"walls": torch.tensor([0.0, 4.9, 10.0, 10.0]), "path": torch.tensor([2.0, 2.0, 3.0, 2.0])}
    edges = {"walls": (0.0, 10.0), "path": (2.0, 3.0)}
    cells = health.grid_cells(data, edges)
    assert cells.tolist() == [0, 40, 99, 90]
    # what lies beyond the data counts to the outermost bins; cells that only the other side reaches do not count
    found = health.grid_cells({"walls": torch.tensor([12.0, -1.0, 2.0]), "path": torch.tensor([9.0, 2.0, 2.5])}, edges)
    assert found.tolist() == [99, 0, 25]
    assert health.covered(cells, found) == 0.5
    assert health.covered(cells, cells) == 1


def test_novelty_by_hand() -> None:
    tasks = torch.tensor([[1, 2, 0], [2, 1, 0], [1, 2, 3], [0, 0, 0]])
    known = torch.tensor([[1, 2], [7, 8]], dtype=torch.int16)
    assert health.novelty(tasks, known) == 0.75
    assert health.novelty(known, tasks) == 0.5


def test_kinds_of_latents_by_hand() -> None:
    n = 1_000
    mean = torch.zeros(n, 5)
    variance = torch.ones(n, 5)
    variance[:, 0] = 0.1
    mean[:, 0] = torch.linspace(-2, 2, n)
    variance[: n // 2, 1] = 0.1  # known for half of the tasks
    variance[:30, 2] = 0.1  # for so few that they are an exception
    variance[:, 3] = 0.45
    variance[:100, 3] = 0.95  # known well on the whole, but not for a tenth
    mean[:, 4] = torch.linspace(-2, 2, n)  # the prior's variance, and yet it moves
    kinds = posterior.kinds_of_variables(mean, variance.log())
    assert kinds == ["active", "mixed", "passive", "mixed", "mixed"]


def test_the_spectrum_of_tasks_by_hand() -> None:
    network = SetNetwork(SetVAEConfig(latent=2, hidden=2, refinements=0, kl_weight=0.3), MazeDomain(1, 2, 0), 1)
    # goal and agent are cells 1 and 2 or the other way round: one direction. Each of the four indicators is 1/2 away
    # from its fraction, in units of the noise (1/2 / 2)^(1/2) = 1/2; so the eigenvalue is 4
    eigenvalues, threshold = network.spectrum(torch.tensor([[1, 2], [2, 1]]))  # type: ignore[misc]  # there is one
    assert eigenvalues.tolist() == pytest.approx([4, 0, 0, 0, 0, 0], abs=1e-9)
    assert threshold == 0.3


@pytest.mark.parametrize(("weight", "iterations", "predicted", "off"), [(1.5, 750, 16, 3), (3.5, 450, 0, 0)])
def test_a_linear_decoder_uses_as_many_latents_as_predicted(
    weight: float, iterations: int, predicted: int, off: int
) -> None:
    config = SetVAEConfig(
        latent=30, hidden=8, refinements=0, iterations=iterations, batch_size=256, learning_rate=4e-2, kl_weight=weight
    )
    found = pretrain(config, MazeDomain(3, 3, 4), 1).health()
    assert abs(found["predicted_active_dimensions"] - predicted) <= 1
    assert abs(found["active_dimensions"] - predicted) <= off
    assert found["latent_use_gap"] == pytest.approx(7.5 if predicted else 0, abs=1)


def test_a_strong_decoder_has_no_prediction_and_can_ignore_its_latent() -> None:
    config = RecurrentVAEConfig(latent=4, embedding=6, encoder=5, decoder=7)
    manifold = config.build(DOMAIN, 1)
    with torch.no_grad():
        network = manifold.network
        assert isinstance(network, RecurrentNetwork)
        dict(network.decoder.named_parameters())["weight_ih_l0"][:, 6:] = 0
    found = health.measure(manifold, generator(), tasks=60)
    assert found["predicted_active_dimensions"] is None
    assert "predicted" not in found
    assert found["latent_use_gap"] == 0


def test_reconstruction_by_parts_is_that_of_the_loss() -> None:
    for config in (SetVAEConfig(latent=6, hidden=8), RecurrentVAEConfig(latent=4, embedding=6, encoder=5, decoder=7)):
        network = config.build(DOMAIN, 1).network
        tokens = DOMAIN.to_tokens(DOMAIN.sample(50, generator()))
        _, parts = network.loss(tokens, 1, 1, generator(3))
        x = posterior.sample_posterior(*network.posterior(tokens), generator(3))
        torch.testing.assert_close(network.nats(x, tokens).mean(), parts["reconstruction"])


class Thermometer:
    """A box of one dimension: the task is as many of eight cells as the point is eighths from the low end."""

    def decode(self, latents: Tensor) -> Tensor:
        place = torch.arange(1, 9).expand(len(latents), -1)
        tokens: Tensor = torch.where(place <= latents * 8, place, 0)
        return tokens


def test_smoothness_of_a_thermometer() -> None:
    found = smoothness(Thermometer().decode, 1, (0.0, 1.0), (8, 0), generator())
    # a step of s moves the mercury by 8 s |noise|, whose mean is 8 s (2 / pi)^(1/2) where no face is near
    assert found["edits"][2] == pytest.approx(8 * 0.03 * 0.798, abs=0.06)
    assert found["chance"] == pytest.approx(63 / 24, abs=0.15)  # of two of eight equally likely heights
    assert found["rank_correlation"] > 0.8
    assert sorted(found["edits"]) == found["edits"]
    nothing = smoothness(lambda x: torch.ones(len(x), 1, dtype=torch.int64), 3, (-4.0, 4.0), (8, 0), generator())
    assert nothing["rank_correlation"] is None
    assert nothing["edits"] == [0] * 6


def test_reflected_steps_stay_in_the_box() -> None:
    assert reflect(torch.tensor([0.3, -0.25, 1.25, 2.5, -1.5])).tolist() == pytest.approx([0.3, 0.25, 0.75, 0.5, 0.5])


def test_points_far_from_the_codes_of_their_levels_lie_in_holes() -> None:
    manifold = untrained()
    network = manifold.network
    assert isinstance(network, SetNetwork)
    with torch.no_grad():
        network.mean.weight.zero_()
        network.mean.bias.zero_()
        network.log_variance.fill_(math.log(0.25**2))
    x = torch.zeros(3, 20)
    x[1, 0], x[2] = 2.0, 1.0
    levels = DOMAIN.sample(3, generator())
    points = into_box(x, manifold.squash, manifold.bounds[1])
    # 8 standard deviations in one of 20 dimensions, and 4 in each
    assert manifold.deviations(points, levels).tolist() == pytest.approx([0, 8 / 20**0.5, 4], rel=1e-3, abs=1e-3)


def test_levels_of_a_fixed_corpus_are_not_novel() -> None:
    config = SetVAEConfig(latent=4, hidden=4, refinements=0, iterations=2, batch_size=4, corpus_size=2_000)
    found = pretrain(config, MazeDomain(1, 3, 1), 1).health()
    assert found["prior_uniform"]["novelty"] == 0, "a domain of twelve tasks is known by heart"


def test_what_is_measured_is_plain_and_adds_up() -> None:
    found = health.measure(untrained(), generator(), tasks=300)
    assert json.loads(json.dumps(found)) == found
    assert len(found["kl_per_dimension"]) == 20
    assert found["kl"] == pytest.approx(sum(found["kl_per_dimension"]), rel=1e-4)
    assert found["recovery"].keys() == {"tail_exact", "set_recall", "set_precision", "task_exact"}
    assert "recovery_at_25" not in found
    assert sum(found["variables"].values()) == 20
    assert len(found["kinds"]) == len(found["posterior_variance"]) == 20
    assert 0 <= found["data"]["coverage"] <= 1
    assert found["distributions"].keys() == {"path_length", "wall_count"}
    assert found["distribution_widths"] == {"path_length": 1, "wall_count": 1}
    for populations in found["distributions"].values():
        assert populations.keys() == {"data", "prior_uniform", "prior_gaussian"}
        assert len({len(fractions) for fractions in populations.values()}) == 1
        for fractions in populations.values():
            assert sum(fractions) == pytest.approx(1, abs=1e-5)
    for prior in ("prior_uniform", "prior_gaussian"):
        assert found[prior]["repairs_per_task"].keys() == {
            "repeated_obstacle",
            "obstacle_under_goal_or_agent",
            "too_many_obstacles",
            "missing_goal_or_agent",
            "agent_on_goal",
        }
        assert 0 < found[prior]["unique"] <= 1
        for fraction in ("solvable", "validity", "hole_rate", "returns", "coverage"):
            assert 0 <= found[prior][fraction] <= 1
        assert found[prior]["novelty"] is None, "nobody said what it was trained on"
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
    network = SetVAEConfig(latent=10, hidden=8, refinements=1).build(DOMAIN, 1).network
    found = health.measure(Perfect(network, DOMAIN, 10, 4.0, "cdf"), generator(), tasks=200)
    assert found["recovery"] == {"tail_exact": 1, "set_recall": 1, "set_precision": 1, "task_exact": 1}
