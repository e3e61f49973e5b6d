"""Where there is no home, or none that can be written, models and manifolds are kept elsewhere."""

import os
import re
import tempfile
from pathlib import Path

import pytest

from clutr.experiments import pretrained
from clutr.experiments.api import new_run
from clutr.experiments.evaluation import runs
from clutr.experiments.files import RunError
from clutr.experiments.pretrained import caches, located, unpacked, user_cache
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.manifolds import manifold_cache, manifold_path, pretrain
from clutr.experiments.training.presets import PRESETS

EXPERIMENT = PRESETS["maze-clutr-debug"]
OWN = f"clutr-{os.getuid()}"


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files; there is no home, and no variable names a cache."""
    for name in ("CLUTR_MODELS", "CLUTR_MANIFOLDS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(Path, "home", no_home)
    return folder


def test_without_a_home_caches_are_temporary(temporary: Path) -> None:
    assert user_cache("CLUTR_MODELS", "models") == temporary / OWN / "models"
    assert manifold_cache() == temporary / OWN / "manifolds"
    path = located("maze-dr@best")
    assert path.is_relative_to(temporary / OWN / "models")
    assert unpacked(path) == pretrained.card("maze-dr@best")


def test_where_nothing_can_be_written_the_variable_is_named_before_a_run_begins(
    temporary: Path, tmp_path: Path
) -> None:
    temporary.rmdir()
    said = r"no folder for manifolds that can be written \(.*No such file.*\): name one with the variable CLUTR_MANIF"
    with pytest.raises(RunError, match=said):
        new_run(EXPERIMENT, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_cache_that_is_named_is_asked_before_a_run_begins(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUTR_MANIFOLDS", "/proc/kept")
    with pytest.raises(RunError, match=r"cannot write to /proc/kept: .* or the variable CLUTR_MANIFOLDS\.$"):
        new_run(EXPERIMENT, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert new_run(PRESETS["maze-dr-debug"], tmp_path / "run").path.is_dir(), "it needs none"


def test_what_a_read_only_home_holds_is_found(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr(Path, "home", lambda: home)
    usual, other = home / ".cache" / "clutr", temporary / OWN
    assert caches("CLUTR_MODELS", "models") == (usual / "models",)
    kept = located("maze-dr@best")
    manifold = manifold_path(EXPERIMENT, manifold_cache())
    manifold.parent.mkdir(parents=True)
    manifold.write_bytes(b"")
    monkeypatch.setattr(pretrained, "can_write", lambda _: False)
    assert caches("CLUTR_MODELS", "models") == (usual / "models", other / "models")
    assert located("maze-dr@best") == kept
    assert unpacked(kept) is not None
    assert located("maze-accel@best").is_relative_to(other / "models"), "what is new is kept elsewhere"
    said: list[str] = []
    monkeypatch.setattr("clutr.manifold.pretrain.NetworkPretraining.run", lambda *_: said.append("pretrained"))
    path, _ = pretrain(EXPERIMENT, manifold_cache(), lambda *_: None, said.append)
    assert path == manifold, "it was looked for there"
    assert said == [f"{manifold} is damaged; the manifold is pretrained again", "pretrained"]


def test_the_result_of_a_model_that_ships_is_returned_though_it_cannot_be_kept(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory("maze-dr@best")
    (run.path / "evaluations").write_text("a file is in the way")
    result = runs.evaluate_run(run, "small", 1)
    assert len(result["levels"]) == 10
    (said,) = [record.getMessage() for record in caplog.records]
    assert re.match(r"cannot write .*small/.*json: .* The result is returned all the same\.$", said)
