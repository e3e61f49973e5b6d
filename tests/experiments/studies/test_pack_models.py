"""Models that ship, with stand-ins trained in seconds: packed, listed, loaded by name, and refused when damaged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from worlds import made

import clutr
from clutr.experiments import pretrained
from clutr.experiments.cli.main import main
from clutr.experiments.pretrained import full_precision, half_precision
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, load_state
from clutr.experiments.studies import pack_models
from clutr.experiments.studies.model_cards import models_page
from clutr.experiments.studies.pack_models import Recipe, command_of
from clutr.experiments.training.lookup import override
from clutr.experiments.training.presets import PRESETS

RECIPES = {
    "maze-tiny@best": Recipe("manifold", "maze/debug"),
    "maze-dr@best": Recipe("student", "maze-dr-debug"),
    "maze-world@best": Recipe("world-model", "maze-debug"),
    "maze-none@best": Recipe("student", "maze-dr-debug"),
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of runs, after its models were packed as those that ship."""
    runs, folder = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("models")
    clutr.pretrain("maze", "debug", manifolds=runs / "manifolds")
    clutr.train("maze-dr-debug", evaluate_every=0, student={"ema_decay": 0.9}, run=runs / "maze-dr")
    made("maze-debug", tmp_path_factory).copy(runs / "maze-world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "models_folder", lambda: folder)
        patch.setattr(pack_models, "RECIPES", RECIPES)
        patch.setattr(pack_models, "SUITES", {"maze": "small"})
        patch.setattr(pack_models, "EPISODES", {"maze": 4})
        pack_models.pack_all(list(RECIPES), runs, "c0ffee", {"maze-dr@best": "A stand-in."})
        yield runs


def test_what_is_trained_is_packed(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert set(cards) == set(RECIPES) - {"maze-none@best"}
    for name, card in cards.items():
        weights = pretrained.models_folder() / f"{name}.safetensors"
        assert card["size"] == weights.stat().st_size
        assert card["commit"] == "c0ffee"
    student = cards["maze-dr@best"]
    assert student["command"] == "clutr train maze-dr-debug --seed 1 --student.ema-decay 0.9 --evaluate-every 0"
    assert student["steps"] == PRESETS["maze-dr-debug"].total_steps
    low, high = student["measured"]["interval"]
    assert low <= student["measured"]["value"] <= high
    assert main(["models"]) == 0
    assert "A stand-in." in " ".join(capsys.readouterr().out.split())
    assert main(["models", "maze-world@best"]) == 0
    assert "world model: vae backbone" in capsys.readouterr().out
    page = models_page(clutr.models())
    assert page.count("**`maze-") == 3
    assert student["command"] in page


def weights_of(student: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = student.network.state_dict()
    return found


def test_a_student_plays_by_its_name_as_it_did_in_its_run(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original, shipped = clutr.load_student(packed / "maze-dr"), clutr.load_student("maze-dr@best")
    engine = PRESETS["maze-dr-debug"].domain.engine(3)
    seen = engine.reset(clutr.sample_levels(3, PRESETS["maze-dr-debug"].domain))
    state = original.initial_state(3)
    values = [student.network.step(seen, state)[1] for student in (original, shipped)]  # type: ignore[attr-defined]
    assert float((values[0] - values[1]).abs().max()) < 1e-2
    assert float(values[0].abs().max()) > 0.02
    checkpoint, _ = RunDirectory(packed / "maze-dr").load_checkpoint()
    assert checkpoint is not None
    (saved,) = checkpoint["students"].values()
    average, newest = (
        full_precision(half_precision(state)) for state in (saved["average"]["network"], saved["network"])
    )
    assert clutr.models()["maze-dr@best"].precision == "float16"
    for name, value in weights_of(shipped).items():
        assert torch.equal(value, average[name])
    assert not all(torch.equal(newest[name], value) for name, value in weights_of(shipped).items())
    capsys.readouterr()
    assert main(["eval", "maze-dr@best", "--suite", "small", "--episodes", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == "maze-dr@best"
    assert found["summary"]["mean_solved"] == clutr.models()["maze-dr@best"].measured["value"]
    with pytest.raises(RunError, match="maze-dr@best is a model that ships: without its curriculum"):
        clutr.resume("maze-dr@best", total_steps=10_000)


def test_a_manifold_ships_in_half_precision_and_is_not_pretrained_again(packed: Path, tmp_path: Path) -> None:
    domain = PRESETS["maze-clutr"].domain
    levels = clutr.sample_levels(5, domain)
    (file,) = (packed / "manifolds").iterdir()
    codes = [m.encode(levels) for m in (clutr.load_manifold("maze-tiny@best"), clutr.pretrain("maze", "debug"))]
    assert torch.allclose(codes[0], codes[1], atol=1e-2)
    assert clutr.models()["maze-tiny@best"].precision == "float16"
    told: list[int] = []
    clutr.pretrain("maze", "debug", manifolds=tmp_path, progress=lambda done, *_: told.append(done))
    assert told == []
    copied, pretrained_here = load_state(tmp_path / file.name), load_state(file)
    assert copied["measured"]["recovery"].keys() == pretrained_here["measured"]["recovery"].keys()
    rounded = full_precision(half_precision(pretrained_here["network"]))
    assert copied["network"].keys() == rounded.keys()
    assert all(torch.equal(copied["network"][name], value) for name, value in rounded.items())
    chosen = override(PRESETS["maze-clutr"], manifold="maze-tiny@best")
    assert chosen.manifold == override(PRESETS["maze-clutr"], manifold="debug").manifold
    with pytest.raises(RunError, match="no manifold is called 'maze-tini@best'; did you mean maze-tiny@best"):
        override(PRESETS["maze-clutr"], manifold="maze-tini@best")
    with pytest.raises(RunError, match="maze-tiny@best was trained on another domain"):
        override(PRESETS["maze-clutr-debug"], manifold="maze-tiny@best")
    with pytest.raises(RunError, match="trained with --manifold-seed 1, not 2"):
        override(override(PRESETS["maze-clutr"], manifold_seed=2), manifold="maze-tiny@best")


def test_a_world_model_dreams_by_its_name_on_levels_of_its_own(
    packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original, shipped = clutr.load_world_model(packed / "maze-world"), clutr.load_world_model("maze-world@best")
    weights = [list(model.dreamers["trained"].memory.parameters()) for model in (original, shipped)]
    assert all(torch.allclose(one, other, atol=1e-3) for one, other in zip(*weights, strict=True))
    run = pretrained.located("maze-world@best")
    keys = [
        {
            each["key"]
            for part in json.loads((folder / "recording/recording.json").read_text())["parts"]
            for each in part["episodes"]
        }
        for folder in (packed / "maze-world", run)
    ]
    assert len(keys[1]) > 10
    assert not keys[0] & keys[1]
    assert main(["world", "dream", "--run", "maze-world@best", "--split", "train", "--horizon", "3"]) == 0
    assert f"open {run}" in capsys.readouterr().out.replace("\n", "")


def test_nothing_new_is_called_as_a_model_that_ships_and_none_is_trained_on(
    packed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a folder of that name would hide the model
    for command in (["train", "maze-dr-debug", "--run"], ["world", "record", "--preset", "maze-debug", "--run"]):
        assert main([*command, "maze-world@best"]) == 2
        assert "name another directory with --run" in capsys.readouterr().err
    assert main(["world", "train", "maze-world@best"]) == 2
    assert "maze-world@best is a model that ships, and is trained" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_unknown_and_damaged_models_are_told_in_a_line(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["eval"], ["models"], ["inspect"], ["world", "report", "--run"]):
        assert main([*command, "maze-drr@best"]) == 2
        assert "no model is called 'maze-drr@best'; did you mean maze-dr@best? There are:" in capsys.readouterr().err
    with pytest.raises(
        RunError, match=r"maze-tiny@best is a manifold, not a student; of these there are: maze-dr@best$"
    ):
        clutr.load_student("maze-tiny@best")
    with pytest.raises(
        RunError, match="maze-dr@best is a student, not a world model; of these there are: maze-world@best"
    ):
        clutr.load_world_model("maze-dr@best")
    with pytest.raises(RunError, match="maze-world@best is a world model, not a student or manifold"):
        clutr.load_manifold("maze-world@best")
    weights = pretrained.models_folder() / "maze-dr@best.safetensors"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(
            RunError, match=r"is damaged: its hash is not the one on its card\. Install the package again"
        ):
            clutr.load_student("maze-dr@best")
        weights.unlink()
        with pytest.raises(RunError, match="the model maze-dr@best cannot be read: No such file"):
            clutr.load_student("maze-dr@best")
    finally:
        weights.write_bytes(whole)
    card = weights.with_suffix(".json")
    text = card.read_text()
    try:
        card.write_text(text[:-30])
        assert main(["models"]) == 2
        assert "is damaged" in capsys.readouterr().err
    finally:
        card.write_text(text)


def test_the_command_on_a_card_has_every_option_that_differs() -> None:
    chosen = override(PRESETS["maze-dr"], student={"shards": 1}, evaluate_every=7, seed=3)
    told = command_of("maze-dr", chosen, 4_096)
    assert told == "clutr train maze-dr --seed 3 --student.shards 1 --total-steps 4096 --evaluate-every 7"
    recurrent = override(PRESETS["maze-clutr"], manifold="recurrent")
    assert (
        command_of("maze-clutr", recurrent, 9) == "clutr train maze-clutr --seed 1 --manifold recurrent --total-steps 9"
    )


def test_halves_become_floats_again_and_nothing_else_changes() -> None:
    state = {
        "a": torch.tensor([1.5, -2.0]),
        "n": torch.tensor([3]),
        "one": torch.tensor(0.1),
        "l": [torch.ones(2)],
        "t": "x",
    }
    half = half_precision(state)
    assert [half["a"].dtype, half["n"].dtype, half["one"].dtype] == [torch.float16, torch.int64, torch.float32]
    assert half["l"][0].dtype == torch.float16
    back = full_precision(half)
    assert torch.equal(back["a"], state["a"])  # type: ignore[arg-type]
    assert back["t"] == "x"
    assert back["l"][0].dtype == torch.float32


def test_the_state_in_a_file_is_what_a_run_reads(packed: Path) -> None:
    state = load_state(pretrained.models_folder() / "maze-dr@best.safetensors")
    (student,) = state[pretrained.CHECKPOINT]["students"].values()
    assert set(student) == {"network", "normaliser"}
