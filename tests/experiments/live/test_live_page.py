"""The page without a browser: each control does what it says; addresses and runs that are not allowed are refused."""

import asyncio
import json
import re
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from nicegui.testing import User, user_simulation
from planted_calibration import known
from starlette.responses import PlainTextResponse

from clutr.experiments.cli.main import main
from clutr.experiments.live.csrf import OwnRequests
from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.page import add_routes, require_address
from clutr.experiments.live.probes_page import has_probes, probes_page
from clutr.experiments.live.sanity_checks import sanity_check_of
from clutr.experiments.live.sessions import (
    Refused,
    Session,
    TrainingSession,
    open_session,
    open_sessions,
    path_of,
    runs_in,
)
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.page import Panel
from clutr.experiments.reports.probe_report import load_section
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.probes.trust import LAST

Result = TypeVar("Result")
PATIENCE = 600
"""Looks at the page, ten a second, until something that a timer does has happened: the machine may be busy."""


def run_apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it in a thread of its own: the tests with a browser leave an event loop that runs in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def on_page(sessions: list[Session], steps: Callable[[User], Awaitable[None]]) -> None:
    """Open the page with these sessions and do something on it."""

    async def work() -> None:
        async with user_simulation() as user:
            add_routes(sessions, remote=True)  # as `serve` does; the simulated browser has a host name of its own
            await user.open("/")
            await steps(user)

    known = dict(sys.modules)
    try:
        run_apart(work())
    finally:
        sys.modules.update(known)  # the simulation forgets the modules of pages, and all packages that they are in


def element(user: User, marker: str) -> Any:
    return next(iter(user.find(marker=marker).elements))


def test_the_world_tab(maze_world: WorldModelRun) -> None:
    session = WorldModelSession(maze_world)

    async def steps(user: User) -> None:
        await user.should_see("What the latents tell")
        user.find(marker="step").click()
        assert session.frame == 1
        await user.should_see(f"frame 2 of {len(session.episode.frames)}")
        user.find(marker="branch").click()
        user.find(marker="key-right").click()
        assert session.dreaming
        assert session.branches[0].dreamt == 1
        await user.should_see("dream 1: 1 step,")
        assert element(user, "figure-dream-1").visible
        await user.should_not_see(marker="figure-dream-2")
        user.find(marker="wake").click()
        assert not session.dreaming
        element(user, "temperature").value = 0.5
        assert session.temperature == 0.5
        element(user, "horizon").value = 7
        assert session.horizon == 7
        element(user, "actions").value = "wheel"
        assert session.actions == "wheel"
        before = element(user, "picture-reality")._props["src"]
        element(user, "overlay").value = "objects"
        assert element(user, "picture-reality")._props["src"] != before
        element(user, "overlay").value = "occlusion"
        await user.should_see("not checked")
        element(user, "target").value = "reward"
        await user.should_see("occlusion of reward")
        element(user, "episode").value = 1
        assert session.number == 1
        limit = float(session.course.recent_surprises()[LAST:].min()) - 1
        session.calibration = known(limit, width=session.course.features(1).shape[1])
        user.find(marker="step").click()
        await user.should_see("the alarm for the unfamiliar is raised: 1 time")
        user.find(marker="next-alarm").click()
        assert session.frame == LAST, "the first frame of which the last five were expected"
        await user.should_see("Alarm: the model has hardly seen the like of this", retries=PATIENCE)
        await user.should_see("a dream from here holds for", retries=PATIENCE)
        user.find(marker="drive").click()
        assert session.episode.driven

    on_page([session], steps)


def test_play_goes_on_until_the_recording_ends(maze_world: WorldModelRun) -> None:
    session = WorldModelSession(maze_world)
    session.seek(len(session.episode.frames) - 3)

    async def steps(user: User) -> None:
        user.find(marker="play").click()
        await user.should_see(f"frame {len(session.episode.frames)} of {len(session.episode.frames)}", retries=PATIENCE)
        for _ in range(PATIENCE):
            if element(user, "play").text == "Play":
                break
            await asyncio.sleep(0.1)
        assert element(user, "play").text == "Play", "it still plays behind the end"
        assert session.finished

    on_page([session], steps)


