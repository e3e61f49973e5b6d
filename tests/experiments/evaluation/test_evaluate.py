import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import clutr.experiments.evaluation.evaluate
from clutr.agents.student import Policy
from clutr.envs.domain import LevelBatch, Observation, Step, Suite, Task
from clutr.experiments.evaluation.cvar import cvar
from clutr.experiments.evaluation.evaluate import evaluate, play

LIMIT = 12


@dataclass(frozen=True)
class Corridors(LevelBatch):
    """Walk `length` cells to the end, which pays 1 - steps / (2 LIMIT), or -1 if it is a trap."""

    length: Tensor
    trap: Tensor


class CorridorEngine:
    """Action 1 walks, action 0 waits. A step after the episode's end pays 100, which nobody may count."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.observation_space = gymnasium.spaces.Dict({"cell": gymnasium.spaces.Box(0, LIMIT)})
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)
        self.solved = torch.zeros(num_envs, dtype=torch.bool)

    @property
    def agent_position(self) -> Tensor:
        return self.walked

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        assert isinstance(levels, Corridors)
        assert mask is None
        assert len(levels) == self.num_envs
        self.levels = levels
        self.walked = torch.zeros(self.num_envs, dtype=torch.int64)
        self.ended = torch.zeros(self.num_envs, dtype=torch.bool)
        self.time = 0
        return {"cell": self.walked}

    def step(self, actions: Tensor) -> Step:
        assert actions.shape == (self.num_envs,)
        self.walked = self.walked + actions
        self.time += 1
        terminated = self.walked >= self.levels.length
        truncated = torch.full_like(terminated, self.time >= LIMIT)
        reward = torch.where(self.levels.trap, -1.0, 1 - self.time / (2 * LIMIT)) * terminated
        reward = torch.where(self.ended, 100.0, reward)
        self.solved = terminated & ~self.levels.trap
        self.ended |= terminated | truncated
        return Step({"cell": self.walked}, reward, terminated, truncated)


class CinemaEngine(CorridorEngine):
    """The same with a picture as bright as the cells walked, and positions as positions and times."""

    render_fps = 6.25

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        pictures = {
            "symbols": gymnasium.spaces.Box(0, 255, (5, 5, 3), np.uint8),
            "image": gymnasium.spaces.Box(0, 255, (40, 32, 3), np.uint8),
        }
        self.observation_space = gymnasium.spaces.Dict({**self.observation_space, **pictures})

    @property
    def agent_position(self) -> Tensor:
        return torch.stack([self.walked, torch.full_like(self.walked, self.time)], 1).float()

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        return self._show(super().reset(levels, mask))

    def step(self, actions: Tensor) -> Step:
        observation, *rest = super().step(actions)
        return Step(self._show(observation), *rest)

    def _show(self, observation: Observation) -> Observation:
        bright = self.walked.to(torch.uint8).view(-1, 1, 1, 1)
        return {**observation, "symbols": bright.expand(-1, 5, 5, 3), "image": bright.expand(-1, 40, 32, 3)}


class Walker:
    """Walks with a probability. Its state counts the steps it has taken."""

    def __init__(self, probability: float = 1.0) -> None:
        self.probability = probability
        self.batches: list[int] = []
        self.deterministic: set[bool] = set()

    def initial_state(self, n: int) -> Tensor:
        return torch.zeros(n, 1)

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        cells = observation["cell"]
        assert len(cells) == len(state)
        if self.probability == 1.0:
            assert torch.equal(state[:, 0].long(), cells)  # state and observation belong to one environment
        self.batches.append(len(cells))
        self.deterministic.add(deterministic)
        walks = torch.rand(len(cells), generator=rng) < self.probability
        return walks.long(), state + 1


def fixed(length: int, trap: bool = False) -> Callable[[int, torch.Generator], Corridors]:
    return lambda n, _: Corridors(torch.full((n,), length), torch.full((n,), trap))


def any_length(n: int, rng: torch.Generator) -> Corridors:
    return Corridors(torch.randint(1, 2 * LIMIT, (n,), generator=rng), torch.zeros(n, dtype=torch.bool))


SUITE = Suite(
    "corridors",
    "Straight ahead.",
    (
        Task("short", fixed(3), CorridorEngine),
        Task("endless", fixed(LIMIT + 1), CorridorEngine),
        Task("trap", fixed(2, trap=True), CorridorEngine),
        Task("any", any_length, CorridorEngine),
    ),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_certain_policy_gets_the_results_worked_by_hand() -> None:
    evaluation = evaluate(Walker(), SUITE, 5, seeded())
    short, endless, trap, _ = (level.episodes for level in evaluation.levels)
    assert short.returns.tolist() == [1 - 3 / 24] * 5
    assert short.solved.tolist() == [True] * 5
    assert short.lengths.tolist() == [3] * 5
    assert endless.returns.tolist() == [0.0] * 5
    assert endless.solved.tolist() == [False] * 5
    assert endless.lengths.tolist() == [LIMIT] * 5
    assert trap.returns.tolist() == [-1.0] * 5  # the environment ended it, but not with a positive reward
    assert trap.solved.tolist() == [False] * 5
    assert trap.lengths.tolist() == [2] * 5


def test_every_slot_plays_exactly_one_episode_whatever_its_length() -> None:
    levels = any_length(300, seeded())
    played = play(Walker(), CorridorEngine(300), levels, seeded())
    assert played.lengths.tolist() == levels.length.clamp(max=LIMIT).tolist()
    assert played.solved.tolist() == (levels.length <= LIMIT).tolist()
    expected = torch.where(played.solved, 1 - levels.length / (2 * LIMIT), 0.0)
    assert torch.allclose(played.returns, expected)


def test_the_policy_stops_acting_where_episodes_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clutr.experiments.evaluation.evaluate, "CHECK_EVERY", 4)
    policy = Walker()
    levels = Corridors(torch.tensor([3, 100, 6]), torch.zeros(3, dtype=torch.bool))
    play(policy, CorridorEngine(3), levels, seeded())
    assert policy.batches == [3] * 4 + [2] * 4 + [1] * 4


def test_batches_are_bounded_and_complete() -> None:
    sizes: list[int] = []

    def engine(n: int) -> CorridorEngine:
        sizes.append(n)
        return CorridorEngine(n)

    suite = Suite("one", "", (Task("any", any_length, engine, max_num_envs=4),))
    [level] = evaluate(Walker(), suite, 11, seeded()).levels
    assert sizes == [4, 3]  # an engine serves every batch of its size
    assert len(level.episodes.returns) == 11


def test_json_is_as_designed_and_plain() -> None:
    result = evaluate(Walker(), SUITE, 4, seeded(3), deterministic=True).to_json("runs/a")
    assert json.loads(json.dumps(result)) == result
    assert list(result) == ["run", "suite", "levels", "summary"]
    assert (result["run"], result["suite"]) == ("runs/a", "corridors")
    assert result["levels"][0] == {
        "level": "short",
        "episodes": 4,
        "solved": 1.0,
        "return_mean": 0.875,
        "return_std": 0.0,
    }
    summary = result["summary"]
    assert (summary["seed"], summary["deterministic"], summary["resampled"]) == (3, True, "episodes")
    assert summary["metric"] == "solved"
    rates = [level["solved"] for level in result["levels"]]
    assert summary["mean_solved"] == pytest.approx(sum(rates) / 4)
    assert summary["iqm_solved"] == pytest.approx(sum(sorted(rates)[1:3]) / 2)
    assert summary["optimality_gap"] == pytest.approx(1 - sum(rates) / 4)
    low, high = summary["iqm_solved_interval"]
    assert low <= summary["iqm_solved"] <= high
    assert "episodes" in summary["uncertainty"]


def test_the_deterministic_flag_reaches_the_policy() -> None:
    sampling, certain = Walker(), Walker()
    evaluate(sampling, SUITE, 2, seeded())
    evaluate(certain, SUITE, 2, seeded(), deterministic=True)
    assert (sampling.deterministic, certain.deterministic) == ({False}, {True})


def test_same_seed_same_result_and_same_levels_for_every_policy() -> None:
    first, again = (evaluate(Walker(0.5), SUITE, 20, seeded(1), record=20) for _ in range(2))
    other = evaluate(Walker(0.7), SUITE, 20, seeded(1), record=20)
    later = evaluate(Walker(0.5), SUITE, 20, seeded(2), record=20)
    assert first.to_json("a") == again.to_json("a")
    assert first.levels[3].recorded.key() == other.levels[3].recorded.key()
    assert first.levels[3].recorded.key() != later.levels[3].recorded.key()
    assert not torch.equal(first.levels[0].episodes.lengths, other.levels[0].episodes.lengths)


def test_a_level_does_not_depend_on_the_others_of_its_suite() -> None:
    alone = evaluate(Walker(0.5), Suite("one", "", SUITE.tasks[3:]), 30, seeded())
    among = evaluate(Walker(0.5), SUITE, 30, seeded())
    assert torch.equal(alone.levels[0].episodes.returns, among.levels[3].episodes.returns)


def test_paths_are_recorded_from_start_to_end() -> None:
    suite = Suite("some", "", (SUITE.tasks[0], SUITE.tasks[3]))
    evaluation = evaluate(Walker(), suite, 6, seeded(), record=2)
    short, anything = evaluation.recordings()
    assert short["level"] == "short"
    assert short["positions"].tolist() == [[0, 1, 2, 3]] * 2
    assert short["solved"].tolist() == [True, True]
    assert short["returns"].tolist() == [0.875, 0.875]
    assert len(anything["levels"]) == 2
    for positions, length in zip(anything["positions"], anything["levels"].length.clamp(max=LIMIT), strict=True):
        assert positions[positions >= 0].tolist() == list(range(int(length) + 1))
        assert (positions[int(length) + 1 :] == -1).all()


def test_positions_that_are_numbers_are_padded_with_nan() -> None:
    levels = Corridors(torch.tensor([1, 3]), torch.zeros(2, dtype=torch.bool))
    positions = play(Walker(), CinemaEngine(2), levels, seeded(), record=2).positions
    assert positions.shape == (2, 4, 2)
    assert positions[0, :2].tolist() == [[0, 0], [1, 1]]
    assert positions[0, 2:].isnan().all()
    assert positions[1].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_videos_show_the_first_episode_to_its_end() -> None:
    tasks = [Task(f"{length}", fixed(length), CinemaEngine) for length in (6, 2, 4, 3)]
    suite = Suite("cinema", "", (*tasks, SUITE.tasks[0]))
    median, best = evaluate(Walker(), suite, 3, seeded(), video=True).videos()
    assert median["fps"] == CinemaEngine.render_fps
    # returns fall with length; what has no picture is not recorded
    assert (median["level"], best["level"]) == ("4", "2")
    assert best["solved"] is True
    assert best["return"] == pytest.approx(1 - 2 / 24)
    assert median["frames"].shape == (5, 40, 32, 3)
    assert median["frames"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_nothing_is_kept_unless_asked_or_shown() -> None:
    played = evaluate(Walker(), Suite("one", "", (Task("any", any_length, CinemaEngine),)), 3, seeded())
    assert played.recordings() == []
    assert played.videos() == []
    assert evaluate(Walker(), SUITE, 3, seeded(), video=True).videos() == []


def test_a_suite_of_returns_is_told_by_them() -> None:
    suite = Suite("returns", "", SUITE.tasks[:3], metric="return")
    seen: list[dict[str, float]] = []
    evaluation = evaluate(Walker(), suite, 4, seeded(), progress=lambda _done, _total, means: seen.append(means))
    assert seen == [{"return": 0.875}, {"return": 0.4375}, {"return": pytest.approx(-0.125 / 3)}]
    assert evaluation.by_level() == {"short": 0.875, "endless": 0, "trap": -1}
    assert evaluation.mean_metric == evaluation.mean_return == pytest.approx(-0.125 / 3)
    assert evaluation.mean_solved == pytest.approx(1 / 3)
    result = evaluation.to_json("runs/a")
    assert result["levels"][0]["returns"] == [0.875] * 4
    assert result["summary"]["metric"] == "return"
    assert result["summary"]["iqm_return"] == pytest.approx(-0.125 / 3)  # a quarter of three is none
    assert result["summary"]["median_return_interval"] == [0, 0]


def test_progress_counts_levels() -> None:
    seen: list[tuple[int, int, dict[str, float]]] = []
    evaluate(Walker(), SUITE, 2, seeded(), progress=lambda *call: seen.append(call))
    assert [call[:2] for call in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [call[2]["solved"] for call in seen[:3]] == [1.0, 0.5, pytest.approx(1 / 3)]


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="at least 1 episode a level, got 0"):
        evaluate(Walker(), SUITE, 0, seeded())
    with pytest.raises(ValueError, match="'empty' has no levels"):
        evaluate(Walker(), Suite("empty", "", ()), 1, seeded())


def test_worst_levels_are_those_a_certain_policy_fails() -> None:
    # A tenth of the levels is out of reach, so a certain policy fails exactly the worst tenth.
    def draw(n: int, rng: torch.Generator) -> Corridors:
        return Corridors(torch.where(torch.arange(n) % 10 == 7, 100, 2), torch.zeros(n, dtype=torch.bool))

    result = cvar(
        Walker(), Task("mix", draw, CorridorEngine), 200, rng=seeded(), alphas=(0.05, 0.1, 0.2, 1.0), episodes_select=1
    )
    assert result.mean == pytest.approx(0.9)
    assert result.worst == {0.05: 0.0, 0.1: 0.0, 0.2: 0.5, 1.0: pytest.approx(0.9)}
    assert json.loads(json.dumps(result.to_json()))["worst"]["0.2"] == 0.5


def test_worst_levels_are_scored_on_fresh_episodes() -> None:
    # All levels are alike, so the ones that look worst are only unlucky: on fresh episodes they are as good as any.
    policy = Walker(0.5)  # reaches cell 6 within 12 steps with probability 1 - 1586 / 4096 = 0.613
    seen: list[tuple[int, int, dict[str, float]]] = []
    result = cvar(
        policy,
        Task("alike", fixed(6), CorridorEngine),
        2_000,
        rng=seeded(),
        alphas=(0.1,),
        episodes_select=2,
        episodes_score=10,
        progress=lambda *call: seen.append(call),
    )
    assert result.mean == pytest.approx(1 - 1586 / 4096, abs=0.03)
    assert result.worst[0.1] == pytest.approx(1 - 1586 / 4096, abs=0.05)  # 0 on the episodes that picked them
    assert [call[:2] for call in seen[:3]] == [(2000, 6000), (4000, 6000), (4200, 6000)]
    assert seen[-1][:2] == (6000, 6000)


def test_cvar_is_reproducible_and_checks_its_numbers() -> None:
    task = SUITE.tasks[3]

    def run(policy: Policy, **options: int) -> object:
        return cvar(policy, task, 50, rng=seeded(), alphas=(0.1,), **options)  # type: ignore[arg-type]  # ints only

    assert run(Walker(0.5), episodes_select=2) == run(Walker(0.5), episodes_select=2)
    with pytest.raises(ValueError, match="at least 1"):
        run(Walker(), episodes_score=0)
    with pytest.raises(ValueError, match=r"in \(0, 1\], got \(0.1, 2\)"):
        cvar(Walker(), task, 50, rng=seeded(), alphas=(0.1, 2))
