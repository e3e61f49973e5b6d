from dataclasses import replace

import pytest
import torch

from clutr.envs.maze.domain import MazeDomain
from clutr.manifold.pretrain import pretrain
from clutr.manifold.recurrent_vae import CLUTR_PAPER, RecurrentVAEConfig
from clutr.manifold.set_vae import SetVAEConfig

DOMAIN = MazeDomain(5, 5, 6)
CONFIGS = [
    SetVAEConfig(latent=6, hidden=16, refinements=2, iterations=12, batch_size=16),
    RecurrentVAEConfig(latent=4, embedding=6, encoder=5, decoder=7, iterations=12, batch_size=16, dropout=0.3),
    RecurrentVAEConfig(latent=4, embedding=6, encoder=5, decoder=7, iterations=12, batch_size=16, corpus_size=64),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_resumed_training_ends_bit_for_bit_where_an_undisturbed_one_does(
    config: SetVAEConfig | RecurrentVAEConfig,
) -> None:
    whole = config.pretraining(config.build(DOMAIN, 1), DOMAIN, 1)
    while not whole.done:
        whole.step()
    first = config.pretraining(config.build(DOMAIN, 1), DOMAIN, 1)
    for _ in range(5):
        first.step()
    second = config.pretraining(config.build(DOMAIN, 9), DOMAIN, 1)
    second.load_state_dict(first.state_dict())
    while not second.done:
        second.step()
    expected = whole.manifold.state_dict()["network"]
    found = second.manifold.state_dict()["network"]
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_training_lowers_the_reconstruction_loss_and_measures_health() -> None:
    reports = []
    config = SetVAEConfig(latent=12, hidden=32, refinements=2, iterations=200, batch_size=64)
    manifold = pretrain(config, DOMAIN, 1, lambda done, total, metrics: reports.append((done, total, metrics)))
    assert reports[-1][:2] == (200, 200)
    assert reports[-1][2]["reconstruction"] < 0.7 * reports[0][2]["reconstruction"]
    assert manifold.health()["recovery"]["set_recall"] > 0.3


def test_a_manifold_can_be_left_as_it_was_drawn() -> None:
    config = replace(CONFIGS[0], iterations=0)
    training = config.pretraining(config.build(DOMAIN, 3), DOMAIN, 3)
    before = {name: weight.clone() for name, weight in training.manifold.state_dict()["network"].items()}
    training.run()
    after = training.manifold.state_dict()["network"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert training.manifold.health()["recovery"]["set_recall"] < 0.6, "it is measured, and knows nothing"


def test_the_step_size_falls_along_a_cosine() -> None:
    config = replace(CONFIGS[0], iterations=4, learning_rate=0.1)
    training = config.pretraining(config.build(DOMAIN, 1), DOMAIN, 1)
    found = []
    for _ in range(4):
        training.step()
        found.append(training.optimiser.param_groups[0]["lr"])
    # (1 + cos(pi i / 4)) / 20
    assert found == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], abs=1e-6)


def test_the_paper_preset_runs() -> None:
    domain = MazeDomain(4, 4, 3)
    config = replace(CLUTR_PAPER, iterations=2, corpus_size=100)
    training = config.pretraining(config.build(domain, 1), domain, 1)
    before = training.manifold.network.state_dict()["output.weight"].clone()
    parts = training.step() | training.step()
    assert torch.isfinite(parts["reconstruction"])
    assert not torch.equal(before, training.manifold.network.state_dict()["output.weight"])
    assert training.optimiser.param_groups[0]["lr"] == 5e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations must be at least 0, got -1"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"schedule": "step"}, "schedule must be cosine or constant, got 'step'"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SetVAEConfig(**options)  # type: ignore[arg-type]  # wrong on purpose
