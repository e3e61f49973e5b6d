"""Paths are asked before any work, what cannot be written is one line, and nothing is left behind."""

from pathlib import Path

import pytest

from clutr.experiments.files import RunError, as_output, can_write, expanded, require_writable, write_atomically


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("x" * 300, r"cannot write /.*x{30}: File name too long\. Nothing was filmed\.$"),
        ("/proc/x.gif", r"cannot write /proc/x\.gif: No such file or directory\. Nothing was filmed\.$"),
        ("file/x.gif", r"cannot write /.*/file/x\.gif: Not a directory\. Nothing was filmed\.$"),
        ("directory", r"/directory is a directory, not a file\. Nothing was filmed\.$"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(path: str, said: str, folder: Path) -> None:
    with pytest.raises(RunError, match=said):
        as_output(folder / path, "Nothing was filmed.")
    assert sorted(each.name for each in folder.iterdir()) == ["directory", "file"]


def test_a_file_that_can_be_written_is_not_made(folder: Path) -> None:
    assert as_output(folder / "new" / "film.gif") == folder / "new" / "film.gif"
    assert as_output(folder / "file") == folder / "file", "it may be replaced"
    require_writable(folder / "new" / "folder", "Nothing was done.")
    assert can_write(folder / "new" / "folder")
    assert sorted(each.name for each in folder.iterdir()) == ["directory", "file"]


@pytest.mark.parametrize(
    ("path", "reason"), [("file/x", "Not a directory"), ("/proc/x", "No such file"), ("x" * 300, "File name too long")]
)
def test_a_folder_that_cannot_be_written_is_refused(path: str, reason: str, folder: Path) -> None:
    with pytest.raises(RunError, match=rf"cannot write to /.*: {reason}.*\. Nothing was trained\.$"):
        require_writable(folder / path, "Nothing was trained.")


def test_a_home_is_that_of_somebody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert expanded("~/x") == folder / "x"
    assert expanded("x~/~") == Path("x~/~")
    with pytest.raises(RunError, match=r"^'~nobody-is-called-so/x' is no path: Could not determine home directory"):
        expanded("~nobody-is-called-so/x")


@pytest.mark.parametrize(("then", "advice"), [((), "try again"), (("resume",), "resume")])
def test_what_to_do_about_a_full_disk_depends_on_what_was_written(
    then: tuple[str, ...], advice: str, folder: Path
) -> None:
    said = rf"cannot write .*: File exists\. Nothing .* is lost; free space or permissions, then {advice}\.$"
    with pytest.raises(RunError, match=said):
        write_atomically(folder / "file" / "x", b"", *then)
