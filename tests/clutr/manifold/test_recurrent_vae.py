from pathlib import Path

import pytest
import torch

from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.storage import load_state, save_state
from clutr.manifold.pretrain import PretrainOptions, pretrain
from clutr.manifold.recurrent_vae import RecurrentNetwork, RecurrentVAEConfig
from clutr.manifold.set_vae import SetVAEConfig
from clutr.manifold.vae import VAEManifold

DOMAIN = MazeDomain(height=4, width=4, max_obstacles=4)
TINY = RecurrentVAEConfig(latent=4, embedding=6, encoder=5, decoder=7, iterations=12, batch_size=16)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_dropout_thins_the_decoders_inputs_in_training_alone() -> None:
    config = RecurrentVAEConfig(latent=4, embedding=6, encoder=5, decoder=7, dropout=0.5)
    thinned, plain = RecurrentNetwork(config, DOMAIN, 1), RecurrentNetwork(TINY, DOMAIN, 1)
    tokens = DOMAIN.to_tokens(DOMAIN.sample(32, rng()))
    for training in (True, False):
        thinned.train(training)
        plain.train(training)
        same = torch.equal(thinned.loss(tokens, 1, 1, rng(2))[0], plain.loss(tokens, 1, 1, rng(2))[0])
        assert same is not training


def test_dropout_keeps_the_expected_embedding() -> None:
    config = RecurrentVAEConfig(latent=4, embedding=50, encoder=5, decoder=7, dropout=0.3)
    network = RecurrentNetwork(config, DOMAIN, 1).train()
    seen: list[torch.Tensor] = []

    def logits(x: torch.Tensor, tokens: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        assert keep is not None
        seen.append(keep)
        return RecurrentNetwork.logits(network, x, tokens, keep)

    network.logits = logits  # type: ignore[method-assign]  # looks at what dropout does
    tokens = DOMAIN.to_tokens(DOMAIN.sample(200, rng()))
    network.loss(tokens, 1, 1, rng(2))
    factors = seen[0]
    assert factors.shape == (200, 7, 50)  # single elements, not whole words
    assert factors.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert factors.mean().item() == pytest.approx(1, abs=0.01)


def test_decoding_ends_at_the_end_or_at_the_longest_task() -> None:
    network = RecurrentNetwork(TINY, DOMAIN, 1)
    x = torch.zeros(3, 4)
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.zero_()
        network.output.bias[network.go] = 9.0  # may not be written
        network.output.bias[7] = 5.0
        assert network.decode_tokens(x).tolist() == [[7] * 6] * 3
        network.output.bias[network.end] = 6.0
        assert network.decode_tokens(x).tolist() == [[0] * 6] * 3


def test_a_short_training_uses_the_latent() -> None:
    config = RecurrentVAEConfig(
        latent=16,
        embedding=16,
        encoder=32,
        decoder=48,
        iterations=350,
        batch_size=64,
        learning_rate=2e-2,
        kl_middle=120,
        kl_width=35,
    )
    health = pretrain(config, MazeDomain(height=3, width=3, max_obstacles=3), 1).health()
    assert not health["collapsed"]
    assert health["active_dimensions"] >= 8
    assert health["kl"] > 3
    assert health["recovery"]["set_recall"] > 0.6  # guessing finds less than half


@pytest.mark.parametrize(
    "config",
    [TINY, SetVAEConfig(latent=6, hidden=16, refinements=2, iterations=12, batch_size=16)],
    ids=["recurrent", "set"],
)
def test_a_training_resumes_from_its_file(config: PretrainOptions[VAEManifold], tmp_path: Path) -> None:
    whole = config.pretraining(config.build(DOMAIN, 1), DOMAIN, 1)
    halves = config.pretraining(config.build(DOMAIN, 1), DOMAIN, 1)
    for _ in range(5):
        halves.step()
    save_state(tmp_path / "half.safetensors", halves.state_dict())
    rest = config.pretraining(config.build(DOMAIN, 2), DOMAIN, 1)
    rest.load_state_dict(load_state(tmp_path / "half.safetensors"))
    whole.run()
    rest.run()
    expected, found = whole.manifold.state_dict(), rest.manifold.state_dict()
    assert all(torch.equal(expected["network"][name], found["network"][name]) for name in expected["network"])
    assert found["measured"] == expected["measured"]
