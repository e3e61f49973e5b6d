"""What a world model expects of the next moments under each key, and how far it may be trusted here.

All of it is read from dreams that are drawn from the model's own distribution. What that is worth, a calibration says
(`clutr.experiments.live.calibration`); without one it is what the model believes, and the page says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.experiments.live.odds import Odds
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.linear_probe import LinearProbe

DRAWS = 8
"""Dreams a key."""
OFF = 0.5
"""A car of which fewer wheels are on the road has left it with all of them."""
SECOND = 25
"""Steps of a car that last a second: of two frames each."""
APART = 0.5
"""Drawn dreams have parted where their spread is so large, in standard deviations of the latents over the data."""


@dataclass(frozen=True)
class Question:
    """A moment, and what could be done in it."""

    dreamer: Dreamer
    moment: LatentState
    """Of one dream, or of reality."""
    actions: Mapping[str, Tensor]
    """`[A]` by key."""
    steps: int
    """Of looking ahead."""
    wheels: tuple[LinearProbe, int] | None
    """What reads the wheels on the road from latents, and in which column, where there are wheels."""
    active: Tensor
    """`[D]` bool: latents that tell something."""
    seed: int
    odds: Odds | None = None
    """Turns the mean of the draws' lowest readings of wheels into a probability, if that was calibrated."""


@dataclass(frozen=True)
class Prospect:
    """What is expected if a key is held."""

    reward: float
    """Mean over the draws."""
    ends: float
    """Probability that the episode ends."""
    leaves: float | None
    """Probability that all wheels leave the road; without a calibration the share of the draws in which they do. None
    where there is no road to leave."""


@dataclass(frozen=True)
class Outlook:
    """The answer to a `Question`."""

    prospects: dict[str, Prospect]
    """By key."""
    together: int
    """Steps for which the draws of the first key stay together."""
    steps: int


@torch.no_grad()
def ask(question: Question) -> Outlook:
    """Dream on from a moment, `DRAWS` times for each key."""
    dreamer, keys = question.dreamer, list(question.actions)
    chosen = torch.stack(list(question.actions.values())).repeat_interleave(DRAWS, 0)
    moment = question.moment.branch(torch.zeros(len(chosen), dtype=torch.int64))
    rng = torch.Generator().manual_seed(question.seed)
    actions = chosen.expand(question.steps, *chosen.shape)
    dream = dreamer.dream(moment, actions, question.steps, 1.0, rng, keep_states=False)
    alive = torch.cat([torch.ones(1, len(chosen)), (1 - dream.terminations).cumprod(0)])
    rewards = (dream.rewards * alive[:-1]).sum(0).view(-1, DRAWS).mean(1)
    ends = 1 - alive[-1].view(-1, DRAWS).mean(1)
    leaves: list[float | None] = [None] * len(keys)
    if question.wheels is not None:
        probe, column = question.wheels
        lowest = probe(dream.latents)[..., column].amin(0).view(-1, DRAWS)
        off = (lowest < OFF).float().mean(1) if question.odds is None else question.odds(lowest.mean(1))
        leaves = off.tolist()
    prospects = {
        key: Prospect(float(rewards[number]), float(ends[number]), leaves[number]) for number, key in enumerate(keys)
    }
    spread = dreamer.scale.normalise(dream.latents[:, :DRAWS])[..., question.active].var(1).mean(-1).sqrt()
    apart = (spread > APART).nonzero()
    return Outlook(prospects, int(apart[0]) if len(apart) else question.steps, question.steps)


def familiarity(surprise: float | None, held_out: Tensor) -> float | None:
    """The share of held-out frames that surprised the model less; None where nothing was expected.

    Args:
        surprise: how little of the present frame was expected.
        held_out: `[n]` of test frames, ascending.
    """
    if surprise is None or not len(held_out):
        return None
    return float(torch.searchsorted(held_out, torch.tensor(surprise))) / len(held_out)
