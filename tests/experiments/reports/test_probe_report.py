"""The probe report of a world model from its command line to its page, in both worlds; and that of students."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from coarse import coarse_maps
from worlds import FEW_MAZES, made

from clutr.experiments.cli.main import main
from clutr.experiments.plots.probes import sanity_check_rows, sanity_checks_panel
from clutr.experiments.reports.probe_figures import write_figures
from clutr.experiments.reports.probe_report import build_probe_page, load_section, load_sections, probe_world_model
from clutr.experiments.reports.probe_summary import renewed, world_summary
from clutr.experiments.reports.student_probes import build_student_page
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.studies.probe_report import block
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.probing import PROBES, ProbeContext, ProbeOptions, attributions, true_state
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.experiments.world_model.training import MEMORIES, WorldModel, encoded, fit_backbone, train_memories
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.aaren import AarenConfig
from clutr.world_model.cores.lmu import LMUConfig
from clutr.world_model.dream import Dreamer
from clutr.world_model.memory import MemoryConfig, Scale

SMALL = ProbeOptions(
    past=4, predictions=4, pictured=1, shuffles=2, quantities=1, ahead=3, samples=300, frames=40, traversals=2,
    exponents=2, steps=12, warm_up=5, starts=2, search=50, beyond=3, frames_back=2,
)  # fmt: skip
PANELS = (
    "trust", "checks", "situations", "seen", "features", "pixels", "past", "interventions", "risk", "state", "latents",
    "small", "attribution", "dynamics", "health",
)  # fmt: skip
QUESTIONS = (
    "Can I trust it here?", "What did it see?", "What would happen if?", "What does it know?", "Why was it wrong?",
)  # fmt: skip


def test_a_probe_report_from_the_command_line(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run, world = str(tmp_path / "world"), made("car-debug", tmp_path_factory)
    world.copy(Path(run), "backbone.safetensors", "memory-*")
    assert main(["world", "probe", "--run", run]) == 2
    assert "is not trained" in capsys.readouterr().err
    world.copy(Path(run))
    with coarse_maps():
        assert main(["world", "probe", "--run", run, "--other", str(world.path), *_flags()]) == 0
    sections = load_sections(Path(run) / "probes")
    assert set(sections) == set(PROBES)
    stitched = sections["latent_tests"][0]["stitching"]
    assert stitched["other"] == str(world.path)
    assert min(stitched["to"][0], stitched["from"][0]) > 0.99, "the other model is the same one"
    rows = sections["attribution"][0]["rows"]
    assert {row["of"] for row in rows} == {"past latents", "pixels"}
    assert {row["method"] for row in rows} == {
        "gradient x input", "integrated gradients", "occlusion", "layer-wise relevance", "chance",
    }  # fmt: skip
    assert all(row["left_out"] < 0.02 for row in rows if row["method"] == "integrated gradients" and "left_out" in row)
    assert all(values["about"]["seed"] == 1 for values, _ in sections.values())
    page = (Path(run) / "probes.html").read_text()
    assert not re.search(r"(?:src|href)=[\"']https?:", page), "the page needs nothing else"
    places = [page.index(f'id="{panel}"') for panel in PANELS]
    assert places == sorted(places), "ordered by question"
    asked = [page.index(question) for question in QUESTIONS]
    assert asked == sorted(asked)
    assert "Not measured: " in page, "episodes of 12 steps are too short for some, which is said"
    assert "nan" not in json.dumps(sections["attribution"][0]).lower()
    _check_what_if(sections)
    _check_words_and_figures(Path(run), tmp_path, sections)


def _check_what_if(sections: Any) -> None:
    """Moments of the recording are reached again in the simulator, and its objects moved there."""
    moved = sections["interventions"][0]["moved"]
    assert moved["pictures"] == SMALL.pictured
    assert {row["method"] for row in moved["rows"]} >= {"occlusion", "chance"}
    assert sections["interventions"][1]["moved"].shape[-3:] == (64, 64, 3)
    past, maps = sections["past_pixels"]
    assert past["length"] == SMALL.frames_back
    assert maps["map/the reward/occlusion"].shape == (SMALL.pictured, SMALL.frames_back, 64, 64)
    assert "why_empty" in sections["risk"][0], "six steps from two wheels on the road are too few"


def _check_words_and_figures(run: Path, folder: Path, sections: Any) -> None:
    """What the documentation would say and show of the report."""
    told = world_summary("car-debug", {name: values for name, (values, _) in sections.items()}, 24)
    places = [told.index(f"**{words}**") for words in (*QUESTIONS[:4], "Which explanations passed")]
    assert places == sorted(places)
    assert "Not measured: " in told
    assert "| chance, by past latents | 0 of 3 | a control, which ought to fail |" in told
    written = write_figures(run / "probes", folder, "tiny")
    names = [f"probes-tiny-{what}.png" for what in ("seen", "moved", "past")]
    assert [path.name for path in written] == names, "of what was measured"
    assert all(path.stat().st_size > 1_000 for path in written)


def test_the_page_shows_the_committed_reports() -> None:
    root = Path(__file__).parents[3]
    page, told = (root / "docs" / "probes.md").read_text(), block(root / "experiments" / "results" / "probes")
    assert renewed(page, told) == page, "`python -m clutr.experiments.studies.probe_report` writes this part"
    for picture in re.findall(r"\]\((images/[\w.-]+)\)", told):
        assert (root / "docs" / picture).exists()


def test_a_page_without_marks_is_not_renewed() -> None:
    assert renewed("a\n<!-- probe reports: begin -->old<!-- probe reports: end -->\nb", "new").split() == [
        "a", "<!--", "probe", "reports:", "begin", "-->", "new", "<!--", "probe", "reports:", "end", "-->", "b",
    ]  # fmt: skip
    with pytest.raises(RunError, match="the page has no marks <!-- probe reports: begin -->"):
        renewed("a page", "new")


@pytest.fixture(scope="module")
def few_mazes(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    """A recording and its backbone, without a memory."""
    preset = WORLD_PRESETS["maze-debug"]
    training = replace(preset.training, epochs=1)
    parts = replace(preset, record=FEW_MAZES, backbone=PPCAConfig(latents=5), training=training)
    run = WorldModelRun.create(tmp_path_factory.mktemp("few") / "mazes", parts)
    fit_backbone(run, record(run))
    return run


def _flags() -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in vars(SMALL).items() if value != ""]


@pytest.mark.parametrize(
    ("core", "extra"),
    [
        (AarenConfig(width=8, heads=2, values=4), "attention"),
        (LMUConfig(width=8, channels=3, order=4, window=6), "recall"),
    ],
)
def test_other_cores_have_other_explanations(core: Any, extra: str, few_mazes: WorldModelRun, tmp_path: Path) -> None:
    run = WorldModelRun.create(tmp_path, replace(few_mazes.experiment, memory=MemoryConfig(core=core, gaussians=1)))
    shutil.copytree(few_mazes.path, run.path, ignore=shutil.ignore_patterns("world.yaml"), dirs_exist_ok=True)
    dataset = run.dataset()
    train_memories(run, dataset, fit_backbone(run, dataset))
    told: list[str] = []

    def progress(name: str) -> Any:
        told.append(name)
        return lambda *_: None

    with coarse_maps():
        folder = probe_world_model(run, replace(SMALL, predictions=2, quantities=0), progress)
    assert told == list(PROBES)
    values, arrays = load_section(folder, "attribution")
    assert values["linear_backbone"]
    methods = {row["method"] for row in values["rows"]}
    assert "layer-wise relevance" not in methods
    assert ("attention" in methods) == (extra == "attention")
    assert ("recall" in values) == (extra == "recall")
    assert arrays["by_lag/the reward/occlusion"].shape == (SMALL.past,)
    assert build_probe_page(run).exists()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no probe 'attribution': `clutr world probe` makes it"):
        load_sections(tmp_path)
    with pytest.raises(ValueError, match="past must be at least 1, got 0"):
        ProbeOptions(past=0)
    with pytest.raises(ValueError, match="steps must be above 100, got 100"):
        ProbeOptions(steps=100)
    with pytest.raises(ValueError, match="beyond must be at least 2, got 1"):
        ProbeOptions(beyond=1)


def test_sanity_checks_by_hand() -> None:
    rows = [
        {"of": "pixels", "method": "occlusion", "target": "the reward", "passed": True, "why": "fine"},
        {"of": "pixels", "method": "occlusion", "target": "speed", "passed": False, "why": "it looks (rank .9)"},
        {"of": "pixels", "method": "chance", "target": "speed", "passed": False, "why": "no more than chance"},
    ]
    reading = {"representation": "features, trained", "quantity": "speed", "when": "now", "seen": True, "known": True}
    answer = {"quantity": "yaw_rate", "asked": True, "passed": True}
    sections: Any = {
        "attribution": ({"rows": rows}, {}),
        "state_probes": (
            {
                "readings": [reading, reading | {"quantity": "hidden", "seen": False, "known": False}],
                "causal": [answer, answer | {"quantity": "x", "asked": False, "passed": False}],
            },
            {},
        ),
    }
    found = {row["what"]: row for row in sanity_check_rows(sections)}
    assert (found["occlusion, by pixels"]["passed"], found["occlusion, by pixels"]["checked"]) == (1, 2)
    assert found["occlusion, by pixels"]["words"] == "of the reward; otherwise it looks"
    assert found["chance, by pixels"]["control"]
    known = found["what the memory knows, beyond controls"]
    assert (known["words"], known["passed"], known["checked"]) == ("speed (now)", 1, 1), "what is unseen is not counted"
    used = found["what it knows is used"]
    assert (used["words"], used["passed"], used["checked"]) == ("yaw rate", 1, 1)
    assert "a control, which ought to fail" in sanity_checks_panel(sections, "run").body


def test_an_untrained_model_passes_nothing(few_mazes: WorldModelRun) -> None:
    run, dataset = few_mazes, few_mazes.dataset()
    backbone = fit_backbone(run, dataset)  # which was done
    seen = encoded(dataset, backbone, "train")
    scale = Scale.of(
        *(torch.cat([getattr(each, name) for each in seen]) for name in ("mean", "log_variance", "rewards"))
    )
    dreamers = {
        name: Dreamer(run.experiment.memory.build(5, dataset.action_width, seed), scale)
        for seed, name in enumerate(MEMORIES)
    }
    context = ProbeContext(run, WorldModel(backbone, dreamers, {}), dataset, SMALL)
    rows = attributions(context)[0]["rows"]
    assert len(rows) > 10
    assert [row["why"] for row in rows if row["passed"]] == []
    values, _ = true_state(context)
    assert [(each["quantity"], each["why"]) for each in values["readings"] if each["known"]] == []
    assert [each["quantity"] for each in values["causal"] if each["passed"]] == []


def test_students_are_probed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["train", "maze-dr-debug", "--run", run]) == 0
    assert main(["probe", run, "--levels", "32"]) == 0
    kept = json.loads((tmp_path / "run" / "probes" / "students.json").read_text())
    assert list(kept["students"]) == ["protagonist"]
    assert kept["students"]["protagonist"]["levels"] == 32
    page = (tmp_path / "run" / "probes.html").read_text()
    titles = ["looks at", "remembers and knows", "acts on"]
    places = [page.index(f"What the protagonist {title}") for title in titles]
    assert places == sorted(places)
    assert "untrained" in page
    assert kept["students"]["protagonist"]["looks"]["moments"] > 20
    assert {each["quantity"] for each in kept["students"]["protagonist"]["uses"]} > {"wall_ahead", "goal_ahead"}
    assert main(["list", "probes"]) == 0
    assert "students" in capsys.readouterr().out


def test_students_that_were_not_probed(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", PRESETS["maze-dr-debug"])
    with pytest.raises(RunError, match="holds no probes of students"):
        build_student_page(run)
    assert main(["probe", str(run.path)]) == 2
