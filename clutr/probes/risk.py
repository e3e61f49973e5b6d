"""Counterfactual risk: the probability that all wheels leave the road within a second, if one brakes, steers, goes on.

A model answers by readings of several kinds, each a few numbers: the wheels that its dreams show, road under the car in
dreamt pictures, road along the way that the car will take over its picture of the present, or its latents and memory.
Logistic regressions on training roads turn them into probabilities, one for each option. The kind that does best there,
each road judged by fits on others, is what the model says. The simulator plays every option from the same moments on
other roads, so that the truth is known under actions that nobody took.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clutr.probes.event_probability import Logistic, brier, reliability
from clutr.probes.intervals import mean_over
from clutr.probes.linear_probes import folds_of
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.linear_probe import LinearProbe, fit_probe
from clutr.world_model.scene import Palette
from clutr.world_model.views import Geometry

STRENGTHS = (0.003, 0.03, 0.3)
"""Inverse penalties of the regressions that are tried on training roads."""
NEAR = 6
"""Pixels from the car's middle to the edge of the square in which road counts as under it."""
AS_RECORDED, GO_ON = "as recorded", "go on"

CAR_OPTIONS: Mapping[str, tuple[float, float, float]] = {
    "brake": (0.0, 0.0, 0.8),
    "steer left": (-0.3, 0.1, 0.0),
    "steer right": (0.3, 0.1, 0.0),
    "straight on": (0.0, 0.2, 0.0),
}
"""Steering, gas and brake of what a driver could do; going on with the last action comes with them."""


def options_of(last: Tensor, steps: int) -> dict[str, Tensor]:
    """Actions `[steps, N, A]` by option, for last actions `[N, A]` of cars."""
    found = {GO_ON: last.expand(steps, *last.shape)}
    for name, action in CAR_OPTIONS.items():
        found[name] = torch.tensor(action, dtype=last.dtype).expand(steps, *last.shape)
    return found


def leaves_road(wheels: Tensor, limit: float = 0.5) -> Tensor:
    """Whether all wheels leave the road, `[...]` bool, of wheels on it `[H + 1, ...]`, the present first."""
    return wheels[1:].amin(0) < limit


# --- readings


@torch.no_grad()
def lowest_reading(
    dreamer: Dreamer, starts: LatentState, actions: Tensor, read_out: LinearProbe, column: int, draws: int,
    rng: torch.Generator,
) -> Tensor:  # fmt: skip
    """The lowest reading of a quantity in each dream, `[draws, N]`, for actions `[H, N, A]`."""
    count = len(starts.latent)
    rows = torch.arange(count).repeat(draws)
    dream = dreamer.dream(starts.branch(rows), actions[:, rows], len(actions), 1.0, rng, keep_states=False)
    return read_out(dream.latents)[..., column].amin(0).view(draws, count)


def road_map(pictures: Tensor, palette: Palette, numbers: Sequence[int]) -> Tensor:
    """`[..., H, W]` float32: 1 where pictures `[..., H, W, 3]` in [0, 1] look like the objects of these numbers."""
    return torch.isin(palette.classify(pictures), torch.tensor(numbers, dtype=torch.uint8)).float()


def road_under(roads: Tensor, geometry: Geometry) -> Tensor:
    """Share of road about the viewer, `[...]`, of road maps `[..., H, W]`."""
    row, column = round(geometry.row), round(geometry.column)
    return roads[..., row - NEAR : row + NEAR, column - NEAR : column + NEAR].mean((-1, -2))


def road_along(roads: Tensor, ways: Tensor, geometry: Geometry) -> Tensor:
    """Share of road at places to come, `[N, K]`: means over 3 x 3 pixels.

    Args:
        roads: road maps `[N, H, W]` of what is seen now.
        ways: `[N, K, 2]`: places right and ahead of the viewer, in units; beyond the picture its edge counts.
        geometry: of the view.
    """
    rows, columns = geometry.rows, geometry.columns
    shown = F.avg_pool2d(roads[:, None, :rows, :columns], 3, 1, 1, count_include_pad=False)
    across = (geometry.column + geometry.right_scale * ways[..., 0]) * 2 / columns - 1
    down = (geometry.row - geometry.ahead_scale * ways[..., 1]) * 2 / rows - 1
    grid = torch.stack([across, down], -1)[:, :, None]
    return F.grid_sample(shown, grid, padding_mode="border", align_corners=False)[:, 0, :, 0]


class Ways(NamedTuple):
    """Where a car will be under one option: places by ridge regression on speeds, fitted on training roads."""

    probe: LinearProbe
    mean: Tensor
    std: Tensor
    times: int
    """K."""

    @classmethod
    def fit(cls, speeds: Tensor, places: Tensor) -> "Ways":
        """On speeds `[n, 3]` (forward, side, turning), and places `[n, K, 2]` right and ahead at K times."""
        motion = _motion(speeds)
        mean, std = motion.mean(0), motion.std(0, correction=0).clamp(min=1e-6)
        return cls(fit_probe((motion - mean) / std, places.flatten(1), 1e-2), mean, std, places.shape[1])

    def __call__(self, speeds: Tensor) -> Tensor:
        """Places `[n, K, 2]`."""
        places: Tensor = self.probe((_motion(speeds) - self.mean) / self.std)
        return places.view(-1, self.times, 2)


