"""Recording of episodes for a world model: one part a round, each with a generator of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.domain import Engine, LevelBatch
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.world_model.dataset import CONTINUES, TERMINATED, TRUNCATED, Part
from clutr.world_model.policies import BehaviourPolicy


@dataclass(frozen=True)
class Round:
    """What one round of recording gave: a part and what is known of its episodes."""

    part: Part
    levels: LevelBatch
    """One an episode."""
    rows: list[int]
    """Frames of each episode."""
    policies: list[str]
    """The behaviour policy of each."""


class Recorder:
    """Plays N episodes a round, each environment one, with a mixture of behaviour policies.

    Args:
        domain: of the environment.
        num_envs: N.
        length: most actions of an episode.
        policies: makes the policies for an engine, each with the number of environments in which it acts.
        seed: of everything.
        levels: `levels(n, rng)` draws the levels; None: the domain does.
    """

    def __init__(
        self,
        domain: PrivilegedState,
        num_envs: int,
        length: int,
        policies: Callable[[Engine], Sequence[tuple[BehaviourPolicy, int]]],
        seed: int,
        levels: Callable[[int, torch.Generator], LevelBatch] | None = None,
    ) -> None:
        if num_envs < 1 or length < 1:
            raise ValueError("a recording needs at least one environment and one action an episode")
        self.domain = domain
        self.length = length
        self.seed = seed
        self.engine = domain.engine(num_envs)
        self.observer = domain.observer(self.engine)
        self._levels = levels or domain.sample
        self._make_policies = policies

    def round(self, number: int, progress: Progress = lambda *_: None) -> Round:
        """Record round `number`: always the same frames, whatever was recorded before."""
        engine, n = self.engine, self.engine.num_envs
        rng = named_generator(self.seed, "record", number)
        levels = self._levels(n, rng)
        policies = self._make_policies(engine)
        observation = engine.reset(levels)
        start_at = getattr(engine, "start_at", None)
        if start_at is not None:  # all along the road, not only at its start
            start_at(torch.rand(n, generator=rng))
            observation = engine.reset()
        everyone = torch.ones(n, dtype=torch.bool)
        self.observer.reset(everyone)
        for policy, _ in policies:
            policy.reset(everyone)
        shown: list[dict[str, Tensor]] = []
        alive = everyone
        for step in range(self.length + 1):
            last = step == self.length or not bool(alive.any())
            row = {
                "frames": self.observer.pictures(),
                "masks": self.observer.masks(),
                "privileged_state": self._privileged_state(),
                "seen": alive,
            }
            chosen = [policy.act(observation, self.observer, rng) for policy, _ in policies]
            actions = _pick(chosen, [count for _, count in policies])
            if last:
                actions = torch.zeros_like(actions)
                outcome, ended = torch.zeros(n), torch.zeros(n, dtype=torch.uint8)
            else:
                result = engine.step(actions)
                observation, outcome = result.observation, result.reward.cpu()
                truncated = result.truncated.cpu() & ~result.terminated.cpu()
                ended = torch.where(truncated, TRUNCATED, torch.where(result.terminated.cpu(), TERMINATED, CONTINUES))
                ended = ended.to(torch.uint8)
            # who was shown the end of its episode has one more row, in which nothing is done
            done_before = ~alive
            row |= {
                "actions": torch.where(done_before.view(-1, *[1] * (actions.ndim - 1)), 0, actions).float(),
                "rewards": torch.where(done_before, 0.0, outcome),
                "ended": torch.where(done_before, 0, ended),
            }
            shown.append(row)
            progress(step, self.length, {})
            if last:
                break
            alive = alive & (ended == CONTINUES)
        return self._gather(shown, levels, policies)

    def _privileged_state(self) -> Tensor:
        return torch.stack(list(self.observer.privileged_state().values()), 1)

    def _gather(
        self, shown: list[dict[str, Tensor]], levels: LevelBatch, policies: Sequence[tuple[BehaviourPolicy, int]]
    ) -> Round:
        """Rows sorted by episode; an episode's rows are those until its end, and one more."""
        n, steps = len(levels), len(shown)
        stacked = {name: torch.stack([row[name] for row in shown]) for name in shown[0]}
        seen = stacked.pop("seen")
        rows = (seen.sum(0) + 1).clamp(max=steps)
        kept = [(torch.arange(int(count)), torch.full((int(count),), e)) for e, count in enumerate(rows)]
        time, episode = torch.cat([t for t, _ in kept]), torch.cat([e for _, e in kept])
        columns: dict[str, Any] = {name: values[time, episode] for name, values in stacked.items()}
        columns["actions"] = columns["actions"].reshape(len(time), -1)
        names = [policy.name for policy, count in policies for _ in range(count)]
        assert len(names) == n
        return Round(Part(**columns, episodes=episode), levels, rows.tolist(), names)


def _pick(chosen: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """The first policy's actions for its environments, the second one's for the next, and so on."""
    pieces, first = [], 0
    for actions, count in zip(chosen, counts, strict=True):
        pieces.append(actions[first : first + count])
        first += count
    return torch.cat(pieces)


def part_path(folder: Path, number: int) -> Path:
    """Where a part is kept."""
    return folder / f"part-{number:04d}.arrow"
