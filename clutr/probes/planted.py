"""Calibration of the verdicts on interventions, risk and students: planted cases whose answers are known.

Like `clutr.probes.calibration`, each function draws a case by a seed, and says of right and wrong answers which pass.
"""

from typing import Any

import torch
from torch import Tensor

from clutr.agents.distributions import Categorical
from clutr.envs.domain import Observation
from clutr.probes.interventions import Interventions, check_with_interventions, effects_of
from clutr.probes.risk import Answers, counterfactual_risk
from clutr.probes.student_probes import probe_use
from clutr.probes.student_saliency import check_saliency, saliency_maps
from clutr.probes.student_steps import StudentMoments, StudentSteps

SIDE, PARTS = 16, 10
"""Pixels along a side of the pictures, and changes of each."""
VIEW = 9
"""Cells along a side of a planted student's view: on smaller ones students share what they look at by luck."""
LEVELS, ROWS = 40, 5
"""Levels, and moments of each."""


def planted_interventions(seed: int, pictures: int = 16) -> tuple[dict[str, Tensor], Interventions, Tensor]:
    """Maps of a prediction that a few pixels decide, changes of parts of different sizes, and what they do."""
    rng = torch.Generator().manual_seed(seed)
    frames = torch.rand(pictures, SIDE, SIDE, 3, generator=rng) * 200

    def drawn() -> Tensor:
        return torch.randn(SIDE, SIDE, generator=rng) * (torch.rand(SIDE, SIDE, generator=rng) < 0.15)

    weights, other = drawn(), drawn()
    changed = torch.zeros(PARTS, pictures, SIDE, SIDE, dtype=torch.bool)
    for part in changed.flatten(0, 1):
        top, left = torch.randint(SIDE - 4, (2,), generator=rng).tolist()
        part[top : top + 4, left : left + 2 + int(torch.randint(3, (1,), generator=rng))] = True
    made = Interventions(torch.where(changed[..., None], torch.tensor(0.0), frames), changed)
    effects = effects_of(lambda shown: (shown.mean(-1) * weights).sum((1, 2)), frames, made)
    maps = {
        "exact": weights * frames.mean(-1),
        "random": torch.randn(frames.shape[:3], generator=rng),
        "of another model": other * frames.mean(-1),
        "the same everywhere": torch.ones(frames.shape[:3]),
    }
    return maps, made, effects


def intervention_verdicts(seed: int) -> dict[str, bool]:
    """Which maps tell what interventions do."""
    maps, made, effects = planted_interventions(seed)
    checks = {name: check_with_interventions(each, made, effects) for name, each in maps.items()}
    return {name: each is not None and each.passed for name, each in checks.items()}


def planted_risk(seed: int, told: bool) -> Answers:
    """Two options of different danger, and a reading that tells what happens, or nothing does.

    What was done in the recording has nothing to do with the options.
    """
    rng, n = torch.Generator().manual_seed(seed), LEVELS * ROWS
    danger = torch.randn(2, n, generator=rng)
    happened = torch.rand(2, n, generator=rng) < torch.sigmoid(2.5 * danger - torch.tensor([[1.0], [0.0]]))
    reading = danger if told else torch.randn(2, n, generator=rng)
    kinds = {"reading": reading[..., None], "noise": torch.randn(2, n, 3, generator=rng)}
    return Answers(kinds, happened, torch.rand(n, generator=rng) < 0.3, torch.arange(n) // ROWS)


def risk_verdicts(seed: int) -> dict[str, bool]:
    """Whether a risk is useful whose readings tell what happens, and one whose readings tell nothing."""
    found = {}
    for name, told in (("told by a reading", True), ("told by nothing", False)):
        train, test = planted_risk(2 * seed, told), planted_risk(2 * seed + 1, told)
        _, values = counterfactual_risk(train, test, ("brake", "steer"), torch.Generator().manual_seed(seed))
        found[name] = bool(values["useful"])
    return found


class Looker:
    """A student that turns if some cells of its view, with weights of their own, say so."""

    def __init__(self, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        weights = 0.4 * torch.randn(VIEW, VIEW, generator=rng).abs()  # of one sign: hidden parts cannot cancel
        self.weights = weights * (torch.rand(VIEW, VIEW, generator=rng) < 0.15)

    def step(self, observation: Observation, state: Tensor) -> tuple[Categorical, None, Tensor]:
        """As networks do; without values."""
        told = (observation["image"][..., 0].float() * self.weights).flatten(1).sum(1)
        return Categorical(torch.stack([told, -told], 1).log_softmax(1)), None, state


def planted_moments(seed: int, count: int = 40) -> StudentMoments:
    """Random views of mazes, each of a level of its own."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 3, (count, VIEW, VIEW, 3), generator=rng, dtype=torch.uint8)
    nothing, numbers = torch.zeros(count, 64, 64, dtype=torch.uint8), torch.arange(count)
    observation = {"image": image, "direction": torch.zeros(count, dtype=torch.int64)}
    pictures = nothing[..., None].expand(-1, -1, -1, 3)
    return StudentMoments(observation, torch.zeros(count, 0), pictures, nothing, ("floor",), numbers, numbers)


def saliency_verdicts(seed: int) -> dict[str, bool]:
    """Which maps of a planted student pass."""
    student, other, moments = Looker(seed), Looker(10_000 + seed), planted_moments(seed)
    bare = saliency_maps(other, moments)
    rng = torch.Generator().manual_seed(seed)
    own = saliency_maps(student, moments)
    maps = {
        "its own": own,
        "random": torch.rand(bare.shape, generator=rng),
        "of another student": saliency_maps(Looker(20_000 + seed), moments),
    }
    return {name: check_saliency(student, each, bare, own, moments, seed).passed for name, each in maps.items()}


def planted_steps(seed: int) -> StudentSteps:
    """Features that tell two quantities; the third is told by nothing."""
    rng, n = torch.Generator().manual_seed(seed), 2 * LEVELS * ROWS
    truth = torch.randn(n, 3, generator=rng)
    hidden = torch.cat([truth[:, :2] + 0.1 * torch.randn(n, 2, generator=rng), torch.randn(n, 6, generator=rng)], 1)
    hidden = hidden @ torch.linalg.qr(torch.randn(8, 8, generator=rng))[0]
    groups, everywhere = torch.arange(n) // ROWS, torch.ones(n, 3, dtype=torch.bool)
    names = ["used", "known, not used", "not known"]
    return StudentSteps({"hidden": hidden}, truth, names, torch.zeros(n, 0), groups, groups, everywhere)


class Follower:
    """A student whose choice follows the first quantity, as its features tell it."""

    def __init__(self, steps: StudentSteps) -> None:
        features = steps.representations["hidden"]
        self.weights = torch.linalg.lstsq(features, steps.privileged_state[:, :1]).solution[:, 0]

    def _heads(self, features: Tensor) -> tuple[Any, None]:
        told = features @ self.weights
        return Categorical(torch.stack([told, -told], 1).log_softmax(1)), None


def use_verdicts(seed: int) -> dict[str, bool]:
    """Which quantities a planted student is said to use."""
    steps = planted_steps(seed)
    return {each.quantity: each.passed for each in probe_use(Follower(steps), steps, seed)}


PLANTED_VERDICTS = {
    "tells what interventions do": (intervention_verdicts, "exact"),
    "a useful risk": (risk_verdicts, "told by a reading"),
    "a student's saliency": (saliency_verdicts, "its own"),
    "used by a student": (use_verdicts, "used"),
}
"""Checks by name, each with what draws and judges cases, and the case that ought to pass."""