def test_two_tabs_and_the_curriculum(maze_world: WorldModelRun, curriculum_run: Path) -> None:
    tasks = open_session(curriculum_run, curriculum_run.parent / "manifolds")
    assert isinstance(tasks, CurriculumSession)

    async def steps(user: User) -> None:
        user.find(marker="tab-2").click()
        await user.should_see("Map of tasks")
        before = element(user, "map").content
        element(user, "colour").value = "time of the proposal"
        assert element(user, "map").content != before
        user.find(marker="watch").click()
        await user.should_see("return 0.", retries=PATIENCE)
        user.find(marker="stop").click()
        assert element(user, "picture-student")._props["src"].startswith("data:image/png")

    on_page([WorldModelSession(maze_world), tasks], steps)


def test_one_bad_run_is_shown_with_its_error_beside_the_others(
    plain_run: Path, broken_run: Path, tmp_path: Path
) -> None:
    sessions = open_sessions([broken_run, plain_run, tmp_path / "nowhere"], tmp_path)
    assert [type(each) for each in sessions] == [Refused, CurriculumSession, Refused]
    reasons = [each.reason for each in sessions if isinstance(each, Refused)]
    assert "config.yaml is not valid YAML" in reasons[0]
    assert "there is no directory" in reasons[1]
    assert all("\n" not in reason for reason in reasons)

    async def steps(user: User) -> None:
        await user.should_see("Not opened: broken")
        await user.should_see("is not valid YAML")
        user.find(marker="tab-2").click()
        await user.should_see("It has no map of tasks")

    on_page(sessions, steps)
    with pytest.raises(RunError, match="is not valid YAML"):
        open_sessions([broken_run], tmp_path)


def test_a_folder_of_runs_is_opened_run_by_run(plain_run: Path, tmp_path: Path) -> None:
    for name in ("b", "a"):
        shutil.copytree(plain_run, tmp_path / name)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("seed: [")
    (tmp_path / "notes").mkdir()
    (tmp_path / "b.txt").write_text("no run")
    sessions = open_sessions([tmp_path], tmp_path)
    assert [(type(each), path_of(each).name) for each in sessions] == [
        (CurriculumSession, "a"),
        (CurriculumSession, "b"),
        (Refused, "broken"),
    ]
    assert runs_in(plain_run) == [plain_run]
    assert runs_in(tmp_path / "notes") == [tmp_path / "notes"], "it holds none, and is refused by its own name"


def test_a_world_model_opens_as_soon_as_it_is_trained(untrained_world: Path, maze_world: WorldModelRun) -> None:
    session = open_session(untrained_world, untrained_world)
    assert isinstance(session, TrainingSession)
    assert not session.ready
    sessions: list[Session] = [session]

    async def steps(user: User) -> None:
        await user.should_see("3 updates: ")
        assert "Loss, latest: backbone 1.50, trained 0.500" in element(user, "curves").content
        await user.should_not_see("Open the model")
        for path in maze_world.path.glob("memory-*"):
            (untrained_world / path.name).write_bytes(path.read_bytes())
        await user.should_see("Open the model", retries=60)
        user.find(marker="open-model").click()
        await user.should_see("What the latents tell")
        assert isinstance(sessions[0], WorldModelSession)

    try:
        on_page(sessions, steps)
    finally:
        for path in untrained_world.glob("memory-*"):
            path.unlink()


def test_nothing_of_a_run_is_served_as_a_file(maze_world: WorldModelRun) -> None:
    session = WorldModelSession(maze_world)

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
    assert not refused("127.0.0.1", remote=False)
    assert not refused("localhost", remote=False)
    assert refused("0.0.0.0", remote=False)
    assert not refused("0.0.0.0", remote=True)


def refused(host: str, remote: bool) -> bool:
    try:
        require_address(host, 0, remote)
    except RunError:
        return True
    return False


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


def test_sanity_checks_are_those_of_the_probe_report(probed_world: WorldModelRun) -> None:
    found, _ = load_section(probed_world.path / "probes", "attribution")
    rows = {(row["target"], row["method"]): row for row in found["rows"] if row["of"] == "pixels"}
    row = rows["the reward", "occlusion"]
    outcome = "passed" if row["passed"] else "did not pass"
    told = f"{outcome} its checks: {row['why']} (n = {row['predictions']})"
    assert sanity_check_of(probed_world.path, "occlusion", "reward") == told
    latent = next(target for target, _ in rows if "latent" in target).removeprefix("the change of ")
    assert "its checks" in sanity_check_of(probed_world.path, "integrated gradients", latent)
    asked = [re.fullmatch(r"(.+) (now|in 3 steps) \(R\^2 .+\)", target) for target, _ in rows]
    quantity, when = next(found.groups() for found in asked if found)
    assert f"for {quantity} {when} (R^2 " in sanity_check_of(probed_world.path, "occlusion", quantity)
    assert sanity_check_of(probed_world.path, "occlusion", "latent 99") == "not checked for this target"


