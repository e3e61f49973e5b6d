"""What a rollout says of each environment's episodes is what counting them one by one says."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clutr.agents.student import Trajectories


def one_by_one(
    rewards: list[float], values: list[float], done: list[bool], solved: list[bool], levels: int
) -> list[dict[str, float]]:
    """The statistics of one environment on each of its levels, by going through its steps."""
    steps: list[list[int]] = [[]]  # of each episode; the last one may be cut
    for step, dones in enumerate(done):
        steps[-1].append(step)
        if dones:
            steps.append([])
    episodes = [each for each in steps if each]
    columns = []
    for k in range(levels):
        played = [*episodes[k : None if k + 1 == levels else k + 1]]
        returns = [sum(rewards[step] for step in each) for each in played]
        finished = [done[each[-1]] for each in played]
        counted = [total for i, total in enumerate(returns) if finished[i] or i == 0]
        visited = [step for each in played for step in each]
        first = played[0] if played else []
        columns.append(
            {
                "mean_return": returns[0] if returns else 0.0,
                "best_return": max(counted) if counted else 0.0,
                "square_return": returns[0] ** 2 if returns else 0.0,
                "solved": float(any(solved[step] for step in first)),
                "episodes": sum(finished),
                "length": len(first),
                "steps": len(visited),
                "discounted_return": sum(0.995**i * rewards[step] for i, step in enumerate(first)),
                "mean_value": sum(values[step] for step in visited) / max(1, len(visited)),
                "value_l1": sum(abs(values[step]) for step in visited) / max(1, len(visited)),
            }
        )
    return columns


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 30),
    envs=st.integers(1, 4),
    levels=st.integers(1, 4),
    ends=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(),
)
def test_statistics_are_those_of_counting(steps: int, envs: int, levels: int, ends: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed % 2**63)
    rewards, values = torch.randn(2, steps, envs, generator=rng)
    terminated = torch.rand(steps, envs, generator=rng) < ends
    truncated = ~terminated & (torch.rand(steps, envs, generator=rng) < ends / 2)
    solved = terminated & (torch.rand(steps, envs, generator=rng) < 0.5)
    unused = torch.zeros(steps, envs)
    done = terminated | truncated
    # advantages are the values here, so that their mean size can be told apart from the mean value
    played = Trajectories({}, unused, unused, rewards, terminated, truncated, solved, done, values, unused, values)
    found = played.statistics(levels)
    for env in range(envs):
        each: list[Any] = [column[:, env].tolist() for column in (rewards, values, done, solved)]
        for k, expected in enumerate(one_by_one(each[0], each[1], each[2], each[3], levels)):
            for name, value in expected.items():
                column = found.scores[name] if name in found.scores else getattr(found, name)
                assert float(column[k * envs + env]) == pytest.approx(value, abs=1e-4), (name, k)
