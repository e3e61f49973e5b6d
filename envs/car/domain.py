"""Cars on Bezier roads as a domain: sampling, token sequences, edits and descriptions of levels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from clutr.envs.capabilities import Parameter, Paths, Repairs, clamp_parameters
from clutr.envs.car.drawing.thumbnail import render_tracks
from clutr.envs.car.engine import CarEngine
from clutr.envs.car.observer import CarObserver
from clutr.envs.car.road.level import BezierLevels, RoadLevels
from clutr.envs.car.road.sampling import GRID_SIZE, PLAYFIELD, continuous_roads, grid_cells_at, in_line
from clutr.envs.car.road.text import collinear, format_levels, parse
from clutr.envs.car.suites import suites
from clutr.envs.domain import DOMAINS, Engine, LevelBatch, Suite
from clutr.envs.validation import MOST_STEPS, require_at_least, require_at_most, require_types, require_within

SPACING = PLAYFIELD / GRID_SIZE
"""Between two cells of the grid, in units; cell (0, 0) lies one spacing from the corner."""
CORNERS = (1, GRID_SIZE, GRID_SIZE * (GRID_SIZE - 1) + 1, GRID_SIZE**2)
"""Tokens of the grid's corners, which are added in this order to points that all lie on one line."""


@DOMAINS.register("car")
@dataclass(frozen=True)
class CarDomain:
    """CarRacing on roads through control points.

    A task is written as the cells of its control points on a grid of 10x10, in ascending order; token t stands for
    column (t - 1) % 10 and row (t - 1) // 10.
    """

    control_points: int = 12
    """Control points of a sampled road, and the most that a token sequence holds."""
    sampler: Literal["grid", "continuous"] = "grid"
    """Distinct cells of the grid, uniform; or points of the square, redrawn until neighbours are far enough apart."""
    max_frames: int = 1000
    """Frames, 50 a second, after which an episode is cut."""
    action_repeat: int = 8
    """Frames for which an action is repeated; the student sees the last of them."""
    shaped: bool = True
    """Whether students are rewarded with the published shaping (see `clutr.envs.car.engine`); suites never do."""
    backend: Literal["fast", "box2d"] = "fast"
    """Our compiled engine, or the real package: slow, for reference."""

    def __post_init__(self) -> None:
        require_types(self)
        require_within(self, 3, GRID_SIZE**2, "control_points")
        require_at_least(self, 1, "max_frames", "action_repeat")
        require_at_most(self, MOST_STEPS, "max_frames", "action_repeat")

    @property
    def level_type(self) -> type[LevelBatch]:
        """`BezierLevels`."""
        return BezierLevels

    @property
    def vocabulary(self) -> int:
        """Number of cells of the grid."""
        return GRID_SIZE**2

    @property
    def max_tokens(self) -> int:
        """One token a control point."""
        return self.control_points

    @property
    def ordered_suffix_length(self) -> int:
        """None: control points are a set."""
        return 0

    @property
    def token_grid(self) -> tuple[int, int]:
        """The grid's rows and columns."""
        return GRID_SIZE, GRID_SIZE

    def sample(self, n: int, rng: torch.Generator) -> BezierLevels:
        """Draw n roads with `control_points` points each; those few on one line are repaired as in `from_tokens`."""
        if self.sampler == "continuous":
            return continuous_roads(n, self.control_points, rng)
        keys = torch.rand(n, self.vocabulary, generator=rng, device=rng.device)
        cells = keys.topk(self.control_points, dim=1).indices.sort(dim=1).values.cpu()
        levels = self._build(cells, torch.full((n,), self.control_points))
        on_a_line = in_line(cells, levels.count)
        if bool(on_a_line.any()):
            levels.points[on_a_line] = self.from_tokens(cells[on_a_line] + 1)[0].points
        return levels

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """How many control points a road has, and how far they spread over the grid."""
        return (
            Parameter("control_points", 3, self.control_points, "control points of the road"),
            Parameter("spread", 4, GRID_SIZE, "side, in cells, of the square of the grid that holds them"),
        )

    def sample_at(self, parameters: Tensor, rng: torch.Generator) -> BezierLevels:
        """Draw a road for each row `(control_points, spread)` of `parameters` `[n, 2]`, each rounded (halves to even).

        The points are distinct cells of a square with sides of `spread` cells, or as many as it takes to hold them;
        where it lies on the grid is uniform, and so are its cells, but for points that all lie on one line, which are
        drawn again. Also with the continuous sampler points are cells.
        """
        count, spread = clamp_parameters(parameters, self.parameters).round().long().unbind(1)
        return self._build(grid_cells_at(count, spread, self.control_points, rng), count)

    def _build(self, cells: Tensor, count: Tensor) -> BezierLevels:
        """Levels from cells `[B, P]`, of which the first `count` `[B]` are used."""
        points = torch.stack([cells % GRID_SIZE + 1, cells // GRID_SIZE + 1], dim=2) * torch.tensor(SPACING)
        used = torch.arange(cells.shape[1]) < count[:, None]
        return BezierLevels(torch.where(used[..., None], points.float(), 0.0), count)

    def to_tokens(self, levels: LevelBatch) -> Tensor:
        """Canonical token sequences `[B, max_tokens]` int64, padded with 0 on the right.

        Points are moved to the nearest cells, so only roads on the grid come back as they were.

        Raises:
            ValueError: a road has more than `control_points` points.
        """
        roads = self._own(levels)
        most = int(roads.count.max()) if len(roads) else 0
        if most > self.control_points:
            row = int(roads.count.argmax())
            raise ValueError(f"level {row} has {most} control points, a token sequence holds at most {self.max_tokens}")
        used = torch.arange(roads.points.shape[1], device=roads.count.device) < roads.count[:, None]
        positions = (roads.points / SPACING).round().long().sub(1).clamp(0, GRID_SIZE - 1)
        tokens = torch.where(used, positions[..., 1] * GRID_SIZE + positions[..., 0] + 1, 0)
        return self._canonical(tokens)[0]

    def _canonical(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first `max_tokens` distinct tokens of `[B, L]` in ascending order, `[B, max_tokens]` padded with 0.

        Values outside 1..C are ignored. Also how many were repeated and how many too many, each `[B]`.
        """
        valid = (tokens >= 1) & (tokens <= self.vocabulary)
        present = torch.zeros(len(tokens), self.vocabulary + 1, dtype=torch.bool, device=tokens.device)
        present.scatter_(1, torch.where(valid, tokens, 0), True)
        present = present[:, 1:]
        distinct = present.sum(1)
        present &= present.cumsum(1) <= self.max_tokens
        kept = torch.zeros(len(tokens), self.max_tokens, dtype=torch.int64, device=tokens.device)
        rows, cells = present.nonzero(as_tuple=True)
        kept[rows, (present.cumsum(1) - 1)[rows, cells]] = cells + 1
        return kept, valid.sum(1) - distinct, (distinct - self.max_tokens).clamp(min=0)

    def from_tokens(self, tokens: Tensor) -> tuple[BezierLevels, Repairs]:
        """Build a road from ANY token sequences `[B, L]`; values outside 1..C are ignored.

        What does not fit is repaired without randomness and counted by reason:

        - `repeated_point`: it counts once.
        - `too_many_points`: those with the highest cell numbers vanish.
        - `points_on_a_line`: while there are not three points off one line, the grid's corners are added, in the
          order of `CORNERS`; counted is how many were. Where there is no room left, the last points make room.
        """
        kept, repeated, surplus = self._canonical(tokens.cpu())
        added = torch.zeros(len(kept), dtype=torch.int64)
        for row in range(len(kept)):
            cells = [token for token in kept[row].tolist() if token]
            if not _on_a_line(cells):
                continue
            for corner in CORNERS:
                if corner not in cells:
                    cells = [*cells[: self.max_tokens - 1], corner]
                    added[row] += 1
                if not _on_a_line(cells):
                    break
            kept[row] = 0
            kept[row, : len(cells)] = torch.tensor(sorted(cells))
        levels = self._build((kept - 1).clamp(min=0), (kept > 0).sum(1))
        counts = {"repeated_point": repeated, "too_many_points": surplus, "points_on_a_line": added}
        return levels, Repairs(counts)

    def mutate(self, levels: LevelBatch, edits: int, rng: torch.Generator) -> BezierLevels:
        """Copies of roads with `edits` edits each: an edit moves one control point to a cell that is still free.

        Control points stay as many as they are, and edited ones lie on the grid; where it is full, nothing moves. A
        road whose points have come to lie on one line is repaired as in `from_tokens`.
        """
        roads = self._own(levels)
        device = rng.device
        picks = torch.rand(edits, len(roads), generator=rng, device=device).cpu()
        keys = torch.rand(edits, len(roads), self.vocabulary, generator=rng, device=device).cpu()
        points, count = roads.points.cpu().clone(), roads.count.cpu().clone()
        rows = torch.arange(len(roads))
        for pick, key in zip(picks, keys, strict=True):
            moved = (pick * count).long()
            cells = (points / SPACING).round().long().sub(1).clamp(0, GRID_SIZE - 1)
            used = torch.arange(points.shape[1]) < count[:, None]
            taken = torch.zeros(len(roads), self.vocabulary + 1, dtype=torch.bool)
            taken.scatter_(1, torch.where(used, cells[..., 1] * GRID_SIZE + cells[..., 0], self.vocabulary), True)
            best, cell = key.masked_fill(taken[:, :-1], -1.0).max(1)
            position = torch.stack([cell % GRID_SIZE + 1, cell // GRID_SIZE + 1], 1).float() * SPACING
            points[rows, moved] = torch.where(best[:, None] < 0, points[rows, moved], position)
        on_a_line = [row for row in range(len(roads)) if collinear(points[row, : int(count[row])].double().numpy())]
        if on_a_line:
            repaired, _ = self.from_tokens(self.to_tokens(BezierLevels(points, count)[on_a_line]))
            # a corner may need one row more than there was
            points = torch.nn.functional.pad(points, (0, 0, 0, max(0, self.max_tokens - points.shape[1])))
            points[on_a_line] = 0
            points[on_a_line, : self.max_tokens] = repaired.points
            count[on_a_line] = repaired.count
        return BezierLevels(points, count)

    def engine(self, n: int, device: torch.device | str = "cpu") -> Engine:
        """N training environments."""
        if self.backend == "box2d":
            from clutr.envs.car.box2d_env import Box2DEngine  # noqa: PLC0415  # Box2D is an optional dependency

            return Box2DEngine(n, max_frames=self.max_frames, action_repeat=self.action_repeat, shaped=self.shaped)
        return CarEngine(
            n, max_frames=self.max_frames, action_repeat=self.action_repeat, shaped=self.shaped, device=device
        )

    def observer(self, engine: Engine) -> CarObserver:
        """An observer of pictures, objects and the true state (see `clutr.envs.car.observer`)."""
        if not isinstance(engine, CarEngine):
            raise TypeError(f"the observer looks at a CarEngine, got a {type(engine).__name__}")
        return CarObserver(engine)

    def suites(self) -> dict[str, Suite]:
        """The zero-shot test suites by name (see `clutr.envs.car.suites`)."""
        return suites(self.action_repeat)

    def describe(self, levels: LevelBatch) -> dict[str, Tensor]:
        """Per level, how hard it is to drive.

        `length` of the centre line in units; `bends`, whole circles that a lap turns through, to either side;
        `crossings` of the road with itself; `points`; `solvable`, which is 1: every closed road can be driven.
        """
        roads = self._own(levels)
        tracks = roads.tracks()
        turns = [np.abs(np.angle(np.exp(1j * np.diff(t.directions, append=t.directions[:1])))).sum() for t in tracks]
        facts = {
            "length": [track.length for track in tracks],
            "bends": [float(turn) / (2 * np.pi) for turn in turns],
            "crossings": [float(track.crossings()) for track in tracks],
            "points": roads.count.tolist(),
            "solvable": [1.0] * len(tracks),
        }
        return {name: torch.tensor(values, dtype=torch.float32) for name, values in facts.items()}

    def render(self, levels: LevelBatch) -> Tensor:
        """Bird's-eye pictures `[B, 160, 160, 3]` uint8."""
        return torch.from_numpy(render_tracks(self._own(levels).tracks()))

    def draw_paths(self, levels: LevelBatch, positions: Tensor) -> Paths | None:
        """Trajectories on their roads, coloured by speed: see `clutr.envs.capabilities.PathDrawing`."""
        if not isinstance(levels, RoadLevels):  # a seed of the package's own road
            return None
        from clutr.envs.car.drawing.trajectory_map import draw_trajectories, speed_scale  # noqa: PLC0415  # matplotlib

        driven = positions.cpu().float().numpy()
        return Paths(
            torch.from_numpy(draw_trajectories(levels.tracks(), driven)),
            tuple(f"{speed:.0f} units/s" for speed in np.nanmean(driven[..., 3], axis=1)),
            "The line is the car's way, the brighter the faster; a bar with an arrow marks the start, a ring the end; "
            + "the speed given is the mean.",
            speed_scale(),
        )

    def parse(self, source: str) -> RoadLevels:
        """Read roads from text or JSON (see `clutr.envs.car.road.text`). Raises `LevelError` naming line and reason."""
        return parse(source)

    def format(self, levels: LevelBatch) -> str:
        """Write roads as text that `parse` reads back without loss."""
        return format_levels(self._own(levels))

    def _own(self, levels: LevelBatch) -> BezierLevels:
        if not isinstance(levels, BezierLevels):
            raise TypeError(f"the car domain works on BezierLevels, got {type(levels).__name__}")
        return levels


def _on_a_line(tokens: list[int]) -> bool:
    """Whether no three of the cells span a triangle."""
    cells = np.array([((token - 1) % GRID_SIZE, (token - 1) // GRID_SIZE) for token in tokens], dtype=np.float64)
    return collinear(cells.reshape(-1, 2))
