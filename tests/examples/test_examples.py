"""Examples are short, and do what they say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import clutr

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    """The example's module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    most = 70 if path.stem == "new_environment" else 60  # which is a whole environment
    assert len(path.read_text().splitlines()) <= most


def test_a_new_curriculum_trains_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clutr.CURRICULA, "_entries", {name: clutr.CURRICULA[name] for name in clutr.CURRICULA})
    module = example("new_curriculum")
    run = clutr.train("maze-dr-debug", curriculum="undecided", evaluate_every=0, run=tmp_path / "run")
    assert isinstance(run.experiment.curriculum, module.UndecidedConfig)
    assert run.metrics()["undecided"].max() > 0.011
    clutr.resume(run)


def test_a_policy_of_ones_own_is_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("evaluate_own_policy").main("small", 4) > 0.1
    assert "95 % interval" in capsys.readouterr().out
