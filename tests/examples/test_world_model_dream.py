"""The example of a dream as an environment."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from gymnasium.utils.env_checker import check_env
from worlds import FEW_MAZES

from clutr.experiments.world_model.config import WORLD_PRESETS

EXAMPLE = Path(__file__).parents[2] / "examples" / "world_model_dream.py"


def test_a_tiny_world_model_is_dreamt_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(WORLD_PRESETS, "maze-debug", replace(WORLD_PRESETS["maze-debug"], record=FEW_MAZES))
    example = runpy.run_path(str(EXAMPLE))
    run = example["train_tiny"](tmp_path)
    returns = example["main"](run, episodes=2)
    assert len(returns) == 2
    assert f"episode 2: dreamt return {returns[1]:.2f}" in capsys.readouterr().out
    check_env(example["make_env"](run), skip_render_check=True)
