"""Quality by the clock, with budgets of a moment: what is trained, what it is set beside, and what is refused."""

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import clutr
from clutr.experiments.benchmarks import learning, maze_train
from clutr.experiments.cli.main import main
from clutr.experiments.evaluation.evaluate import evaluate

PYTHON = os.environ.get(maze_train.PEERS_PYTHON) or (sys.executable if find_spec("jaxued") else None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    presets = clutr.PRESETS
    monkeypatch.setattr(learning, "MAZES", {"maze-dr": presets["maze-dr-debug"], "published": presets["maze-dr-debug"]})
    monkeypatch.setattr(learning, "CARS", {"car-dr": presets["car-dr-debug"]})
    monkeypatch.setattr(learning, "SUITES", {"maze": ("small", 2), "car": ("bezier-small", 1)})
    monkeypatch.setattr(learning, "learn_jaxued", lambda minutes: (f"the peer after {minutes:g}", 0.25))


@pytest.mark.usefixtures("small")
def test_each_is_trained_and_set_beside_its_peers(capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "maze-dr", "published", "jaxued"]
    assert main(["bench", "learning", "--json", "--minutes", "0.0001", *only]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert [(f["what"].split(",")[0], f["peer"], f["peer_value"]) for f in figures] == [
        ("maze-dr", "published", figures[2]["value"]),
        ("maze-dr", "the peer after 0.0001", 0.25),
        ("published", "the peer after 0.0001", 0.25),
    ]
    assert figures[1]["ratio"] == figures[1]["value"] / 0.25
    assert "maze-dr, 0.0001 minutes: 256 steps a student, [" in figures[0]["what"]  # an update of 8 x 32
    assert figures[0]["unit"] == "solved on small"


@pytest.mark.usefixtures("small")
def test_what_is_unknown_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "learning", "--only", "maze-drr"]) == 2
    assert "no method is called 'maze-drr'; did you mean maze-dr?" in capsys.readouterr().err
    assert main(["bench", "buffers", "--minutes", "3"]) == 2
    assert "--minutes is an option of `clutr bench learning`, not of buffers" in capsys.readouterr().err


def test_a_peer_that_is_missing_leaves_our_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(maze_train.PEERS_PYTHON, str(tmp_path / "nowhere"))
    name, value = learning.learn_jaxued(1)
    assert value is None
    assert "JaxUED did not run: " in name


def test_both_play_the_same_mazes() -> None:
    suite = clutr.suites("maze")["small"]
    seen: list[Any] = []

    class Watch:
        def initial_state(self, n: int) -> torch.Tensor:
            return torch.zeros(n, 0)

        def act(self, _observation: Any, state: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(len(state), dtype=torch.int64), state

    played = evaluate(Watch(), suite, 3, torch.Generator().manual_seed(1), record=3)
    mazes: list[dict[str, Any]] = learning.mazes_of(suite, 3)
    for level in played.levels:
        mine = [maze for maze in mazes if maze["name"] == level.level]
        for index, maze in enumerate(mine):
            x, y = maze["agent"]
            assert int(level.recorded.agent[index]) == y * level.recorded.width + x  # type: ignore[attr-defined]
            assert maze["walls"] == level.recorded.walls[index].int().tolist()  # type: ignore[attr-defined]
        seen += mine
    assert len(seen) == len(mazes)


@pytest.mark.skipif(PYTHON is None, reason="JaxUED is not installed")
def test_the_peer_learns_for_its_minutes_and_plays(tmp_path: Path) -> None:
    """An open room with the goal one step ahead: even a random walk mostly arrives. A walled-in goal: nobody does."""
    room = [[0] * 3 for _ in range(3)]
    near = {"name": "near", "walls": room, "agent": [0, 0], "goal": [1, 0], "heading": 0, "steps": 60}
    walls = [[0, 0, 0], [0, 1, 1], [0, 1, 0]]
    never = {"name": "never", "walls": walls, "agent": [0, 0], "goal": [2, 2], "heading": 0, "steps": 60}
    (tmp_path / "mazes.json").write_text(json.dumps([near] * 6 + [never] * 2))
    script = Path(maze_train.__file__).with_name("jaxued_peer.py")
    options = ["--minutes", "0.0001", "--mazes", str(tmp_path / "mazes.json"), "--environments", "2", "--steps", "8"]
    done = subprocess.run([str(PYTHON), "-P", str(script), *options], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["steps"] == 16
    assert found["solved"]["never"] == 0
    assert found["solved"]["near"] > 0.5


def test_jaxued_settings_are_told_apart_from_the_published_ones() -> None:
    if find_spec("jaxued") is None:
        pytest.skip("JaxUED is not installed")
    peer = importlib.import_module("clutr.experiments.benchmarks.jaxued_peer")
    assert (peer.JAXUED.gae_lambda, peer.JAXUED.entropy_coefficient, peer.JAXUED.fresh_levels) == (0.98, 1e-3, True)
    assert (peer.Shape().gae_lambda, peer.Shape().entropy_coefficient, peer.Shape().fresh_levels) == (0.95, 0.01, False)
