"""The code on the pages is the code that is tested, and every registered part has a page."""

import json
import math
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
import pytest
import site_notebooks
import site_parts
from worlds import FEW_MAZES

import clutr
from clutr.experiments.cli import arguments, first_look
from clutr.experiments.cli.main import COMMANDS
from clutr.experiments.world_model.config import WORLD_PRESETS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
MAZE = "#####\n#>.G#\n#...#\n#####\n"
SHOWN = "--8<--"
"""Stands for a file, which is tested elsewhere."""


def code_blocks(page: Path, language: str) -> list[str]:
    pattern = rf"^ *```{language}\n(.*?)^ *```$"
    return re.findall(pattern, page.read_text(), flags=re.MULTILINE | re.DOTALL)


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def test_contributing_shows_the_example_of_an_environment() -> None:
    (shown,) = code_blocks(ROOT / "CONTRIBUTING.md", "python")
    assert shown == (ROOT / "examples" / "new_environment.py").read_text()
    assert len(shown.splitlines()) < 80


EXCERPTS = {"docs/sb3.md", "docs/probes.md", "docs/models.md"}
"""Pages whose code is part of an example, or needs a trained model."""
RUNNABLE = [page for page in PAGES if code_blocks(page, "python") and names([page])[0] not in EXCERPTS]


