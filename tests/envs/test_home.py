"""Who has no home gets folders of their own elsewhere."""

import os
import tempfile
from pathlib import Path

import pytest

from clutr.envs import home


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_home_of_nobody_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.at_home("~/levels") == tmp_path / "levels"
    assert home.at_home("~no-such-user/levels") == Path("~no-such-user/levels")


def test_a_temporary_cache_is_this_users_own(temporary: Path) -> None:
    folder = home.temporary_cache()
    assert folder == temporary / f"clutr-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert home.temporary_cache() == folder
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match=rf"clutr-{os.getuid()} is open to others"):
        home.temporary_cache()


def test_a_link_is_no_folder_of_ones_own(temporary: Path) -> None:
    (temporary / "elsewhere").mkdir(mode=0o700)
    (temporary / f"clutr-{os.getuid()}").symlink_to(temporary / "elsewhere")
    with pytest.raises(PermissionError, match="is open to others"):
        home.temporary_cache()


@pytest.mark.parametrize("named", [False, True])
def test_libraries_are_given_caches_where_there_is_no_home(
    named: bool, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "mine")
        if not named:
            monkeypatch.delenv(name)
    monkeypatch.setattr(Path, "home", no_home)
    home.give_caches()
    own = temporary / f"clutr-{os.getuid()}"
    found = [os.environ[name] for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR")]
    assert found == (["mine", "mine"] if named else [str(own / "numba"), str(own / "matplotlib")])


def test_a_home_is_left_as_it_is(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: temporary)
    home.give_caches()
    assert list(temporary.iterdir()) == []
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not home.has_home(), "nothing can be kept there"
    (temporary / ".cache").mkdir()
    assert home.has_home(), "it holds what was kept when it could be written"
