"""World models on disk: recording begins, stops, goes on to the same frames, and says what is missing."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from worlds import made

from clutr.experiments.cli.main import main
from clutr.experiments.metrics import MetricsFile
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import CorruptFileError, RunError, save_state
from clutr.experiments.world_model.config import WORLD_PRESETS, RecordOptions, from_yaml, to_yaml
from clutr.experiments.world_model.run_directory import WorldModelRun, disk_use, record
from clutr.experiments.world_model.training import fit_backbone, in_words, load_world_model, train_memories
from clutr.experiments.world_model.training_log import TrainingLog, training_log
from clutr.world_model.training import Convergence

TRAINED = "backbone.safetensors", "memory-*", "metrics.csv", "events.*"
"""What training writes."""
TINY = replace(WORLD_PRESETS["maze-debug"], record=RecordOptions(episodes=12, num_envs=4, length=8))


@pytest.mark.parametrize("name", list(WORLD_PRESETS))
def test_configurations_are_complete(name: str) -> None:
    assert from_yaml(to_yaml(WORLD_PRESETS[name])) == WORLD_PRESETS[name]


def test_an_interrupted_recording_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = record(WorldModelRun.create(tmp_path / "whole", TINY))
    parted = WorldModelRun.create(tmp_path / "parted", TINY)

    class StopHereError(Exception):
        pass

    def stop(done: int, total: int, _: dict[str, float]) -> None:
        assert total == 12
        if done >= 8:
            raise StopHereError

    with pytest.raises(StopHereError):
        record(parted, stop)
    with pytest.raises(RunError, match="holds 8 of 12 episodes: `clutr world record` goes on"):
        parted.dataset()
    # a part that was written but not yet counted is recorded again
    about = json.loads((parted.dataset_path / "recording.json").read_text())
    about["parts"].pop()
    (parted.dataset_path / "recording.json").write_text(json.dumps(about))
    found = record(WorldModelRun.create(tmp_path / "parted", TINY))
    rows = torch.arange(len(whole))
    for name in ("frames", "actions", "privileged_state", "rewards", "ended"):
        assert torch.equal(whole.column(name, rows), found.column(name, rows)), name
    assert whole.episodes == found.episodes


def test_other_options_need_another_directory(tmp_path: Path) -> None:
    WorldModelRun.create(tmp_path, TINY)
    with pytest.raises(RunError, match="holds a world model with other options: name another directory with --run"):
        WorldModelRun.create(tmp_path, replace(TINY, seed=2))
    with pytest.raises(RunError, match=r"holds no world model: `clutr world record .*` begins one"):
        WorldModelRun(tmp_path / "nothing")
    with pytest.raises(RunError, match="holds no dataset: `clutr world record` makes one"):
        WorldModelRun(tmp_path).dataset()


def test_students_of_a_run_play_the_levels_that_its_curriculum_proposed(tmp_path: Path) -> None:
    student = str(tmp_path / "student")
    assert (
        main(["train", "maze-dr-debug", "--evaluate-every", "0", "--domain.max-obstacles", "5", "--run", student]) == 0
    )
    options = RecordOptions(episodes=8, num_envs=8, length=6, students=0.5, runs=(student,), proposed=0.5)
    found = record(WorldModelRun.create(tmp_path / "world", replace(TINY, record=options)))
    policies = {episode.policy for episode in found.episodes}
    ages = {f"student at {steps:,} steps" for steps in (512, 1_024, 1_536)}  # a checkpoint every second update
    assert policies == {"walk", "expert"} | ages
    proposed = {key for proposal in RunDirectory(student).proposals() for key in proposal.levels.key()}
    assert [episode.key in proposed for episode in found.episodes[:4]] == [True] * 4


def test_a_recording_is_used_by_another_world_model(tmp_path: Path) -> None:
    first = WorldModelRun.create(tmp_path / "first", TINY)
    recorded = record(first)
    other = replace(TINY, recording=str(first.dataset_path), seed=2)
    second = WorldModelRun.create(tmp_path / "second", other)
    assert record(second).episodes == recorded.episodes
    assert not (tmp_path / "second" / "recording").exists()
    missing = WorldModelRun.create(tmp_path / "third", replace(TINY, recording=str(tmp_path / "nowhere")))
    with pytest.raises(RunError, match="nowhere holds no dataset"):
        record(missing)


def test_disk_use_is_an_upper_bound_that_is_not_far_off(tmp_path: Path) -> None:
    """Episodes that end early take less; without them the files are within a tenth of what was said."""
    whole = replace(TINY, record=RecordOptions(episodes=64, num_envs=64, length=2))
    found = record(WorldModelRun.create(tmp_path, whole))
    said = disk_use(whole) * len(found) / (64 * 3)
    assert 0.9 * said < (found.path / "part-0000.arrow").stat().st_size < 1.1 * said


def test_what_training_measured_is_kept_and_replaced_by_a_later_training(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "metrics.csv", lambda *_: None)
    for step in (1, 2, 3):
        log.add("trained", step, {"loss": 1.0 / step})
    log.add("untrained core", 1, {"loss": 5.0})
    log.write()
    again = TrainingLog(tmp_path / "metrics.csv", lambda *_: None)
    again.add("trained", 2, {"loss": 9.0})
    again.write()
    assert MetricsFile(tmp_path / "metrics.csv").rows() == [
        {"update": "1", "trained/loss": "1.0", "untrained core/loss": "5.0"},
        {"update": "2", "trained/loss": "9.0", "untrained core/loss": ""},
    ]


def test_a_kill_after_a_part_was_saved_loses_none_of_its_measurements(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made("maze-debug", tmp_path_factory).copy(tmp_path, *TRAINED)
    table: list[str] = []

    def save(path: Path, state: object) -> None:
        table.append((tmp_path / "metrics.csv").read_text())
        save_state(path, state)  # type: ignore[arg-type]

    monkeypatch.setattr("clutr.experiments.world_model.training.save_state", save)
    with training_log(tmp_path, print) as log:
        backbone = fit_backbone(run, run.dataset(), log=log)
        train_memories(run, run.dataset(), backbone, log=log)
    assert table[-1] == (tmp_path / "metrics.csv").read_text(), "the last part's measurements were there before it"
    assert "untrained core/" not in table[-2]


def test_training_tells_its_memories_by_name_and_whether_they_converged(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = made("maze-debug", tmp_path_factory)
    recorded = world.copy(tmp_path, *TRAINED)
    with pytest.raises(RunError, match="torch cannot train on device 'abacus' here"):
        fit_backbone(recorded, recorded.dataset(), device="abacus")
    for words in ("training the memory: trained", "training the memory: untrained core", "of 2 are kept"):
        assert words in world.trained
    rows = MetricsFile(world.path / "metrics.csv").rows()
    assert [row["update"] for row in rows] == ["1", "2", "20"], "the backbone makes 20 steps, the memories 2 passes"
    assert all(float(rows[0][f"{name}/valid_loss"]) for name in ("trained", "untrained core"))
    assert float(rows[2]["backbone/mse"]) > 0
    assert list(world.path.glob("events.*"))


def test_convergence_in_words() -> None:
    assert in_words(Convergence(True, 4, 20, 0.001)).startswith("converged; the weights of pass 4 of 20 are kept")
    assert "more passes would help" in in_words(Convergence(False, 20, 20, 0.1))
    assert "brought 10.0% of what" in in_words(Convergence(False, 20, 20, 0.1))


def test_messages() -> None:
    for options, message in [
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"walk": 0.0, "expert": 0.0}, "nobody plays"),
        ({"students": 1.0}, "students and proposed levels come from runs: name at least one with --record.runs"),
        ({"proposed": 1.5}, r"proposed must be in 0\.\.1, got 1\.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            RecordOptions(**options)  # type: ignore[arg-type]


def test_categorical_latents_come_with_their_classes_and_are_not_probed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WorldModelRun.create(tmp_path, WORLD_PRESETS["car-categorical"])
    assert WorldModelRun(tmp_path).experiment.memory.classes == 16
    assert main(["world", "probe", "--run", str(tmp_path)]) == 2
    assert (
        "has categorical latents: probes explain predictions by mixtures of Gaussians only" in capsys.readouterr().err
    )
    small = ["--preset", "maze-debug", "--backbone", "categorical", "--record.episodes", "4", "--record.num-envs", "4"]
    assert main(["world", "record", *small, "--record.length", "3", "--run", str(tmp_path / "mine")]) == 0
    assert WorldModelRun(tmp_path / "mine").experiment.memory.classes == 16


def test_the_command_line_records(tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    world = made("maze-debug", tmp_path_factory)
    assert "expert" in world.recorded
    assert f"kept as {world.path}/recording" in world.recorded
    capsys.readouterr()
    assert main(["world", "record", "--preset", "quilt"]) == 2
    assert (
        "no preset is called 'quilt'; there are: car, car-fast, car-geometric, car-spatial, car-categorical, maze, "
        + "maze-geometric, car-debug, maze-debug"
        in capsys.readouterr().err
    )
    assert main(["world", "paint"]) == 2
    assert "no part is called 'paint'; there are: record" in capsys.readouterr().err


def test_another_world_yaml_is_named(tmp_path: Path) -> None:
    run = WorldModelRun.create(tmp_path, TINY)
    dataset = record(run)
    fit_backbone(run, dataset)
    (tmp_path / "world.yaml").write_text(to_yaml(TINY).replace("latents: 6", "latents: 7"))
    said = r"backbone\.safetensors does not fit .*world\.yaml, which was changed since: backbone\.latents \(6, now 7\)"
    with pytest.raises(RunError, match=rf"{said}\. Put the old values back, or remove backbone.safetensors"):
        fit_backbone(WorldModelRun(tmp_path), dataset)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("\nseed: 1", "\nseed: 2", r"recording does not fit .*world\.yaml, .* since: seed \(1, now 2\)\. Put"),
        ("max_steps: 20", "max_steps: 30", r"recording does not fit .* since: domain\.max_steps \(20, now 30\)\. Put"),
        (
            "kind: lstm",
            "kind: gru",
            r"memory-trained\.safetensors does not fit .*: memory\.core \(lstm, now gru\)\. Put",
        ),
        ("gaussians: 2", "gaussians: 3", r"memory-trained\.safetensors .*: memory\.gaussians \(2, now 3\)\. Put"),
        ("epochs: 2", "epochs: 4", None),
        ("horizon: 5", "horizon: 4", None),
    ],
)
def test_fields_of_a_trained_world_model_that_were_changed_are_named(
    right: str,
    wrong: str,
    said: str | None,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = made("maze-debug", tmp_path_factory).copy(tmp_path)
    text = (tmp_path / "world.yaml").read_text()
    assert right in text
    (tmp_path / "world.yaml").write_text(text.replace(right, wrong))
    with pytest.raises(RunError, match=said) if said else nullcontext():
        load_world_model(run)
    told = "world.yaml was changed since its memories were trained: training.epochs (2, now 4)"
    assert caplog.text.count(told) == ("epochs" in right), "once, not for each of two memories"


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = WorldModelRun.create(tmp_path_factory.mktemp("recorded"), TINY)
    record(run)
    return run.path


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("recording.json", _cut, r"recording\.json is damaged: "),
        ("recording.json", lambda _: b"[1]", r"recording\.json is damaged: "),
        ("recording.json", lambda _: b"\xff{}", r"recording\.json is damaged: 'utf-8' codec"),
        ("recording.json", lambda _: b"{}", r"recording\.json is damaged: it lacks 'parts'"),
        ("recording.json", lambda c: c.replace(b'"policy"', b'"p"'), r"recording\.json is damaged: it lacks 'policy'"),
        ("recording.json", lambda c: c.replace(b'{"rows": ', b'{"rows": 1', 1), "part 0 do not have its 1"),
        (
            "recording.json",
            lambda c: c.replace(b'"side": 64', b'"side": 32'),
            r"its frames have 12288",
        ),
        ("part-0000.arrow", _cut, r"part-0000\.arrow is damaged: "),
        ("part-0000.arrow", lambda _: b"", r"part-0000\.arrow is damaged: "),
        ("part-0000.arrow", lambda _: b"?" * 4_000, r"part-0000\.arrow is damaged: Not an Arrow file"),
        ("part-0001.arrow", None, r"part-0001\.arrow is missing"),
    ],
)
def test_a_recording_that_other_programs_touched_is_one_line_with_the_file(
    name: str,
    damage: Callable[[bytes], bytes] | None,
    said: str,
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "recording" / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    assert main(["world", "train", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert re.search(f"^clutr: {tmp_path}/recording/.*{said}|^clutr: {tmp_path}/recording/{said}", errors), errors
    assert errors.count("\n") == 1
    assert not list(tmp_path.glob("events.*"))


def test_a_recording_does_not_go_on_from_a_damaged_file(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    (tmp_path / "recording" / "recording.json").write_text('{"side": 64')
    with pytest.raises(CorruptFileError, match=r"recording\.json is damaged: it is not JSON \(Expecting"):
        record(WorldModelRun(tmp_path))


@pytest.mark.parametrize("device", ["meta", "cuda:99", "cuda:x", "moon"])
def test_a_device_that_is_not_there_leaves_nothing_behind(
    device: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(recorded.rglob("*"))
    assert main(["world", "train", str(recorded), "--device", device]) == 2
    said = f"clutr: torch cannot train on device '{device}' here. Train it with --device cpu\n"
    assert capsys.readouterr().err == said
    assert sorted(recorded.rglob("*")) == before


def test_what_is_no_number_in_its_metrics_is_kept_beside_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("update,backbone/mse,trained/loss\n1,0.5,hoch\n2,0.25,3.0\n")
    log = TrainingLog(file, lambda *_: None)
    log.add("trained", 1, {"loss": 4.0})
    log.write()
    assert file.read_text() == "update,backbone/mse,trained/loss\n1,0.5,4.0\n2,0.25,\n"
    assert "hoch" in file.with_name("metrics.csv.unread").read_text()
    assert "1 of its 2 rows do not fit" in caplog.text


def test_a_recording_that_no_disk_holds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--preset", "maze-debug", "--record.episodes", "100000000000", "--run", str(tmp_path / "world")]
    assert main(["world", "record", *arguments]) == 2
    said = capsys.readouterr().err
    assert "the recording takes up to 3.5e+07 GB, and" in said
    assert "GB are free: ask for fewer --record.episodes or a smaller --record.length" in said
    assert list(tmp_path.iterdir()) == []