def test_a_quantitys_sanity_check_names_the_step_that_it_was_found_for(tmp_path: Path) -> None:
    row = {"of": "pixels", "method": "occlusion", "passed": False, "why": "no more than chance", "predictions": 16}
    rows = [
        row | {"target": "lateral offset in 10 steps (R^2 0.31)"},
        row | {"target": "the reward", "of": "past latents"},
    ]
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "attribution.json").write_text(json.dumps({"rows": rows}))
    told = "for lateral offset in 10 steps (R^2 0.31) it did not pass its checks: no more than chance (n = 16)"
    assert sanity_check_of(tmp_path, "occlusion", "lateral offset") == told
    assert sanity_check_of(tmp_path, "occlusion", "offset") == "not checked for this target"
    assert sanity_check_of(tmp_path, "occlusion", "reward") == "not checked for this target", "that was of latents"


def test_sanity_checks_that_are_not_there(tmp_path: Path) -> None:
    assert sanity_check_of(tmp_path, "occlusion", "reward").startswith("not checked (`clutr world probe`")
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "attribution.json").write_text("{")
    assert sanity_check_of(tmp_path, "occlusion", "reward") == "not checked: probes/attribution.json cannot be read"


def test_probes_are_shown_as_in_their_static_page(probed_world: WorldModelRun) -> None:
    session = WorldModelSession(probed_world)
    html = probes_page(session)
    for name, title in (("checks", "Which explanations passed"), ("attribution", "What predictions are made of")):
        assert f'id="{name}"' in html
        assert title in html
    assert 'src="http' not in html
    assert 'href="http' not in html

    async def steps(user: User) -> None:
        await user.should_see("Probes: ")
        client: httpx.AsyncClient = user.http_client
        answer = await client.get("/probes/0")
        assert answer.status_code == 200
        assert answer.text == html
        assert (await client.get("/probes/1")).status_code == 404
        assert (await client.get("/probes/..%2fworld.yaml")).status_code in (404, 422)

    on_page([session], steps)


def test_probes_that_cannot_be_shown_say_so(maze_world: WorldModelRun, tmp_path: Path) -> None:
    session = WorldModelSession(maze_world)
    assert not has_probes(session)
    assert "The probes cannot be shown" in probes_page(session)
    assert "holds no probe" in probes_page(session)


def test_probes_are_drawn_anew_once_they_have_changed(
    maze_world: WorldModelRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, drawn = WorldModelRun(shutil.copytree(maze_world.path, tmp_path / "run")), list[str]()

    def panels(run: WorldModelRun) -> list[Panel]:
        drawn.append((run.path / "probes" / "trust.json").read_text())
        return [Panel("trust", f"Drawing {len(drawn)}", "", "")]

    monkeypatch.setattr("clutr.experiments.live.probes_page.probe_panels", panels)
    session = WorldModelSession(run)
    for number, words in enumerate(("old", "new"), 1):
        write_atomically(run.path / "probes" / "trust.json", words.encode())
        assert f"Drawing {number}" in probes_page(session)
        assert probes_page(session) == probes_page(session)
    assert drawn == ["old", "new"]


def ask(headers: dict[str, str], remote: bool = False) -> int:
    """The status that a request with these headers gets."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("hello")(scope, receive, send)

    async def work() -> int:
        transport = httpx.ASGITransport(OwnRequests(answered, remote))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8642") as client:
            return (await client.get("/", headers=headers)).status_code

    return run_apart(work())


def test_requests_of_other_sites_are_refused() -> None:
    assert ask({}) == 200
    assert ask({"host": "localhost:8642", "origin": "http://localhost:8642"}) == 200
    assert ask({"host": "[::1]:8642"}) == 200
    assert ask({"origin": "https://elsewhere.example"}) == 403
    assert ask({"host": "elsewhere.example"}) == 403, "a name that was pointed at this machine"
    assert ask({"host": "workstation:8642"}, remote=True) == 200
    assert ask({"host": "workstation:8642", "origin": "https://elsewhere.example"}, remote=True) == 403


def test_a_websocket_of_another_site_is_never_accepted() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(*_: Any) -> None:
        raise AssertionError("it was let through")

    headers = [(b"host", b"127.0.0.1:8642"), (b"origin", b"https://elsewhere.example")]
    run_apart(OwnRequests(never, False)({"type": "websocket", "headers": headers}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
