"""Models that somebody's Stable-Baselines3 script saved, on our suites."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FlattenObservation
from minigrid.wrappers import FlatObsWrapper
from sb3_contrib import QRDQN, TQC, TRPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.preprocessing import maybe_transpose
from stable_baselines3.common.torch_layers import FlattenExtractor

import clutr  # noqa: F401  (registers the environments)
from clutr.agents.sb3.loading import LoadedPolicy, ModelError, load_policy
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.cli.evaluate import _AS_IN_GYMNASIUM
from clutr.experiments.cli.main import main

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size:UserWarning"),
    pytest.mark.filterwarnings("ignore:This system does not have apparently enough memory:UserWarning"),
]

MAZE = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=12)
ENGINE = MAZE.engine(4)
SMALL: dict[str, Any] = {"device": "cpu", "policy_kwargs": {"net_arch": [8]}}
ON_POLICY: dict[str, Any] = {**SMALL, "n_steps": 8}
OFF_POLICY: dict[str, Any] = {**SMALL, "buffer_size": 10}
# Pictures of 5x5 symbols are too small for the package's own convolutions.
DICT: dict[str, Any] = {**ON_POLICY, "batch_size": 8}


class Image(gymnasium.ObservationWrapper[Any, Any, Any]):
    """As MiniGrid's ImgObsWrapper."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = env.observation_space["image"]

    def observation(self, observation: Any) -> Any:
        return observation["image"]


class SmallPictures(FlattenExtractor):
    """What a script that wants image and heading has to bring: it flattens both."""

    def __init__(self, observation_space: Any) -> None:
        width = int(np.prod(observation_space["image"].shape)) + int(observation_space["direction"].n)
        super().__init__(gymnasium.spaces.Box(0, 1, (width,)))

    def forward(self, observations: Any) -> torch.Tensor:
        return torch.cat([observations["image"].flatten(1), observations["direction"].flatten(1)], 1)


def maze() -> Any:
    return gymnasium.make("clutr/Maze-v0", height=5, width=5, max_obstacles=6)


def load(model: Any, path: Path, algorithm: str | None = None) -> tuple[LoadedPolicy, str]:
    model.save(path)
    return load_policy(path, ENGINE.observation_space, ENGINE.action_space, algorithm)


