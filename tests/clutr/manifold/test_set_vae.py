from functools import partial

import pytest
import torch

from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.manifold import health
from clutr.manifold.corpus import shuffle_sets
from clutr.manifold.pretrain import pretrain
from clutr.manifold.set_vae import SetNetwork, SetVAEConfig
from clutr.manifold.vae import VAEManifold

TINY = MazeDomain(height=2, width=2, max_obstacles=2)
DOMAIN = MazeDomain(height=5, width=5, max_obstacles=8)
SMALL = SetVAEConfig(latent=16, hidden=32, refinements=2)


def network(config: SetVAEConfig = SMALL, domain: MazeDomain = DOMAIN, seed: int = 1) -> SetNetwork:
    built = config.build(domain, seed).network
    assert isinstance(built, SetNetwork)
    return built


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_indicators_by_hand() -> None:
    indicators = network(domain=TINY).indicators(torch.tensor([[2, 3, 4, 1], [3, 1, 2, 0], [4, 1, 0, 0]]))
    assert indicators.unflatten(1, (3, 4)).tolist() == [
        [[0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]],
        [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]],
    ]


def test_neither_order_nor_padding_matters() -> None:
    tokens = DOMAIN.to_tokens(DOMAIN.sample(50, generator()))
    shuffled = shuffle_sets(tokens, 2, generator(1))
    assert not torch.equal(tokens, shuffled)
    model = network()
    for other in (shuffled, torch.nn.functional.pad(tokens, (0, 5))):
        assert torch.equal(model.posterior(tokens)[0], model.posterior(other)[0])
        assert torch.equal(model.loss(tokens, 5, 10, generator())[0], model.loss(other, 5, 10, generator())[0])


def test_codes_start_out_standardised() -> None:
    with torch.no_grad():
        mean, _ = network().posterior(DOMAIN.to_tokens(DOMAIN.sample(2_000, generator())))
    assert float(mean.mean(0).abs().max()) < 1
    assert 0.3 < float(mean.std(0).mean()) < 2


def test_the_weight_of_the_kl_term_rises_linearly_and_then_stays() -> None:
    config = SetVAEConfig(latent=16, hidden=32, refinements=2, kl_weight=0.2, warm_up=0.5)
    model, tokens = network(config), DOMAIN.to_tokens(DOMAIN.sample(50, generator()))
    without, parts = model.loss(tokens, 0, 100, generator())
    for iteration, weight in ((25, 0.1), (50, 0.2), (99, 0.2)):
        loss, _ = model.loss(tokens, iteration, 100, generator())
        assert (loss - without).item() == pytest.approx(weight * float(parts["kl"]), rel=1e-3)


def test_every_weight_learns() -> None:
    model = network()
    model.loss(DOMAIN.to_tokens(DOMAIN.sample(64, generator())), 9, 10, generator())[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_decoded_tasks_are_the_likeliest_members_in_ascending_order() -> None:
    model = network(SetVAEConfig(latent=2, hidden=4, refinements=0), TINY)
    with torch.no_grad():
        model.guess.weight.zero_()
        # set: cells 4, 1 and 3 are likely, but only two fit; goal: cell 2; agent: cell 3
        model.guess.bias.copy_(torch.tensor([2.0, -1.0, 0.5, 3.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0]))
    assert model.decode_tokens(torch.zeros(1, 2)).tolist() == [[1, 4, 2, 3]]
    with torch.no_grad():
        model.guess.bias[:4] = torch.tensor([-1.0, -1.0, -1.0, 3.0])
    decoded = model.decode_tokens(torch.zeros(1, 2))
    assert [token for token in decoded[0].tolist() if token] == [4, 2, 3]


def test_tasks_of_one_size_are_decoded_in_that_size() -> None:
    domain = CarDomain(control_points=4)
    model = SetVAEConfig(latent=2, hidden=4, refinements=0).build(domain, 1).network
    assert isinstance(model, SetNetwork)
    with torch.no_grad():
        model.guess.weight.zero_()
        model.guess.bias.fill_(-9.0)
        model.guess.bias[[70, 3, 50]] = torch.tensor([-1.0, 5.0, -2.0])
        model.guess.bias[8] = -3.0
    assert model.decode_tokens(torch.zeros(1, 2)).tolist() == [[4, 9, 51, 71]]
    with torch.no_grad():
        model.guess.bias[20:30] = 7.0
    assert model.decode_tokens(torch.zeros(1, 2)).shape == (1, 4), "a task has no more tokens than its domain allows"


def test_tasks_without_a_tail_are_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "measure", partial(health.measure, tasks=300))  # roads take long to describe
    domain = CarDomain(control_points=5)
    config = SetVAEConfig(latent=24, hidden=64, refinements=2, iterations=200, batch_size=64)
    manifold = pretrain(config, domain, 1)
    found = manifold.health()
    assert found["recovery"].keys() == {"set_recall", "set_precision", "task_exact"}
    assert found["recovery"]["set_recall"] > 0.6  # guessing finds a twentieth
    assert found["prior_uniform"]["total_variation"]["points"] == 0


def test_weights_come_from_the_seed() -> None:
    assert torch.equal(network(seed=1).mean.weight, network(seed=1).mean.weight)
    assert not torch.equal(network(seed=1).mean.weight, network(seed=2).mean.weight)


@pytest.fixture(scope="module")
def trained() -> VAEManifold:
    config = SetVAEConfig(latent=24, hidden=64, refinements=3, iterations=400, batch_size=128)
    manifold = config.build(DOMAIN, 1)
    config.pretraining(manifold, DOMAIN, 1).run()
    return manifold


def test_a_short_training_keeps_most_of_a_task_and_does_not_collapse(trained: VAEManifold) -> None:
    health = trained.health()
    assert not health["collapsed"]
    assert health["active_dimensions"] >= 20
    assert health["recovery"]["tail_exact"] > 0.9
    assert health["recovery"]["set_recall"] > 0.7
    assert health["recovery"]["set_precision"] > 0.8


def test_no_two_points_of_the_box_are_likely_to_be_one_task(trained: VAEManifold) -> None:
    assert trained.health()["prior_uniform"]["unique"] > 0.98
    assert trained.health()["prior_uniform"]["agreement"] > 0.3
