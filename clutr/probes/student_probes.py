"""Student probes: what a student's features tell of the true state, and which of that its actions follow.

The student plays random levels (`clutr.probes.student_steps`). Linear probes read the true state from what its actor
reads and, as controls, from its present view and from untrained students that saw the same. Each level is read by
probes of other levels, and intervals are over levels. What can be read of a recurrent core and not of the view is
remembered. What is used is asked by pushing the features along how they typically differ where a quantity does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.envs.randomness import named_generator
from clutr.probes.intervals import Interval, interval_of, mean_over, r2_draws
from clutr.probes.linear_probes import probe
from clutr.probes.student_steps import UNTRAINED, StudentSteps

WORTH = 0.05
"""R^2 beyond the controls that is worth mentioning."""
READABLE = 0.1
"""R^2 that a reading's interval must reach, for asking whether it is used."""
DIRECTIONS = 16
"""Random pushes of the control."""
PUSHED = 500
"""Most steps whose features are pushed."""


def probe_memory(steps: StudentSteps, seed: int) -> dict[str, Any]:
    """Probe every representation for the true state, and for each cell whether it was visited.

    Returns:
        `readings`: by representation and quantity `score` (R^2 on other levels than the probe's, with its interval
        over levels), `control` and `selectivity`; "visited cells" is the mean over cells that were visited in 2 to
        98 % of steps; `memory`: by quantity the score of the hidden state, and with its interval by how much it exceeds
        that of the view, and that of the best untrained core; `rows` and `levels`. Intervals are `[value, low, high]`.

    Raises:
        ValueError: with fewer than three levels.
    """
    share = steps.visited.mean(0)
    known = (share > 0.02) & (share < 0.98)
    targets = torch.cat([steps.privileged_state, steps.visited[:, known]], 1)
    count = len(steps.quantities)
    everywhere = torch.ones(len(targets), targets.shape[1] - count, dtype=torch.bool)
    counted = torch.cat([steps.counted, everywhere], 1)
    columns = {quantity: [column] for column, quantity in enumerate(steps.quantities)}
    if bool(known.any()):
        columns["visited cells"] = list(range(count, targets.shape[1]))
    readings = []
    draws: dict[str, tuple[Tensor, Tensor]] = {}
    for name, states in steps.representations.items():
        rng = named_generator(seed, "probe", "students")
        found = probe(states, targets, steps.groups, steps.cells, rng, counted)
        draws[name] = r2_draws(found.read, targets, steps.groups)
        for quantity, mine in columns.items():
            control, selectivity = (
                sum(each[column].value for column in mine) / len(mine) for each in (found.control, found.selectivity)
            )
            readings.append(
                {
                    "representation": name,
                    "quantity": quantity,
                    "score": list(_mean_of(draws[name], mine)),
                    "control": control,
                    "selectivity": selectivity,
                }
            )
    nothing = tuple(torch.zeros_like(each) for each in draws["hidden"])
    others = [each for name, each in draws.items() if name.startswith(UNTRAINED)]
    memory = {
        quantity: {
            "hidden": list(_mean_of(draws["hidden"], mine)),
            "beyond_view": list(_beyond(draws["hidden"], [draws["view"]], mine)),
            "beyond_untrained": list(_beyond(draws["hidden"], others or [nothing], mine)),
        }
        for quantity, mine in columns.items()
    }
    return {"readings": readings, "memory": memory, "rows": len(targets), "levels": len(steps.groups.unique())}


def _mean_of(draws: tuple[Tensor, ...], columns: Sequence[int]) -> Interval:
    """The mean over columns of scores `[Q]` with resamples `[B, Q]`."""
    score, resampled = (each[..., list(columns)].mean(-1) for each in draws)
    return interval_of(float(score), resampled)


def _beyond(draws: tuple[Tensor, ...], controls: Sequence[tuple[Tensor, ...]], columns: Sequence[int]) -> Interval:
    """By how much the mean score exceeds those of controls, or 0: of the control that leaves least."""
    mine = [each[..., list(columns)].mean(-1) for each in draws]
    found = []
    for control in controls:
        score, resampled = (a - b[..., list(columns)].mean(-1).clamp(min=0) for a, b in zip(mine, control, strict=True))
        found.append(interval_of(float(score), resampled))
    return min(found, key=lambda one: one.low)


