"""The geometric core: it predicts its own motion, carries along what it saw, and invents what it did not.

A recurrent network predicts the motion of a step from actions, the latents that are no cells, such as indicators, and
the cells around the viewer: grass is slippery, and a wall lets nobody pass. It learns motion from true odometry. In
mazes it moves by whole cells and quarter turns. In a dream there are no indicators to see: the network is told so, and
goes on from what it remembers and the actions, not from its own guesses of them. What was seen lies on a map around the
viewer, aligned with the world, so that it is resampled once when it is put down and once when it is looked at, however
many steps lie between. Where the map is empty, a few convolutions paint what belongs there. Which cells of a prediction
were seen and which were invented is known, by construction.

Its latents are those of the backbone `cells`, whose places are known. Sources of the idea: Gupta et al. 2017 (arXiv
1702.03920), who warp a learned map by the motion; Henriques & Vedaldi 2018, "MapNet".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.networks import initialised, linear
from clutr.envs.capabilities import SIDE
from clutr.envs.validation import require_at_least, require_one_of
from clutr.world_model.cores.base import CORES, Motions, Parts, side_by_side
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.views import CarView, Geometry, MazeView, compose

GLANCE = 32
"""Numbers by which the heads are told what the next view shows."""
NEAR = 2.0
"""So many cells from a car the ground may matter to how it moves."""
KNOWN = 0.5
"""A cell counts as known if so much of what it is read from is."""


@CORES.register("geometric")
@dataclass(frozen=True)
class GeometricConfig:
    """A map that moves with the viewer, with learned motion and a learned prior for what was not seen."""

    width: int = 128
    """Units of the recurrent network that predicts motion."""
    view: Literal["car", "maze"] = "car"
    """Whose geometry: speeds and turns at will, or whole cells and quarter turns."""
    rows: int = 14
    """Of cells, as in the backbone."""
    columns: int = 16
    """Of cells, as in the backbone."""
    channels: int = 2
    """Of cells, as in the backbone."""
    painter: int = 16
    """Channels of the convolutions that invent."""
    map_cell: float = 2.5
    """Side of a cell of the map, in units of the environment."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width", "rows", "columns", "channels", "painter")
        require_one_of(self, ("car", "maze"), "view")
        if self.view == "maze":
            require_at_least(self, 2, "rows")
        if not self.map_cell > 0:
            raise ValueError(f"map_cell must be above 0, got {self.map_cell}")

    def build(self, inputs: int, rng: torch.Generator) -> "GeometricCore":
        """Make the core. Raises `ValueError` if there are fewer inputs than cells."""
        return GeometricCore(inputs, self, rng)