MODELS: dict[str, Any] = {
    "ppo": lambda: PPO("MlpPolicy", FlattenObservation(maze()), batch_size=8, **ON_POLICY),
    "a2c": lambda: A2C("MlpPolicy", Image(maze()), **ON_POLICY),
    "trpo": lambda: TRPO("MlpPolicy", Image(maze()), **ON_POLICY),
    "dqn": lambda: DQN("MlpPolicy", Image(maze()), **OFF_POLICY),
    "qrdqn": lambda: QRDQN("MlpPolicy", Image(maze()), **OFF_POLICY),
    "recurrent-ppo": lambda: RecurrentPPO(
        "MlpLstmPolicy", Image(maze()), n_steps=8, batch_size=8, policy_kwargs={"lstm_hidden_size": 6}, device="cpu"
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_algorithm_is_told_by_the_file_and_acts_as_the_model_does(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    policy, algorithm = load(model, tmp_path / "model.zip")
    assert algorithm == name
    observation = ENGINE.reset(MAZE.sample(4, torch.Generator().manual_seed(1)))
    state, memory = policy.initial_state(4), None
    for _ in range(3):
        shown: Any = observation["image"].numpy()
        if name == "ppo":
            one_hot = torch.nn.functional.one_hot(observation["direction"], 4)
            shown = torch.cat([one_hot, observation["image"].flatten(1)], 1).numpy()
        else:
            shown = maybe_transpose(shown, model.observation_space)
        expected, memory = model.predict(shown, state=memory, deterministic=True)
        actions, state = policy.act(observation, state, torch.Generator(), True)
        assert actions.tolist() == expected.tolist()
        observation = ENGINE.step(actions).observation


@pytest.mark.parametrize("algorithm", [PPO, SAC, TD3, TQC])
def test_models_of_the_car_environment_drive(algorithm: Any, tmp_path: Path) -> None:
    small: dict[str, Any] = {"features_extractor_kwargs": {"features_dim": 8}, "net_arch": [8]}
    options = {"n_steps": 8, "batch_size": 8} if algorithm is PPO else {"buffer_size": 10}
    model = algorithm("CnnPolicy", gymnasium.make("clutr/CarRacing-v0"), device="cpu", policy_kwargs=small, **options)
    model.save(tmp_path / "model.zip")
    domain = CarDomain()
    engine = domain.engine(2)
    policy, name = load_policy(tmp_path / "model.zip", engine.observation_space, engine.action_space)
    assert name == algorithm.__name__.lower()
    observation = engine.reset(domain.sample(2, torch.Generator().manual_seed(1)))
    actions, _ = policy.act(observation, policy.initial_state(2), torch.Generator(), True)
    expected, _ = model.predict(observation["image"].permute(0, 3, 1, 2).numpy(), deterministic=True)
    assert actions.tolist() == expected.tolist()
    engine.step(actions)


def test_image_and_heading_as_they_are(tmp_path: Path) -> None:
    options = {**DICT, "policy_kwargs": {"net_arch": [8], "features_extractor_class": SmallPictures}}
    policy, _ = load(PPO("MultiInputPolicy", maze(), **options), tmp_path / "model.zip")
    observation = ENGINE.reset(MAZE.sample(4, torch.Generator().manual_seed(1)))
    assert policy.act(observation, policy.initial_state(4), torch.Generator())[0].shape == (4,)


def test_a_model_of_minigrid_itself(tmp_path: Path) -> None:
    env = FlatObsWrapper(gymnasium.make("MiniGrid-Empty-5x5-v0", agent_view_size=5))
    policy, _ = load(PPO("MlpPolicy", env, batch_size=8, **ON_POLICY), tmp_path / "model.zip")
    observation = ENGINE.reset(MAZE.sample(4, torch.Generator().manual_seed(1)))
    assert policy.act(observation, policy.initial_state(4), torch.Generator())[0].shape == (4,)


def test_sampling_depends_on_the_generator_alone(tmp_path: Path) -> None:
    policy, _ = load(MODELS["a2c"](), tmp_path / "model.zip")
    observation = ENGINE.reset(MAZE.sample(4, torch.Generator().manual_seed(1)))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    state = policy.initial_state(4)
    first, second = (
        [policy.act(observation, state, rng)[0].tolist() for _ in range(5)]
        for rng in (torch.Generator().manual_seed(3), torch.Generator().manual_seed(3))
    )
    assert first == second
    assert len({tuple(actions) for actions in first}) > 1
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]  # noqa: NPY002


def test_dqns_coin_falls_for_each_environment(tmp_path: Path) -> None:
    model = MODELS["dqn"]()
    model.exploration_rate = 0.5
    policy, _ = load(model, tmp_path / "model.zip")
    engine = MAZE.engine(1)
    levels = MAZE.sample(1, torch.Generator().manual_seed(1))
    observation = {name: value.expand(2000, *value.shape[1:]) for name, value in engine.reset(levels).items()}
    rng = torch.Generator().manual_seed(2)
    greedy = int(policy.act(observation, policy.initial_state(2000), rng, True)[0][0])
    actions, _ = policy.act(observation, policy.initial_state(2000), rng)
    # half of them explore, and a seventh of these takes the greedy action by chance: 0.571 +- 0.011
    assert abs(float((actions == greedy).float().mean()) - (0.5 + 0.5 / 7)) < 0.045


# --- the command


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.zip"
    MODELS["a2c"]().save(path)
    return path


def refused(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    capsys.readouterr()
    assert main([str(arg) for arg in args]) == 2
    return capsys.readouterr().err


def test_eval_prints_a_table_and_json(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = MAZE.suites()["small"]
    monkeypatch.setattr("clutr.experiments.api.require_suite", lambda *_: replace(suite, tasks=suite.tasks[:2]))
    asked = ["eval", "--sb3", str(model), "--trust", "--suite", "small", "--episodes", "1"]
    assert main([*asked, "--json"]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed)
    assert (result["run"], result["suite"]) == (str(model), "small")
    assert [level["episodes"] for level in result["levels"]] == [1, 1]
    assert result["summary"]["algorithm"] == "a2c"
    assert main([*asked, "--algorithm", "ppo"]) == 0  # which acts alike
    table = capsys.readouterr().out
    assert "model.zip" in table
    for level in result["levels"]:
        assert level["level"] in table


def test_eval_drives_cars_as_gymnasium_gives_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "car.zip"
    A2C("CnnPolicy", gymnasium.make("clutr/CarRacing-v0"), **ON_POLICY).save(path)
    assert _AS_IN_GYMNASIUM["car"] == {"action_repeat": 1}  # which would take long here
    args = ["--domain=car", "--domain.action-repeat", "100", "--suite", "bezier-small", "--episodes", "1", "--json"]
    assert main(["eval", "--sb3", str(path), "--trust", *args]) == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["domain"]["action_repeat"] == 100
    assert summary["mean_length"] == 10  # of 1,000 frames


def test_without_trust_nothing_is_loaded(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clutr.experiments.evaluation.own_policy.load_policy", pytest.fail)
    error = refused(capsys, "eval", "--sb3", model, "--suite", "small")
    assert "runs code of its own when it is loaded: add --trust if you know who made it" in error


def test_what_does_not_fit_is_one_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("eval", "--trust", "--episodes", "1", "--sb3")
    error = refused(capsys, *asked, model, "--domain", "car")
    assert "takes actions of Discrete(7), this environment those of Box(" in error
    error = refused(capsys, *asked, model, "--domain.view", "7")
    shown = "Dict(direction: Discrete(4), image: Box(0, 255, "
    assert f"sees Box(0, 255, (3, 5, 5), uint8), this environment shows {shown}" in error
    error = refused(capsys, *asked, tmp_path / "none.zip")
    assert "there is no file" in error
    (tmp_path / "text.zip").write_text("no zip")
    error = refused(capsys, *asked, tmp_path / "text.zip")
    assert "text.zip is not a model that Stable-Baselines3 saved" in error
    error = refused(capsys, *asked, model, "--algorithm", "sac")
    assert "model.zip as sac: " in error
    assert "no suite is called 'nowhere'" in refused(capsys, *asked, model, "--suite", "nowhere")
    assert "episodes must be at least 1" in refused(capsys, "eval", "--trust", "--sb3", model, "--episodes", "0")


def test_an_unknown_algorithm_is_asked_for(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clutr.agents.sb3.loading._algorithm_of", lambda _: None)
    with pytest.raises(ModelError, match=r"which algorithm made .*model.zip\? Name one of: ppo, a2c, dqn, sac, td3,"):
        load_policy(model, ENGINE.observation_space, ENGINE.action_space)


def test_without_the_package_one_is_told_what_to_install(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, *args: Any) -> Any:
        if name == "stable_baselines3":
            raise ImportError(name)
        return found(name, *args)

    found = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", missing)
    extra = 'students and models of Stable-Baselines3 need it: install it with `pip install "clutr[sb3]"`'
    assert extra in refused(capsys, "eval", "--trust", "--sb3", model)
    run = tmp_path / "run"
    assert extra in refused(capsys, "train", "maze-dr-debug", "--student", "sb3-ppo", "--run", run)
