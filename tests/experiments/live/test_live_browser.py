"""The other tabs in a real browser: curricula, students, runs side by side, probes; and what is not served."""

import http.client
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import rest
from playwright.sync_api import Browser, Page, expect

from clutr.experiments.world_model.run_directory import WorldModelRun

Press = Callable[[str], None]
Choose = Callable[[str, str], None]
Changed = Callable[[str, Any], Any]
Source = Callable[[str], Any]
RING = ".map circle"
ONLY_VIOLATIONS = {"resultTypes": ["violations"]}
"""All rules are checked; of the others axe describes one element, not each: most of its time."""


@pytest.fixture
def tasks(page: Page) -> Page:
    page.get_by_role("tab", name="Curriculum: tasks").click()
    page.get_by_role("heading", name="Map of tasks").wait_for()
    rest(page)
    return page


def first_dot(page: Page, colour: int = 0) -> tuple[float, float]:
    """Where the first dot of a colour is in the window."""
    place = page.evaluate(
        """colour => {
            const path = document.querySelectorAll('.map path')[colour];
            const [x, y] = path.getAttribute('d').match(/M([-.\\d]+) ([-.\\d]+)/).slice(1).map(Number);
            const at = new DOMPoint(x, y).matrixTransform(path.getScreenCTM());
            return [at.x, at.y];
        }""",
        colour,
    )
    return place[0], place[1]


def ring(page: Page, there: Callable[[float, float], bool]) -> tuple[float, float]:
    """Where the ring is in the window, once it is where it should be."""
    for _ in range(600):
        box = page.locator(RING).bounding_box()  # none while it is being drawn anew
        if box is not None:
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            if there(x, y):
                return x, y
        page.wait_for_timeout(100)
    pytest.fail("the ring does not come")


def across(page: Page, share: float) -> tuple[float, float]:
    """A place of the map on its diagonal."""
    box = page.locator(".map").first.bounding_box()
    assert box is not None
    return box["x"] + share * box["width"], box["y"] + share * box["height"]


def test_the_map_is_coloured_by_regret_or_time(tasks: Page, choose: Choose) -> None:
    regret, scale = tasks.locator(".map").first.inner_html(), tasks.locator(".scale").inner_text()
    choose("Coloured by", "time of the proposal")
    expect(tasks.locator(".scale")).to_contain_text("steps")
    rest(tasks)
    assert tasks.locator(".map").first.inner_html() != regret
    choose("Coloured by", "regret")
    expect(tasks.locator(".scale")).to_have_text(scale)


def test_a_click_shows_a_task_and_a_drag_decodes(
    tasks: Page, source: Source, changed: Changed, keep: Callable[[str], None]
) -> None:
    tasks.mouse.click(*first_dot(tasks))
    expect(tasks.get_by_text("proposed at")).to_be_visible()
    dot = first_dot(tasks)
    ring(tasks, lambda *at: at == pytest.approx(dot, abs=1.5))
    level = source("The level")
    tasks.mouse.move(*across(tasks, 0.1))
    tasks.mouse.down()
    expect(tasks.get_by_text("decoded from a point near task")).to_be_visible()
    ring(tasks, lambda *at: at != pytest.approx(dot, abs=1.5))
    tasks.mouse.move(*across(tasks, 0.9), steps=5)
    decoded = changed("The level", level)
    tasks.mouse.up()
    middle = across(tasks, 0.5)
    there = ring(tasks, lambda x, y: x > middle[0] and y > middle[1])
    tasks.mouse.move(*across(tasks, 0.3))
    rest(tasks)
    ring(tasks, lambda *at: at == there)  # nothing is held any more
    keep("curriculum")
    tasks.mouse.click(*first_dot(tasks))
    expect(tasks.get_by_text("proposed at")).to_be_visible()
    assert changed("The level", decoded) == level


def test_the_arrow_keys_move_the_point_on_the_map(tasks: Page, source: Source, changed: Changed) -> None:
    tasks.mouse.click(*first_dot(tasks))
    expect(tasks.get_by_text("proposed at")).to_be_visible()
    level = source("The level")
    before = ring(tasks, lambda *_: True)
    tasks.get_by_label("map of tasks: arrow keys move the point").focus()
    for _ in range(30):
        tasks.keyboard.press("ArrowLeft")
    expect(tasks.get_by_text("decoded from a point near task")).to_be_visible()
    rest(tasks)
    x, _ = ring(tasks, lambda x, _: x < before[0])
    assert x < before[0]
    changed("The level", level)


def test_any_level_of_any_suite_is_chosen_and_watched(
    page: Page, choose: Choose, press: Press, source: Source, changed: Changed, keep: Callable[[str], None]
) -> None:
    page.get_by_role("tab", name="Curriculum: plain").click()
    expect(page.get_by_text("It has no map of tasks")).to_be_visible()
    expect(page.locator("svg.curve-chart").filter(visible=True)).not_to_have_count(0)
    first = source("The level")
    choose("Levels", "suite dcd7")
    expect(page.get_by_text("of the suite dcd7").filter(visible=True)).to_be_visible()
    second = changed("The level", first)
    choose("Level", "Labyrinth")
    expect(page.get_by_text("Labyrinth of the suite dcd7").filter(visible=True)).to_be_visible()
    changed("The level", second)
    press("Watch the student")
    expect(page.get_by_text(re.compile(r"^Step [1-9]")).filter(visible=True)).to_be_visible()
    press("Stop")
    page.get_by_label("Episodes").filter(visible=True).fill("3")
    press("Play it many times")
    expect(page.get_by_text("3 episodes: solved").filter(visible=True)).to_be_visible()
    expect(page.get_by_text("Where it went in 3 episodes").filter(visible=True)).to_be_visible()
    keep("suite")


