"""The GPU bench's checks and loops, run on the processor, where nothing may differ; and its refusal without a GPU."""

from dataclasses import replace

import pytest
import torch

from clutr.agents.ppo import PPOConfig
from clutr.envs.maze.engine import MazeEngine
from clutr.experiments.benchmarks import gpu
from clutr.experiments.storage import RunError

CPU = torch.device("cpu")
CONFIG = PPOConfig(torso="symbols", torso_width=16, hidden=16, head=8, rollout_steps=16, minibatches=2, shards=1)


def test_nothing_differs_from_the_processor_on_the_processor() -> None:
    assert gpu.engine_differences(CPU, 4, 30).value == 0
    assert [figure.value for figure in gpu.gradient_differences("small", CONFIG, CPU, 4)] == [0]
    actions, weights = gpu.captured_differences("small", CONFIG, CPU, 4)
    assert actions.value == 0
    assert weights.value < 1e-4


def test_a_fault_of_the_engine_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MazeEngine.step
    made: list[MazeEngine] = []

    def wrong(engine: MazeEngine, actions: torch.Tensor) -> object:
        made.append(engine)
        step = right(engine, actions)
        return replace_reward(step) if len(made) % 2 else step

    def replace_reward(step: object) -> object:
        return step._replace(reward=step.reward + 1)  # type: ignore[attr-defined]

    monkeypatch.setattr(MazeEngine, "step", wrong)
    assert gpu.engine_differences(CPU, 4, 5).value == 4 * 5


@pytest.mark.parametrize("captured", [False, True])
def test_the_speed_of_a_small_student(captured: bool) -> None:
    figures = gpu.speed("small", replace(CONFIG, epochs=1), CPU, 4, captured)
    rollout, update, both = (figure.value for figure in figures)
    assert 1 / both == pytest.approx(1 / rollout + 1 / update)
    assert ("recorded" if captured else "plain") in figures[0].what


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_else_to_run() -> None:
    with pytest.raises(RunError, match="needs a CUDA GPU, and torch finds none: `clutr bench maze-train` needs no GPU"):
        gpu.run(lambda _: None)
