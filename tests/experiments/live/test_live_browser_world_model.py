"""A world model's page in a real browser: each control changes what it should."""

import re
from collections.abc import Callable
from typing import Any

from browser import rest
from playwright.sync_api import Locator, Page, expect

Press = Callable[[str], None]
Choose = Callable[[str, str], None]
Pull = Callable[[str, float], None]
Changed = Callable[[str, Any], Any]
Source = Callable[[str], Any]


STEPS = 9
PRESS_AND_WAIT = """() => new Promise(done => {
    const seen = (kind, words) => [...document.querySelectorAll(kind)].find(
        element => element.offsetParent && element.innerText.startsWith(words));
    const picture = seen('figure', 'Dream 1').querySelector('img'), began = performance.now();
    new MutationObserver(() => requestAnimationFrame(() => done(performance.now() - began))).observe(
        picture, {attributes: true, attributeFilter: ['src']});
    seen('button', 'Step').click();
    setTimeout(() => done(NaN), 5000);
})"""


def readings(page: Page) -> list[list[str]]:
    """The table's rows: name, true, seen, dreamt, R²."""
    rows = page.locator(".readings:not(.risks) tbody tr").filter(visible=True)
    return [row.locator("th,td").all_inner_texts() for row in rows.all()]


def chart(page: Page) -> Locator:
    return page.locator("svg.small-chart polyline").filter(visible=True)


def test_time_goes_on_and_back(mazes: Page, press: Press, pull: Pull, source: Source, changed: Changed) -> None:
    first = source("Reality")
    press("Step")
    expect(mazes.get_by_text("frame 2 of 21")).to_be_visible()
    changed("Reality", first)
    press("Back")
    expect(mazes.get_by_text("frame 1 of 21")).to_be_visible()
    assert source("Reality") == first
    pull("frame", 1)
    expect(mazes.get_by_text("frame 21 of 21")).to_be_visible()
    pull("frame", 0.5)
    expect(mazes.get_by_text("frame 11 of 21")).to_be_visible()


def test_play_and_pause(mazes: Page, press: Press) -> None:
    press("Branch a dream here")  # which is longer than the recording
    press("Play")
    expect(mazes.get_by_text(re.compile(r"dream 1: ([3-9]|\d\d+) steps"))).to_be_visible()
    press("Pause")
    expect(mazes.get_by_role("button", name="Play")).to_be_visible()
    rest(mazes)  # a pause is one
    expect(mazes.get_by_text("frame 1 of 21")).to_have_count(0)


def test_play_ends_with_the_recording(mazes: Page, press: Press, pull: Pull) -> None:
    pull("frame", 0.9)
    press("Play")
    expect(mazes.get_by_text("frame 21 of 21")).to_be_visible()
    expect(mazes.get_by_role("button", name="Play")).to_be_visible()


def test_episodes_are_chosen(mazes: Page, choose: Choose, source: Source, changed: Changed) -> None:
    test = source("Reality")
    choose("Split", "train")
    expect(mazes.get_by_text("Split: train; episode 0, ")).to_be_visible()
    train = changed("Reality", test)
    mazes.get_by_label("Episode").filter(visible=True).fill("2")
    expect(mazes.get_by_text("Split: train; episode 2, ")).to_be_visible()
    changed("Reality", train)
    mazes.get_by_label("Episode").filter(visible=True).fill("99999")
    expect(mazes.get_by_label("Episode").filter(visible=True)).not_to_have_value("99999")
    choose("Split", "test")
    expect(mazes.get_by_text("Split: test; episode 0, ")).to_be_visible()
    assert source("Reality") == test


def test_overlays_explain_what_is_asked_for(mazes: Page, choose: Choose, source: Source, changed: Changed) -> None:
    plain = source("Reality")
    choose("Overlay on reality", "objects")
    tinted = changed("Reality", plain)
    choose("of what is said of", "reward")
    choose("Overlay on reality", "occlusion")
    expect(mazes.get_by_text("occlusion of reward:")).to_contain_text("its checks:")
    reward = changed("occlusion of reward", tinted)
    choose("of what is said of", "row")
    expect(mazes.get_by_text("occlusion of row:")).to_be_visible()
    changed("occlusion of row", reward)
    choose("Overlay on reality", "none")
    expect(mazes.get_by_text("occlusion of")).to_have_count(0)
    assert source("Reality") == plain


