"""The page in a real browser: it loads without errors, its controls work, and it can be looked at afterwards.

Screenshots go where the environment variable CLUTR_SCREENSHOTS says, else into the test's temporary directory.
"""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from experiments.world_run import WorldRun

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
PATIENCE = 60_000
"""Milliseconds: other work may go on beside the tests."""


@pytest.fixture(scope="module")
def address(maze_world: WorldRun, curriculum_run: Path) -> Iterator[str]:
    """A served page with two tabs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "import sys; from experiments.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["inspect", str(maze_world.path), str(curriculum_run), "--no-browser", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NICEGUI"))}
    manifolds = ["--manifolds", str(curriculum_run.parent / "manifolds")]
    server = subprocess.Popen([sys.executable, "-c", command, *arguments, *manifolds], env=environment)
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


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The page, opened; whatever it complains about fails the test at its end."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1440, "height": 900})
        opened.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        opened.goto(address)
        opened.get_by_text("What the latents tell").wait_for()
        yield opened
        assert complaints == []
        browser.close()


def keep(page: Page, folder: Path, name: str) -> None:
    """Screenshots at desktop and phone width."""
    folder = Path(os.environ.get("CLUTR_SCREENSHOTS", folder))
    folder.mkdir(parents=True, exist_ok=True)
    for device, width, height in (("desktop", 1440, 900), ("phone", 390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} does not fit on a {device}"
        page.screenshot(path=folder / f"inspect-{name}-{device}.png", full_page=True)
    page.set_viewport_size({"width": 1440, "height": 900})


def picture(page: Page, figure: str) -> Any:
    """The source of a picture, by the caption of its figure."""
    return page.locator("figure", has_text=figure).first.locator("img").get_attribute("src")


def test_dream_and_drive(page: Page, tmp_path: Path) -> None:
    page.get_by_role("button", name="Step").click()
    expect(page.get_by_text("frame 2 of")).to_be_visible()
    page.get_by_role("button", name="Branch a dream here").click()
    expect(page.locator("figure", has_text="Dream 1").first).to_be_visible()
    page.get_by_role("button", name="Step").click()
    expect(page.get_by_text("dream 1: 1 moment,")).to_be_visible()
    assert page.locator("figure.dreaming:visible").count() == 2, "the dream and its error"
    assert page.locator("figure.fed:visible").count() == 2
    keep(page, tmp_path, "dream")
    page.get_by_role("button", name="Wake up").click()
    expect(page.get_by_text("No dream yet")).to_be_visible()
    page.get_by_role("button", name="Take the wheel in reality").click()
    expect(page.get_by_text("the simulator, and you drive")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("frame 2 of 2")).to_be_visible()
    page.get_by_role("button", name="left", exact=True).click()
    expect(page.get_by_text("frame 3 of 3")).to_be_visible()


def test_a_latent_slider_changes_the_reconstruction(page: Page) -> None:
    before = picture(page, "Reconstruction")
    slider = page.get_by_role("slider", name="z", exact=False).first
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => [...document.querySelectorAll('figure')].some("
        + "f => f.textContent.includes('Reconstruction') && f.querySelector('img').src !== before)",
        arg=before,
    )


def test_the_map_of_tasks(page: Page, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Curriculum").click()
    page.get_by_text("Map of tasks").wait_for()
    level = picture(page, "The level")
    plane = page.locator(".map").bounding_box()
    assert plane is not None
    page.mouse.move(plane["x"] + 0.15 * plane["width"], plane["y"] + 0.5 * plane["height"])
    page.mouse.down()
    page.mouse.move(plane["x"] + 0.85 * plane["width"], plane["y"] + 0.5 * plane["height"], steps=5)
    page.mouse.up()
    expect(page.get_by_text("decoded from a point near task")).to_be_visible()
    page.wait_for_function(
        "before => [...document.querySelectorAll('figure')].some("
        + "f => f.textContent.includes('The level') && f.querySelector('img').src !== before)",
        arg=level,
    )
    page.get_by_role("button", name="Watch the student").click()
    expect(page.get_by_text("Where it went")).to_be_visible()
    keep(page, tmp_path, "curriculum")


@pytest.mark.parametrize("path", ["/world.yaml", "/../world.yaml", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/config.yaml"])
def test_no_file_is_served(address: str, path: str) -> None:
    connection = http.client.HTTPConnection(address.removeprefix("http://"))
    connection.request("GET", path)  # as it is: a browser would tidy the path up first
    answer = connection.getresponse()
    assert answer.status == 404
    assert b"domain:" not in answer.read()
    connection.close()
