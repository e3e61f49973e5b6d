"""Domain randomisation of levels of one kind."""

import pytest
import torch

from clutr.curricula.base import Context
from clutr.curricula.random import MatchedRandomisationConfig
from clutr.envs.maze.domain import MazeDomain

CONTEXT = Context(MazeDomain(), 1)


def test_levels_lie_in_the_range_and_fill_it() -> None:
    curriculum = MatchedRandomisationConfig(property="wall_count", least=12, most=28).build(CONTEXT)
    counts = torch.cat([CONTEXT.domain.describe(curriculum.propose(64).levels)["wall_count"] for _ in range(5)])
    assert len(counts) == 320
    assert counts.min() >= 12
    assert counts.max() <= 28
    assert len(counts.unique()) == 17
    assert float(counts.mean()) == pytest.approx(20, abs=1.5)


def test_solvable_levels_are_the_default() -> None:
    levels = MatchedRandomisationConfig().build(CONTEXT).propose(64).levels
    assert CONTEXT.domain.describe(levels)["solvable"].all()


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"least must be at most most \(1\), got 2"):
        MatchedRandomisationConfig(least=2, most=1)
    small = Context(MazeDomain(height=4, width=4, max_obstacles=3), 1)
    with pytest.raises(ValueError, match="property must be one of wall_count, path_length, solvable, got 'size'"):
        MatchedRandomisationConfig(property="size").build(small).propose(4)
    with pytest.raises(ValueError, match="of 4,000 random levels only 0 have a wall_count from 4 to 9"):
        MatchedRandomisationConfig(property="wall_count", least=4, most=9).build(small).propose(4)
