"""The example for scripts of Stable-Baselines3 runs; who does without the package never imports it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from clutr.experiments.cli.main import main

EXAMPLE = Path(__file__).parents[3] / "examples" / "sb3_curriculum.py"


def test_the_example_trains_and_its_model_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("sb3_curriculum", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    model = example.main(4096)
    assert model.num_timesteps == 4096
    assert "curriculum/" in capsys.readouterr().out
    assert main(["eval", "--sb3", "maze_ppo.zip", "--suite", "small", "--episodes", "1", "--trust"]) == 0


def test_who_does_without_extras_never_imports_them() -> None:
    code = (
        "import sys, clutr.experiments.benchmarks.scale; from clutr.experiments.cli.main import main; "
        + "main(['list']); sys.exit(bool({'stable_baselines3', 'ray', 'nicegui', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
