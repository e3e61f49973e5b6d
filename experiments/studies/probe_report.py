"""The standard probe report: a world model and students that ship, probed anew, and the page about it.

    python -m clutr.experiments.studies.probe_report [--quick] [--only=SECTION,...] [NAME...]

Without names car-world@best, maze-dr@best and car-clutr@best; of a world model all sections, or those that are named.
Each is probed in `runs/probe-report/NAME`; its numbers go to `experiments/results/probes/NAME`, pictures to
`docs/images`, and the block of `docs/probes.md` between two marks is written anew from all numbers that are there. A
world model is probed on roads that are recorded for it.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clutr.experiments.display import say, work_display
from clutr.experiments.pretrained import card, located
from clutr.experiments.reports.probe_figures import write_figures, write_student_figure
from clutr.experiments.reports.probe_report import build_probe_page, probe_world_model
from clutr.experiments.reports.probe_summary import renewed, student_summary, world_summary
from clutr.experiments.reports.student_probes import build_student_page, probe_students
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import write_atomically
from clutr.experiments.world_model.config import read, to_yaml
from clutr.experiments.world_model.probing import PROBES, ProbeOptions
from clutr.experiments.world_model.run_directory import WorldModelRun, record

HERE = Path(__file__).resolve().parents[2]
NAMES = ("car-world@best", "maze-dr@best", "car-clutr@best")
EPISODES = 128
"""Recorded for a world model, on new roads."""
OPTIONS = ProbeOptions(predictions=24, past=10, pictured=16, samples=4_000, frames=500)
"""Less than the command's own, but for the checks."""
QUICK = ProbeOptions(
    predictions=8, past=8, pictured=6, moments=3, shuffles=4, quantities=1, samples=1_500, frames=300, traversals=4,
    steps=60, warm_up=20, exponents=4, starts=4, search=100, beyond=3,
)  # fmt: skip
"""With `--quick`: a quarter of an hour's work in minutes; intervals are wide."""
LEVELS, QUICK_LEVELS = 128, 32
"""That students play."""
DIGITS = 5
"""Significant digits that are kept."""


def probe_one(
    name: str, work: Path, results: Path, images: Path, quick: bool = False, sections: Sequence[str] = tuple(PROBES)
) -> None:
    """Probe one model that ships, and keep its numbers and pictures."""
    short = name.partition("@")[0]
    path, folder = work / short, results / short
    if not path.exists():
        shutil.copytree(located(name), path, ignore=shutil.ignore_patterns("recording", "probes*", "live-*"))
    if set(sections) == set(PROBES):  # otherwise the others stay
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if card(name).kind == "world-model":
        experiment = read(path / "world.yaml")
        wanted = replace(experiment, record=replace(experiment.record, episodes=EPISODES))
        if experiment != wanted:
            shutil.rmtree(path / "recording", ignore_errors=True)
            write_atomically(path / "world.yaml", to_yaml(wanted).encode())
        run = WorldModelRun(path)
        with work_display("recording new roads") as progress:
            record(run, progress)

        def said(section: str) -> Any:
            say(f"{name}: {section}")
            return lambda *_: None

        probe_world_model(run, QUICK if quick else OPTIONS, said, sections)
        if set(sections) == set(PROBES):
            build_probe_page(run)
        for section in sections:
            _keep(path / "probes" / f"{section}.json", folder)
        write_figures(path / "probes", images, short)
    else:
        student = RunDirectory(path)
        with work_display(f"probing {name}") as progress:
            probe_students(student, QUICK_LEVELS if quick else LEVELS, 1, progress)
        build_student_page(student)
        _keep(path / "probes" / "students.json", folder)
        write_student_figure(path / "probes", images, short)


def _keep(path: Path, folder: Path) -> None:
    """Put numbers where they are committed, with fewer digits."""
    values = _rounded(json.loads(path.read_text()))
    write_atomically(folder / path.name, json.dumps(values, separators=(",", ":")).encode() + b"\n")


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _rounded(each) for name, each in values.items()}
    if isinstance(values, list):
        return [_rounded(each) for each in values]
    return float(f"{values:.{DIGITS}g}") if isinstance(values, float) else values


def block(results: Path) -> str:
    """What `docs/probes.md` says of the numbers in the folders of `results`."""
    parts = []
    for name in NAMES:
        folder = results / name.partition("@")[0]
        if (folder / "students.json").exists():
            parts.append(student_summary(name, json.loads((folder / "students.json").read_text())))
        elif folder.exists():
            there = [section for section in PROBES if (folder / f"{section}.json").exists()]
            sections = {section: json.loads((folder / f"{section}.json").read_text()) for section in there}
            if sections:
                parts.append(world_summary(name, sections, EPISODES))
    return "\n\n".join(parts)


def main(arguments: list[str]) -> int:
    """Probe the models that were named, or all, and write the page anew."""
    results, images = HERE / "experiments" / "results" / "probes", HERE / "docs" / "images"
    names = [each for each in arguments if not each.startswith("--")]
    only = next((each.partition("=")[2].split(",") for each in arguments if each.startswith("--only=")), list(PROBES))
    for name in names or NAMES:
        probe_one(name, Path("runs") / "probe-report", results, images, "--quick" in arguments, only)
    page = HERE / "docs" / "probes.md"
    write_atomically(page, renewed(page.read_text(), block(results)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
