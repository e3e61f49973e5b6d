"""Two small world models and a curriculum run, which all tests of the live page share, and a browser that shows them.

Screenshots go where the environment variable CLUTR_SCREENSHOTS says, else into the test's temporary directory.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import rest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from clutr.experiments.cli.main import main
from clutr.experiments.reports.probe_report import probe_world_model
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.probing import ProbeOptions
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.experiments.world_model.training import fit_backbone, train_memories
from clutr.world_model.backbones.ppca import PPCAConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMEOUT_MS = 60_000
"""Other work may go on beside the tests."""


def _world(path: Path, preset: str, latents: int) -> WorldModelRun:
    run = WorldModelRun.create(path, replace(WORLD_PRESETS[preset], backbone=PPCAConfig(latents=latents)))
    dataset = record(run)
    train_memories(run, dataset, fit_backbone(run, dataset))
    return run


@pytest.fixture(scope="session")
def maze_world(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    return _world(tmp_path_factory.mktemp("inspect") / "mazes", "maze-debug", 6)


@pytest.fixture(scope="session")
def probed_world(maze_world: WorldModelRun, tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    """The world model of mazes, with a probe report of a few predictions."""
    path = tmp_path_factory.mktemp("inspect") / "probed"
    shutil.copytree(maze_world.path, path)
    few = ProbeOptions(
        past=5, predictions=4, pictured=2, quantities=1, ahead=3, samples=300, frames=40, traversals=2, exponents=2,
        steps=30, warm_up=5, starts=2, search=20, beyond=3,
    )  # fmt: skip
    probe_world_model(WorldModelRun(path), few)
    return WorldModelRun(path)


@pytest.fixture(scope="session")
def car_world(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    """More latents than are shown at once."""
    return _world(tmp_path_factory.mktemp("inspect") / "cars", "car-debug", 16)


@pytest.fixture(scope="session")
def curriculum_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    arguments = ["--run", str(folder / "tasks")]
    assert main(["train", "maze-clutr-debug", *arguments]) == 0
    return folder / "tasks"


# --- the page in a browser


@pytest.fixture(scope="session")
def address(probed_world: WorldModelRun, curriculum_run: Path, car_world: WorldModelRun) -> Iterator[str]:
    """A served page: mazes, their probes, a curriculum, cars."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "import sys; from clutr.experiments.cli.main import main; sys.exit(main(sys.argv[1:]))"
    runs = [str(path) for path in (probed_world.path, curriculum_run, car_world.path)]
    options = ["--no-browser", "--port", str(port), "--manifolds", str(curriculum_run.parent / "manifolds")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NICEGUI"))}
    server = subprocess.Popen([sys.executable, "-c", command, "inspect", *runs, *options], env=environment)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, "the server has ended"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert "CLUTR_REQUIRE_BROWSER" not in os.environ, "the browser tests were to run, and no Chromium is installed"
        pytest.skip("no Chromium is installed")
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(address: str, chromium: Browser) -> Iterator[Page]:
    """The page, opened; whatever it complains about fails the test at its end."""
    complaints: list[str] = []
    opened = chromium.new_page(viewport={"width": 1440, "height": 900})
    opened.set_default_timeout(TIMEOUT_MS)
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    opened.goto(address)
    opened.get_by_text("What the latents tell").wait_for()
    rest(opened)
    yield opened
    assert complaints == []
    opened.close()


@pytest.fixture
def keep(page: Page, tmp_path: Path) -> Callable[[str], None]:
    """Keeps screenshots of the page at desktop and phone width under a name."""
    folder = Path(os.environ.get("CLUTR_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def kept(name: str) -> None:
        for device, width, height in (("phone", 390, 844), ("desktop", 1440, 900)):
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
        page.get_by_label(label).filter(visible=True).click()
        page.get_by_role("option", name=option, exact=True).click()

    return chosen


@pytest.fixture
def pull(page: Page) -> Callable[[str, float], None]:
    """Drags a slider, by its name, to a share of its way."""

    def pulled(name: str, share: float) -> None:
        rest(page)  # a slider that still moves down would be missed
        slider = page.get_by_role("slider", name=name, exact=True)
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
    return lambda name: page.get_by_role("button", name=name, exact=True).click()


@pytest.fixture
def mazes(page: Page, choose: Callable[[str, str], None], pull: Callable[[str, float], None]) -> Page:
    """At an episode's first frame, awake, whatever an earlier test has left: all pages share their sessions."""
    back = page.get_by_role("button", name="Back to the recording")
    if back.is_visible():
        back.click()
    choose("Split", "test")
    for number in "10":
        page.get_by_label("Episode").fill(number)
        expect(page.get_by_text(f"Split: test; episode {number}, recorded")).to_be_visible()
    expect(page.get_by_text("frame 1 of 21")).to_be_visible()
    pull("temperature", 0)
    expect(page.get_by_text("Temperature 0, as expected")).to_be_visible()
    pull("horizon", 1)
    expect(page.get_by_text("Horizon 200 steps")).to_be_visible()
    rest(page)
    return page
