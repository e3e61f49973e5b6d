"""What a rollout says of each environment's episodes is what counting them one by one says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clutr.agents.student import Trajectories


def one_by_one(rewards: list[float], done: list[bool], solved: list[bool]) -> dict[str, float]:
    """The statistics of one environment, by going through its steps."""
    episodes: list[tuple[float, int, bool]] = []
    total, length, discounted = 0.0, 0, 0.0
    for reward, dones, success in zip(rewards, done, solved, strict=True):
        discounted += 0.0 if episodes else 0.995**length * reward
        total, length = total + reward, length + 1
        if dones:
            episodes.append((total, length, success))
            total, length = 0.0, 0
    first, finished = (episodes or [(total, length, False)])[0], len(episodes)
    return {
        "mean_return": first[0],
        "best_return": max([first[0], *(each[0] for each in episodes)]),
        "square_return": first[0] ** 2,
        "solved": float(first[2]),
        "episodes": finished,
        "length": first[1],
        "discounted_return": discounted,
    }


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 30), envs=st.integers(1, 4), ends=st.sampled_from([0.0, 0.1, 0.5, 1.0]), seed=st.integers())
def test_statistics_are_those_of_counting(steps: int, envs: int, ends: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed % 2**63)
    rewards = torch.randn(steps, envs, generator=rng)
    terminated = torch.rand(steps, envs, generator=rng) < ends
    truncated = ~terminated & (torch.rand(steps, envs, generator=rng) < ends / 2)
    solved = terminated & (torch.rand(steps, envs, generator=rng) < 0.5)
    unused = torch.zeros(steps, envs)
    done = terminated | truncated
    played = Trajectories({}, unused, unused, rewards, terminated, truncated, solved, done, unused, unused, unused)
    found = played.statistics()
    for env in range(envs):
        expected = one_by_one(rewards[:, env].tolist(), done[:, env].tolist(), solved[:, env].tolist())
        for name, value in expected.items():
            column = found.scores[name] if name in found.scores else getattr(found, name)
            assert float(column[env]) == pytest.approx(value, abs=1e-4), name