def test_a_dream_is_branched_compared_and_left(
    mazes: Page, press: Press, pull: Pull, source: Source, keep: Callable[[str], None]
) -> None:
    press("Step")
    expect(mazes.get_by_text("frame 2 of 21")).to_be_visible()
    press("Branch a dream here")
    expect(mazes.locator("figure", has_text="Dream 1").first).to_be_visible()
    assert source("Dream 1") == source("Reconstruction"), "a dream begins with what is seen"
    press("Step")
    expect(mazes.get_by_text("dream 1: 1 step,")).to_be_visible()
    expect(mazes.locator("figure.dreaming:visible")).to_have_count(2)  # the dream and its error
    expect(mazes.locator("figure.fed:visible")).to_have_count(2)
    pull("temperature", 1)
    expect(mazes.get_by_text("Temperature 1.50, drawn")).to_be_visible()
    press("Branch a dream here")
    for count in (2, 3, 4):
        press("Step")
        expect(mazes.get_by_text(f"dream 2: {count} steps")).to_be_visible()
    assert source("Dream 2") != source("Dream 1"), "at a temperature each dream draws its own"
    expect(chart(mazes)).to_have_count(3)
    keep("dream")
    pull("horizon", 0)
    expect(mazes.get_by_text("Horizon 1 step", exact=True)).to_be_visible()
    press("Step")
    expect(mazes.get_by_text("are no longer at the same step")).to_be_visible()
    expect(mazes.get_by_text("dream 1: 4 steps")).to_be_visible()
    press("Wake up")
    expect(mazes.get_by_text("No dream yet")).to_be_visible()
    expect(mazes.locator("figure.dreaming:visible")).to_have_count(0)
    press("Branch a dream here")
    press("Play")
    expect(mazes.get_by_text("dream 1: 1 step,")).to_be_visible()
    expect(mazes.get_by_role("button", name="Play")).to_be_visible()


def test_a_dream_shows_what_it_invented(mazes: Page, press: Press, choose: Choose, source: Source) -> None:
    press("Branch a dream here")
    expect(mazes.locator("figure", has_text="Dream 1").first).to_be_visible()
    plain = source("Dream 1")
    choose("Overlay on dreams", "what was invented")
    expect(mazes.get_by_text("invented (striped), by the true motion")).to_be_visible()
    assert source("Dream 1") != plain
    choose("Actions in dreams", "a random walk")
    expect(mazes.get_by_text("not told: the dream goes its own way")).to_be_visible()
    assert source("Dream 1") == plain


def test_it_is_said_what_each_key_leads_to_and_how_familiar_the_moment_is(mazes: Page, press: Press) -> None:
    keys = mazes.locator(".risks tbody th").filter(visible=True)
    expect(keys).to_have_text(["go on", "◀ left", "▲ up", "▶ right"])
    sizes = [each.bounding_box() for each in mazes.locator("figure:visible img").all()]
    assert min(box["width"] for box in sizes if box) >= 180, "pictures are worth the room of a wide screen"
    within = mazes.locator(".risks caption").filter(visible=True)
    expect(within).to_have_text(re.compile(r"If this key is held for \d+ steps"))
    press("Step")
    meters = mazes.get_by_role("meter").filter(visible=True)
    expect(meters).to_have_count(2)  # of an episode's first frame nothing had been expected
    expect(meters.last).to_have_attribute("aria-label", re.compile(r"this frame surprises more than .* of test frames"))
    press("Branch a dream here")
    expect(meters.last).to_have_attribute("aria-label", re.compile("the last frame before the dream surprises"))


