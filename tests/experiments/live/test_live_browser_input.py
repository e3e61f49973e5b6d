"""Hands on a world model in a real browser: the wheel in reality, and the latents."""

from collections.abc import Callable
from typing import Any

import pytest
from browser import rest
from playwright.sync_api import Page, expect

Press = Callable[[str], None]
Choose = Callable[[str, str], None]
Pull = Callable[[str, float], None]
Changed = Callable[[str, Any], Any]
Source = Callable[[str], Any]


@pytest.fixture
def cars(page: Page) -> Page:
    """At an episode on the road."""
    page.get_by_role("tab", name="World model: cars").click()
    page.get_by_text("forward speed").wait_for()
    back = page.get_by_role("button", name="Back to the recording").filter(visible=True)
    if back.is_visible():
        back.click()
    expect(page.get_by_text("episode 0, recorded").filter(visible=True)).to_be_visible()
    rest(page)
    return page


def speed(page: Page) -> float:
    row = page.locator(".readings tbody tr", has_text="forward speed").filter(visible=True)
    return float(row.locator("td").first.inner_text())


def test_arrow_keys_act_in_reality(mazes: Page, press: Press, source: Source, changed: Changed) -> None:
    first = source("Reality")
    press("Take the wheel in reality")
    expect(mazes.get_by_text("the simulator, and you play")).to_be_visible()
    expect(mazes.get_by_text("frame 1 of 1")).to_be_visible()
    assert source("Reality") == first, "it is the episode's level, from its start"
    mazes.keyboard.press("ArrowRight")
    expect(mazes.get_by_text("frame 2 of 2")).to_be_visible()
    changed("Reality", first)
    press("◀ turn left")
    expect(mazes.get_by_text("frame 3 of 3")).to_be_visible()
    assert source("Reality") == first, "turned right, and left again"
    press("Branch a dream here")
    mazes.keyboard.press("ArrowLeft")
    expect(mazes.get_by_text("frame 4 of 4")).to_be_visible()
    expect(mazes.get_by_text("dream 1: 1 step,")).to_be_visible()
    press("Back to the recording")
    expect(mazes.get_by_text("episode 0, recorded")).to_be_visible()
    expect(mazes.get_by_text("frame 1 of 21")).to_be_visible()


def test_a_slider_stays_where_it_is_dragged(mazes: Page, pull: Pull) -> None:
    slider = mazes.get_by_role("slider", name="temperature", exact=True)
    slider.scroll_into_view_if_needed()  # as pulling it does: a box is told relative to what is in view
    before = slider.bounding_box()
    pull("temperature", 0.5)
    expect(mazes.get_by_text("Temperature 0.75, drawn")).to_be_visible()
    assert slider.bounding_box() == before, "its words grew shorter beside it"


def test_the_wheel_is_the_arrow_keys_whatever_was_used_before(
    mazes: Page, press: Press, choose: Choose, pull: Pull
) -> None:
    mazes.set_viewport_size({"width": 1440, "height": 400})
    press("Take the wheel in reality")
    expect(mazes.get_by_text("frame 1 of 1")).to_be_visible()
    choose("Overlay on reality", "objects")
    pull("temperature", 0.5)
    expect(mazes.get_by_text("Temperature 0.75, drawn")).to_be_visible()
    scrolled = mazes.evaluate("scrollY")
    for count, key in enumerate(("ArrowRight", "ArrowUp", "ArrowLeft"), 2):
        mazes.keyboard.press(key)
        expect(mazes.get_by_text(f"frame {count} of {count}", exact=True)).to_be_visible()
    rest(mazes)
    assert mazes.evaluate("scrollY") == scrolled, "the page stays"
    expect(mazes.get_by_text("Temperature 0.75, drawn")).to_be_visible()


def test_a_car_is_driven_at_once_and_the_mazes_do_not_hear_it(mazes: Page, press: Press, cars: Page) -> None:
    press("Take the wheel in reality")
    expect(cars.locator(".place").filter(visible=True)).not_to_have_text("frame 1 of 1")  # nobody has pressed Play
    press("Pause")
    rest(cars)
    frame, speeds = int(place(cars).split()[1]), [speed(cars)]
    for act in (lambda: cars.keyboard.press("ArrowUp"), lambda: press("▼ brake")):
        for _ in range(3):
            act()
            frame += 1
            expect(cars.get_by_text(f"frame {frame} of {frame}", exact=True)).to_be_visible()
        rest(cars)
        speeds.append(speed(cars))
    slow, fast, braked = speeds
    assert slow < fast > braked
    cars.get_by_role("tab", name="World model: probed").click()
    expect(cars.get_by_text("frame 1 of 21")).to_be_visible()
    cars.keyboard.press("ArrowUp")
    rest(cars)
    expect(cars.get_by_text("frame 1 of 21")).to_be_visible()


def place(page: Page) -> str:
    return page.locator(".place").filter(visible=True).inner_text()


def test_keys_go_to_the_tab_that_is_seen(mazes: Page, press: Press) -> None:
    press("Take the wheel in reality")
    expect(mazes.get_by_text("frame 1 of 1")).to_be_visible()
    mazes.get_by_role("tab", name="World model: cars").click()
    expect(mazes.get_by_text("forward speed")).to_be_visible()
    rest(mazes)
    mazes.keyboard.press("ArrowRight")
    mazes.get_by_role("tab", name="World model: probed").click()
    expect(mazes.get_by_text("goal ahead")).to_be_visible()
    rest(mazes)
    expect(mazes.get_by_text("frame 1 of 1")).to_be_visible()
    mazes.keyboard.press("ArrowRight")
    expect(mazes.get_by_text("frame 2 of 2")).to_be_visible()


def test_a_latent_slider_changes_the_reconstruction(
    mazes: Page, press: Press, pull: Pull, source: Source, changed: Changed
) -> None:
    before = source("Reconstruction")
    name = mazes.locator(".latent-row:visible").first.inner_text().split()[0]
    table = mazes.locator(".readings:not(.risks) tbody").filter(visible=True)
    seen = table.inner_text()
    pull(name, 1)
    moved = changed("Reconstruction", before)
    pull(name, 0)
    other = changed("Reconstruction", moved)
    press("As the encoder says")
    assert changed("Reconstruction", other) == before
    expect(table).to_have_text(seen, use_inner_text=True)
    press("Branch a dream here")
    expect(mazes.locator("figure", has_text="Dream 1").first).to_be_visible()
    dreamt = source("Dream 1")
    pull(name, 1)
    assert changed("Dream 1", dreamt) == moved, "the same latents make the same picture"
    assert source("Reconstruction") == before, "what is seen stays"


def test_latents_are_sorted_and_the_last_are_folded_away(
    cars: Page, pull: Pull, source: Source, changed: Changed
) -> None:
    rows = cars.locator(".latent-row:visible")
    expect(rows).to_have_count(12)
    cars.get_by_text("4 more, of which").click()
    expect(rows).to_have_count(16)
    kl = [float(words.split()[1]) for words in rows.all_inner_texts()]
    assert kl == sorted(kl, reverse=True)
    before = source("Reconstruction")
    pull(rows.last.inner_text().split()[0], 1)
    assert changed("Reconstruction", before) != before
