"""Dreams from a recorded step: what is kept is what the memory dreams, and bad choices give one clear error."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image
from worlds import made

from clutr.envs.car.domain import CarDomain
from clutr.experiments.cli.main import main
from clutr.experiments.reports.dream_report import DreamOptions, dream_on, read_actions
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, encoded, load_world_model

CAR = CarDomain().engine(1).action_space


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    return made("maze-debug", tmp_path_factory).copy(tmp_path_factory.mktemp("dream") / "world")


def kept(page: Path) -> dict[str, torch.Tensor]:
    with np.load(page.with_suffix(".npz")) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def test_expected_latents_under_recorded_actions(run: WorldModelRun) -> None:
    found = kept(dream_on(run, DreamOptions(episode=1, start=4, horizon=6, branches=2, temperature=0)))
    model = load_world_model(run)
    episode = encoded(run.dataset(), model.backbone, "test")[1]
    dreamer = model.dreamers[MEMORIES[0]]
    state, _ = dreamer.observe(episode.mean[:4, None], episode.actions[:3, None])
    length = min(6, len(episode) - 3)
    expected = dreamer.dream(state, episode.actions[3 : 3 + length, None], length)
    assert found["latents"].shape == (length, 2, 6)
    torch.testing.assert_close(found["latents"][:, 0], expected.latents[:, 0])
    torch.testing.assert_close(found["latents"][:, 0], found["latents"][:, 1])


def test_the_command_films_a_dream_beside_reality(
    run: WorldModelRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(run.path)
    assert main(["film", path, "--output", str(tmp_path / "dream.webp"), "--side", "64"]) == 0
    assert f"open {tmp_path}/dream.webp: " in capsys.readouterr().out
    with Image.open(tmp_path / "dream.webp") as film:
        assert film.width == 4 * (64 + 12) + 12, "reality, what the model keeps, and two dreams"
    assert main(["film", path, "--paths"]) == 2
    assert f"--paths is for films of students, and {path} is a world model" in capsys.readouterr().err


def test_branches_part_when_latents_are_drawn_and_come_back_with_the_seed(run: WorldModelRun) -> None:
    options = DreamOptions(start=4, horizon=5, branches=3)
    first, again = kept(dream_on(run, options)), kept(dream_on(run, options))
    assert torch.equal(first["latents"], again["latents"])
    assert not torch.equal(first["latents"][:, 0], first["latents"][:, 1])


def test_error_regression_begins_from_a_state_that_explains_the_frames_better(run: WorldModelRun) -> None:
    plain = kept(dream_on(run, DreamOptions(start=6, horizon=3, temperature=0)))
    inferred = kept(dream_on(run, DreamOptions(start=6, horizon=3, temperature=0, error_regression=True)))
    assert not torch.equal(plain["latents"], inferred["latents"])
    torch.testing.assert_close(plain["latents"], inferred["latents"], atol=1.0, rtol=0)


def test_random_actions_differ_between_branches_and_go_on_behind_the_recording(run: WorldModelRun) -> None:
    page = dream_on(run, DreamOptions(start=4, horizon=40, branches=2, actions="random"))
    actions = kept(page)["actions"]
    assert actions.shape[:2] == (40, 2)
    assert torch.equal(actions.sum(-1), torch.ones(40, 2)), "one-hot"
    assert not torch.equal(actions[:, 0], actions[:, 1])
    text = page.read_text()
    assert text.count('class="screen"') == 4
    assert "Branch 2" in text


def test_chosen_actions(run: WorldModelRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "turn.csv").write_text("0\n0\n2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["world", "dream", "--run", str(run.path), "--start", "4", "--actions=~/turn.csv"]) == 0
    actions = kept(run.path / "dreams" / "test-0-4-turn.html")["actions"]
    assert actions[:, 0].argmax(-1).tolist() == [0, 0, 2]
    assert torch.equal(read_actions(_file(tmp_path, "-1,0.5,0\n0,1,0"), CAR), torch.tensor([[-1, 0.5, 0], [0, 1, 0]]))


def _file(folder: Path, text: str) -> Path:
    (folder / "actions.csv").write_text(text)
    return folder / "actions.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0\n", "line 1: 0,0 is no action of Box"),
        ("0,0,0\nleft,0,0\n", "line 2: 'left,0,0' is not numbers"),
        ("2,0,0\n", "line 1: 2,0,0 is no action of Box"),
        ("\n", "holds no actions"),
    ],
)
def test_actions_that_cannot_be_taken(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=message):
        read_actions(_file(tmp_path, text), CAR)


def test_actions_of_a_discrete_world(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"line 1: 1\.5 is no action of Discrete"):
        read_actions(_file(tmp_path, "1.5"), spaces.Discrete(3))
    for wrong in ("3", "nan", "inf", "1,1"):
        with pytest.raises(RunError, match=f"line 1: {wrong} is no action of Discrete"):
            read_actions(_file(tmp_path, wrong), spaces.Discrete(3))


def test_messages(run: WorldModelRun, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the split test has .* episodes, numbered from 0: no 900"):
        dream_on(run, DreamOptions(episode=900))
    with pytest.raises(RunError, match=r"has .* frames: start must be less, got 90"):
        dream_on(run, DreamOptions(start=90))
    with pytest.raises(RunError, match="recorded, random, or a CSV file; cannot read"):
        dream_on(run, DreamOptions(start=4, actions=str(tmp_path / "none.csv")))
    with pytest.raises(ValueError, match="split must be train or valid or test, got 'all'"):
        DreamOptions(split="all")
    with pytest.raises(ValueError, match="start must be at least 2, got 1"):
        DreamOptions(start=1)
    with pytest.raises(ValueError, match="branches must be at least 1, got 0"):
        DreamOptions(branches=0)
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        DreamOptions(temperature=-1)
    with pytest.raises(ValueError, match="episode must be at least 0, got -1"):
        DreamOptions(episode=-1)
