"""Processes, machines and a network fail in the middle of the work, and nothing is lost, doubled or changed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from ray_cluster import CPUS_FAR, NEAR_LINK, FarMachine, Machine, ip
from ray_environments import (
    MAZES,
    RECURRENT,
    distributed,
    machines,
    native,
    needs_ray,
    once_at_work,
    play,
    processes,
    unequal,
)

from clutr.agents.backend import NativeBackend
from clutr.agents.rllib import RLlibBackend
from clutr.curricula.plr import PLRConfig
from clutr.experiments.config import Experiment
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.runner import Runner

pytestmark = needs_ray

CUT_SECONDS = 30
ENDLESS = 10**9
"""Steps of a run that is killed, whenever that is."""
LONG = replace(RECURRENT, rollout_steps=400)
"""Half a second of play for each runner at least; what strikes it comes after a tenth."""
ROUNDED = {"log_probs", "values", "next_values", "advantages"}
"""Columns that may differ in their last bits from a whole batch's, when it is played in two halves."""


@pytest.fixture(scope="module")
def away(head: Machine, far_machine: FarMachine) -> Any:
    """A student of two runners, each with a machine for itself, for all tests: a runner takes seconds to start."""
    far_machine.start()
    return distributed(LONG, address=head.address, runners=2, cpus_per_runner=CPUS_FAR)


@pytest.fixture
def student(away: Any, far_machine: FarMachine) -> Any:
    """The same at its beginning, with both machines and runners, whatever an earlier test has done to them."""
    far_machine.start()
    runners, deadline = away.cluster.runners, time.monotonic() + 300
    while runners.num_healthy_remote_env_runners() < 2 or len(processes(away)) < 2:
        assert time.monotonic() < deadline, "the runners did not start"
        away.cluster._probe()
        time.sleep(0.2)
    away.load_state_dict(native(LONG).state_dict())
    return away


def set_options(patch: pytest.MonkeyPatch, student: Any, **changed: Any) -> None:
    patch.setattr(student.cluster, "options", replace(student.cluster.options, **changed))


def far_runner(student: Any) -> int:
    """The process of the runner that is not on this machine."""
    import ray  # noqa: PLC0415

    here = ray.get_runtime_context().get_node_id()
    (found,) = [process for process, machine in machines(student).items() if machine != here]
    return found


def test_a_runner_killed_in_mid_rollout(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    set_options(monkeypatch, student, shards=1)
    expected, ledger = native(LONG), student.cluster.ledger
    victims, lost = processes(student), ledger.lost
    killer = once_at_work(victims[0], lambda: os.kill(victims[0], signal.SIGKILL))
    played = play(student)
    killer.join()
    assert unequal(played, play(expected)) == []
    assert ledger.lost == lost + 1
    assert ledger.balanced
    assert unequal(play(student, 1), play(expected, 1)) == []
    deadline = time.monotonic() + 300
    while student.cluster.runners.num_healthy_remote_env_runners() < 2:
        assert time.monotonic() < deadline, "the runner was not started again"
        student.cluster._probe()
        time.sleep(0.1)
    assert len(set(processes(student)) - {victims[0]}) == 2
    assert ledger.balanced


def test_a_machine_cut_off_for_half_a_minute_and_back(
    head: Machine, student: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if head.no_cable:
        pytest.skip(head.no_cable)
    set_options(monkeypatch, student, sample_timeout_s=10.0)
    expected, played_on = native(LONG), Event()

    def cut() -> None:
        ip("link", "set", NEAR_LINK, "down")
        time.sleep(CUT_SECONDS)
        played_on.wait(300)
        ip("link", "set", NEAR_LINK, "up")

    cable = once_at_work(far_runner(student), cut)
    ledger = student.cluster.ledger
    for seed in range(3):
        assert set(unequal(play(student, seed), play(expected, seed))) <= ROUNDED
        assert ledger.balanced
        assert cable.is_alive() or played_on.is_set(), "the rollout waited for the machine that was cut off"
        played_on.set()
    cable.join()
    for seed in range(3, 5):
        assert set(unequal(play(student, seed), play(expected, seed))) <= ROUNDED
        assert ledger.balanced, "what came late was counted twice"


def test_a_machine_killed_in_mid_rollout(student: Any, far_machine: FarMachine) -> None:
    ledger = student.cluster.ledger
    lost = ledger.lost
    killer = once_at_work(far_runner(student), far_machine.kill)
    played = play(student)
    killer.join()
    assert ledger.lost == lost + 1, ledger
    assert ledger.balanced
    assert set(unequal(played, play(native(LONG)))) <= ROUNDED


def test_a_driver_killed_and_resumed(head: Machine, tmp_path: Path) -> None:
    """The run ends as if nothing had been: the curriculum's memory, the students, and every number told."""
    experiment = Experiment(
        domain=MAZES,
        curriculum=PLRConfig(capacity=6, minimum_fill=0.5),
        student=replace(RECURRENT, rollout_steps=100),
        backend=RLlibBackend(address=head.address, runners=1, cpus_per_runner=0.5),
        num_envs=4,
        total_steps=ENDLESS,
        evaluate_every=0,
        checkpoint_every=2,
    )
    run = RunDirectory.create(tmp_path / "killed", experiment)
    command = [
        sys.executable,
        "-c",
        "import sys; from clutr.experiments.cli.main import main; sys.exit(main())",
        "resume",
    ]
    driver = subprocess.Popen(
        [*command, str(run.path)], stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 300
    try:
        while not run.checkpoints():
            assert driver.poll() is None
            assert time.monotonic() < deadline, "it hangs"
            time.sleep(0.01)
    finally:
        driver.kill()
        driver.wait()
    kept, _ = run.load_checkpoint()
    assert kept is not None
    budget = (kept["update"] + 4) * 4 * 100
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace(f"total_steps: {ENDLESS}", f"total_steps: {budget}"))
    first = RunDirectory(run.path)
    assert Runner(first).train()
    whole = RunDirectory.create(tmp_path / "whole", replace(experiment, backend=NativeBackend(), total_steps=budget))
    assert Runner(whole).train()
    assert (run.path / "metrics.csv").read_bytes() == (whole.path / "metrics.csv").read_bytes()
    states = [each.load_checkpoint()[0] for each in (first, whole)]
    timeless = {"seconds": 0, "evaluation_seconds": 0}
    assert str(states[0] | timeless) == str(states[1] | timeless)  # type: ignore[operator]
