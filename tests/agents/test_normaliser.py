"""Rewards in units of the returns' deviation, against a loop in plain Python."""

import math

import torch

from clutr.agents.normaliser import ReturnNormaliser

DISCOUNT = 0.9


def by_loop(rollouts: list[tuple[torch.Tensor, torch.Tensor]], limit: float = 10.0) -> list[list[list[float]]]:
    """Step by step, with all returns ever seen kept in a list beside the 1e-4 of a return that stands for nothing."""
    seen: list[float] = []
    results = []
    for rewards, dones in rollouts:
        carried = [0.0] * rewards.shape[1]
        rows = []
        for t in range(len(rewards)):
            for n in range(rewards.shape[1]):
                carried[n] = carried[n] * DISCOUNT + float(rewards[t, n])
            seen += carried
            number = len(seen) + 1e-4
            mean = sum(seen) / number
            variance = (sum(value**2 for value in seen) + 1e-4) / number - mean**2
            rows.append(
                [max(-limit, min(limit, float(reward) / math.sqrt(max(variance, 1e-8)))) for reward in rewards[t]]
            )
            carried = [0.0 if bool(end) else value for end, value in zip(dones[t], carried, strict=True)]
        results.append(rows)
    return results


def rollout(seed: int, scale: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(9, 3, generator=rng) * scale + 1, torch.rand(9, 3, generator=rng) < 0.3


def test_equals_a_loop_over_several_rollouts() -> None:
    rollouts = [rollout(seed) for seed in range(3)]
    assert all(dones.any() for _, dones in rollouts)
    normaliser = ReturnNormaliser(DISCOUNT)
    for (rewards, dones), expected in zip(rollouts, by_loop(rollouts), strict=True):
        torch.testing.assert_close(normaliser(rewards, dones), torch.tensor(expected))


def test_large_rewards_are_clipped() -> None:
    rewards = torch.zeros(200, 4)
    rewards[100:] = torch.tensor([1e6, -1e6, 0.0, 0.0])
    dones = torch.ones(200, 4, dtype=torch.bool)
    normalised = ReturnNormaliser(DISCOUNT)(rewards, dones)
    assert normalised[100].tolist() == [10.0, -10.0, 0.0, 0.0]
    assert normalised.abs().max() <= 10


def test_the_mean_is_not_subtracted() -> None:
    rewards = torch.full((500, 2), 3.0) + torch.tensor([0.5, -0.5])
    normalised = ReturnNormaliser(DISCOUNT)(rewards, torch.ones(500, 2, dtype=torch.bool))
    # returns are 3.5 and 2.5, so their deviation is 0.5
    torch.testing.assert_close(normalised[-1], torch.tensor([7.0, 5.0]), atol=1e-3, rtol=0)


def test_rewards_that_never_vary_do_not_divide_by_nothing() -> None:
    normaliser = ReturnNormaliser(DISCOUNT)
    for _ in range(3):
        normalised = normaliser(torch.full((400, 8), 2.0), torch.ones(400, 8, dtype=torch.bool))
        assert normalised.isfinite().all()
        assert (normalised == 10).any()


def test_moments_are_all_its_memory() -> None:
    first, second = ReturnNormaliser(DISCOUNT), ReturnNormaliser(DISCOUNT)
    first(*rollout(0))
    second.moments = first.moments.clone()
    assert torch.equal(first(*rollout(1)), second(*rollout(1)))
    assert torch.equal(first.moments, second.moments)
    assert first.moments.dtype == torch.float64
