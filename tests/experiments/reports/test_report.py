import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from clutr.envs.domain import SeedLevels
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation_files import KeptEvaluation
from clutr.experiments.plots import curves
from clutr.experiments.reports.report_data import method_labels, recorded_episodes
from clutr.experiments.reports.run_report import build_comparison, build_report, report_html
from clutr.experiments.run_directory import ProposalRecord, RunDirectory
from clutr.experiments.storage import RunError

HOSTILE = "<script>alert(1)</script>"
DOMAIN = MazeDomain(height=5, width=6, max_obstacles=6)


_drawn: dict[bytes, str] = {}


@pytest.fixture(autouse=True)
def _each_chart_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of these tests have the same curves, and drawing takes most of a report's time."""

    def kept(draw: Callable[..., str]) -> Callable[..., str]:
        def drawn(*arguments: Any) -> str:
            key = pickle.dumps((draw.__name__, arguments))
            if key not in _drawn:
                _drawn[key] = draw(*arguments)
            return _drawn[key]

        return drawn

    for draw in (curves._chart, curves._method_chart):
        monkeypatch.setattr(curves, draw.__name__, kept(draw))


class FakeRun:
    """What a report reads of a run directory, without a trained run behind it."""

    def __init__(self, path: Path, kind: str = "clutr", seed: int = 3, updates: int = 4, **config: Any) -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.updates = updates
        self.config: dict[str, Any] = {
            "domain": {"kind": "maze", "height": 5, "width": 6, "max_obstacles": 6},
            "curriculum": {"kind": kind, "teacher": {"learning_rate": 0.0003}},
            "student": {"kind": "ppo"},
            "manifold": {"kind": "vae"},
            "seed": seed,
            "num_envs": 8,
            "total_steps": 4096,
            "evaluate_suite": "tests",
            "evaluate_episodes": 10,
            **config,
        }
        self.results: dict[str, dict[str, Any]] = {}
        self.recorded: list[dict[str, Any]] = []
        self.recorded_videos: list[dict[str, Any]] = []
        self.health: dict[str, Any] | None = None
        self.with_latents = True

    def metrics(self) -> Mapping[str, np.ndarray[Any, Any]]:
        if not self.updates:
            return {}
        rng = np.random.default_rng(self.config["seed"])
        evaluation = np.full(self.updates, np.nan)
        evaluation[0] = 0.3
        names = ("regret", "levels/solvable", "protagonist/mean_return", "protagonist/solved")
        return {
            "update": np.arange(1.0, self.updates + 1),
            "steps": 1024 * np.arange(1.0, self.updates + 1),
            **{name: rng.random(self.updates) for name in names},
            "evaluation/tests/mean_solved": evaluation,
            f"evaluation/tests/{HOSTILE}": evaluation,
        }

    def timing(self) -> Mapping[str, np.ndarray[Any, Any]]:
        return {"seconds": np.arange(1.0, self.updates + 1)} if self.updates else {}

    def proposals(self) -> list[ProposalRecord]:
        rng = named_generator(1, "proposals")
        records = []
        for update in range(1, self.updates + 1):
            latents = torch.randn(8, 5, generator=rng) if self.with_latents else None
            scores = {"regret": torch.rand(8, generator=rng), "protagonist/solved": torch.rand(8, generator=rng)}
            scores["regret"][0] = torch.nan
            records.append(ProposalRecord(update, 1024 * update, DOMAIN.sample(8, rng), latents, scores))
        return records

    def evaluations(self) -> list[KeptEvaluation]:
        return [
            KeptEvaluation(self.path / f"{name}.json", name.partition("/")[0], found)
            for name, found in self.results.items()
        ]

    def recordings(self, _: Sequence[KeptEvaluation]) -> list[dict[str, Any]]:
        return self.recorded

    def videos(self, _: Sequence[KeptEvaluation]) -> list[dict[str, Any]]:
        return self.recorded_videos

    def manifold_health(self) -> dict[str, Any] | None:
        return self.health

    def domain(self) -> MazeDomain:
        return DOMAIN

    @property
    def directory(self) -> RunDirectory:
        """The fake as what it stands for."""
        return cast("RunDirectory", self)