class GeometricCore(nn.Module):
    """The state is the map (values, known, seen), the pose on it, whether it is dreaming, and the network's units.

    Args:
        inputs: numbers a step: latents, then the action.
        config: the options.
        rng: draws the initial weights.
    """

    latent_mean: Tensor
    latent_std: Tensor
    motion_mean: Tensor
    motion_std: Tensor
    indicators: Tensor
    places: Tensor

    def __init__(self, inputs: int, config: GeometricConfig, rng: torch.Generator) -> None:
        super().__init__()
        self.config, self.grid = config, (config.channels, config.rows, config.columns)
        self.cells = math.prod(self.grid)
        if inputs <= self.cells:
            raise ValueError(
                f"the geometric core moves {config.rows}x{config.columns} cells of {config.channels} channels: it "
                + f"needs more than {self.cells} inputs, got {inputs}. The backbone `cells` gives such latents"
            )
        geometry: Geometry = CarView.geometry if config.view == "car" else MazeView(config.columns).geometry
        # centres of cells, right and ahead of the viewer, in units
        down = geometry.rows / config.rows if config.view == "car" else geometry.right_scale
        across = geometry.columns / config.columns if config.view == "car" else geometry.right_scale
        first = (0.0, 0.0) if config.view == "car" else (geometry.rows - down * config.rows, SIDE - geometry.columns)
        rows = first[0] + down * (torch.arange(config.rows) + 0.5)
        columns = first[1] + across * (torch.arange(config.columns) + 0.5)
        self.step_right, self.step_ahead = across / geometry.right_scale, down / geometry.ahead_scale
        right, ahead = (columns - geometry.column) / geometry.right_scale, (geometry.row - rows) / geometry.ahead_scale
        self.register_buffer("places", torch.stack(torch.meshgrid(ahead, right, indexing="ij")[::-1], -1), False)
        own = 1.2 if config.view == "car" else 0.6  # in cells: the viewer covers the ground below it
        self.own = (self.places[..., 0].abs() < own * self.step_right) & (
            self.places[..., 1].abs() < own * self.step_ahead
        )
        reach = float(self.places.norm(dim=-1).max()) + config.map_cell
        self.side = 2 * math.ceil(reach / config.map_cell) + 1
        self.outside = inputs - self.cells
        self.near = self._near()
        told = self.outside + len(self.near) * config.channels
        self.network = GRUConfig(config.width).build(told + 1, rng)
        self.turn = linear(config.width + told + 1, 3, rng, gain=0.1)
        self.glance = linear(self.cells, GLANCE, rng)
        kinds = config.channels + 3, config.painter, config.painter, config.painter
        self.painter = nn.ModuleList(
            [_convolution(kinds[i], kinds[i + 1], 1 << i, rng) for i in range(3)]
            + [_convolution(config.painter, config.channels, 1, rng)]
        )
        self.rest = linear(config.width, self.outside, rng, gain=0.1)
        self.register_buffer("latent_mean", torch.zeros(inputs))
        self.register_buffer("latent_std", torch.ones(inputs))
        self.register_buffer("motion_mean", torch.zeros(3))
        self.register_buffer("motion_std", torch.ones(3))
        self.register_buffer("indicators", torch.zeros(told))  # 1 for inputs that are latents and no cells
        self.inputs = inputs
        self.map_numbers = (config.channels + 2) * self.side**2
        self.head_width = config.width + config.rows * config.columns + GLANCE
        self.width = self.head_width + inputs + 3

    def _near(self) -> list[int]:
        """Numbers of the cells, row by row, on which motion depends: the one ahead, or those around a car."""
        rows, columns = self.config.rows, self.config.columns
        if self.config.view == "maze":
            return [(rows - 2) * columns + columns // 2]
        right, ahead = (self.places[..., 0] / self.step_right).abs(), (self.places[..., 1] / self.step_ahead).abs()
        return [int(number) for number in ((right <= NEAR) & (ahead <= NEAR)).flatten().nonzero()]

    def use_scale(self, mean: Tensor, std: Tensor) -> None:
        """Take note of the latents' means and standard deviations `[D]`: on the map lies what was before them."""
        self.latent_mean[: len(mean)], self.latent_std[: len(std)] = mean, std
        self.indicators[: len(mean) - self.cells] = 1

    def use_motion(self, motion: Tensor) -> None:
        """Take note of the scale of true motions `[n, 3]`."""
        self.motion_mean.copy_(motion.mean(0))
        self.motion_std.copy_(motion.std(0).clamp(min=1e-4))

    def in_deviations(self, motion: Tensor) -> Tensor:
        """True motions `[..., 3]` in the units of `Parts.motion`."""
        return (motion - self.motion_mean) / self.motion_std

    def displacement(self, found: Tensor, true: Tensor, summed: bool) -> Tensor:
        """See `MovingCore`. A turn moves the view by as much as what lies at its usual distance, over all cells.

        Squares of sums are divided by the steps that are summed: errors that do not go together stay as they are.
        """
        found, true = (motion * self.motion_std + self.motion_mean for motion in (found, true))
        lever = torch.stack([*found.new_ones(2), self.places.square().sum(-1).mean().sqrt()])
        usual = (self.motion_std * lever).square().sum()
        error = ((found - true) * lever).square().sum(-1) / usual
        if not summed:
            return error
        ours = theirs = torch.zeros_like(found[0])
        apart = []
        for step, (mine, real) in enumerate(zip(found, true, strict=True)):
            ours, theirs = compose(ours, mine), compose(theirs, real)
            apart.append(((ours - theirs) * lever).square().sum(-1) / (usual * (step + 1)))
        return error + torch.stack(apart)

    def initial_state(self, n: int) -> Tensor:
        """An empty map."""
        return torch.zeros(n, self.map_numbers + 4 + self.config.width)

    def dreaming(self, state: Tensor, on: bool) -> Tensor:
        """The state `[N, S]`, told that from here on latents are its own predictions, which are not put on the map."""
        state = state.clone()
        state[:, self.map_numbers + 3] = float(on)
        return state

    def seen(self, state: Tensor) -> Tensor:
        """`[N, rows, columns]`: how much of each cell of the present view lies on the map as it was seen."""
        known, pose, _, _ = self._unpack(state)
        return self._look(known, pose)[:, -1]

    def parts(self, features: Tensor, latents: int) -> Parts:
        """What features `[..., width]` mean, for so many latents."""
        head, proposal, motion = features.split([self.head_width, self.inputs, 3], -1)
        return Parts(head, proposal[..., :latents], motion)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One input `[N, I]`."""
        area, pose, asleep, units = self._unpack(state)
        outside = self._told(x, asleep)
        units, _ = self.network.step(units, outside)
        motion = self.turn(torch.cat([units, outside], -1))
        area, pose = self._move(area, pose, asleep, x, motion)
        view = self._look(area, pose)
        painted = self._paint(view)
        if bool(asleep.any()):
            area = self._keep_invented(area, pose, asleep, painted)
        features = self._features(units, view, painted, x, motion)
        return torch.cat([area.flatten(1), pose, asleep, units], 1), features

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[T, N, I]`; only the map goes step by step, unless it is dreaming."""
        area, pose, asleep, units = self._unpack(state)
        if bool(asleep.any()):
            features = []
            for x in xs:
                state, feature = self.step(state, x)
                features.append(feature)
            return state, torch.stack(features)
        outside = self._told(xs, asleep.expand(len(xs), -1, -1))
        last, all_units = self.network.scan(units, outside)
        motions, views = self.turn(torch.cat([all_units, outside], -1)), []
        for x, motion in zip(xs, motions, strict=True):
            area, pose = self._move(area, pose, asleep, x, motion)
            views.append(self._look(area, pose))
        view = torch.stack(views)
        painted = self._paint(view.flatten(0, 1)).unflatten(0, view.shape[:2])
        return torch.cat([area.flatten(1), pose, asleep, last], 1), self._features(
            all_units, view, painted, xs, motions
        )

    def initial_units(self, n: int) -> Tensor:
        """Zeros `[n, width]`."""
        return torch.zeros(n, self.config.width)

    def motion_parameters(self) -> list[Tensor]:
        """Those of the recurrent network, and of what is read from it alone."""
        return [each for part in (self.network, self.turn, self.rest) for each in part.parameters()]

    def motions(
        self, units: Tensor, xs: Tensor, latents: int, dreamt: int, begins: Sequence[int]
    ) -> tuple[Motions, Motions]:
        """See `MovingCore`; the cells near the viewer are those of the inputs, in dreams too."""
        now, asleep = xs[..., self.cells : latents], xs.new_zeros(*xs.shape[:2], 1)
        motion, change, remembered = self._motions(units, self._told(xs, asleep), latents)
        observed = Motions(motion, now + change, remembered)
        units = torch.cat([remembered[begin - 1] if begin else units for begin in begins])
        xs, now = side_by_side(xs, dreamt, begins), torch.cat([now[begin] for begin in begins])
        asleep = xs.new_ones(*xs.shape[:2], 1)
        asleep[0] = 0  # the first step of a dream still starts from what is seen
        motion, change, remembered = self._motions(units, self._told(xs, asleep), latents)
        return observed, Motions(motion, now + change.cumsum(0), remembered)

    def _motions(self, units: Tensor, told: Tensor, latents: int) -> tuple[Tensor, Tensor, Tensor]:
        """Motions, by how much the latents change that are no cells, and the units, each `[T, N, ...]`."""
        _, all_units = self.network.scan(units, told)
        change = self.rest(all_units)[..., : latents - self.cells]
        return self.turn(torch.cat([all_units, told], -1)), change, all_units

    def _told(self, x: Tensor, asleep: Tensor) -> Tensor:
        """What motion is predicted from: what is no cell, the cells that are near, and whether it dreams.

        Args:
            x: inputs `[..., I]`.
            asleep: `[..., 1]`: 1 in a dream, whose indicators are not told.
        """
        near = x[..., : self.cells].unflatten(-1, (self.config.channels, -1))[..., self.near]
        told = torch.cat([x[..., self.cells :], near.flatten(-2)], -1)
        return torch.cat([told * (1 - asleep * self.indicators), asleep], -1)

    def _unpack(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The map `[N, C + 2, M, M]`, the pose on it, whether it dreams `[N, 1]`, and the network's units."""
        area, pose, asleep, units = state.split([self.map_numbers, 3, 1, self.config.width], 1)
        return area.unflatten(1, (self.config.channels + 2, self.side, self.side)), pose, asleep, units

    @torch.no_grad()
    def _move(self, area: Tensor, pose: Tensor, asleep: Tensor, x: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Put down what is seen, then go on by the predicted motion; the map is shifted by whole cells."""
        cells = x[:, : self.cells] * self.latent_std[: self.cells] + self.latent_mean[: self.cells]
        sight, inside = self._from_view(cells.unflatten(1, self.grid), pose)
        inside = inside & (asleep[:, :, None] == 0)
        fresh = torch.cat([sight, torch.ones_like(area[:, -2:])], 1)
        area = torch.where(inside[:, None], fresh, area)
        moved = motion * self.motion_std + self.motion_mean
        if self.config.view == "maze":
            quarter = math.pi / 2
            moved = torch.cat([moved[:, :2].round(), (moved[:, 2:] / quarter).round() * quarter], 1)
        pose = compose(pose, moved)
        shift = (pose[:, :2] / self.config.map_cell).round()
        pose = torch.cat([pose[:, :2] - shift * self.config.map_cell, pose[:, 2:]], 1)
        return (_shifted(area, shift.long()) if bool(shift.any()) else area), pose

    @torch.no_grad()
    def _look(self, area: Tensor, pose: Tensor) -> Tensor:
        """`[N, C + 2, rows, columns]`: values, known and seen of the map from a pose `[N, 3]`."""
        cosine, sine = (f(pose[:, 2])[:, None, None] for f in (torch.cos, torch.sin))
        right, ahead = self.places[..., 0], self.places[..., 1]
        x = pose[:, 0, None, None] + cosine * right - sine * ahead
        y = pose[:, 1, None, None] + sine * right + cosine * ahead
        grid = torch.stack([x, -y], -1) * 2 / (self.side * self.config.map_cell)
        known = area[:, -2:-1]
        found = F.grid_sample(torch.cat([area[:, :-2] * known, area[:, -2:]], 1), grid, align_corners=False)
        there = found[:, -2:-1]
        values = found[:, :-2] / there.clamp(min=1e-3)
        return torch.cat([values * (there > KNOWN), (there > KNOWN).float(), found[:, -1:]], 1)

    def _from_view(self, cells: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Cells `[N, C, rows, columns]` on the map, and `[N, M, M]` bool: where they were in view."""
        half = (self.side - 1) / 2
        line = (torch.arange(self.side, device=pose.device) - half) * self.config.map_cell
        x, y = line - pose[:, 0, None, None], -line[:, None] - pose[:, 1, None, None]
        cosine, sine = (f(pose[:, 2])[:, None, None] for f in (torch.cos, torch.sin))
        right, ahead = cosine * x + sine * y, cosine * y - sine * x
        column = (right - self.places[0, 0, 0]) / self.step_right
        row = (self.places[0, 0, 1] - ahead) / self.step_ahead
        rows, columns = self.config.rows, self.config.columns
        grid = torch.stack([(2 * column + 1) / columns - 1, (2 * row + 1) / rows - 1], -1)
        own = self.own.to(cells.device).float()[None, None].expand(len(cells), -1, -1, -1)
        found = F.grid_sample(torch.cat([cells, own], 1), grid, padding_mode="border", align_corners=False)
        inside = (column > -0.5) & (column < columns - 0.5) & (row > -0.5) & (row < rows - 0.5)
        return found[:, :-1], inside & (found[:, -1] < KNOWN)

    @torch.no_grad()
    def _keep_invented(self, area: Tensor, pose: Tensor, asleep: Tensor, painted: Tensor) -> Tensor:
        """Put what was invented on the map, as known but not seen: it stays where it is as the dream goes on."""
        mean, std = (each[: self.cells].unflatten(0, self.grid) for each in (self.latent_mean, self.latent_std))
        sight, inside = self._from_view(painted * std + mean, pose)
        fresh = torch.cat([sight, torch.ones_like(sight[:, :1]), torch.zeros_like(sight[:, :1])], 1)
        new = inside & (area[:, -2] < KNOWN) & (asleep[:, :, None] > 0)
        return torch.where(new[:, None], fresh, area)

    def _paint(self, view: Tensor) -> Tensor:
        """Normalised cells `[N, C, rows, columns]`: those of the view `[N, C + 2, ...]`, painted ones elsewhere."""
        mean, std = (each[: self.cells].unflatten(0, self.grid) for each in (self.latent_mean, self.latent_std))
        known = view[:, -2:-1]
        carried = (view[:, :-2] - mean) / std * known
        places = self.places.permute(2, 0, 1) / self.places.abs().amax((0, 1))[:, None, None]
        hidden = torch.cat([carried, known, places.expand(len(view), -1, -1, -1)], 1)
        for layer in self.painter[:-1]:
            hidden = F.gelu(layer(hidden))
        painted: Tensor = carried + (1 - known) * self.painter[-1](hidden)
        return painted

    def _features(self, units: Tensor, view: Tensor, painted: Tensor, x: Tensor, motion: Tensor) -> Tensor:
        """What the heads see, the proposal and the motion, side by side.

        The heads take the units as they are: what they want would be learnt at the expense of motion.
        """
        own = self.own.to(x.device)
        present = x[..., : self.cells].unflatten(-1, self.grid)
        cells = torch.where(own, present, painted).flatten(-3)
        rest = x[..., self.cells :] + self.rest(units)
        glance = torch.tanh(self.glance(cells))
        return torch.cat([units.detach(), view[..., -2, :, :].flatten(-2), glance, cells, rest, motion], -1)


def _convolution(inputs: int, outputs: int, dilation: int, rng: torch.Generator) -> nn.Conv2d:
    draw = partial(nn.init.kaiming_uniform_, nonlinearity="relu", generator=rng)
    return initialised(nn.Conv2d, draw, inputs, outputs, kernel_size=3, padding=dilation, dilation=dilation)


def _shifted(area: Tensor, shift: Tensor) -> Tensor:
    """Maps `[N, C, M, M]` whose viewer went `shift` `[N, 2]` whole cells right and ahead; what comes in is empty."""
    count, channels, side, _ = area.shape
    line = torch.arange(side, device=area.device)
    columns, rows = line + shift[:, :1], line - shift[:, 1:]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    index = rows.clamp(0, side - 1)[:, :, None] * side + columns.clamp(0, side - 1)[:, None, :]
    index = index.view(count, 1, -1).expand(-1, channels, -1)
    return area.flatten(2).gather(2, index).view(area.shape) * inside[:, None]
