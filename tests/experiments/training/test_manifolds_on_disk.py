"""Pretrained manifolds are shared, go on after an interruption, and are made again when damaged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clutr.experiments.config import Experiment
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, load_state
from clutr.experiments.training import manifolds
from clutr.experiments.training.manifolds import manifold_cache, manifold_path, prepare_manifold, pretrain
from clutr.experiments.training.presets import PRESETS
from clutr.manifold.base import TRAINING_VERSION

EXPERIMENT = PRESETS["maze-clutr-debug"]


class Count:
    """A progress callback that remembers what was done, and interrupts once if asked to."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.done: list[int] = []
        self.interrupt_at = interrupt_at

    def __call__(self, done: int, _total: int, _metrics: dict[str, float]) -> None:
        self.done.append(done)
        if done == self.interrupt_at:
            raise KeyboardInterrupt


def assert_equal_states(left: Any, right: Any) -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal_states(left[key], right[key])
    else:
        assert left == right


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the uninterrupted manifold of `EXPERIMENT`."""
    directory = tmp_path_factory.mktemp("manifolds")
    pretrain(EXPERIMENT, directory, Count())
    return directory


def test_pretrained_once_and_then_shared(shared: Path) -> None:
    count = Count()
    path, health = pretrain(EXPERIMENT, shared, count)
    assert count.done == []
    assert path == manifold_path(EXPERIMENT, shared)
    assert health == load_state(path)["measured"]
    assert list(shared.iterdir()) == [path], "nothing unfinished is left behind"


@pytest.mark.parametrize(
    "other", [replace(EXPERIMENT, manifold_seed=2), replace(EXPERIMENT, domain=PRESETS["demo-clutr"].domain)]
)
def test_another_seed_or_world_is_another_file(other: Experiment, shared: Path) -> None:
    assert manifold_path(other, shared) != manifold_path(EXPERIMENT, shared)


def test_the_seed_of_the_run_does_not_matter(shared: Path) -> None:
    assert manifold_path(replace(EXPERIMENT, seed=2), shared) == manifold_path(EXPERIMENT, shared)


def test_interrupted_pretraining_goes_on_to_the_same_end(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifolds, "SAVE_EVERY_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        pretrain(EXPERIMENT, tmp_path, Count(interrupt_at=40))
    path = manifold_path(EXPERIMENT, tmp_path)
    assert [file.suffix for file in tmp_path.iterdir()] == [".unfinished"]
    count = Count()
    assert pretrain(EXPERIMENT, tmp_path, count)[0] == path
    assert count.done == [40, 60], "it began at 20, where it was saved"
    assert_equal_states(load_state(path), load_state(manifold_path(EXPERIMENT, shared)))
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_files_are_made_again(shared: Path, tmp_path: Path) -> None:
    good = manifold_path(EXPERIMENT, shared)
    path = manifold_path(EXPERIMENT, tmp_path)
    path.write_bytes(good.read_bytes()[:-40])
    path.with_suffix(".unfinished").write_bytes(b"rubbish")
    count, said = Count(), list[str]()
    pretrain(EXPERIMENT, tmp_path, count, said.append)
    assert count.done == [20, 40, 60]
    assert said == [f"{path} is damaged; the manifold is pretrained again"]
    assert_equal_states(load_state(path), load_state(good))


def test_manifolds_of_another_version_of_the_training_are_not_used(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifold_path(EXPERIMENT, shared)
    monkeypatch.setattr("clutr.experiments.config.TRAINING_VERSION", TRAINING_VERSION + 1)
    assert manifold_path(EXPERIMENT, shared) != before


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CLUTR_MANIFOLDS": "/kept", "XDG_CACHE_HOME": "/cache"}, "/kept"),
        ({"CLUTR_MANIFOLDS": "~/kept"}, "/home/me/kept"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/clutr/manifolds"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/clutr/manifolds"),
        ({}, "/home/me/.cache/clutr/manifolds"),
    ],
)
def test_where_manifolds_are_kept(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLUTR_MANIFOLDS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert manifold_cache() == Path(expected)


def test_a_run_keeps_its_own_copy(shared: Path, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", EXPERIMENT)
    count = Count()
    prepare_manifold(run, shared, count)
    assert run.manifold_path.read_bytes() == manifold_path(EXPERIMENT, shared).read_bytes()
    manifold = prepare_manifold(RunDirectory(run.path), tmp_path / "nowhere", count)
    assert count.done == []
    assert not (tmp_path / "nowhere").exists()
    assert_equal_states(manifold.state_dict(), load_state(run.manifold_path))


def test_a_run_without_a_manifold_has_none_to_prepare(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", PRESETS["maze-dr-debug"])
    with pytest.raises(RunError, match="has no manifold"):
        prepare_manifold(run, tmp_path, Count())
    with pytest.raises(RunError, match="this experiment has no manifold"):
        manifold_path(run.experiment, tmp_path)
