"""Compiled kernels never outlive their sources."""

from pathlib import Path

from clutr.envs.car.numba_cache import STAMP, forget_stale_kernels


def package(folder: Path) -> Path:
    (folder / "one.py").write_text("a = 1\n")
    (folder / "two.py").write_text("b = 2\n")
    cache = folder / "__pycache__"
    cache.mkdir()
    (cache / "one.kernel-1.nbi").write_text("index")
    return cache / "one.kernel-1.nbi"


def test_what_was_compiled_from_other_sources_is_removed(tmp_path: Path) -> None:
    index = package(tmp_path)
    assert forget_stale_kernels(tmp_path), "made nobody knows when"
    assert not index.exists()
    index.write_text("index")
    assert not forget_stale_kernels(tmp_path)
    assert index.exists()
    (tmp_path / "two.py").write_text("b = 3\n")
    assert forget_stale_kernels(tmp_path), "one.py may hold what two.py had"
    assert not index.exists()
    (tmp_path / "three.py").write_text("")
    assert forget_stale_kernels(tmp_path)
    assert not forget_stale_kernels(tmp_path)


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("a = 1\n")
    (tmp_path / "__pycache__").write_text("a file where the folder should be")
    assert forget_stale_kernels(tmp_path)
    assert not (tmp_path / "__pycache__" / STAMP).exists()
