import math

import pytest
import torch

from clutr.envs.maze.domain import MazeDomain
from clutr.manifold.corpus import Corpus, lengths, shuffle_sets
from clutr.manifold.posterior import kl_to_standard_normal, sample_posterior
from clutr.manifold.recurrent_vae import (
    CLUTR_PAPER,
    Highway,
    RecurrentNetwork,
    RecurrentVAEConfig,
    kl_weight,
    token_cross_entropy,
)
from clutr.manifold.set_vae import SetNetwork, SetVAEConfig
from clutr.manifold.vae import Squash, into_box, out_of_box

DOMAIN = MazeDomain(5, 5, 6)
TINY = RecurrentVAEConfig(latent=4, embedding=6, encoder=5, decoder=7, iterations=3, batch_size=8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kl_by_hand() -> None:
    mean = torch.tensor([0.0, 2.0, 0.0])
    log_variance = torch.tensor([0.0, 0.0, math.log(4.0)])
    # 0; 2^2 / 2; (4 - 1 - ln 4) / 2
    expected = torch.tensor([0.0, 2.0, 0.806853])
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_kl_equals_that_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(2, 5, 3, generator=rng())
    first = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(first, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_posterior_samples_have_its_moments() -> None:
    found = sample_posterior(torch.full((20_000, 1), 3.0), torch.full((20_000, 1), math.log(4.0)), rng())
    assert found.mean() == pytest.approx(3.0, abs=0.06)
    assert found.std() == pytest.approx(2.0, abs=0.05)


def test_squash_by_hand() -> None:
    x = torch.tensor([0.0, 1.0, -1.0])
    torch.testing.assert_close(into_box(x, "tanh", 4.0), torch.tensor([0.0, 3.046377, -3.046377]))
    # 8 * Phi(1) - 4, Phi(1) = 0.841345
    torch.testing.assert_close(into_box(x, "cdf", 4.0), torch.tensor([0.0, 2.730758, -2.730758]))


@pytest.mark.parametrize("squash", ["tanh", "cdf"])
def test_squash_stays_in_the_box_and_inverts(squash: Squash) -> None:
    x = torch.linspace(-50, 50, 101)
    assert into_box(x, squash, 4.0).abs().max() <= 4.0
    inside = torch.linspace(-3, 3, 61)
    torch.testing.assert_close(out_of_box(into_box(inside, squash, 4.0), squash, 4.0), inside, atol=1e-3, rtol=1e-3)
    assert out_of_box(torch.tensor([-4.0, 4.0]), squash, 4.0).tolist() == [-5.0, 5.0]


def test_cdf_makes_the_prior_uniform() -> None:
    z = into_box(torch.randn(100_000, generator=rng()), "cdf", 4.0)
    counts = torch.histc(z, 8, -4, 4)
    assert (counts / 100_000 - 1 / 8).abs().max() < 0.005


def test_kl_schedule_by_hand() -> None:
    assert kl_weight(3_500) == 0.5
    assert kl_weight(0) == pytest.approx(0.000911, abs=1e-6)
    assert kl_weight(5_000) == pytest.approx(0.952574, abs=1e-6)
    assert kl_weight(1_000_000) == 1.0


def test_cross_entropy_by_hand_ignores_padding() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 1, 2] = math.log(3.0)  # probabilities 1/6, 1/6, 1/2, 1/6
    logits[0, 2, 1] = 100.0
    # (ln 4 + ln 2) / 2; the padded last place counts nothing
    assert token_cross_entropy(logits, torch.tensor([[1, 2, 0]])) == pytest.approx(1.5 * math.log(2.0))


def test_recurrent_loss_does_not_see_padding() -> None:
    network = RecurrentNetwork(TINY, DOMAIN, 0)
    tokens = DOMAIN.to_tokens(DOMAIN.sample(4, rng()))
    longer = torch.nn.functional.pad(tokens, (0, 5))
    for short, long in zip(network.posterior(tokens), network.posterior(longer), strict=True):
        torch.testing.assert_close(short, long)
    first, _ = network.loss(tokens, 10, 10, rng(1))
    second, _ = network.loss(longer, 10, 10, rng(1))
    torch.testing.assert_close(first, second)


def test_decoding_is_what_teacher_forcing_would_say() -> None:
    network = RecurrentNetwork(TINY, DOMAIN, 3)
    x = torch.randn(5, 4, generator=rng())
    decoded = network.decode_tokens(x)
    logits = network.logits(x, decoded)[:, : DOMAIN.max_tokens]
    logits[:, :, [0, network.go]] = -torch.inf
    likeliest = logits.argmax(2)
    for row, size in enumerate(lengths(decoded).tolist()):
        assert likeliest[row, :size].tolist() == decoded[row, :size].tolist()
        if size < DOMAIN.max_tokens:
            assert likeliest[row, size] == network.end


def test_highway_by_hand() -> None:
    layer = Highway(1)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (0.0, 0.0, 2.0, 0.0, 3.0, 1.0), strict=True):
            parameter.fill_(value)
    # gate 1/2: (relu(2 * 2) + (3 * 2 + 1)) / 2
    assert layer(torch.tensor([[2.0]])).item() == pytest.approx(5.5)


def test_paper_preset_has_the_published_size() -> None:
    network = RecurrentNetwork(CLUTR_PAPER, MazeDomain(), 0)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(14.07e6, rel=0.005)


def test_indicators_by_hand() -> None:
    network = SetNetwork(SetVAEConfig(latent=2, hidden=2, refinements=1), MazeDomain(1, 4, 2), 0)
    found = network.indicators(torch.tensor([[1, 3, 4, 2], [2, 1, 0, 0]]))
    assert found.tolist() == [[1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]]


def test_set_vae_does_not_see_the_order_of_obstacles() -> None:
    network = SetNetwork(SetVAEConfig(latent=4, hidden=8), DOMAIN, 0)
    tokens = DOMAIN.to_tokens(DOMAIN.sample(16, rng()))
    shuffled = shuffle_sets(tokens, 2, rng())
    assert (tokens != shuffled).any()
    torch.testing.assert_close(network.posterior(tokens)[0], network.posterior(shuffled)[0])


def test_shuffling_keeps_tasks() -> None:
    levels = DOMAIN.sample(200, rng())
    shuffled, _ = DOMAIN.from_tokens(shuffle_sets(DOMAIN.to_tokens(levels), 2, rng()))
    assert torch.equal(shuffled.walls, levels.walls)
    assert torch.equal(shuffled.goal, levels.goal)
    assert torch.equal(shuffled.agent, levels.agent)


def test_corpus_is_a_function_of_its_seed() -> None:
    first, second = Corpus(DOMAIN, 1, 8), Corpus(DOMAIN, 1, 8)
    second.batch(70)
    assert torch.equal(first.batch(3), second.batch(3))
    assert not torch.equal(first.batch(3), Corpus(DOMAIN, 2, 8).batch(3)[:, : first.batch(3).shape[1]])


def test_fixed_corpus_is_unique_and_shuffled_anew_in_each_pass() -> None:
    corpus = Corpus(DOMAIN, 1, 4, size=128, by_length=False)

    def one_pass(start: int) -> list[tuple[int, ...]]:
        batches = [corpus.batch(number) for number in range(start, start + 32)]
        return [tuple(row[row > 0].tolist()) for batch in batches for row in batch]

    first, second = one_pass(0), one_pass(32)
    assert len(set(first)) == 128
    assert set(first) == set(second)
    assert first != second
