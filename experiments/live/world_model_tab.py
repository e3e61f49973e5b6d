"""The world model's part of the page: controls and pictures over a `WorldModelSession`."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from nicegui import ui

from clutr.experiments.live.latent_controls import LatentSliders, ReadingsTable
from clutr.experiments.live.outlook_card import OutlookCard
from clutr.experiments.live.parts import card
from clutr.experiments.live.picture_row import INVENTED, OBJECTS, PLAIN, PictureRow
from clutr.experiments.live.timeline import Timeline
from clutr.experiments.live.views import COPIED, View
from clutr.experiments.live.world_model_session import ACTIONS, WorldModelSession
from clutr.experiments.plots.line_chart import small_chart
from clutr.experiments.storage import RunError
from clutr.probes.pixel_attribution import PIXEL_METHODS

SECONDS = 0.08
"""Between two steps while playing."""
SOON, OFTEN = 0.02, 0.2
"""Seconds after which numbers and sliders follow the pictures, and between two times that they do: whoever plays looks
at the pictures, and the browser draws the page anew for each change of anything else."""
KEYS = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "up", "ArrowDown": "down"}
WORDS = {"recorded": "as in reality", "wheel": "yours (arrow keys)", "random": "a random walk"}


class WorldModelTab:
    """Builds itself into the present page; `refresh` shows the session as it is.

    Args:
        session: what is inspected.
    """

    def __init__(self, session: WorldModelSession) -> None:
        self.session = session
        self._pressed: set[str] = set()
        targets = session.targets()
        self._overlay, self._target = PLAIN, "lateral offset" if "lateral offset" in targets else next(iter(targets))
        self._seen, self._late, self._followed = True, False, 0.0
        with ui.row().classes("w-full gap-4 items-start") as self._all:
            with ui.column().classes("gap-3").style("min-width:min(100%,560px);flex:3 1 560px"):
                self._screens = PictureRow(session)
                self._build_transport()
                self._build_dreams()
            with ui.column().classes("gap-3").style("min-width:min(100%,320px);flex:2 1 320px"):
                self._outlook = OutlookCard(session, lambda: self._seen, self._renew)
                self._readings = ReadingsTable(session)
                self._latents = LatentSliders(session, self._edited)
        self.timer = ui.timer(SECONDS, self._tick, active=False)
        self.keyboard = ui.keyboard(on_key=self._key, ignore=["input", "select", "textarea"])
        self.refresh()
        self._follow()  # a page is complete when it comes

    def attend(self, seen: bool) -> None:
        """Whether this tab is looked at: the keys are its own, and it is asked about the future."""
        self._seen = self.keyboard.active = seen

    # --- building

    def _build_transport(self) -> None:
        with card("Time, and the wheel"):
            with ui.element("div").classes("transport"):
                with ui.row().classes("no-wrap gap-2"):
                    self._play = ui.button("Play", on_click=self._toggle).mark("play").props("unelevated dense no-caps")
                    ui.button("Back", on_click=self._back).mark("back").props("outline dense no-caps")
                    ui.button("Step", on_click=self._step_once).mark("step").props("outline dense no-caps")
                self._place = ui.label().classes("note place").mark("place")
            self._slider = ui.slider(min=0, max=1, value=0).mark("frame").props('aria-label="frame"')
            self._slider.on("update:model-value", self._seek, throttle=0.05)
            self._timeline = Timeline(self.session, self._go)
            with ui.element("div").classes("transport"):
                self._wheel = ui.button(on_click=self._drive).mark("drive").props("outline dense no-caps")
                with ui.row().classes("no-wrap gap-1"):  # under the pictures, which whoever steers has to see
                    for key, sign, name in self._keys():
                        ui.button(f"{sign} {name}", on_click=lambda _, key=key: self._nudge(key)).mark(
                            f"key-{key}"
                        ).props("outline dense no-caps")
            with ui.element("div").classes("choices"):
                choices = self.session.choices()
                self._split = ui.select(list(choices), value=self.session.split, label="Split").mark("split")
                self._split.on_value_change(lambda event: self._select(event.value, 0))
                number = ui.number("Episode", value=self.session.number, min=0, precision=0).mark("episode")
                number.on_value_change(lambda event: self._select(self.session.split, int(event.value or 0)))
                self._episode = number
                overlays = [PLAIN, OBJECTS, *PIXEL_METHODS]
                self._over = ui.select(overlays, value=PLAIN, label="Overlay on reality").mark("overlay")
                self._over.on_value_change(self._choose_overlay)
                self._of = ui.select(list(self.session.targets()), value=self._target, label="of what is said of")
                self._of.mark("target").on_value_change(self._choose_overlay)
            self._note = ui.label().classes("note").mark("note")

    def _build_dreams(self) -> None:
        with card("Dreams"):
            with ui.row().classes("items-center w-full gap-3"):
                ui.button("Branch a dream here", on_click=self._branch).mark("branch").props(
                    "unelevated dense no-caps color=red-9"
                )
                ui.button("Wake up", on_click=self._stop).mark("wake").props("outline dense no-caps")
            with ui.element("div").classes("choices"):
                names = {name: WORDS[name] for name in ACTIONS}
                self._actions = ui.select(names, value=self.session.actions, label="Actions in dreams").mark("actions")
                self._actions.on_value_change(self._choose_actions)
                self._dreamt = ui.select([PLAIN, INVENTED], value=PLAIN, label="Overlay on dreams").mark("on-dreams")
                self._dreamt.on_value_change(self._choose_overlay)
            with ui.row().classes("items-center w-full gap-3 sliders"):
                with ui.element("div").classes("slider"):
                    self._heat = ui.label().classes("told").mark("temperature-words")
                    warmth = ui.slider(min=0, max=1.5, step=0.05, value=self.session.temperature or 0)
                    warmth.mark("temperature").props('label aria-label="temperature"')
                    warmth.on_value_change(self._choose_temperature)
                with ui.element("div").classes("slider"):
                    self._far = ui.label().classes("told").mark("horizon-words")
                    far = ui.slider(min=1, max=200, value=self.session.horizon)
                    far.mark("horizon").props('label aria-label="horizon"')
                    far.on_value_change(self._choose_horizon)
            self._say_choices()
            self._chart = ui.html("", sanitize=False).classes("w-full").mark("errors")
            self._told = ui.label().classes("note").mark("dream-note")

    # --- what a person does

    def _toggle(self) -> None:
        self.timer.active = not self.timer.active
        self._play.text = "Pause" if self.timer.active else "Play"

    def _pause(self) -> None:
        self.timer.active = False
        self._play.text = "Play"

    async def _tick(self) -> None:
        """A step, and no other one before the browser has its pictures: one that is slow is not left behind."""
        if self.session.finished:
            self._pause()
        elif (shown := self._step()) is not None:
            with suppress(TimeoutError):  # of a second: nobody may be looking
                await shown

    def _step(self) -> Awaitable[Any] | None:
        self.session.step(self._pressed)
        return self.refresh()

    def _step_once(self) -> None:
        self._step()

    def _back(self) -> None:
        self._pause()
        self.session.seek(self.session.frame - 1)
        self.refresh()

    def _seek(self) -> None:
        self._go(int(self._slider.value))

    def _go(self, frame: int) -> None:
        self._pause()
        self.session.seek(frame)
        self.refresh()

    def _try(self, what: Callable[[], None]) -> None:
        """Do something that may be impossible, and say so."""
        try:
            what()
        except RunError as error:
            ui.notify(str(error), type="warning")
        self.refresh()

    def _select(self, split: str, number: int) -> None:
        self._pause()
        count = self.session.choices()[split]
        self._try(lambda: self.session.select(split, min(max(number, 0), count - 1)))
        self._episode.value = self.session.number
        self._episode.update()  # what was typed may be beyond the last one

    def _drive(self) -> None:
        self._pause()
        if self.session.episode.driven:
            self._select(self.session.split, self.session.number)
            return
        self._try(self.session.drive)
        if self.session.episode.driven and not self.session.discrete:
            self._toggle()  # a car is driven at once; a maze waits for a key

    def _branch(self) -> None:
        self._try(self.session.branch)

    def _stop(self) -> None:
        self.session.stop()
        self.refresh()

    def _choose_actions(self, event: Any) -> None:
        self.session.actions = event.value
        self.refresh()

    def _choose_temperature(self, event: Any) -> None:
        self.session.temperature = float(event.value) or None
        self._say_choices()

    def _choose_horizon(self, event: Any) -> None:
        self.session.horizon = int(event.value)
        self._say_choices()

    def _say_choices(self) -> None:
        warmth = self.session.temperature
        self._heat.text = "Temperature 0, as expected" if warmth is None else f"Temperature {warmth:.2f}, drawn"
        self._far.text = f"Horizon {self.session.horizon} step{'' if self.session.horizon == 1 else 's'}"

    def _keys(self) -> list[tuple[str, str, str]]:
        """The keys that do something in this environment, their signs and their names."""
        names = {"left": "turn left", "up": "go", "right": "turn right"}
        if not self.session.discrete:
            names = {"left": "left", "up": "gas", "down": "brake", "right": "right"}
        signs = {"left": "◀", "up": "▲", "down": "▼", "right": "▶"}
        return [(key, signs[key], name) for key, name in names.items()]

    def _renew(self) -> None:
        self.refresh()

    def _edited(self) -> None:
        self.refresh(sliders=False)

    def _choose_overlay(self) -> None:
        self._overlay, self._target = str(self._over.value), str(self._of.value)
        self.refresh()

    def _nudge(self, key: str) -> None:
        self.session.step({key})
        self.refresh()

    def _key(self, event: Any) -> None:
        key = KEYS.get(event.key.name)
        if key is None:
            return
        if event.action.keyup:
            self._pressed.discard(key)
            return
        self._pressed.add(key)
        if self.session.steered and not self.timer.active:
            self._step()

    # --- what is shown

    def refresh(self, sliders: bool = True) -> Awaitable[Any] | None:
        """Show the session as it is: its pictures now, all else soon after.

        Args:
            sliders: whether those of the latents move too.

        Returns:
            What `show_together` does.
        """
        self._view, self._sliders = self.session.view(), sliders
        shown = self._screens.show(self._view, self._overlay, self._target, str(self._dreamt.value))
        if not self._late:
            self._late = True
            wait = max(SOON, self._followed + OFTEN - time.monotonic())
            asyncio.get_running_loop().call_later(wait, self._follow)
        return shown

    def _follow(self) -> None:
        """Show all but the pictures."""
        self._late, self._followed = False, time.monotonic()
        view = self._view
        if self._slider._props["max"] != max(view.frames - 1, 1):
            self._slider._props["max"] = max(view.frames - 1, 1)
            self._slider.update()
        self._slider.value = view.frame
        self._place.text = f"frame {view.frame + 1} of {view.frames}"
        self._all.classes(**{"add" if self.session.steered else "remove": "steering"})
        self._actions.value = self.session.actions
        self._wheel.text = "Back to the recording" if self.session.episode.driven else "Take the wheel in reality"
        self._tell(view)
        self._timeline.show()
        self._readings.show(view)
        if self._sliders:
            self._latents.show(view)

    def _tell(self, view: View) -> None:
        session = self.session
        apart = (
            " Reality and the first dream are no longer at the same step: one has ended." if not session.aligned else ""
        )
        self._note.text = (
            "Green frames are fed with reality, red ones are dreamt. The reconstruction shows what one frame's latents "
            + f"keep, not what the memory knows.{apart} Split: {session.split}; episode {session.number}, "
            + f"{view.about}; {session.run.path.name}, seed {session.run.experiment.seed}."
        )
        roles = {name: f"method-{number % 6}" for number, name in enumerate(view.errors)} | {COPIED: "method-none"}
        self._chart.content = small_chart(view.errors, roles, "steps since the branch", "RMS difference to reality")
        if not view.dreaming:
            self._told.text = "No dream yet. A dream is what the memory expects; it never sees what really comes."
            return
        dreamt = [
            f"dream {number + 1}: {branch.dreamt} step{'' if branch.dreamt == 1 else 's'}, reward {reward:.2f}, "
            + f"{100 * alive:.0f} % that the episode goes on"
            for number, (branch, reward, alive) in enumerate(
                zip(session.branches, view.rewards, view.alive, strict=True)
            )
        ]
        self._told.text = "; ".join(dreamt) + (
            ". Curves: RMS difference to the real frame of the same step, of 255, in this one episode (n = 1); a "
            + "dream under other actions than reality's need not agree with it."
        )
