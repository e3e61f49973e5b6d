"""What there is can be read by machines and chosen by its name."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

import clutr
from clutr.experiments.cli.main import main
from clutr.experiments.training.lookup import override
from clutr.experiments.world_model.config import from_yaml

Capture = pytest.CaptureFixture[str]


def _listed(shelf: str, capsys: Capture) -> dict[str, str]:
    capsys.readouterr()
    assert main(["list", shelf, "--json"]) == 0
    listed: dict[str, str] = json.loads(capsys.readouterr().out)[shelf]
    return listed


def test_the_version_is_told(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"clutr {version('clutr')}\n"


def test_presets_are_described_in_words(capsys: Capture) -> None:
    presets = _listed("presets", capsys)
    assert set(presets) == set(clutr.PRESETS)
    assert presets["maze-clutr"].startswith("maze: CLUTR: a regret-maximising teacher")
    assert presets["maze-clutr"].endswith("20,000,000 steps")
    assert "tiny, ends in seconds" in presets["maze-dr-debug"]


def test_what_is_listed_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for name in _listed("manifolds", capsys):
        chosen = override(clutr.PRESETS["maze-clutr"], manifold=name).manifold
        assert clutr.MANIFOLDS.name_of(type(chosen)) == name  # type: ignore[arg-type]
    monkeypatch.setattr("clutr.experiments.world_model.run_directory.record", lambda *_: None)
    monkeypatch.setattr("clutr.experiments.world_model.run_directory.dataset_table", lambda _: "")
    for part in ("backbone", "core"):
        for name in _listed(f"{part}s", capsys):
            run = tmp_path / f"{part}-{name}"
            assert main(["world", "record", "--preset", "maze-debug", f"--{part}", name, "--run", str(run)]) == 0
            assert f"  kind: {name}\n" in (run / "world.yaml").read_text()
            assert from_yaml((run / "world.yaml").read_text())
    capsys.readouterr()
    assert main(["world", "record", "--core", "gruu"]) == 2
    assert "no core is called 'gruu'; did you mean gru?" in capsys.readouterr().err


def test_quiet_prints_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert main(["train", "maze-dr-debug", "--quiet", "--evaluate-every", "0", "--run", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert main(["list", "domains"]) == 0
    assert "maze" in capsys.readouterr().out