def result(run: str, solved: float, level: str = "Labyrinth", suite: str = "tests") -> dict[str, Any]:
    row = {"level": level, "episodes": 20, "solved": solved, "return_mean": 0.5, "return_std": 0.1}
    return {"run": run, "suite": suite, "levels": [row], "summary": {"mean_solved": solved}}


def corridor(copies: int) -> MazeLevels:
    return MazeLevels(
        walls=torch.zeros(copies, 5, 6, dtype=torch.bool),
        agent=torch.zeros(copies, dtype=torch.int64),
        heading=torch.zeros(copies, dtype=torch.int64),
        goal=torch.full((copies,), 3),
    )


def recording(solved: list[bool]) -> dict[str, Any]:
    # forward, turn (the cell stays), forward; then padding
    positions = torch.tensor([[0, 1, 1, 2, -1, -1]]).repeat(len(solved), 1)
    return {
        "suite": "tests",
        "level": HOSTILE,
        "levels": corridor(len(solved)),
        "positions": positions,
        "solved": torch.tensor(solved),
        "returns": torch.rand(len(solved), generator=named_generator(1, "returns")),
    }


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    fake = FakeRun(tmp_path / "run-a")
    fake.results = {"tests": result(str(fake.path), 0.75, HOSTILE)}
    fake.recorded = [recording([True, True, False])]
    return fake


