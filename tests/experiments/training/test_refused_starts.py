"""A start that is refused is one line and leaves nothing behind, so that the advised retry works as typed."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import clutr
from clutr.experiments.cli.main import main
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, load_state, save_state
from clutr.experiments.training.train import left_if_begun


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "cuda"], "asks for device cuda, but torch finds no GPU. Start it with --device cpu"),
        (["--student", "sb3-sac"], "cannot be trained: this student"),
        *(
            (["--device", device], f"device must be cpu, cuda, or a GPU by its number such as cuda:1, got '{device}'")
            for device in ("mps", "xpu", "meta", "nonsense", "cuda:x")
        ),
        (["--evaluate-suite", "dcd8"], "no suite is called 'dcd8'; did you mean dcd7?"),
        (["--evaluate-suite", "f1"], "f1 is a suite of car; this is on maze, with: accel12"),
        (["--backend", "rllib", "--student", "sb3-ppo"], "the backend rllib trains the students ppo and pixel-ppo"),
        (["--learning-rate-of-nobody", "1"], "Unrecognized options: --learning-rate-of-nobody, 1 (`clutr train"),
        (["--total-step", "5"], "Unrecognized options: --total-step, 5; did you mean --total-steps? (`clutr train"),
        (["--student.learning-rate", "inf"], "student.learning_rate must be a number, got inf"),
    ],
)
def test_nothing_is_left_behind(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "maze-clutr-debug", *options]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    assert main(["train", "maze-dr-debug", "--student", "sb3-ppo"]) == 2
    assert '`pip install "clutr[sb3]"`' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray.rllib", None)
    assert main(["train", "maze-dr-debug", "--backend", "rllib"]) == 2
    assert '`pip install "clutr[distributed]"`' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def engine(*_: Any, **__: Any) -> None:
        raise MemoryError("cannot allocate 9 TiB")

    with monkeypatch.context() as patch:
        patch.setattr(clutr.MazeDomain, "engine", engine)
        assert main(["train", "maze-dr-debug", "--run", "mine"]) == 2
        assert "not enough memory, ask for fewer or smaller parts: cannot allocate 9 TiB" in capsys.readouterr().err
        with pytest.raises(MemoryError):
            clutr.train("maze-dr-debug", run="mine")
        assert list(tmp_path.iterdir()) == []
    # a run that has begun is kept, whatever happens later
    kept = clutr.train("maze-dr-debug", run="mine", total_steps=1)
    with pytest.raises(MemoryError), left_if_begun(kept):
        raise MemoryError
    assert kept.checkpoints()
    # and so is one that is to be resumed once there is room on the disk, or that another process trains
    new = RunDirectory.create(tmp_path / "new", kept.experiment)
    with pytest.raises(RunError, match="then resume"), left_if_begun(new):
        raise RunError("the disk is full: free some space, then resume")
    assert (new.path / "config.yaml").exists()


def test_a_missing_box2d_names_the_extra_that_leaves_pygame_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Box2D", "gymnasium.envs.box2d", "gymnasium.envs.box2d.car_racing", "clutr.envs.car.box2d_env"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(ImportError, match=r'pip install "clutr\[car\]"'):
        clutr.suites("car")["gymnasium"].tasks[0].engine(1)


@pytest.mark.parametrize(
    ("path", "said"),
    [("x" * 300, "cannot be a directory: File name too long"), ("file", "file is a file, not a directory")],
)
@pytest.mark.parametrize("command", [["train", "maze-dr-debug", "--run"], ["resume"], ["world", "record", "--run"]])
def test_what_no_directory_can_be_called(
    path: str,
    said: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main([*command, path]) == 2
    assert said in capsys.readouterr().err


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = clutr.train("maze-dr-debug", run="~/mine", num_envs=1, total_steps=32, evaluate_every=0)
    assert run.path == tmp_path / "mine"


def test_each_kind_of_directory_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "world.yaml").write_text("")
    with pytest.raises(RunError, match="is a world model, not a run: `clutr world train "):
        clutr.report(tmp_path / "world")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    with pytest.raises(RunError, match="is a curriculum run, not a world model: `clutr report"):
        clutr.load_world_model(tmp_path / "run")


def test_tensors_of_one_element_with_odd_strides_are_kept(tmp_path: Path) -> None:
    odd = torch.arange(6).as_strided((1, 1), (3, 2))
    save_state(tmp_path / "state", {"odd": odd, "none": torch.zeros(0, 3)[:, ::2]})
    assert torch.equal(load_state(tmp_path / "state")["odd"], odd)


@pytest.mark.parametrize(
    ("preset", "envs"), [("maze-dr-debug", 1), ("maze-clutr-debug", 1), ("maze-sfl", 2), ("maze-ncc", 3)]
)
def test_few_environments_train_and_resume(preset: str, envs: int, tmp_path: Path) -> None:
    small = clutr.PRESETS["maze-dr-debug"]
    options: dict[str, Any] = {"student": small.student, "domain": small.domain, "num_envs": envs, "evaluate_every": 0}
    if envs > 1:
        options["curriculum"] = {"candidates": 8, "kept": 4, "environments": 1}
    run = clutr.train(preset, run=tmp_path / "run", total_steps=32 * envs * 2, checkpoint_every=1, **options)
    run.checkpoints()[-1].unlink()
    before = (run.path / "metrics.csv").read_bytes()
    clutr.resume(run.path)
    assert (run.path / "metrics.csv").read_bytes() == before
