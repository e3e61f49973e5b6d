"""The code on the pages is the code that is tested."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAZE = "#####\n#>.G#\n#...#\n#####\n"


def code_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def test_contributing_shows_the_example_of_an_environment() -> None:
    (shown,) = code_blocks("CONTRIBUTING.md")
    assert shown == (ROOT / "examples" / "new_environment.py").read_text()
    assert len(shown.splitlines()) < 80


def test_the_code_in_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("maze.txt").write_text(MAZE)
    blocks = code_blocks("README.md")
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    solved = float(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= solved <= 1
    assert (tmp_path / "runs" / "maze-clutr-debug-s2" / "metrics.csv").exists()


def test_the_pictures_on_the_pages_are_there() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for source in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / source).is_file(), f"{page.name} shows {source}"
