"""Many mazes at once: MiniGrid's rules as a few tensor operations.

The engine plays exactly the environments of the `minigrid` package (Chevalier-Boisvert et al. 2023, arXiv
2306.13831) for grids of walls and one goal: same codes, same egocentric view, same reward, same step limit, and the
same behaviour where an agent plays on after its episode's end.
"""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.domain import LevelBatch, Observation, Step
from clutr.envs.maze.kernel import Mazes
from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.render import render_mazes
from clutr.envs.validation import require_at_least

FORWARD = 2
"""The action that moves. 0 turns left, 1 turns right; 3 to 6 (pick up, drop, toggle, done) find nothing to act on."""
ACTIONS = 7

# A cell's code holds MiniGrid's three bytes (object, colour, state) and, in the fourth, whether one can enter it, so
# that one gathered int32 is both a piece of the image and all that the rules ask. MiniGrid: objects unseen 0, empty 1,
# wall 2, goal 8; colours green 1, grey 5.
_FREE_BIT = 24
_FREE = 1 << _FREE_BIT
_EMPTY = 1 | _FREE
_WALL = 2 | 5 << 8
_GOAL = 8 | 1 << 8 | _FREE


class MazeEngine:
    """N mazes of one size, played in lockstep.

    Actions are int64 `[N]` in 0..6, in MiniGrid's order; others raise `IndexError` (on a GPU: a device assertion).
    Observations are `image`, uint8 `[N, view, view, 3]`, indexed as MiniGrid's (x first; the agent looks along
    decreasing y from the middle of the last row), and `direction`, int64 `[N]`. The engine never looks again at
    a tensor that it has returned: it may be stored without a copy, and written to.

    Args:
        num_envs: N, at least 1.
        height: rows inside the ring of walls.
        width: columns inside the ring.
        max_steps: an episode is truncated at this many steps.
        see_through_walls: False hides what lies behind walls, as MiniGrid's `Grid.process_vis` does.
        view: side of the square that the agent sees; odd, 3 to 23.
        device: where the tensors live.

    Raises:
        ValueError: an argument is out of its range.
    """

    render_fps = 10.0
    """MiniGrid's own."""

    def __init__(
        self,
        num_envs: int,
        height: int,
        width: int,
        *,
        max_steps: int,
        see_through_walls: bool = True,
        view: int = 5,
        device: torch.device | str = "cpu",
    ) -> None:
        if view % 2 == 0 or not 3 <= view <= 23:
            raise ValueError(f"view must be odd and in 3..23, got {view}")
        self.num_envs = num_envs
        self.height = height
        self.width = width
        self.max_steps = max_steps
        require_at_least(self, 1, "num_envs", "height", "width", "max_steps")
        self.see_through_walls = see_through_walls
        self.view = view
        self.device = torch.device(device)
        self.observation_space = spaces.Dict(
            {"image": spaces.Box(0, 255, (view, view, 3), np.uint8), "direction": spaces.Discrete(4)}
        )
        self.action_space: gymnasium.Space[np.int64] = spaces.Discrete(ACTIONS)

        # A margin of walls as deep as the view makes every look and every move stay inside the padded grid.
        self._margin = view - 1
        self._row = width + 2 * self._margin
        self._area = (height + 2 * self._margin) * self._row
        self._own = (view // 2) * view + view - 1
        self._make_tables()
        self._grid: Tensor | None = None
        self.solved = torch.zeros(num_envs, dtype=torch.bool, device=self.device)

    def _make_tables(self) -> None:
        """Tabulate moves by action and heading, and the view's cells by heading."""
        forward = torch.tensor([1, self._row, -1, -self._row])
        right = forward.roll(-1)
        heading = torch.arange(4)
        headings = heading.repeat(ACTIONS, 1)
        headings[0] = (heading - 1) % 4
        headings[1] = (heading + 1) % 4
        moves = torch.zeros(ACTIONS, 4, dtype=torch.int64)
        moves[FORWARD] = forward
        across = torch.arange(self.view)[:, None] - self.view // 2
        ahead = self.view - 1 - torch.arange(self.view)[None, :]
        looks = ahead * forward[:, None, None] + across * right[:, None, None]
        self._headings = headings.flatten().to(self.device)
        self._moves = moves.view(-1, 1).to(self.device)
        self._looks = looks.flatten(1).to(self.device)
        columns = torch.arange(self.view)
        self._columns = columns.int().repeat_interleave(self.view).to(self.device)
        # Multiplies the cells of a view, 0 or 1, into one integer a row: exact in float32 up to 24 columns.
        self._pack = ((1 << columns)[None, :, None] * torch.eye(self.view)[:, None, :]).flatten(1).to(self.device)
        # Tensors of the rows' own type: a Python number would be converted in each operation.
        reaches = [1 << k for k in range((self.view - 1).bit_length())]
        self._shifts = [torch.tensor(reach, dtype=torch.int32, device=self.device) for reach in reaches]

    def resized(self, num_envs: int) -> "MazeEngine":
        """A new engine of so many environments with the same rules."""
        return MazeEngine(
            num_envs,
            self.height,
            self.width,
            max_steps=self.max_steps,
            see_through_walls=self.see_through_walls,
            view=self.view,
            device=self.device,
        )

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """Start episodes: see `clutr.envs.domain.Engine.reset`.

        Raises:
            TypeError: the levels are no mazes.
            ValueError: their number or size is not the engine's, or one of them is invalid (`MazeLevels.check`).
            RuntimeError: no levels were given, now or before.
        """
        if levels is not None:
            self._load(levels, mask)
        elif self._grid is None:
            raise RuntimeError("the first reset needs levels")
        if mask is None:
            self._position = self._start
            self._heading = self._start_heading
            self._codes = self._start_codes
            self._clock = torch.zeros(self.num_envs, dtype=torch.float64, device=self.device)
        else:
            self._position = torch.where(mask[:, None], self._start, self._position)
            self._heading = torch.where(mask, self._start_heading, self._heading)
            self._codes = torch.where(mask[:, None], self._start_codes, self._codes)
            self._clock = torch.where(mask, 0.0, self._clock)
        return self._observation()

    def _load(self, levels: LevelBatch, mask: Tensor | None) -> None:
        """Hold new levels in the environments of `mask`."""
        if not isinstance(levels, MazeLevels):
            raise TypeError(f"a maze engine plays MazeLevels, got {type(levels).__name__}")
        if len(levels) != self.num_envs:
            raise ValueError(f"the engine has {self.num_envs} environments, got {len(levels)} levels")
        if (levels.height, levels.width) != (self.height, self.width):
            raise ValueError(
                f"the engine plays mazes of {self.height} rows and {self.width} columns inside the ring, "
                + f"got {levels.height} and {levels.width}"
            )
        levels = levels.to(self.device)
        levels.check()
        inside = torch.where(levels.walls, _WALL, _EMPTY).to(torch.int32)
        inside.flatten(1).scatter_(1, levels.goal[:, None], _GOAL)
        grid = torch.nn.functional.pad(inside, (self._margin,) * 4, value=_WALL).flatten(1)
        x, y = levels.agent % self.width, levels.agent // self.width
        start = ((y + self._margin) * self._row + x + self._margin)[:, None]
        if mask is None:
            self._grid, self._start, self._start_heading = grid, start, levels.heading.clone()
        elif self._grid is None:
            raise RuntimeError("the first reset must be of all environments")
        else:
            self._grid = torch.where(mask[:, None], grid, self._grid)
            self._start = torch.where(mask[:, None], start, self._start)
            self._start_heading = torch.where(mask, levels.heading, self._start_heading)
        # Kept, so that a restart of some environments costs a copy rather than a second look by all.
        self._start_codes = self._look(self._start, self._start_heading)

    def step(self, actions: Tensor) -> Step:
        """Advance every environment: see `clutr.envs.domain.Engine.step`. The reward is 1 - 0.9 * steps / max_steps."""
        if self._grid is None:
            raise RuntimeError("reset the engine before stepping")
        choice = torch.add(self._heading, actions, alpha=4)
        self._heading = self._headings.index_select(0, choice)
        target = self._position + self._moves.index_select(0, choice)
        entered = self._grid.gather(1, target)
        # Who does not move "enters" its own cell: that is free, and must not count as reaching the goal again.
        reached = ((entered == _GOAL) & (target != self._position)).squeeze(1)
        self._position = torch.where(entered == _WALL, self._position, target)
        self._codes = self._look(self._position, self._heading)
        self._clock = self._clock + 1
        # In double precision and in MiniGrid's order of operations, so that rounding to float32 gives its number.
        self.solved = reached
        bonus = 1 - 0.9 * (self._clock / self.max_steps)
        return Step(
            observation=self._observation(),
            reward=torch.where(reached, bonus, 0.0).float(),
            terminated=reached.clone(),
            truncated=self._clock >= self.max_steps,
        )

    @property
    def mazes(self) -> Mazes | None:
        """The levels for compiled play (`clutr.envs.maze.kernel`), on a processor and where walls hide nothing."""
        if self._grid is None or self.device.type != "cpu" or not self.see_through_walls:
            return None
        rules = self._own, _EMPTY, _WALL, _GOAL, self.max_steps
        moves = self._moves.view(ACTIONS, 4)[FORWARD].numpy()
        return Mazes(
            self._grid.numpy(),
            self._start[:, 0].numpy(),
            self._start_heading.numpy(),
            moves,
            self._looks.numpy(),
            *rules,
        )

    @property
    def observation(self) -> Observation:
        """What students see now."""
        return self._observation()

    @property
    def walls(self) -> Tensor:
        """Where walls stand inside the ring, `[N, height, width]` bool."""
        assert self._grid is not None
        rows = self._grid.view(self.num_envs, -1, self._row)
        return rows[:, self._margin : -self._margin, self._margin : -self._margin] == _WALL

    @property
    def goal(self) -> Tensor:
        """Where the goals are, `[N]` int64, numbered as in `MazeLevels`."""
        assert self._grid is not None
        position = (self._grid == _GOAL).to(torch.uint8).argmax(1)
        return (position // self._row - self._margin) * self.width + position % self._row - self._margin

    def _observation(self) -> Observation:
        """The current state as students see it."""
        codes = self._codes.clone()  # whole, which is many times faster than three bytes of each four
        image = codes.view(torch.uint8).view(self.num_envs, self.view, self.view, 4)[..., :3]
        return {"image": image, "direction": self._heading.clone()}

    def _look(self, position: Tensor, heading: Tensor) -> Tensor:
        """Codes `[N, view * view]` of what agents see who stand there and look that way."""
        assert self._grid is not None
        codes = self._grid.gather(1, self._looks.index_select(0, heading).add_(position))
        if not self.see_through_walls:
            codes *= self._visible(codes)
        codes[:, self._own] = _EMPTY
        return codes

    def _visible(self, codes: Tensor) -> Tensor:
        """Which of the codes `[N, view * view]` the agents see: int32, 1 or 0.

        MiniGrid walks through the rows from the agent's outwards. In each, sight spreads from the cells seen so far
        through free cells, to the right and then to the left; each free cell that it reaches shows its neighbours
        and the three cells beyond. So the runs of free cells that hold a cell seen so far are seen, with one cell
        more at both ends, and as much of the next row. A row is one integer here, bit x being column x.
        """
        rows = (self._pack @ (codes >> _FREE_BIT).float().t()).int()
        # spreads[k] has the free cells from which 2^k steps to the left stay free.
        spreads = [rows]
        for shift in self._shifts[:-1]:
            spreads.append(spreads[-1] & (spreads[-1] >> shift))
        seen = torch.full_like(rows[0], 1 << (self.view // 2))
        result = []
        for free, *row_spreads in reversed(list(zip(rows.unbind(), *(one.unbind() for one in spreads), strict=True))):
            runs = seen & free
            # To the right, towards higher bits: a carry ripples from a run's lowest source through its ones.
            carried = free + runs
            carried ^= free
            runs |= carried
            runs &= free
            for shift, spread in zip(self._shifts, row_spreads, strict=True):
                reached = runs >> shift
                reached &= spread
                runs |= reached
            beyond = runs + runs
            beyond |= runs
            beyond |= runs >> self._shifts[0]
            result.append(seen | beyond)
            seen = beyond
        result.reverse()
        return (torch.stack(result, 1).repeat(1, self.view) >> self._columns) & 1

    @property
    def cell(self) -> Tensor:
        """Where the agents are, `[N]` int64, numbered as in `MazeLevels`."""
        position = self._position.squeeze(1)
        y = position // self._row - self._margin
        return y * self.width + position % self._row - self._margin

    def render(self) -> NDArray[np.uint8]:
        """Pictures of the mazes as they are now, `[N, rows, columns, 3]`. Raises `RuntimeError` before a reset."""
        if self._grid is None:
            raise RuntimeError("reset the engine before rendering")
        levels = MazeLevels(self.walls, self.cell, self.heading, self.goal)
        pictures: NDArray[np.uint8] = render_mazes(levels).cpu().numpy()
        return pictures

    @property
    def agent_position(self) -> Tensor:
        """The same as `cell`."""
        return self.cell

    @property
    def heading(self) -> Tensor:
        """Where the agents look, `[N]` int64."""
        return self._heading.clone()

    @property
    def steps(self) -> Tensor:
        """Steps since each episode's start, `[N]` int64."""
        return self._clock.long()
