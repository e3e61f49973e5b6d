"""Small world models and curriculum runs, which all tests of the live page share, and one browser that shows them.

Screenshots go where the environment variable CLUTR_SCREENSHOTS says, else into the test's temporary directory.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import rest
from coarse import coarse_maps
from playwright.sync_api import Browser, Page, expect, sync_playwright
from worlds import made

from clutr.experiments.cli.main import main
from clutr.experiments.reports.probe_report import probe_world_model
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.probing import ProbeOptions
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.experiments.world_model.training import fit_backbone, train_memories
from clutr.world_model.backbones.ppca import PPCAConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMEOUT_MS = 120_000
"""Other work may go on beside the tests."""
STARTS = 3
"""How often a server is started: another program may take the port between the choice and the start."""
CHOSEN = """label => [...document.querySelectorAll('.q-select')].find(
    select => select.offsetParent && select.querySelector('.q-field__label')?.textContent === label
)?.querySelector('.q-field__native span')?.textContent"""
"""What a select shows that has this label."""


def _world(temporary: pytest.TempPathFactory, name: str, preset: str, latents: int) -> WorldModelRun:
    options = replace(WORLD_PRESETS[preset], backbone=PPCAConfig(latents=latents))
    run = WorldModelRun.create(temporary.mktemp("inspect") / name, options)
    shutil.copytree(made(preset, temporary).path / "recording", run.dataset_path)
    dataset = record(run)
    train_memories(run, dataset, fit_backbone(run, dataset))
    return run


@pytest.fixture(scope="session")
def maze_world(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    return _world(tmp_path_factory, "mazes", "maze-debug", 6)


@pytest.fixture(scope="session")
def probed_world(maze_world: WorldModelRun, tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    """The world model of mazes, with a probe report of a few predictions."""
    path = tmp_path_factory.mktemp("inspect") / "probed"
    shutil.copytree(maze_world.path, path)
    few = ProbeOptions(
        past=3, predictions=2, pictured=1, moments=2, quantities=1, ahead=3, samples=300, frames=40, traversals=2,
        exponents=1, steps=12, warm_up=5, starts=2, search=20, beyond=3, shuffles=2, frames_back=2,
    )  # fmt: skip
    with coarse_maps():
        probe_world_model(WorldModelRun(path), few)
    return WorldModelRun(path)


@pytest.fixture(scope="session")
def car_world(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    """More latents than are shown at once."""
    return _world(tmp_path_factory, "cars", "car-debug", 16)


@pytest.fixture(scope="session")
def curriculum_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    arguments = ["--run", str(folder / "tasks")]
    assert main(["train", "maze-clutr-debug", *arguments]) == 0
    return folder / "tasks"


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose curriculum chooses no latents."""
    folder = tmp_path_factory.mktemp("inspect") / "plain"
    assert main(["train", "maze-dr-debug", "--run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def broken_run(plain_run: Path) -> Path:
    """A run whose configuration cannot be read."""
    folder = plain_run.parent / "broken"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: [")
    return folder


@pytest.fixture(scope="session")
def untrained_world(maze_world: WorldModelRun) -> Path:
    """A world model of which only the backbone is trained yet."""
    folder = maze_world.path.parent / "untrained"
    shutil.copytree(maze_world.path, folder)
    for path in folder.glob("memory-*"):
        path.unlink()
    rows = "update,backbone/loss,trained/loss\n1,2.5,\n2,1.5,\n3,,0.5\n"
    (folder / "metrics.csv").write_text(rows)
    return folder


# --- the page in a browser


@pytest.fixture(scope="session")
def address(
    probed_world: WorldModelRun,
    curriculum_run: Path,
    car_world: WorldModelRun,
    plain_run: Path,
    broken_run: Path,
    untrained_world: Path,
) -> Iterator[str]:
    """A served page: mazes, their probes, two curricula, cars, a run that cannot be opened, one in training."""
    command = "import sys; from clutr.experiments.cli.main import main; sys.exit(main(sys.argv[1:]))"
    worlds = (probed_world.path, car_world.path)
    runs = [str(path) for path in (*worlds, curriculum_run, plain_run, broken_run, untrained_world)]
    options = ["--no-browser", "--manifolds", str(curriculum_run.parent / "manifolds")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NICEGUI"))}
    for _ in range(STARTS):
        port = _free_port()
        arguments = ["inspect", *runs, *options, "--port", str(port)]
        server = subprocess.Popen([sys.executable, "-c", command, *arguments], env=environment)
        try:
            if _answers(server, port):
                yield f"http://127.0.0.1:{port}"
                return
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(60)
            server.kill()
            server.wait()
    pytest.fail("the server has ended")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _answers(server: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until the server answers; False: it has ended."""
    deadline = time.monotonic() + 300
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.1)
    return False


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert "CLUTR_REQUIRE_BROWSER" not in os.environ, "the browser tests were to run, and no Chromium is installed"
        pytest.skip("no Chromium is installed")
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Shared:
    """One page for all tests: opening it anew for each would take most of their time. One that failed is reopened.

    Args:
        browser: shows it.
        address: of the server.
    """

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser, self._address, self._failed = browser, address, 0
        self.page: Page | None = None
        self.complaints: list[str] = []
        self.received: list[str] = []
        """Messages of the server that change the page."""

    def opened(self, failed: int) -> Page:
        """The page. `failed`: how many tests have failed so far."""
        if self.page is not None and failed > self._failed:
            self.page.close()
            self.page = None
        self._failed = failed
        if self.page is None:
            self.page = self._open()
        self.complaints.clear()
        return self.page

    def _open(self) -> Page:
        page = self._browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        page.on("websocket", lambda socket: socket.on("framereceived", self._receive))
        page.goto(self._address)
        page.get_by_role("tab", name="Side by side").wait_for()
        return page

    def _receive(self, payload: Any) -> None:
        if any(kind in str(payload)[:24] for kind in ('"update"', '"run_javascript"')):
            self.received.append(str(payload))


@pytest.fixture(scope="session")
def shared(address: str, chromium: Browser) -> Shared:
    return Shared(chromium, address)


@pytest.fixture
def page(shared: Shared, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page at the first world model; whatever it complained about meanwhile fails the test at its end."""
    opened = shared.opened(request.session.testsfailed)
    opened.set_viewport_size({"width": 1440, "height": 900})
    opened.get_by_role("tab", name="World model: probed").click()
    opened.get_by_text("What the latents tell").filter(visible=True).wait_for()
    rest(opened)
    yield opened
    assert shared.complaints == []


@pytest.fixture
def keep(page: Page, tmp_path: Path) -> Callable[[str], None]:
    """Keeps screenshots of the page at the widths of a phone, a tablet and a desktop under a name."""
    folder = Path(os.environ.get("CLUTR_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def kept(name: str) -> None:
        for device, width, height in (("phone", 390, 844), ("tablet", 768, 1024), ("desktop", 1440, 900)):
            page.set_viewport_size({"width": width, "height": height})
            rest(page)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} does not fit on a {device}"
            page.screenshot(path=folder / f"inspect-{name}-{device}.png", full_page=True)

    return kept


@pytest.fixture
def source(page: Page) -> Callable[[str], Any]:
    """Tells the source of a picture by the beginning of its caption, once the page is at rest."""

    def told(caption: str) -> Any:
        rest(page)
        return page.locator("figure:visible", has_text=caption).first.locator("img").get_attribute("src")

    return told


@pytest.fixture
def changed(page: Page, source: Callable[[str], Any]) -> Callable[[str, Any], Any]:
    """Waits until a picture's source is not what it was, and tells the new one, once the page is at rest."""

    def awaited(caption: str, before: Any) -> Any:
        page.wait_for_function(
            "([caption, before]) => [...document.querySelectorAll('figure')].some("
            + "f => f.offsetParent && f.textContent.includes(caption) && f.querySelector('img').src !== before)",
            arg=[caption, before],
        )
        return source(caption)

    return awaited


@pytest.fixture
def choose(page: Page) -> Callable[[str, str], None]:
    """Takes an option of a select, both by their names."""

    def chosen(label: str, option: str) -> None:
        page.get_by_label(label, exact=True).filter(visible=True).click()
        offered = page.get_by_role("option", name=option, exact=True)
        offered.last.click()  # a list that was used before may still be closing

    return chosen


@pytest.fixture
def pull(page: Page) -> Callable[[str, float], None]:
    """Drags a slider, by its name, to a share of its way."""

    def pulled(name: str, share: float) -> None:
        rest(page)  # a slider that still moves down would be missed
        slider = page.get_by_role("slider", name=name, exact=True).filter(visible=True)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None
        height, beyond = (
            box["y"] + box["height"] / 2,
            20 * (share == 1) - 20 * (share == 0),
        )  # the ends are reached from behind
        page.mouse.move(box["x"] + box["width"] / 2, height)
        page.mouse.down()
        end = box["x"] + share * box["width"] + beyond
        page.mouse.move(end, height, steps=2)
        page.mouse.move(end, height + 1)  # where it is let go tells the server nothing: it has to have moved there
        page.mouse.up()
        rest(page)

    return pulled


@pytest.fixture
def press(page: Page) -> Callable[[str], None]:
    """Presses a button by its name."""
    return lambda name: page.get_by_role("button", name=name, exact=True).filter(visible=True).click()


@pytest.fixture
def mazes(page: Page, choose: Callable[[str, str], None], pull: Callable[[str, float], None]) -> Page:
    """At an episode's first frame, awake, whatever an earlier test has left: all pages share their sessions.

    Only what is not so yet is done, since each of it takes its time.
    """
    pause, back = (page.get_by_role("button", name=name).filter(visible=True) for name in ("Pause", "Back to the rec"))
    for button in (pause, back):
        if button.is_visible():
            button.click()
    usual = {"Actions in dreams": "as in reality", "Overlay on reality": "none", "Overlay on dreams": "none"}
    for label, option in (usual | {"Split": "test"}).items():
        if page.evaluate(CHOSEN, label) != option:
            choose(label, option)
    rest(page)
    there, begun = page.get_by_text("Split: test; episode 0, recorded"), page.get_by_text("frame 1 of 21", exact=True)
    if not (there.is_visible() and begun.is_visible() and page.get_by_text("No dream yet").is_visible()):
        for number in "10":
            page.get_by_label("Episode").filter(visible=True).fill(number)
            expect(page.get_by_text(f"Split: test; episode {number}, recorded")).to_be_visible()
            rest(page)  # the answer to the last change would undo the next one
        expect(begun).to_be_visible()
    for name, share, words in (("temperature", 0, "Temperature 0, as expected"), ("horizon", 1, "Horizon 200 steps")):
        if not page.get_by_text(words).is_visible():
            pull(name, share)
            expect(page.get_by_text(words)).to_be_visible()
    return page