def test_report_is_one_file_that_needs_nothing_else(run: FakeRun) -> None:
    path = build_report(run.directory)
    assert path == run.path / "report.html"
    assert [entry.name for entry in run.path.iterdir()] == ["report.html"]  # no temporary file stays
    html = path.read_text()
    assert html.startswith("<!doctype html>")
    outside = [
        link
        for link in re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?([^"')\s>]*)""", html)
        if not link.startswith(("#", "data:image/png;base64,", "data:image/webp;base64,", "${data.sheet}"))
    ]
    assert outside == []
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html


def test_report_depends_on_the_run_alone(run: FakeRun) -> None:
    first = report_html(run.directory)
    _drawn.clear()
    assert report_html(run.directory) == first


def test_hostile_names_are_only_text(run: FakeRun) -> None:
    html = report_html(run.directory)
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_identifiers_are_unique(run: FakeRun, tmp_path: Path) -> None:
    html = report_html(run.directory, [FakeRun(tmp_path / "run-b", "dr", updates=2).directory])
    names = re.findall(r'\sid="([^"]+)"', html)
    assert len(names) == len(set(names))


def test_title_block_and_configuration_say_what_the_run_is(run: FakeRun) -> None:
    html = report_html(run.directory)
    assert "<h1>run-a</h1>" in html
    assert "Curriculum clutr on maze levels of 5 x 6 cells" in html
    assert "<dd>4.1k" in html
    assert "<dt>Zero-shot, tests</dt><dd>75\u202f%" in html
    assert '<th scope="row">curriculum.teacher.learning_rate</th><td>0.0003</td>' in html
    assert "planned" not in html


def test_unfinished_run_says_how_much_was_planned(tmp_path: Path) -> None:
    assert "of 1M planned" in report_html(FakeRun(tmp_path / "r", total_steps=1_000_000).directory)


def test_run_without_anything_still_has_a_report(tmp_path: Path) -> None:
    html = report_html(FakeRun(tmp_path / "new", updates=0, manifold=None).directory)
    assert "has not been evaluated yet" in html
    assert "no metrics yet" in html
    assert "recorded no proposed levels" in html
    assert "no recorded test episodes" in html
    assert 'id="latents"' not in html
    assert 'id="manifold"' not in html


@pytest.mark.parametrize("updates", [1, 2])
def test_very_short_run(tmp_path: Path, updates: int) -> None:
    html = report_html(FakeRun(tmp_path / "short", updates=updates).directory)
    assert f"n = {8 * updates} latents" in html
    assert "Its health was not measured" in html


def test_curriculum_without_latents_or_scores(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path / "dr", "dr", manifold=None)
    fake.with_latents = False
    html = report_html(fake.directory)
    assert 'id="latents"' not in html
    assert 'id="curriculum"' in html


def test_last_evaluation_during_training_stands_in(tmp_path: Path) -> None:
    html = report_html(FakeRun(tmp_path / "r").directory)
    assert "<b>30\u202f%</b><small>11 to 60</small>" in html  # Wilson, 3 of 10
    assert "tests: 10 episodes a level" in html


def test_runs_beside_and_untrained_students_are_columns(run: FakeRun, tmp_path: Path) -> None:
    other = FakeRun(tmp_path / "run-b", "dr")
    other.results = {"tests": result(str(other.path), 0.1)}
    run.results = {"a-first": result("untrained", 0.05), **run.results}
    other.results["others"] = result(str(other.path), 0.9, suite="others")
    html = report_html(run.directory, [other.directory])
    assert "<dt>Zero-shot, others</dt>" not in html  # the title block is about the run alone
    heads = re.findall(r'<th scope="col"><i[^>]*></i>([^<]*)</th>', html)
    assert heads == ["clutr", "untrained", "dr", "dr"]
    assert 'id="methods"' in html


def older_and_newer(fake: FakeRun, steps: tuple[int, ...], deterministic: bool = False, episodes: int = 20) -> None:
    for each in steps:
        found = result(str(fake.path), each / 10_000)
        found["levels"][0]["episodes"] = episodes
        found["summary"] |= {"steps": each, "seed": 1, "deterministic": deterministic}
        fake.results[f"tests/{each}"] = found


def test_a_table_that_is_older_than_the_run_says_so(run: FakeRun) -> None:
    run.results = {}
    older_and_newer(run, (1024, 2048))
    html = report_html(run.directory)
    assert "The runs&#x27; students at 2,048 steps, sampled actions, seed 1." in html
    assert f"run-a has trained on since, to 4,096 steps: `clutr eval {run.path} --suite tests` tests it" in html
    assert "mean over levels, at 2.05k steps" in html
    older_and_newer(run, (4096,))
    assert "has trained on since" not in report_html(run.directory)


def test_runs_beside_are_shown_at_the_same_steps_or_left_out_by_name(run: FakeRun, tmp_path: Path) -> None:
    run.results = {}
    older_and_newer(run, (1024, 2048))
    others = {name: FakeRun(tmp_path / name, "dr", seed) for seed, name in enumerate(("match", "steps", "mode", "few"))}
    older_and_newer(others["match"], (1024,))
    older_and_newer(others["steps"], (3072,))
    older_and_newer(others["mode"], (1024,), deterministic=True)
    older_and_newer(others["few"], (1024,), episodes=3)
    html = report_html(run.directory, [fake.directory for fake in others.values()])
    assert re.findall(r'<th scope="col"><i[^>]*></i>([^<]*)</th>', html) == ["clutr", "dr"]
    assert "at 1,024 steps, sampled actions" in html
    assert f"Left out: {run.path} at 1,024 and 2,048 and {others['steps'].path} at 3,072 were not" in html
    assert (
        f"Left out: {others['mode'].path} was evaluated on &#x27;tests&#x27; with deterministic actions alone" in html
    )
    assert f"Left out: {run.path} at 20 and {others['few'].path} at 3 were not evaluated at the same episodes" in html


def test_a_run_beside_itself_is_refused(run: FakeRun, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(RunError, match=r"run-a and .*run-a are the same run: name it once"):
        report_html(run.directory, [FakeRun(tmp_path / "x" / ".." / "run-a").directory])


def test_seeds_of_a_method_share_its_name(tmp_path: Path) -> None:
    seeds = [FakeRun(tmp_path / f"c{seed}", "clutr", seed) for seed in (1, 2)]
    assert method_labels([fake.directory for fake in seeds]) == ["clutr", "clutr"]
    wider = FakeRun(tmp_path / "wide", "clutr", 1, num_envs=64)
    paired = FakeRun(tmp_path / "p", "paired")
    assert method_labels([seeds[0].directory, wider.directory, paired.directory]) == [
        "clutr (c1)",
        "clutr (wide)",
        "paired",
    ]


def test_columns_of_seeds_have_different_names(tmp_path: Path) -> None:
    runs = [FakeRun(tmp_path / f"c{index}", "clutr", seed=1, manifold_seed=index) for index in range(3)]
    for fake in runs:
        fake.results = {"tests": result(str(fake.path), 0.1)}
    html = report_html(runs[0].directory, [fake.directory for fake in runs[1:]])
    heads = re.findall(r'<th scope="col"><i[^>]*></i>([^<]*)</th>', html)
    assert heads == ["clutr", "clutr, seed 1", "clutr, seed 1 (c2)"]


def test_episodes_drawn_are_a_solved_and_an_unsolved_one(run: FakeRun) -> None:
    def ends(solved: list[bool]) -> list[bool]:
        run.recorded = [recording(solved)]
        return [episode.solved for episode in recorded_episodes(run.directory, run.evaluations()).episodes]

    assert ends([True, True, False, False]) == [True, False]
    assert ends([False, False, False]) == [False, False]
    assert ends([True]) == [True]
    assert ends([]) == []


def test_where_returns_count_the_episode_of_the_median_return_is_drawn(run: FakeRun) -> None:
    run.results["tests"]["summary"]["metric"] = "return"
    run.recorded = [{**recording([True, False, True, False]), "returns": torch.tensor([4.0, 1.0, 3.0, 2.0])}]
    [episode] = recorded_episodes(run.directory, run.evaluations()).episodes
    assert (episode.value, episode.solved) == (2.0, False)


def test_levels_that_cannot_be_drawn_are_left_out(run: FakeRun) -> None:
    run.recorded[0]["levels"] = SeedLevels(torch.tensor([1, 2, 3]))
    assert recorded_episodes(run.directory, run.evaluations()).episodes == []


def test_videos_are_shown_where_there_are_any(run: FakeRun) -> None:
    assert 'id="videos"' not in report_html(run.directory)
    frames = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    run.recorded_videos = [{"suite": "tests", "level": HOSTILE, "frames": frames, "solved": True, "return": 12.0}]
    test_report_is_one_file_that_needs_nothing_else(run)
    html = report_html(run.directory)
    assert 'id="videos"' in html
    assert HOSTILE not in html


def test_moves_do_not_count_turns(run: FakeRun) -> None:
    episode = recorded_episodes(run.directory, run.evaluations()).episodes[0]
    assert episode.remark == "2 moves"
    assert episode.image.dtype == np.uint8
    assert episode.image.shape[0] / episode.image.shape[1] == 7 / 8  # with the ring of walls


def test_map_previews_read_back(run: FakeRun) -> None:
    html = report_html(run.directory)
    written = re.search(r'<script type="application/json">(.*?)</script>', html)
    assert written is not None
    data = json.loads(written.group(1))
    assert len(data["points"]) == 32
    assert data["columns"] * data["rows"] >= 32
    assert data["points"][0]["caption"] == "At 1.02k steps"  # its regret was not measured
    assert re.fullmatch(r"At 1.02k steps, regret 0\.\d\d", data["points"][1]["caption"])


def test_unwritable_directory_gives_one_clear_error(run: FakeRun) -> None:
    run.path = run.path / "gone" / "deeper"
    run.path.parent.write_text("a file is in the way")
    with pytest.raises(RunError, match="cannot write"):
        build_report(run.directory)


def test_comparison_page_has_intervals_and_curves(tmp_path: Path) -> None:
    runs = [FakeRun(tmp_path / "a", "clutr"), FakeRun(tmp_path / "b", "dr")]

    def figure(value: float) -> dict[str, Any]:
        return {"value": value, "interval": [value - 0.125, value + 0.125]}

    def method(name: str, solved: float, improvement: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "method": name,
            "levels": {HOSTILE: figure(solved)},
            "mean_solved": figure(solved),
            "iqm_solved": figure(solved),
            "probability_of_improvement": improvement,
        }

    comparison = {
        "suite": "tests",
        "episodes": 20,
        "uncertainty": "Seeds resampled.",
        "methods": [method("clutr", 0.5, None), method("dr", 0.25, figure(0.375))],
    }
    path = build_comparison(comparison, [fake.directory for fake in runs], tmp_path / "compare.html")
    html = path.read_text()
    assert html.count("<b>25\u202f%</b><small>12 to 38</small>") == 3
    assert "P(better than the first)" in html
    assert "Seeds resampled." in html
    assert "Wilson" not in html
    assert HOSTILE not in html
    assert 'id="methods"' in html
