"""The page without a browser: each control does what it says; addresses and runs that are not allowed are refused."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from nicegui import ui
from nicegui.testing import User, user_simulation

from experiments.cli import main
from experiments.files import RunError
from experiments.inspect.curriculum_session import CurriculumSession
from experiments.inspect.page import Session, build, open_session, require_address
from experiments.inspect.verdicts import verdict_of
from experiments.inspect.world_session import WorldSession
from experiments.world_run import WorldRun


def on_page(sessions: list[Session], steps: Callable[[User], Awaitable[None]]) -> None:
    """Open the page with these sessions and do something on it."""

    async def work() -> None:
        async with user_simulation() as user:
            ui.page("/")(lambda: build(sessions))  # as `serve` does
            await user.open("/")
            await steps(user)

    asyncio.run(work())


def element(user: User, marker: str) -> Any:
    return next(iter(user.find(marker=marker).elements))


def test_the_world_tab(maze_world: WorldRun) -> None:
    session = WorldSession(maze_world)

    async def steps(user: User) -> None:
        await user.should_see("What the latents tell")
        user.find(marker="step").click()
        assert session.frame == 1
        await user.should_see(f"frame 2 of {len(session.footage.frames)}")
        user.find(marker="branch").click()
        user.find(marker="key right").click()
        assert session.dreaming
        assert session.branches[0].dreamt == 1
        await user.should_see("dream 1: 1 moments")
        assert element(user, "figure dream 1").visible
        await user.should_not_see(marker="figure dream 2")
        user.find(marker="wake").click()
        assert not session.dreaming
        element(user, "temperature").value = 0.5
        assert session.temperature == 0.5
        element(user, "horizon").value = 7
        assert session.horizon == 7
        element(user, "actions").value = "wheel"
        assert session.actions == "wheel"
        before = element(user, "reality").source
        element(user, "overlay").value = "objects"
        assert element(user, "reality").source != before
        element(user, "overlay").value = "occlusion"
        await user.should_see("not checked")
        element(user, "target").value = "reward"
        await user.should_see("occlusion of reward")
        element(user, "episode").value = 1
        assert session.number == 1
        user.find(marker="drive").click()
        assert session.footage.driven

    on_page([session], steps)


def test_play_goes_on_until_the_recording_ends(maze_world: WorldRun) -> None:
    session = WorldSession(maze_world)
    session.seek(len(session.footage.frames) - 3)

    async def steps(user: User) -> None:
        user.find(marker="play").click()
        await user.should_see(f"frame {len(session.footage.frames)} of {len(session.footage.frames)}", retries=40)
        for _ in range(40):
            if element(user, "play").text == "Play":
                return
            await asyncio.sleep(0.1)
        raise AssertionError("it still plays behind the end")

    on_page([session], steps)


def test_two_tabs_and_the_curriculum(maze_world: WorldRun, curriculum_run: Path) -> None:
    tasks = open_session(curriculum_run, curriculum_run.parent / "manifolds")
    assert isinstance(tasks, CurriculumSession)

    async def steps(user: User) -> None:
        user.find(marker="tab 2").click()
        await user.should_see("Map of tasks")
        before = element(user, "map").content
        element(user, "colour").value = "time of the proposal"
        assert element(user, "map").content != before
        user.find(marker="watch").click()
        await user.should_see("return 0.", retries=40)
        user.find(marker="stop").click()
        assert element(user, "student").source.startswith("data:image/png")

    on_page([WorldSession(maze_world), tasks], steps)


def test_nothing_of_a_run_is_served_as_a_file(maze_world: WorldRun) -> None:
    session = WorldSession(maze_world)

    async def steps(user: User) -> None:
        client: httpx.AsyncClient = user.http_client
        for path in ("/world.yaml", "/../world.yaml", "/%2e%2e/%2e%2e/etc/passwd", f"/{maze_world.path}/world.yaml"):
            answer = await client.get(path)
            assert answer.status_code == 404, path
            assert "domain:" not in answer.text

    on_page([session], steps)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_addresses_that_others_reach_are_refused(host: str) -> None:
    with pytest.raises(RunError, match=r"can be reached from other machines.*--remote allows it"):
        require_address(host, 0, remote=False)


def test_this_machines_own_addresses_are_served() -> None:
    require_address("127.0.0.1", 0, remote=False)
    require_address("localhost", 0, remote=False)
    require_address("0.0.0.0", 0, remote=True)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RunError, match=rf"cannot serve at 127\.0\.0\.1:{port}: .*--port chooses another port"):
            require_address("127.0.0.1", port, remote=False)


def test_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="neither a world model"):
        open_session(tmp_path, tmp_path)
    assert main(["inspect", str(tmp_path), "--port", "0"]) == 2
    assert "neither a world model (world.yaml) nor a curriculum run (config.yaml)" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "--remote allows it" in capsys.readouterr().err


def test_verdicts(tmp_path: Path) -> None:
    assert verdict_of(tmp_path, "occlusion", "reward").startswith("not checked (`clutr world probe`")
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "pixels.json").write_text(
        '{"reward": {"occlusion": {"passed": true, "why": "beats chance"}, "other": {"passed": false, "why": "noise"}}}'
    )
    assert verdict_of(tmp_path, "occlusion", "reward") == "passed its checks, beats chance"
    assert verdict_of(tmp_path, "other", "reward") == "FAILED its checks, noise"
    assert verdict_of(tmp_path, "occlusion", "speed") == "not checked for this target"
