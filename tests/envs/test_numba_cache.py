"""Compiled functions never outlive their sources, and are made also where nothing can be written."""

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import pytest

from clutr.envs import numba_cache
from clutr.envs.numba_cache import LOCK, STAMP, digest_of, forget_stale_kernels, njit, will_compile


def test_what_was_compiled_from_other_sources_is_removed(tmp_path: Path) -> None:
    def stale() -> bool:
        return forget_stale_kernels(digest_of(tmp_path), cache)

    (tmp_path / "one.py").write_text("a = 1\n")
    (tmp_path / "two.py").write_text("b = 2\n")
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    index = cache / "one.kernel-1.nbi"
    index.write_text("index")
    assert stale(), "made nobody knows when"
    assert not index.exists()
    index.write_text("index")
    assert not stale()
    assert index.exists()
    (tmp_path / "two.py").write_text("b = 3\n")
    assert stale(), "one.py may hold what two.py had"
    assert not index.exists()
    (tmp_path / "three.py").write_text("")
    assert stale()
    assert not stale()


def test_code_elsewhere_is_renewed_with_the_environments_that_it_may_call(tmp_path: Path) -> None:
    (tmp_path / "student.py").write_text("a = 1\n")
    environments = Path(numba_cache.__file__).parent
    assert numba_cache._digest(tmp_path) == digest_of(tmp_path) + digest_of(environments)
    assert numba_cache._digest(environments / "maze") == digest_of(environments / "maze")


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert forget_stale_kernels("digest", tmp_path / "cache")
    assert not (tmp_path / "cache" / STAMP).exists()


def double(number: int) -> int:
    return 2 * number


def test_compiling_is_announced_where_it_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    first: Any = njit()(double)
    assert str(first.stats.cache_path).startswith(str(tmp_path))
    assert will_compile(first) == "once"
    assert first(3) == 6
    assert will_compile(njit()(double)) is None


def test_processes_that_begin_side_by_side_compile_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While this one waits for its turn, another one compiles; then there is nothing left to do but to load."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    waiting: Any = njit()(double)
    other: Any = numba.njit(cache=True)(double)
    lock = (Path(waiting.stats.cache_path) / LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)

    def work_of_the_other(_: float) -> None:
        assert other(3) == 6
        lock.close()

    monkeypatch.setattr("clutr.envs.numba_cache.time.sleep", work_of_the_other)
    assert waiting(3) == 6
    assert sum(other.stats.cache_misses.values()) == 1
    assert sum(waiting.stats.cache_hits.values()) == 1
    assert not waiting.stats.cache_misses


def test_a_process_that_was_stopped_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    waits: list[float] = []
    monkeypatch.setattr("clutr.envs.numba_cache.time.sleep", waits.append)
    monkeypatch.setattr(numba_cache, "PATIENCE", 0.01)
    function: Any = njit()(double)
    with (Path(function.stats.cache_path) / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert function(3) == 6
    assert waits


WITHOUT_A_FOLDER = """
import numba.core.caching as caching

for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda *_: None)
from clutr.envs.maze.search import fewest_actions
from clutr.envs.numba_cache import njit, will_compile

@njit()
def double(number):
    return 2 * number

print(double(3))
print(will_compile(fewest_actions))
"""


def test_without_a_writable_folder_functions_are_compiled_anew() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_A_FOLDER], capture_output=True, text=True, check=True)
    value, why = done.stdout.splitlines()
    assert value == "6"
    assert "NUMBA_CACHE_DIR" in why