def test_a_dream_steps_pictures_are_one_message_and_come_before_all_else(
    mazes: Page, press: Press, shared: Any
) -> None:
    press("Branch a dream here")
    press("Step")
    expect(mazes.get_by_text("dream 1: 1 step,")).to_be_visible()
    rest(mazes)
    shared.received.clear()
    press("Step")
    expect(mazes.get_by_text("dream 1: 2 steps,")).to_be_visible()
    pictures = [message for message in shared.received if "data:image/png" in message]
    assert len(pictures) == 1
    assert '"run_javascript"' in pictures[0][:24], "no part of the page is drawn anew for them"
    assert len(pictures[0]) < 40_000
    assert pictures[0].count("data:image/png") <= 4, "reality, reconstruction, dream, error: none is sent twice"
    follows = next(number for number, message in enumerate(shared.received) if "dream 1: 2 steps," in message)
    assert shared.received.index(pictures[0]) < follows, "numbers and sliders follow"
    print(f"a dream step reaches the screen after {latency(mazes):.0f} ms, the median of {STEPS}")


def latency(page: Page) -> float:
    """Milliseconds from a press of Step until the browser draws the dream's next picture: the median."""
    found: list[float] = [page.evaluate(PRESS_AND_WAIT) for _ in range(STEPS)]
    return sorted(found)[STEPS // 2]


def test_the_timeline_is_clicked_and_what_the_gauges_mean_is_unfolded(mazes: Page) -> None:
    strip = mazes.get_by_role("img", name=re.compile("surprise over the 21 frames")).filter(visible=True)
    expect(strip).to_be_visible()
    box = strip.bounding_box()
    assert box is not None
    mazes.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + box["height"] / 2)
    expect(mazes.get_by_text("frame 11 of 21", exact=True)).to_be_visible()
    mazes.get_by_text("What these numbers mean, and how good they are").filter(visible=True).click()
    expect(mazes.get_by_text("nothing here has wheels").filter(visible=True)).to_be_visible()
    mazes.get_by_text("What these numbers mean, and how good they are").filter(visible=True).click()
    expect(mazes.get_by_text("nothing here has wheels")).not_to_be_visible()


def test_at_temperature_0_dreams_are_alike(mazes: Page, press: Press, source: Source) -> None:
    press("Branch a dream here")
    press("Branch a dream here")
    press("Step")
    expect(mazes.get_by_text("dream 2: 1 step,")).to_be_visible()
    assert source("Dream 1") == source("Dream 2")


def test_read_outs_follow_what_is_seen_and_dreamt(mazes: Page, press: Press, pull: Pull) -> None:
    before = readings(mazes)
    assert {row[0].split()[0] for row in before} >= {"row", "column", "goal"}
    assert all(row[3] == "" for row in before), "nothing is dreamt yet"
    pull("frame", 1)
    expect(mazes.get_by_text("frame 21 of 21")).to_be_visible()
    rest(mazes)
    after = readings(mazes)
    assert [row[1] for row in after] != [row[1] for row in before], "true"
    assert [row[2] for row in after] != [row[2] for row in before], "seen"
    assert [row[4] for row in after] == [row[4] for row in before], "R² is of the recording"
    pull("frame", 0)
    expect(mazes.get_by_text("frame 1 of 21")).to_be_visible()
    press("Branch a dream here")
    press("Step")
    expect(mazes.get_by_text("dream 1: 1 step,")).to_be_visible()
    rest(mazes)
    assert all(row[3] for row in readings(mazes))


def test_arrow_keys_act_in_a_dream(mazes: Page, press: Press, choose: Choose, pull: Pull, source: Source) -> None:
    dreamt = {}
    choose("Actions in dreams", "yours (arrow keys)")
    for key in ("ArrowLeft", "ArrowUp"):
        press("Branch a dream here")
        for count in (1, 2, 3):
            mazes.keyboard.press(key)
            expect(mazes.get_by_text(f"dream 1: {count} step")).to_be_visible()
        dreamt[key] = source("Dream 1")
        pull("frame", 0)
        expect(mazes.get_by_text("No dream yet")).to_be_visible()
    assert dreamt["ArrowLeft"] != dreamt["ArrowUp"]