def is_remembered(memory: Mapping[str, Sequence[float]]) -> bool:
    """Whether the core tells a quantity beyond the view's and the best untrained core's intervals, by 0.05 or more."""
    return all(memory[name][0] > WORTH and memory[name][1] > 0 for name in ("beyond_view", "beyond_untrained"))


@dataclass(frozen=True)
class Use:
    """Whether a student's actions follow a quantity that its features tell."""

    quantity: str
    score: Interval
    """R^2 of the reading."""
    effect: Interval
    """Mean distance of the action's distribution after a push by one standard deviation, over levels, both ways."""
    control: float
    """The largest of the same for random pushes of the same size that leave the reading as it is."""
    moves: list[float]
    """Half the difference of the mean probabilities, or of the most probable action, between both ways."""
    asked: bool
    passed: bool

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return vars(self) | {"score": list(self.score), "effect": list(self.effect)}


def acted(actions: Any) -> Tensor:
    """What a distribution over actions would do: probabilities of choices, or the most probable action, `[N, A]`."""
    log_probs = getattr(actions, "log_probs", None)
    found: Tensor = actions.to_engine(actions.mode()) if log_probs is None else log_probs.exp()
    return found


def action_distance(one: Tensor, other: Tensor, span: Tensor | None) -> Tensor:
    """Between two results of `acted`, `[N]` in [0, 1].

    The total variation of choices (`span` is None), or the mean change of numbers as shares of their ranges `[A]`.
    """
    away = (one - other).abs()
    return away.sum(-1) / 2 if span is None else (away / span).mean(-1)


def span_of(network: Any) -> Tensor | None:
    """The ranges `[A]` of a network's actions; None where they are choices."""
    return network.high - network.low if hasattr(network, "high") else None


@torch.no_grad()
def probe_use(network: Any, steps: StudentSteps, seed: int) -> list[Use]:
    """Push what the actor reads along each quantity, and see whether actions follow.

    A push goes the way in which features typically differ where the reading does (their covariance with it; Haufe et
    al. 2014), as far as changes the reading by one standard deviation. A quantity is used if the action changes more,
    with its whole interval over levels, than for every one of `DIRECTIONS` random pushes as long.

    Raises:
        ValueError: with fewer than three levels.
    """
    features = steps.representations["hidden"]
    spread = features.std(0).clamp(min=1e-6)
    alive = features.std(0) > 1e-4  # units that never fire tell nothing, and are not pushed
    standard = ((features - features.mean(0)) / spread)[:, alive]
    rng = named_generator(seed, "probe", "use")
    found = probe(standard, steps.privileged_state, steps.groups, steps.cells, rng, steps.counted)
    chosen = torch.randperm(len(features), generator=rng)[:PUSHED]
    few = torch.randperm(len(features), generator=rng)[: 2 * DIRECTIONS].view(2, -1)
    noise = standard[few[0]] - standard[few[1]]
    span, told = span_of(network), []
    before = acted(network._heads(features[chosen])[0])

    def pushed(way: Tensor) -> Tensor:
        moved = features[chosen].clone()
        moved[:, alive] += way * spread[alive]
        return acted(network._heads(moved)[0])

    def distance(way: Tensor) -> Tensor:
        return (action_distance(pushed(way), before, span) + action_distance(pushed(-way), before, span)) / 2

    for column, quantity in enumerate(steps.quantities):
        counted = steps.counted[:, column]
        amount = float(steps.privileged_state[counted, column].std()) if int(counted.sum()) > 1 else 0.0
        weights = found.probe.weights[:, column]
        typical = standard.T @ (standard @ weights)
        along = float(typical @ weights)
        if amount <= 0 or along <= 1e-12:
            continue
        unit = amount * typical / along
        ways = [each - (each @ weights) / (weights @ weights) * weights for each in noise]
        control = max(float(distance(each / each.norm().clamp(min=1e-9) * unit.norm()).mean()) for each in ways)
        effect = mean_over(distance(unit), steps.groups[chosen])
        moves = (pushed(unit) - pushed(-unit)).mean(0) / 2
        asked = found.score[column].low > READABLE
        told.append(Use(
            quantity, found.score[column], effect, control, moves.tolist(), asked, asked and effect.low > control
        ))  # fmt: skip
    return told
