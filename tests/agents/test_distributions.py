"""Distributions over actions against scipy's and against counting."""

import numpy as np
import pytest
import scipy.stats
import torch

from clutr.agents.distributions import EDGE, Categorical, ScaledBeta, sample_actions

ALPHA = torch.tensor([[1.0, 2.5, 40.0], [1.2, 1.0, 3.0]])
BETA = torch.tensor([[1.0, 1.5, 3.0], [9.0, 2.0, 3.0]])
LOW, HIGH = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([1.0, 1.0, 6.0])


def make() -> ScaledBeta:
    return ScaledBeta(ALPHA, BETA, LOW, HIGH)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_beta_log_probability_is_scipys() -> None:
    actions = torch.tensor([[0.3, 0.9, 0.95], [0.01, 0.5, 0.2]])
    expected = scipy.stats.beta(ALPHA, BETA).logpdf(actions).sum(-1)
    np.testing.assert_allclose(make().log_prob(actions), expected, rtol=1e-5)


def test_beta_entropy_is_scipys() -> None:
    np.testing.assert_allclose(make().entropy(), scipy.stats.beta(ALPHA, BETA).entropy().sum(-1), rtol=1e-5, atol=1e-6)


def test_beta_acts_on_its_mean_when_nothing_is_left_to_chance() -> None:
    np.testing.assert_allclose(make().mode(), scipy.stats.beta(ALPHA, BETA).mean(), rtol=1e-6)


def test_beta_samples_follow_their_distribution() -> None:
    samples = ScaledBeta(ALPHA.expand(20_000, 2, 3), BETA.expand(20_000, 2, 3), LOW, HIGH).sample(generator())
    for row in range(2):
        for column in range(3):
            reference = scipy.stats.beta(float(ALPHA[row, column]), float(BETA[row, column]))
            assert scipy.stats.kstest(samples[:, row, column].double().numpy(), reference.cdf).pvalue > 1e-3


def test_beta_samples_keep_away_from_the_edges() -> None:
    sharp = ScaledBeta(torch.full((1000, 1), 1e4), torch.full((1000, 1), 1e-4), LOW[:1], HIGH[:1])
    samples = sharp.sample(generator())
    assert samples.max() <= 1 - EDGE
    assert sharp.log_prob(samples).isfinite().all()


def test_beta_samples_depend_on_the_generator_alone() -> None:
    before = torch.get_rng_state()
    assert torch.equal(make().sample(generator()), make().sample(generator()))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_engine_gets_actions_in_its_box() -> None:
    policy = make()
    assert policy.to_engine(torch.zeros(2, 3)).tolist() == [LOW.tolist()] * 2
    assert policy.to_engine(torch.ones(2, 3)).tolist() == [HIGH.tolist()] * 2
    assert policy.to_engine(torch.full((1, 3), 0.5)).tolist() == [[0.0, 0.5, 4.0]]


def test_gradients_of_the_log_probability() -> None:
    alpha, beta = ALPHA.double().requires_grad_(), BETA.double().requires_grad_()
    actions = torch.full((2, 3), 0.3, dtype=torch.float64)

    def numbers(alpha: torch.Tensor, beta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        policy = ScaledBeta(alpha, beta, LOW, HIGH)
        return policy.log_prob(actions), policy.entropy()

    assert torch.autograd.gradcheck(numbers, (alpha, beta))


def test_categorical_is_torchs() -> None:
    log_probs = torch.randn(4, 5, generator=generator()).log_softmax(-1)
    ours, theirs = Categorical(log_probs), torch.distributions.Categorical(logits=log_probs)
    actions = torch.tensor([0, 4, 2, 2])
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert torch.equal(ours.mode(), theirs.mode)
    assert torch.equal(ours.to_engine(actions), actions)


def test_actions_follow_their_probabilities() -> None:
    probabilities = torch.tensor([0.2, 0.0, 0.5, 0.3])
    noise = (torch.arange(1000) + 0.5) / 1000
    actions = sample_actions(probabilities.log().expand(1000, 4), noise)
    assert torch.bincount(actions, minlength=4).tolist() == [200, 0, 500, 300]


def test_an_impossible_action_is_never_taken() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.5]])
    assert sample_actions(probabilities.log(), torch.zeros(1)).item() == 1


@pytest.mark.parametrize("noise", [1 - 1e-8, 0.9999999])
def test_the_largest_noise_still_gives_an_action(noise: float) -> None:
    log_probs = torch.full((1, 7), 1 / 7).log()
    assert sample_actions(log_probs, torch.tensor([noise])).item() == 6