def test_runs_stand_side_by_side(page: Page, choose: Choose, press: Press, keep: Callable[[str], None]) -> None:
    page.get_by_role("tab", name="Side by side").click()
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("finished")
    returns = page.get_by_role("img", name=re.compile("Return on own levels, latest: tasks .*, plain"))
    expect(returns.locator("polyline")).to_have_count(2)
    choose("Levels", "suite small")
    press("Watch them")
    for name in ("tasks", "plain"):
        expect(page.locator("figure", has_text=re.compile(rf"^{name}.* Step [1-9]"))).to_be_visible()
    press("Stop")
    press("Play it 20 times each")
    for name in ("tasks", "plain"):
        expect(page.locator("figure", has_text=f"{name}, 20 episodes: solved")).to_be_visible()
    keep("side-by-side")


def test_a_run_that_cannot_be_opened_stops_nobody(page: Page) -> None:
    page.get_by_role("tab", name="Not opened: broken").click()
    expect(page.get_by_text("is not valid YAML")).to_be_visible()
    page.get_by_role("tab", name="World model: untrained").click()
    expect(page.get_by_text("This world model is not trained yet")).to_be_visible()
    expect(page.get_by_role("img", name="Loss, latest: backbone 1.50, trained 0.500")).to_be_visible()


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_axe_finds_nothing_serious(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    Axe().run(page, "head")  # which leaves its script on the page
    axe, found = Axe(axe_script="0"), []
    for tab in page.get_by_role("tab").all():
        name = tab.inner_text()
        if name.startswith("Probes"):  # a page of its own, in a frame
            continue
        tab.click()
        rest(page)
        found += [
            f"{name}: {each['id']} {each['nodes'][0]['html'][:200]}"
            for each in axe.run(page, options=ONLY_VIOLATIONS).response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
    assert found == []


def test_the_student_is_watched_and_stopped(tasks: Page, press: Press) -> None:
    tasks.mouse.click(*first_dot(tasks))
    press("Watch the student")
    expect(tasks.get_by_text("What the student sees")).to_be_visible()
    expect(tasks.get_by_text(re.compile(r"^Step [1-9]"))).to_be_visible()
    press("Stop")
    rest(tasks)
    ended = tasks.get_by_text(re.compile("The episode is over|It solved the task")).count() == 1  # a short one may
    expect(tasks.get_by_text("Where it went")).to_be_visible(visible=ended)
    press("Watch the student")
    expect(tasks.get_by_text("Where it went")).to_be_visible()


def test_a_finger_drags_too(address: str, chromium: Browser) -> None:
    phone = chromium.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    phone.goto(address)
    phone.get_by_role("tab", name="Curriculum: tasks").tap()
    phone.get_by_role("heading", name="Map of tasks").wait_for()
    rest(phone)
    touch = phone.context.new_cdp_session(phone)
    for kind, share in (("Start", 0.2), ("Move", 0.4), ("Move", 0.8)):
        x, y = across(phone, share)
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": [{"x": x, "y": y}]})
        phone.wait_for_timeout(100)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(phone.get_by_text("decoded from a point near task")).to_be_visible()
    middle = across(phone, 0.5)
    ring(phone, lambda x, y: x > middle[0] and y > middle[1])
    phone.close()


def test_probes_are_framed(page: Page, keep: Callable[[str], None]) -> None:
    page.get_by_role("tab", name="Probes").click()
    frame = page.frame_locator("iframe.probes")
    expect(frame.get_by_role("heading", name="Which explanations passed")).to_be_visible()
    frame.get_by_role("link", name="Dynamics").click()
    expect(frame.locator("#dynamics")).to_be_in_viewport()
    keep("probes")


@pytest.mark.parametrize("path", ["/world.yaml", "/../world.yaml", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/config.yaml"])
def test_no_file_is_served(address: str, path: str) -> None:
    assert b"domain:" not in refused(address, path)


@pytest.mark.parametrize(
    "path",
    [
        "/out",
        "/probes/out",
        "/probes/0/out",
        "/probes/..%2fout",
        "/_nicegui/{v}/static/../../../out",
        "/_nicegui/{v}/static/..%2f..%2fout",
    ],
)
def test_links_out_of_a_run_lead_nowhere(address: str, probed_world: WorldModelRun, path: str) -> None:
    outside = probed_world.path.parent / "outside.txt"
    outside.write_text("a secret")
    for folder in (probed_world.path, probed_world.path / "probes"):
        if not (folder / "out").is_symlink():
            (folder / "out").symlink_to(outside)
    assert b"a secret" not in refused(address, path.replace("{v}", version("nicegui")))


def refused(address: str, path: str) -> bytes:
    """What the server says to a request that it must refuse."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"))
    connection.request("GET", path)  # as it is: a browser would tidy the path up first
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (403, 404, 422)
    return body