@pytest.fixture
def made_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the code of a page may take for granted: a file with a maze, names, and a package that is not installed."""
    monkeypatch.chdir(tmp_path)
    Path("maze.txt").write_text(MAZE)
    env = gymnasium.make("clutr/Maze-v0", level="maze.txt", render_mode="rgb_array")
    return {"env": env}


class Trial(SimpleNamespace):
    """Of Optuna, for the page that shows it."""

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> float:
        assert log, name
        return math.sqrt(low * high)


class Study(SimpleNamespace):
    """Of Optuna, for the page that shows it."""

    def optimize(self, objective: Any, n_trials: int) -> None:
        found = [objective(Trial(number=number)) for number in range(n_trials)]
        assert all(0 <= value <= 1 for value in found)
        self.best_params: dict[str, float] = {}


@pytest.mark.parametrize("page", names(RUNNABLE))
def test_the_code_on_the_pages_runs(
    page: str, made_before: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    optuna = SimpleNamespace(Trial=Trial, create_study=lambda direction: Study(direction=direction))
    monkeypatch.setitem(sys.modules, "optuna", optuna)
    if page == "docs/world-model.md":
        made_before |= episodes_of_ones_own()
    ran = 0
    for block in code_blocks(ROOT / page, "python"):
        if SHOWN not in block:
            exec(compile(block, page, "exec"), made_before)
            ran += 1
        else:
            assert all((ROOT / path).is_file() for path in re.findall(rf'{SHOWN} "([^"]+)"', block))
    if page == "README.md":
        assert ran >= 2
        assert 0 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1


def episodes_of_ones_own() -> dict[str, Any]:
    """Arrays and a policy, as a reader of the page would have."""
    rng = np.random.default_rng(1)
    frames, actions = rng.integers(0, 255, (12, 64, 64, 3), dtype=np.uint8), np.zeros((11, 2), np.float32)
    return {
        "env": gymnasium.make(
            "clutr/Maze-v0", height=5, width=5, max_obstacles=3, max_steps=12, render_mode="rgb_array"
        ),
        "policy": lambda _: int(rng.integers(3)),
        "frames": frames,
        "actions": actions,
        "rewards": np.zeros(11, np.float32),
    }


def command_lines(page: Path) -> Iterator[list[str]]:
    """The lines of a page that begin with `clutr`, without comments and prompts."""
    text = page.read_text().replace("\\\n", " ")
    for block in re.findall(r"^ *```(?:|bash)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.strip().startswith("clutr "):
                yield shlex.split(re.split(r" {4,}|\s#| > ", line.strip())[0])[1:]


def all_command_lines() -> list[tuple[str, ...]]:
    """Each line once, from all pages, and those that are made for the parts."""
    written = {tuple(line) for page in PAGES for line in command_lines(page)}
    made = {
        tuple(line.split()[1:])
        for kind in site_parts.KINDS
        for name in site_parts.registered(kind)
        for line in kind.launch(name)
    }
    return sorted(written | made)


SAID = ("list", "bench", "completion", "models", "film", "sweep")
"""Commands that would do what they say, or want files."""


def test_command_lines_on_the_pages_fit_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are parsed, and what they would do is not done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(arguments, "partial", lambda *_, **__: lambda: None)
    monkeypatch.setattr(first_look, "require_no_run", lambda _: None)  # the lines below it find what it makes
    config = (RESULTS / "cars" / "dr1" / "config.yaml").read_text()
    for run in ("mine", "plr-s1"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "config.yaml").write_text(config)
    world = (RESULTS / "world_model" / "maze.yaml").read_text()
    for run in ("world", "w"):
        (tmp_path / "runs" / run).mkdir()
        (tmp_path / "runs" / run / "world.yaml").write_text(world)
    lines = all_command_lines()
    assert len(lines) > 60
    parsed, wrong = set[tuple[str, ...]](), list[tuple[tuple[str, ...], str]]()
    for line in lines:
        assert line[0] in COMMANDS, line
        shape = tuple(part for part in line if part.startswith("--") or part in COMMANDS) + line[:2]
        if shape in parsed or line[0] in SAID:
            continue
        parsed.add(shape)
        try:
            COMMANDS[line[0]]([part for part in line[1:] if part != "--quiet"])
        except SystemExit as end:
            wrong += [(line, "ended")] if end.code else []
        except arguments.UsageError as error:
            wrong.append((line, str(error)))
    assert not wrong
    capsys.readouterr()


def test_the_pictures_on_the_pages_are_there() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for source in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / source).is_file(), f"{page.name} shows {source}"


def test_every_part_has_a_page_and_every_page_a_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert site_parts.missing_pages() == []
    monkeypatch.setattr(site_parts, "DOCS", tmp_path)
    (tmp_path / "cores").mkdir()
    (tmp_path / "cores" / "lstm.md").touch()
    (tmp_path / "cores" / "clockwork.md").touch()
    missing = site_parts.missing_pages()
    assert "cores/clockwork.md" in missing
    assert "curricula/clutr.md" in missing
    assert "cores/lstm.md" not in missing


PARTS = [(kind.folder, name) for kind in site_parts.KINDS for name in site_parts.registered(kind)]


@pytest.mark.parametrize(("folder", "name"), PARTS)
def test_a_page_of_a_part_is_complete(folder: str, name: str) -> None:
    written = (ROOT / "docs" / folder / f"{name}.md").read_text()
    assert f"(`{name}`)" in written.splitlines()[0]
    for section in ("**Source.**", "## Pseudo-code", "## Known differences"):
        assert section in written, section
    shown = site_parts.appendix(folder, name)
    assert "## How to launch" in shown
    for row in re.findall(r"^\| `(\w+)` \| `.*` \| (.*) \|$", shown, flags=re.MULTILINE):
        assert row[1], f"{row[0]} has no line of documentation"


def test_the_pseudo_code_names_what_is_in_the_code() -> None:
    rooms = [ROOT / room for room in ("envs", "agents", "clutr")]
    code = {w for room in rooms for path in room.rglob("*.py") for w in re.findall(r"\w+", path.read_text())}
    for folder, name in PARTS:
        table = (ROOT / "docs" / folder / f"{name}.md").read_text().partition("## Pseudo-code")[2].partition("##")[0]
        for row in re.findall(r"^\|.*\| (.*) \|$", table, flags=re.MULTILINE):
            for quoted in re.findall(r"`([^`]+)`", row):
                unknown = set(re.findall(r"[A-Za-z_]\w+", quoted)) - code - {"train"}
                assert not unknown, f"{folder}/{name}: {unknown}"


def test_options_have_their_documentation_and_their_defaults() -> None:
    table = site_parts.options_table(clutr.CURRICULA["robust-plr"])
    assert (
        "| `train_on_new` | `False` | Whether students learn on new levels, too, or only have them scored. |" in table
    )
    assert "| `capacity` | `4000` |" in table, "inherited"
    assert site_parts.options_table(clutr.CURRICULA["dr"]) == "It has no options."


def test_results_are_those_of_the_committed_files() -> None:
    shown = site_parts.appendix("curricula", "flexible-paired")
    assert "by seed: 53, 22, 66." in shown
    assert "Domain randomisation: 25, 33, 21." in shown
    assert shown.count("<polyline") == 2
    assert "No result is committed yet" in site_parts.appendix("curricula", "pace")


TINY: dict[str, dict[str, Any]] = {
    "train_and_look": {"STEPS": 512, "EPISODES": 1},
    "compare_properly": {
        "METHODS": ["maze-dr-debug", "maze-random-latent-debug"],
        "SEEDS": [1, 2],
        "STEPS": 256,
        "EPISODES": 1,
    },
    "open_a_world_model": {"MODEL": "", "WATCHED": 2},
    "own_curriculum": {"STEPS": 512, "EPISODES": 1},
}


@pytest.mark.parametrize("script", site_notebooks.SCRIPTS, ids=lambda path: path.stem)
def test_notebooks_run(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clutr.CURRICULA, "_entries", {name: clutr.CURRICULA[name] for name in clutr.CURRICULA})
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setitem(WORLD_PRESETS, "maze-debug", replace(WORLD_PRESETS["maze-debug"], record=FEW_MAZES))
    found = site_notebooks.run(script, RUNS=str(tmp_path / "runs"), **TINY[script.stem])
    if script.stem == "own_curriculum":
        assert set(found["metrics"]) >= {"staircase/obstacles", "student/solved"}
    else:
        assert plt.get_fignums()
    plt.close("all")


def test_what_notebooks_printed_is_of_the_cells_that_they_have() -> None:
    for script in site_notebooks.SCRIPTS:
        kept, cells = site_notebooks.outputs(script), site_notebooks._cells(script)
        assert kept.cells, f"python docs/hooks/site_notebooks.py {script.stem}"
        for number, output in kept.cells.items():
            assert output.source == site_notebooks.digest(cells[number][1]), f"{script.stem}: renew its outputs"
            for name in output.pictures:
                assert f"({name})" in site_notebooks.page(script)


def test_what_a_notebook_prints_and_draws_is_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(site_notebooks, "KEPT", tmp_path / "kept")
    script = tmp_path / "small.py"
    script.write_text(
        "# %% [markdown]\n# # Small\n\n# %% tags=[\"parameters\"]\nN = 1\n\n# %%\nprint('n is', N)\n\n"
        + "# %%\nimport matplotlib.pyplot as plt\n\nplt.plot([0, N])\n"
    )
    site_notebooks.keep(script, {"N": 3})
    page = site_notebooks.page(script)
    assert "Outputs are of a run with `N = 3`." in page
    assert "```text\nn is 3\n```" in page
    assert page.rstrip().endswith("![what the cell drew](small-3-1.png)")
    outputs = [cell["outputs"] for cell in json.loads(site_notebooks.notebook(script))["cells"] if "outputs" in cell]
    assert outputs[1][0]["text"] == ["n is 3\n"]
    assert "image/png" in outputs[2][0]["data"]


def test_notebooks_are_pages_and_notebooks() -> None:
    script = next(path for path in site_notebooks.SCRIPTS if path.stem == "own_curriculum")
    page = site_notebooks.page(script)
    assert page.startswith("# A curriculum of your own\n")
    assert "```python\n@dataclass(frozen=True)\nclass StaircaseConfig" in page
    assert '"cell_type": "code"' in site_notebooks.notebook(script)
    with pytest.raises(KeyError, match="has no parameter SPEED"):
        site_notebooks.run(script, SPEED=3)
