"""Students elsewhere: `predict` with numpy arrays, and ONNX files that do what the student does."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from fakes import ColourEngine

from clutr.agents.onnx_export import export, largest_difference
from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.ppo import PPOConfig, PPOStudent
from clutr.agents.predictor import Predictor
from clutr.agents.recurrent_pixels import RecurrentPixelPPOConfig
from clutr.envs.maze.domain import MazeDomain

MAZE, PICTURES = MazeDomain().engine(1).observation_space, ColourEngine(1).observation_space
SINGLE = {"image": 3, "direction": 0}


def student(torso: Any = "symbols") -> PPOStudent:
    engine = MazeDomain().engine(1)
    config = PPOConfig(hidden=8, head=8, torso=torso, torso_width=16)
    made = config.build(engine.observation_space, engine.action_space, 1, "student")
    with torch.no_grad():  # fresh heads are so small that any outputs would agree
        for weight in made.network.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(weight))) / 3)
    return made


def test_predict_plays_as_act_does_one_environment_or_many() -> None:
    policy, environment = student(), gymnasium.make("clutr/Maze-v0", max_episode_steps=12)
    player, state = Predictor(policy, SINGLE), None
    observation, _ = environment.reset(seed=1)
    memory = policy.initial_state(1)
    for _ in range(12):
        action, state = player.predict(observation, state)
        batch = {name: torch.as_tensor(np.array(value))[None] for name, value in observation.items()}
        expected, memory = policy.act(batch, memory, torch.Generator(), True)
        assert (action.shape, int(action)) == ((), int(expected[0]))
        both = {name: np.stack([value, value]) for name, value in observation.items()}
        assert player.predict(both)[0].shape == (2,)
        observation, *_ = environment.step(action)


def test_an_episodes_start_forgets_the_state_and_sampling_has_a_seed() -> None:
    player = Predictor(student(), SINGLE)
    rng = np.random.default_rng(0)
    seen = {"image": rng.integers(0, 11, (2, 5, 5, 3), np.uint8), "direction": np.array([0, 1])}
    _, state = player.predict(seen)
    _, fresh = player.predict(seen, state, np.array([True, False]))
    np.testing.assert_array_equal(fresh[0], state[0])
    assert np.abs(fresh[1] - state[1]).max() > 1e-4
    drawn = [
        [Predictor(student(), SINGLE, seed).predict(seen, deterministic=False)[0].tolist() for _ in range(1)]
        for seed in (3, 3)
    ]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        ({"image": np.zeros((5, 5, 3), np.uint8)}, "the observation has no 'direction'; the student sees image, dire"),
        (
            {"image": np.zeros((5, 5), np.uint8), "direction": np.array(0)},
            "image must have 3 axes, or 4 in a batch, got 2",
        ),
    ],
)
def test_what_is_no_observation(observation: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Predictor(student(), SINGLE).predict(observation)


@pytest.mark.parametrize("torso", ["symbols", "conv"])
def test_the_file_does_what_the_student_does(torso: str, tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    policy = student(torso)
    content = export(policy, MAZE, {"run": "maze-dr"})
    assert largest_difference(content, policy.network, MAZE) < 1e-5
    other: Any = student(torso).network
    with torch.no_grad():
        other.core.bias_hh_l0[0] += 0.1
    assert largest_difference(content, other, MAZE) > 1e-3, "it finds another student out"
    path = tmp_path / "student.onnx"
    path.write_bytes(content)
    onnx.checker.check_model(onnx.load(path))
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["image", "direction", "state"]
    assert session.get_modelmeta().custom_metadata_map == {"state_shape": "16", "run": "maze-dr"}


@pytest.mark.parametrize(
    ("config", "state"),
    [
        (PixelPPOConfig(head=8), "3,96,96,3"),
        (PixelPPOConfig(head=8, torso="light"), "3,48,48,3"),
        (RecurrentPixelPPOConfig(head=8, hidden=8, torso="light"), "16"),
    ],
    ids=["published", "light", "recurrent"],
)
def test_the_file_of_a_student_on_pictures_does_what_the_student_does(config: PixelPPOConfig, state: str) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    engine = ColourEngine(1)
    policy = config.build(engine.observation_space, engine.action_space, 1, "student")
    network: Any = policy.network
    with torch.no_grad():  # fresh heads are so small that any outputs would agree
        network.alpha.weight.mul_(100)
        network.beta.weight.mul_(100)
    content = export(policy, PICTURES)
    assert largest_difference(content, network, PICTURES) < 1e-5
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["state_shape"] == state
    shown = np.random.default_rng(1).integers(0, 256, (3, 1, 96, 96, 3), np.uint8)
    memory = np.zeros((1, *map(int, state.split(","))), np.uint8 if "," in state else np.float32)
    player, theirs = Predictor(policy, {"image": 3}), None
    for picture in shown:
        action, *_, memory = session.run(["action", "alpha", "next_state"], {"image": picture, "state": memory})
        expected, theirs = player.predict({"image": picture}, theirs)
        np.testing.assert_allclose(action, expected, atol=1e-5)
    with torch.no_grad():
        network.torso.biases[0] += 0.1
    assert largest_difference(content, network, PICTURES) > 1e-3, "it finds another student out"


def test_a_file_that_differs_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("clutr.agents.onnx_export.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="the file's outputs differ from the student's by "):
        export(student(), MAZE)


def test_other_students_are_refused() -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="students of this library's PPO can be exported, not a object"):
        export(object(), MAZE)  # type: ignore[arg-type]