def _motion(speeds: Tensor) -> Tensor:
    """Speeds `[n, 3]` and their products: a car that turns is displaced by both."""
    forward, side, turning = speeds.unbind(1)
    return torch.stack([forward, side, turning, forward * turning, forward.square(), side * turning], 1)


# --- what they are worth


class Answers(NamedTuple):
    """What was asked of M moments, under O options."""

    readings: dict[str, Tensor]
    """By kind `[O, M, F]`."""
    happened: Tensor
    """`[O, M]` bool: in the simulator."""
    recorded: Tensor
    """`[M]` bool: under the actions that were taken."""
    groups: Tensor
    """`[M]` int64: levels."""


class RiskModel(NamedTuple):
    """What a model says of each option."""

    kind: str
    """Of the readings."""
    options: list[Logistic]

    def __call__(self, readings: Mapping[str, Tensor]) -> Tensor:
        """Probabilities `[O, M]`."""
        return torch.stack([fit(each) for fit, each in zip(self.options, readings[self.kind], strict=True)])


def fit_risk(train: Answers, rng: torch.Generator) -> tuple[RiskModel, dict[str, tuple[float, float]]]:
    """Choose readings and penalty on training roads, and fit on all of them.

    Returns:
        The model, and of each kind its best Brier score, each road judged by fits on others, and the penalty of that.

    Raises:
        ValueError: with fewer than three levels.
    """
    folds = folds_of(train.groups, rng)
    best = {}
    for kind, readings in train.readings.items():
        tried = []
        for strength in STRENGTHS:
            said = torch.zeros_like(train.happened, dtype=torch.float32)
            for option, (each, true) in enumerate(zip(readings, train.happened, strict=True)):
                for fold in folds.unique():
                    mine = folds == fold
                    said[option, mine] = Logistic.fit(each[~mine], true[~mine], strength)(each[mine])
            tried.append((float((said - train.happened.float()).square().mean()), strength))
        best[kind] = min(tried)
    chosen = min(best, key=lambda kind: best[kind][0])
    return _fitted(train, chosen, best[chosen][1]), best


def _fitted(train: Answers, kind: str, strength: float) -> RiskModel:
    pairs = zip(train.readings[kind], train.happened, strict=True)
    return RiskModel(kind, [Logistic.fit(each, true, strength) for each, true in pairs])


def counterfactual_risk(
    train: Answers, test: Answers, options: Sequence[str], rng: torch.Generator
) -> tuple[RiskModel, dict[str, Any]]:
    """Fit on training roads, and measure on other ones.

    The probabilities are compared with always saying an option's share (on training roads), and with knowing what
    happened in the recording, whatever was done there: how often the option left the road where the recording did.

    Args:
        train: moments of training roads.
        test: of others.
        options: O names.
        rng: of the folds.

    Returns:
        The model, and `chosen`, by kind of `readings` the Brier scores on training roads and (with its interval over
        levels) on others; `pooled` (over options that the recording does not tell) and by option Brier scores and
        gains, with `auroc`, `share` and `bins`; and `useful`: whether the pooled gains on both comparisons lie above 0
        with their intervals. The pooled `auroc` is the mean within options.

    Raises:
        ValueError: with fewer than three levels.
    """
    model, tried = fit_risk(train, rng)
    constant = train.happened.float().mean(1, keepdim=True).expand_as(test.happened)
    recorded = torch.zeros_like(constant)
    for left in (False, True):
        mine = train.recorded == left
        shares = (train.happened[:, mine].float().sum(1, keepdim=True) + 0.5) / (int(mine.sum()) + 1)
        recorded = torch.where(test.recorded == left, shares, recorded)
    said = model(test.readings)
    groups = test.groups.expand_as(test.happened)
    rows = {name: (said[n], constant[n], recorded[n], test.happened[n], test.groups) for n, name in enumerate(options)}
    by_option = {name: _scores(*each) for name, each in rows.items()}
    asked = [n for n, name in enumerate(options) if name != AS_RECORDED]  # of that, the recording tells all
    pooled = _scores(*(each[asked].flatten() for each in (said, constant, recorded, test.happened, groups)))
    known = [by_option[options[n]]["auroc"] for n in asked]
    known = [each for each in known if each is not None]
    pooled["auroc"] = sum(known) / len(known) if known else None  # within options: between them, shares tell much
    readings = {}
    for kind, (training, strength) in tried.items():
        away = brier(_fitted(train, kind, strength)(test.readings), test.happened)
        over = mean_over(away[asked].flatten(), groups[asked].flatten())
        readings[kind] = {"training": training, "held_out": list(over)}
    return model, {
        "chosen": model.kind,
        "readings": readings,
        "moments": len(test.groups),
        "levels": len(test.groups.unique()),
        "training_moments": len(train.groups),
        "training_levels": len(train.groups.unique()),
        "pooled": pooled,
        "by_option": by_option,
        "useful": pooled["gain"][1] > 0 and pooled["gain_on_recorded"][1] > 0,
    }


def _scores(said: Tensor, constant: Tensor, recorded: Tensor, happened: Tensor, groups: Tensor) -> dict[str, Any]:
    """Of probabilities `[n]` and what happened `[n]` bool."""
    wrong, flat, told = (brier(each, happened) for each in (said, constant, recorded))

    def over(values: Tensor) -> list[float]:
        return list(mean_over(values, groups))

    return reliability(said, happened, groups) | {
        "constant": over(flat),
        "recorded": over(told),
        "gain": over(flat - wrong),
        "gain_on_recorded": over(told - wrong),
    }
