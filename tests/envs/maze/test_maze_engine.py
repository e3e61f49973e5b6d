"""The batched maze engine against the real `minigrid` package, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch

from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.level import MazeLevels, empty_levels
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.maze_engine import RealMaze


def random_levels(n: int, height: int, width: int, rng: torch.Generator) -> MazeLevels:
    """Mazes of differing density whose goal is near the agent half of the time, so that it is often reached."""
    cells = height * width
    density = torch.rand(n, 1, generator=rng) * 0.5
    walls = torch.rand(n, cells, generator=rng) < density
    agent = torch.randint(cells, (n,), generator=rng)
    near = torch.where(agent % width > 0, agent - 1, agent + (1 if width > 1 else 0))
    far = (agent + torch.randint(1, cells, (n,), generator=rng)) % cells
    goal = torch.where((torch.rand(n, generator=rng) < 0.5) & (near != agent), near, far)
    walls.scatter_(1, torch.stack([agent, goal], 1), False)
    heading = torch.randint(4, (n,), generator=rng)
    return MazeLevels(walls.view(n, height, width), agent, heading, goal)


class RememberingMaze(RealMaze):
    """Draws each view of a level once: nothing in it moves but the agent, so that a view repeats with its place."""

    def __init__(self, level: MazeLevels, **options: Any) -> None:
        self.views: dict[tuple[int, int, int], dict[str, Any]] = {}
        super().__init__(level, **options)

    def gen_obs(self) -> dict[str, Any]:
        x, y = self.agent_pos
        view = (int(x), int(y), int(self.agent_dir))
        if view not in self.views:
            self.views[view] = super().gen_obs()
        return self.views[view]


# Inner sizes: outer ones are two more, so 6 to 51.
CASES = [
    (4, 4, True, 5, 10),
    (4, 4, False, 7, 10),
    (4, 9, False, 5, 10),
    (11, 4, True, 3, 10),
    (13, 13, True, 5, 30),
    (13, 13, False, 5, 30),
    (13, 13, False, 7, 20),
    (9, 15, False, 3, 10),
    (15, 8, True, 7, 10),
    (25, 25, False, 5, 15),
    (19, 30, False, 9, 15),
    (49, 49, True, 5, 10),
    (49, 49, False, 7, 10),
    (49, 21, False, 5, 10),
]


def test_cases_cover_what_they_claim() -> None:
    assert sum(case[4] for case in CASES) >= 200


@pytest.mark.parametrize(("height", "width", "see_through_walls", "view", "n"), CASES)
def test_lockstep_with_minigrid(height: int, width: int, see_through_walls: bool, view: int, n: int) -> None:
    rng = named_generator(height * 100 + width, "lockstep", view)
    levels = random_levels(n, height, width, rng)
    max_steps = 60
    engine = MazeEngine(n, height, width, max_steps=max_steps, see_through_walls=see_through_walls, view=view)
    reals = [
        RememberingMaze(levels[row], max_steps=max_steps, see_through_walls=see_through_walls, agent_view_size=view)
        for row in range(n)
    ]
    # Every third environment is never reset; the others start again after their episode's end.
    resets = torch.arange(n) % 3 != 0
    observation = engine.reset(levels)
    seen: list[Any] = [real.reset()[0] for real in reals]
    built = [real.grid.encode() for real in reals]
    actions = torch.randint(7, (500, n), generator=rng)
    # Half of the other actions become forward, or agents would hardly leave their corner.
    actions = torch.where((actions > 2) & (torch.rand(500, n, generator=rng) < 0.5), 2, actions)
    ends = torch.zeros(2, dtype=torch.int64)
    for t in range(500):
        assert np.array_equal(observation["image"].numpy(), np.stack([one["image"] for one in seen])), t
        assert observation["direction"].tolist() == [one["direction"] for one in seen]
        observation, reward, terminated, truncated = engine.step(actions[t])
        answers: list[Any] = [real.step(action) for real, action in zip(reals, actions[t].tolist(), strict=True)]
        seen = [answer[0] for answer in answers]
        assert np.array_equal(reward.numpy(), np.array([answer[1] for answer in answers], dtype=np.float32)), t
        assert terminated.tolist() == [answer[2] for answer in answers]
        assert truncated.tolist() == [answer[3] for answer in answers]
        positions = [(x - 1) + (y - 1) * width for x, y in (real.agent_pos for real in reals)]
        assert engine.cell.tolist() == positions
        assert engine.steps.tolist() == [real.step_count for real in reals]
        ends += torch.stack([terminated.sum(), truncated.sum()])
        done = (terminated | truncated) & resets
        if done.any():
            assert np.array_equal(observation["image"].numpy(), np.stack([one["image"] for one in seen])), t
            observation = engine.reset(mask=done)
            for row in done.nonzero().flatten().tolist():
                seen[row] = reals[row].reset()[0]
    assert (ends > 0).all(), "no episode ended: the test would prove little"
    for real, before in zip(reals, built, strict=True):
        assert real.carrying is None
        assert np.array_equal(real.grid.encode(), before), "views are remembered, so nothing may move"


def test_goal_at_the_last_step_is_both_terminated_and_truncated() -> None:
    levels = MazeLevels(torch.zeros(1, 1, 3, dtype=torch.bool), *(torch.tensor([value]) for value in (0, 0, 2)))
    engine = MazeEngine(1, 1, 3, max_steps=2)
    engine.reset(levels)
    first = engine.step(torch.tensor([2]))
    assert (first.reward.item(), first.terminated.item(), first.truncated.item()) == (0, False, False)
    last = engine.step(torch.tensor([2]))
    assert last.reward.item() == pytest.approx(0.1)
    assert (last.terminated.item(), last.truncated.item()) == (True, True)
    # The agent stands on the goal now: waiting there earns nothing.
    waiting = engine.step(torch.tensor([6]))
    assert (waiting.reward.item(), waiting.terminated.item(), waiting.truncated.item()) == (0, False, True)


def test_returned_tensors_are_never_written_again() -> None:
    engine = MazeEngine(8, 5, 5, max_steps=10, see_through_walls=False)
    rng = named_generator(0, "store")
    stored, copies = [], []
    observation = engine.reset(random_levels(8, 5, 5, rng))
    for t in range(30):
        stored.append(observation)
        copies.append({name: value.clone() for name, value in observation.items()})
        step = engine.step(torch.randint(7, (8,), generator=rng))
        observation = engine.reset(mask=step.terminated | step.truncated) if t % 2 else step.observation
    for kept, copy in zip(stored, copies, strict=True):
        assert all(torch.equal(kept[name], copy[name]) for name in copy)


def test_what_is_written_to_returned_tensors_changes_nothing() -> None:
    rng = named_generator(0, "spoil")
    spoilt, kept = (MazeEngine(8, 5, 5, max_steps=10) for _ in "ab")
    levels = random_levels(8, 5, 5, rng)
    one, other = spoilt.reset(levels), kept.reset(levels)
    for t in range(30):
        assert all(torch.equal(one[name], other[name]) for name in other), t
        one["image"].fill_(1)
        one["direction"].fill_(1)
        spoilt.heading.fill_(2)
        spoilt.cell.fill_(0)
        actions = torch.randint(7, (8,), generator=rng)
        step, expected = spoilt.step(actions), kept.step(actions)
        assert all(torch.equal(a, b) for a, b in zip(step[1:], expected[1:], strict=True)), t
        over = expected.terminated | expected.truncated
        for value in step[1:]:
            value.fill_(1)
        assert torch.equal(spoilt.solved, kept.solved)
        one, other = step.observation, expected.observation
        if t % 2:
            one, other = spoilt.reset(mask=over), kept.reset(mask=over)


def test_reset_of_some_leaves_the_others_undisturbed() -> None:
    rng = named_generator(1, "mask")
    old, new = random_levels(6, 7, 6, rng), random_levels(6, 7, 6, rng)
    mask = torch.tensor([True, False, True, False, False, True])
    mixed, untouched, fresh = (MazeEngine(6, 7, 6, max_steps=20) for _ in range(3))
    mixed.reset(old)
    untouched.reset(old)
    for _ in range(9):
        actions = torch.randint(7, (6,), generator=rng)
        mixed.step(actions)
        untouched.step(actions)
    start = fresh.reset(new)
    observation = mixed.reset(new, mask)
    assert torch.equal(observation["image"][mask], start["image"][mask])
    assert torch.equal(mixed.steps, torch.where(mask, 0, 9))
    for _ in range(25):
        actions = torch.randint(7, (6,), generator=rng)
        got, kept, begun = mixed.step(actions), untouched.step(actions), fresh.step(actions)
        for one, a, b in zip(got[1:], kept[1:], begun[1:], strict=True):
            assert torch.equal(one, torch.where(mask, b, a))
        for name, value in got.observation.items():
            assert torch.equal(value[mask], begun.observation[name][mask])
            assert torch.equal(value[~mask], kept.observation[name][~mask])
    # Without levels, each environment starts its own again.
    again = mixed.reset()
    assert torch.equal(
        again["image"], torch.where(mask[:, None, None, None], start["image"], fresh.reset(old)["image"])
    )
    assert mixed.steps.tolist() == [0] * 6


def test_levels_are_not_aliased() -> None:
    levels = empty_levels(2, 4, 4)
    engine = MazeEngine(2, 4, 4, max_steps=10)
    before = engine.reset(levels)
    levels.walls.fill_(True)
    levels.agent.fill_(3)
    levels.heading.fill_(2)
    after = engine.reset()
    assert torch.equal(before["image"], after["image"])
    assert torch.equal(before["direction"], after["direction"])


@pytest.mark.parametrize("see_through_walls", [True, False])
def test_playing_reads_no_tensor_and_stays_on_its_device(
    see_through_walls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tensors of the device "meta" have no values: a Python branch on one, or mixing it with the CPU's, is an error.
    monkeypatch.setattr(MazeLevels, "check", lambda _: None)
    engine = MazeEngine(8, 5, 6, max_steps=9, see_through_walls=see_through_walls, device="meta")
    engine.reset(empty_levels(8, 5, 6))
    step = engine.step(torch.zeros(8, dtype=torch.int64, device="meta"))
    again = engine.reset(empty_levels(8, 5, 6), step.terminated | step.truncated)
    answers = [*step.observation.values(), *step[1:], *again.values(), engine.cell, engine.heading, engine.steps]
    for tensor in answers:
        assert isinstance(tensor, torch.Tensor)
        assert tensor.device.type == "meta"


def test_spaces_contain_observations() -> None:
    engine = MazeEngine(1, 6, 6, max_steps=10, view=3)
    observation = engine.reset(empty_levels(1, 6, 6))
    one = {"image": observation["image"][0].numpy(), "direction": observation["direction"][0].numpy()}
    assert engine.observation_space.contains(one)
    assert engine.action_space.contains(np.int64(6))
    assert not engine.action_space.contains(np.int64(7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"height": 0}, "height must be at least 1, got 0"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"view": 4}, "view must be odd and in 3..23, got 4"),
        ({"view": 1}, "view must be odd and in 3..23, got 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        MazeEngine(**({"num_envs": 1, "height": 3, "width": 3, "max_steps": 5} | arguments))


def test_bad_use() -> None:
    engine = MazeEngine(2, 4, 5, max_steps=10)
    with pytest.raises(RuntimeError, match="the first reset needs levels"):
        engine.reset()
    with pytest.raises(RuntimeError, match="reset the engine before stepping"):
        engine.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="the first reset must be of all environments"):
        engine.reset(empty_levels(2, 4, 5), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="4 rows and 5 columns inside the ring, got 5 and 4"):
        engine.reset(empty_levels(2, 5, 4))
    with pytest.raises(ValueError, match="2 environments, got 3 levels"):
        engine.reset(empty_levels(3, 4, 5))
    levels = empty_levels(2, 4, 5)
    levels.walls[1, 0, 0] = True
    with pytest.raises(ValueError, match="the agent stands in a wall"):
        engine.reset(levels)
    engine.reset(empty_levels(2, 4, 5))
    for action in (-1, 7):
        with pytest.raises((IndexError, RuntimeError), match="out of range"):
            engine.step(torch.tensor([0, action]))
