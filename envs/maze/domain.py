"""Mazes as a domain: sampling, token sequences, edits and descriptions of levels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.envs.capabilities import Parameter, Paths, Repairs, clamp_parameters
from clutr.envs.domain import DOMAINS, Engine, LevelBatch, Suite
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.observer import MazeObserver
from clutr.envs.maze.paths import actions_to_goal, shortest_paths
from clutr.envs.maze.render import render_mazes
from clutr.envs.maze.sampling import mazes_at
from clutr.envs.maze.suites import suites
from clutr.envs.maze.text import format_levels, parse
from clutr.envs.validation import MOST_STEPS, require_at_least, require_at_most, require_types

_PATH_TILE = 16
"""Pixels of a cell where a path is drawn on it, fewer in a maze that would exceed `_PATH_PIXELS`."""
_PATH_PIXELS = 400


LONGEST_SIDE = 1_000
"""Cells along a maze: ten times the largest that anybody tests on."""


@DOMAINS.register("maze")
@dataclass(frozen=True)
class MazeDomain:
    """MiniGrid mazes of one size, with an agent, a goal and up to `max_obstacles` wall cells.

    A task is written as its obstacles in ascending order, then the goal, then the agent; token t stands for cell
    t - 1. The start heading is no part of it.
    """

    height: int = 13
    """Rows inside the outer ring of walls."""
    width: int = 13
    """Columns inside the outer ring of walls."""
    max_obstacles: int = 50
    """Most wall cells of a sampled or decoded maze, the ring not counted."""
    max_steps: int = 250
    """Steps after which an episode is cut."""
    see_through_walls: bool = True
    """Whether the agent sees cells behind walls."""
    view: int = 5
    """Side of the square of cells that the agent sees in front of it."""

    def __post_init__(self) -> None:
        require_types(self)
        require_at_least(self, 1, "height", "width", "max_steps")
        require_at_most(self, MOST_STEPS, "max_steps")
        require_at_most(self, LONGEST_SIDE, "height", "width")
        require_at_least(self, 0, "max_obstacles")
        if self.max_obstacles + 2 > self.height * self.width:
            raise ValueError(
                f"{self.max_obstacles} obstacles, a goal and an agent do not fit into {self.height}x{self.width} cells"
            )
        if self.view < 3 or self.view % 2 == 0:
            raise ValueError(f"view must be odd and at least 3, got {self.view}")

    @property
    def level_type(self) -> type[LevelBatch]:
        """`MazeLevels`."""
        return MazeLevels

    @property
    def vocabulary(self) -> int:
        """Number of cells: token t, 1..C, is cell t - 1."""
        return self.height * self.width

    @property
    def max_tokens(self) -> int:
        """Obstacles, goal and agent."""
        return self.max_obstacles + 2

    @property
    def ordered_suffix_length(self) -> int:
        """Goal and agent."""
        return 2

    @property
    def token_grid(self) -> tuple[int, int]:
        """The maze's own rows and columns."""
        return self.height, self.width

    def sample(self, n: int, rng: torch.Generator) -> MazeLevels:
        """Draw n mazes: obstacle count uniform on 0..max_obstacles; distinct cells and heading uniform.

        This is the corpus of arXiv 2210.10243. Levels lie on the generator's device; some cannot be solved.
        """
        device = rng.device
        order = torch.rand(n, self.vocabulary, generator=rng, device=device).topk(self.max_tokens, dim=1).indices
        count = torch.randint(0, self.max_obstacles + 1, (n, 1), generator=rng, device=device)
        used = torch.arange(self.max_obstacles, device=device) < count
        walls = torch.zeros(n, self.vocabulary, dtype=torch.bool, device=device).scatter_(1, order[:, 2:], used)
        return MazeLevels(
            walls=walls.view(n, self.height, self.width),
            agent=order[:, 1].contiguous(),
            heading=torch.randint(0, 4, (n,), generator=rng, device=device),
            goal=order[:, 0].contiguous(),
        )

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """How many obstacles, and how far apart goal and agent are."""
        return (
            Parameter("obstacles", 0, self.max_obstacles, "wall cells"),
            Parameter("distance", 1, self.height + self.width - 2, "rows and columns between agent and goal"),
        )

    def sample_at(self, parameters: Tensor, rng: torch.Generator) -> MazeLevels:
        """Draw a maze for each row `(obstacles, distance)` of `parameters` `[n, 2]`, each rounded (halves to even).

        A maze is uniform among all, solvable or not, that have that many obstacles and that Manhattan distance of agent
        and goal; so is the heading. Levels lie on the generator's device.
        """
        obstacles, distance = clamp_parameters(parameters, self.parameters).round().long().unbind(1)
        return mazes_at(self.height, self.width, obstacles, distance, rng)

    def to_tokens(self, levels: LevelBatch) -> Tensor:
        """Canonical token sequences `[B, max_tokens]` int64, padded with 0 on the right.

        Raises:
            ValueError: the mazes have another size than this domain's, or one has more than `max_obstacles` walls.
        """
        mazes = self._own(levels)
        flat = mazes.walls.flatten(1)
        count = flat.sum(1)
        if bool((count > self.max_obstacles).any()):
            row = int(count.argmax())
            raise ValueError(
                f"level {row} has {int(count[row])} walls, a token sequence holds at most {self.max_obstacles}"
            )
        tokens = torch.zeros(len(mazes), self.max_tokens, dtype=torch.int64, device=flat.device)
        rows, cells = flat.nonzero(as_tuple=True)
        tokens[rows, (flat.cumsum(1) - 1)[rows, cells]] = cells + 1
        tokens.scatter_(1, count[:, None], mazes.goal[:, None] + 1)
        tokens.scatter_(1, count[:, None] + 1, mazes.agent[:, None] + 1)
        return tokens

    def from_tokens(self, tokens: Tensor) -> tuple[MazeLevels, Repairs]:
        """Build a maze from ANY token sequences `[B, L]`; values outside 1..C are ignored.

        The last valid token is the agent and the one before it the goal; all others are obstacles. What does not fit
        is repaired without randomness and counted by reason:

        - `repeated_obstacle`: it counts once.
        - `obstacle_under_goal_or_agent`: it vanishes.
        - `too_many_obstacles`: those with the highest cell numbers vanish.
        - `missing_goal_or_agent`, `agent_on_goal`: it moves to the first free cell, row by row.

        The heading is a hash of the maze, so that decoding is deterministic and headings still vary.
        """
        batch, cells = tokens.shape[0], self.vocabulary
        valid = (tokens >= 1) & (tokens <= cells)
        index = torch.where(valid, tokens - 1, cells)  # column `cells` collects what is ignored
        from_end = valid.flip(1).cumsum(1).flip(1)
        obstacle = valid & (from_end > 2)
        walls = torch.zeros(batch, cells + 1, dtype=torch.bool, device=tokens.device)
        walls.scatter_(1, torch.where(obstacle, index, cells), True)
        walls = walls[:, :cells]
        distinct = walls.sum(1)
        repeated = obstacle.sum(1) - distinct

        number = valid.sum(1)
        goal = torch.where(valid & (from_end == 2), index, 0).sum(1)
        agent = torch.where(valid & (from_end == 1), index, 0).sum(1)
        walls = walls.scatter(1, torch.stack([goal, agent], 1), False)
        covered = distinct - walls.sum(1)
        kept = walls & (walls.cumsum(1) <= self.max_obstacles)
        surplus = walls.sum(1) - kept.sum(1)

        # Goal or agent are missing only where fewer than two tokens are valid, hence where there are no obstacles.
        goal = torch.where(number < 2, ((number == 1) & (agent == 0)).long(), goal)
        agent_free = (number > 0) & (agent != goal)
        taken = kept.scatter(1, goal[:, None], True)
        agent = torch.where(agent_free, agent, taken.long().argmin(1))
        counts = {
            "repeated_obstacle": repeated,
            "obstacle_under_goal_or_agent": covered,
            "too_many_obstacles": surplus,
            "missing_goal_or_agent": (2 - number).clamp(min=0),
            "agent_on_goal": ((number >= 2) & ~agent_free).long(),
        }
        heading = self._hash(kept, goal, agent) & 3
        return MazeLevels(kept.view(batch, self.height, self.width), agent, heading, goal), Repairs(counts)

    def mutate(self, levels: LevelBatch, edits: int, rng: torch.Generator) -> MazeLevels:
        """Copies of mazes with `edits` edits each (ACCEL, arXiv 2203.01302).

        Cells are drawn uniformly with replacement and repetitions merged; each becomes wall, empty or goal with equal
        probability. Moving the goal clears its old cell; a goal or agent that an edit overwrote is placed on a random
        free cell. Walls are not limited, so the result may have more than `max_obstacles`.
        """
        mazes = self._own(levels)
        batch, cells, device = len(mazes), self.vocabulary, mazes.walls.device
        rows = torch.arange(batch, device=device)
        positions = torch.randint(0, cells, (edits, batch), generator=rng, device=rng.device).to(device)
        choices = torch.randint(0, 3, (edits, batch), generator=rng, device=rng.device).to(device)
        keys = torch.rand(2, batch, cells, generator=rng, device=rng.device).to(device)
        walls, goal, agent = mazes.walls.flatten(1).clone(), mazes.goal, mazes.agent
        for edit in range(edits):
            cell, choice = positions[edit], choices[edit]
            active = ~(positions[:edit] == cell).any(0)
            walls[rows, cell] = torch.where(active, choice == 0, walls[rows, cell])
            goal = torch.where(active & (goal == cell), -1, goal)
            goal = torch.where(active & (choice == 2), cell, goal)
            agent = torch.where(active & (agent == cell), -1, agent)
        goal = self._on_free_cell(goal, walls, agent, keys[0])
        walls[rows, goal] = False
        agent = self._on_free_cell(agent, walls, goal, keys[1])
        walls[rows, agent] = False
        return MazeLevels(walls.view_as(mazes.walls), agent, mazes.heading.clone(), goal)

    def engine(self, n: int, device: torch.device | str = "cpu") -> Engine:
        """N training environments."""
        return MazeEngine(
            n,
            self.height,
            self.width,
            max_steps=self.max_steps,
            see_through_walls=self.see_through_walls,
            view=self.view,
            device=device,
        )

    def observer(self, engine: Engine) -> MazeObserver:
        """An observer of pictures, objects and the true state (see `clutr.envs.maze.observer`)."""
        if not isinstance(engine, MazeEngine):
            raise TypeError(f"the observer looks at a MazeEngine, got a {type(engine).__name__}")
        return MazeObserver(engine)

    def suites(self) -> dict[str, Suite]:
        """The zero-shot test suites by name (see `clutr.envs.maze.suites`)."""
        return suites(self)

    def describe(self, levels: LevelBatch) -> dict[str, Tensor]:
        """Per level: `wall_count`, `path_length` (cells + 1 where unsolvable, as in DCD) and `solvable`."""
        mazes = self._own(levels)
        path = shortest_paths(mazes)
        return {
            "wall_count": mazes.walls.flatten(1).sum(1).float(),
            "path_length": torch.where(path >= 0, path, self.vocabulary + 1).float(),
            "solvable": (path >= 0).float(),
        }

    def optimal_return(self, levels: LevelBatch, discount: float = 1.0) -> Tensor:
        """The return of the fewest actions to the goal, turns counted; 0 where they are more than `max_steps` or none.

        `[B]` float32, discounted by `discount` for each action but the first. Raises `ValueError` for a goal, an agent
        or a heading that is not in its range.
        """
        steps = actions_to_goal(self._own(levels))
        # in the engine's order of operations, so that an episode can attain it to the last digit
        bonus = (1 - 0.9 * (steps.double() / self.max_steps)) * discount ** (steps - 1).clamp(min=0).double()
        return torch.where((steps >= 0) & (steps <= self.max_steps), bonus, 0.0).float()

    def render(self, levels: LevelBatch) -> Tensor:
        """Pictures `[B, (height + 2) * 16, (width + 2) * 16, 3]` uint8, of mazes of any size."""
        return render_mazes(_mazes(levels))

    def draw_paths(self, levels: LevelBatch, positions: Tensor) -> Paths | None:
        """Mazes with the cells visited, `positions` `[B, L]`: see `clutr.envs.capabilities.PathDrawing`."""
        if not isinstance(levels, MazeLevels):  # a seed of somebody else's maze
            return None
        tile = min(_PATH_TILE, max(4, _PATH_PIXELS // (max(levels.height, levels.width) + 2)))
        visited = positions >= 0
        moves = ((positions[:, 1:] != positions[:, :-1]) & visited[:, 1:]).sum(1).tolist()
        return Paths(
            render_mazes(levels, tile, paths=positions),
            tuple(f"{count} move{'s' * (count != 1)}" for count in moves),
            "The line from the start to where the episode ended grows stronger with time.",
        )

    def parse(self, source: str) -> MazeLevels:
        """Read mazes from text or JSON (see `clutr.envs.maze.text`). Raises `LevelError` naming line and reason."""
        return parse(source)

    def format(self, levels: LevelBatch) -> str:
        """Write mazes as drawings that `parse` reads back without loss."""
        return format_levels(self._own(levels))

    def _own(self, levels: LevelBatch) -> MazeLevels:
        """`levels`, known to be mazes of this domain's size."""
        mazes = _mazes(levels)
        if (mazes.height, mazes.width) != (self.height, self.width):
            raise ValueError(
                f"the domain's mazes have {self.height}x{self.width} cells, these {mazes.height}x{mazes.width}"
            )
        return mazes

    def _on_free_cell(self, cell: Tensor, walls: Tensor, other: Tensor, keys: Tensor) -> Tensor:
        """`cell` `[B]`, where it is -1 a random free cell other than `other`: a wall only if nothing is free."""
        score = keys + 1 + (~walls)
        taken = torch.zeros_like(score).scatter_(1, other.clamp(min=0)[:, None], (other >= 0).to(score.dtype)[:, None])
        return torch.where(cell >= 0, cell, torch.where(taken > 0, 0, score).argmax(1))

    def _hash(self, walls: Tensor, goal: Tensor, agent: Tensor) -> Tensor:
        """A number `[B]` int64 >= 0 that depends on every cell; the same on every device."""
        cells = self.vocabulary
        weights = _mix(torch.arange(1, 3 * cells + 1, device=walls.device))
        total = torch.where(walls, weights[:cells], 0).sum(1) + weights[cells + goal] + weights[2 * cells + agent]
        return _mix(total) >> 33 & 0x3FFFFFFF


def _mix(value: Tensor) -> Tensor:
    """Scramble int64 values (splitmix64's multiplications; signed overflow wraps around)."""
    value = (value ^ (value >> 30)) * -0x40A7B892E31B1A47
    value = (value ^ (value >> 27)) * -0x6B2FB644ECCEEE15
    return value ^ (value >> 31)


def _mazes(levels: LevelBatch) -> MazeLevels:
    if not isinstance(levels, MazeLevels):
        raise TypeError(f"the maze domain works on MazeLevels, got {type(levels).__name__}")
    return levels
