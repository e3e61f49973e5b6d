"""What is installed: one package, whatever else a user's machine has under the names of our rooms."""

import email
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("wheel", "sdist", "editable")

PROGRAM = """
import agents, envs, experiments, foreign  # the user's own rooms, and what another distribution installed
assert envs.MINE and experiments.MINE and agents.MINE
import clutr, clutr.agents, clutr.envs.validation
from clutr.experiments.cli.main import main
assert clutr.__file__ != envs.__file__
raise SystemExit(main({arguments}))
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def build(kind: str, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder, cwd=ROOT)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist of this checkout."""
    return {kind: build(kind, tmp_path_factory.mktemp(kind)) for kind in ("wheel", "sdist")}


@pytest.fixture(scope="module")
def environment(
    distributions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """The folder of a new environment's programs and its site-packages: dependencies are there, and CLUTR by itself."""

    @cache
    def make(kind: str) -> tuple[Path, Path]:
        root = tmp_path_factory.mktemp(f"environment-{kind}")
        run(sys.executable, "-m", "venv", "--without-pip", root, cwd=root)
        programs, (site,) = root / "bin", (root / "lib").glob("python*/site-packages")
        # a path in a .pth file makes packages importable and leaves that folder's own .pth files alone
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = f"-m pip --python {programs / 'python'} install --quiet --no-index --no-deps --no-build-isolation"
        what: list[str | Path] = ["--editable", ROOT] if kind == "editable" else [distributions[kind]]
        run(sys.executable, *pip.split(), "--ignore-installed", *what, cwd=root)
        return programs, site

    return make


def test_the_wheel_holds_one_package_without_results(distributions: dict[str, Path]) -> None:
    wheel = distributions["wheel"]
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"clutr"}
    rooms = {name.split("/")[1] for name in names if name.count("/") > 1 and not name.startswith("clutr-")}
    assert {"envs", "agents", "experiments", "curricula", "manifold", "world_model", "probes"} <= rooms
    assert not [name for name in names if name.startswith(("clutr/experiments/results", "clutr/experiments/studies"))]
    assert {"clutr/py.typed", "clutr/experiments/live/page.css", "clutr/experiments/plots/page.js"} <= set(names)
    models = [entry for entry in zipfile.ZipFile(wheel).infolist() if entry.filename.startswith("clutr/models/")]
    assert {Path(entry.filename).name for entry in models} == {path.name for path in (ROOT / "clutr/models").iterdir()}
    packed = sum(entry.compress_size for entry in models)
    assert packed < 15_000_000
    assert wheel.stat().st_size - packed < 1_000_000


def test_the_sdist_holds_what_builds_the_same_wheel(distributions: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(distributions["sdist"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert {"Makefile", "constraints.txt", "README.md", "tests", "docs", "examples"} <= {
        path.name for path in unpacked.iterdir()
    }
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=unpacked)
    (again,) = (tmp_path / "again").iterdir()
    ours, theirs = (
        {
            entry.filename: entry.CRC
            for entry in zipfile.ZipFile(path).infolist()
            if "dist-info/RECORD" not in entry.filename
        }
        for path in (distributions["wheel"], again)
    )
    assert ours == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_no_other_name_is_taken(kind: str, environment: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    programs, _ = environment(kind)
    code = "import importlib.util as u; print([n for n in ('envs', 'agents', 'experiments') if u.find_spec(n)])"
    assert run(programs / "python", "-c", code, cwd=tmp_path).stdout.strip() == "[]"


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_beside_rooms_of_the_same_names(
    kind: str, environment: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    """A user's project has its own `envs/` and `experiments/`; another distribution has installed `agents`."""
    programs, site = environment(kind)
    for folder in (site / "agents", site / "foreign", tmp_path / "envs", tmp_path / "experiments"):
        folder.mkdir()
        (folder / "__init__.py").write_text("MINE = True\n")
    # the wheel's modules are all imported; the sdist builds the same ones, and the editable ones are those of all tests
    arguments, expected = (["list", "domains"], "maze") if kind == "wheel" else (["--help"], "train")
    (tmp_path / "script.py").write_text(PROGRAM.format(arguments=arguments))
    assert expected in run(programs / "python", "script.py", cwd=tmp_path).stdout
    assert "train" in run(programs / "clutr", "--help", cwd=tmp_path).stdout


def test_the_metadata_is_complete(distributions: dict[str, Path]) -> None:
    archive = zipfile.ZipFile(distributions["wheel"])
    (name,) = [name for name in archive.namelist() if name.endswith("dist-info/METADATA")]
    about = email.message_from_bytes(archive.read(name))
    assert about["Author"] == "The CLUTR contributors"
    assert about["License-Expression"] == "MIT"
    assert "Typing :: Typed" in about.get_all("Classifier", [])
    assert about["Keywords"]
    assert all("arxiv.org" in url for url in about.get_all("Project-URL", []))
    extras = set(about.get_all("Provides-Extra", []))
    assert extras == {"car", "dev", "distributed", "docs", "film", "inspect", "mlflow", "onnx", "peers", "sb3", "wandb"}
