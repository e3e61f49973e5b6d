"""The world model's part of the page: controls and pictures over a `WorldSession`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from nicegui import ui
from numpy.typing import NDArray

from clutr.probes.pixels import PIXEL_METHODS
from experiments.files import RunError
from experiments.inspect.pictures import uri, with_objects, with_relevance
from experiments.inspect.verdicts import verdict_of
from experiments.inspect.views import COPIED, View
from experiments.inspect.world_session import ACTIONS, MOST_BRANCHES, WorldSession
from experiments.inspect.world_side import Latents, Readings
from experiments.panels.small_chart import small_chart

SECONDS = 0.08
"""Between two moments while playing."""
KEYS = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "up", "ArrowDown": "down"}
WORDS = {"recorded": "as in reality", "wheel": "yours (arrow keys)", "random": "a random walk"}
PLAIN, OBJECTS = "none", "objects"


class WorldTab:
    """Builds itself into the present page; `refresh` shows the session as it is.

    Args:
        session: what is inspected.
    """

    def __init__(self, session: WorldSession) -> None:
        self.session = session
        self._pressed: set[str] = set()
        targets = session.targets()
        self._overlay, self._target = PLAIN, "lateral offset" if "lateral offset" in targets else next(iter(targets))
        with ui.row().classes("w-full gap-4 items-start"):
            with ui.column().classes("gap-3 grow").style("min-width:min(100%,560px);flex-basis:560px"):
                self._build_pictures()
                self._build_transport()
                self._build_dreams()
            with ui.column().classes("gap-3 grow").style("min-width:min(100%,320px);flex-basis:320px"):
                self._readings = Readings(session)
                self._latents = Latents(session, lambda: self.refresh(sliders=False))
        self.timer = ui.timer(SECONDS, self._tick, active=False)
        ui.keyboard(on_key=self._key, ignore=["input", "select", "textarea"])
        self.refresh()

    # --- building

    def _build_pictures(self) -> None:
        self._screens: dict[str, Any] = {}
        names = ["reality", "reconstruction", *(f"dream {n + 1}" for n in range(MOST_BRANCHES)), "error"]
        with ui.element("div").classes("card"):
            ui.label("Reality, and what the model makes of it").classes("title")
            with ui.element("div").classes("screens"):
                for name in names:
                    marker = name.replace(" ", "-")
                    with ui.element("figure").classes("screen").mark(f"figure-{marker}") as figure:
                        picture = ui.interactive_image().classes("pixels").mark(f"picture-{marker}")
                        label = ui.label(name.capitalize())
                    self._screens[name] = (figure, picture, label)
            self._note = ui.label().classes("note").mark("note")

    def _build_transport(self) -> None:
        with ui.element("div").classes("card"):
            with ui.row().classes("items-center w-full no-wrap gap-2"):
                self._play = ui.button("Play", on_click=self._toggle).mark("play").props("unelevated dense no-caps")
                ui.button("Step", on_click=self._step).mark("step").props("outline dense no-caps")
                self._slider = ui.slider(min=0, max=1, value=0).mark("moment").props('aria-label="frame"')
                self._slider.on("update:model-value", self._seek, throttle=0.05)
                self._place = ui.label().classes("note").style("min-width:9em")
            with ui.row().classes("items-center w-full gap-3"):
                choices = self.session.choices()
                self._split = ui.select(list(choices), value=self.session.split, label="Split").mark("split")
                self._split.on_value_change(lambda event: self._select(event.value, 0))
                self._episode = ui.number("Episode", value=0, min=0, precision=0).mark("episode").style("width:6em")
                self._episode.on_value_change(lambda event: self._select(self.session.split, int(event.value or 0)))
                overlays = [PLAIN, OBJECTS, *PIXEL_METHODS]
                self._over = ui.select(overlays, value=PLAIN, label="Overlay on reality").mark("overlay")
                self._over.on_value_change(self._choose_overlay).style("min-width:11em")
                self._of = ui.select(list(self.session.targets()), value=self._target, label="of what is said of")
                self._of.mark("target").on_value_change(self._choose_overlay).style("min-width:11em")
                ui.button("Take the wheel in reality", on_click=self._drive).mark("drive").props("flat dense no-caps")

    def _build_dreams(self) -> None:
        with ui.element("div").classes("card"):
            ui.label("Dreams").classes("title")
            with ui.row().classes("items-center w-full gap-3"):
                ui.button("Branch a dream here", on_click=self._branch).mark("branch").props(
                    "unelevated dense no-caps color=red-8"
                )
                ui.button("Wake up", on_click=self._wake).mark("wake").props("outline dense no-caps")
                names = {name: WORDS[name] for name in ACTIONS}
                self._actions = ui.select(names, value="recorded", label="Actions in dreams").mark("actions")
                self._actions.on_value_change(self._choose_actions).style("min-width:12em")
                with ui.row().classes("no-wrap gap-1"):
                    for key, sign in self._keys():
                        ui.button(sign, on_click=lambda _, key=key: self._nudge(key)).mark(f"key-{key}").props(
                            f'flat dense aria-label="{key}"'
                        )
            with ui.row().classes("items-center w-full gap-3 sliders"):
                self._heat = ui.label().mark("temperature-words")
                self._temperature = ui.slider(min=0, max=1.5, step=0.05, value=0).props("label").mark("temperature")
                self._temperature.on_value_change(self._choose_temperature)
                self._far = ui.label().mark("horizon-words")
                self._horizon = ui.slider(min=1, max=200, value=self.session.horizon).props("label").mark("horizon")
                self._horizon.on_value_change(self._choose_horizon)
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

    def _tick(self) -> None:
        if self.session.finished:
            self._pause()
        else:
            self._step()

    def _step(self) -> None:
        self.session.step(self._pressed)
        self.refresh()

    def _seek(self) -> None:
        self._pause()
        self.session.seek(int(self._slider.value))
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

    def _drive(self) -> None:
        self._pause()
        self._try(self.session.drive)

    def _branch(self) -> None:
        self._try(self.session.branch)

    def _wake(self) -> None:
        self.session.wake()
        self.refresh()

    def _choose_actions(self, event: Any) -> None:
        self.session.actions = event.value

    def _choose_temperature(self, event: Any) -> None:
        self.session.temperature = float(event.value) or None
        self._say_choices()

    def _choose_horizon(self, event: Any) -> None:
        self.session.horizon = int(event.value)
        self._say_choices()

    def _say_choices(self) -> None:
        warmth = self.session.temperature
        self._heat.text = "Temperature 0, as expected" if warmth is None else f"Temperature {warmth:.2f}, drawn"
        self._far.text = f"Horizon {self.session.horizon} moments"

    def _keys(self) -> list[tuple[str, str]]:
        """The keys that do something in this world, and their signs."""
        signs = [("left", "◀"), ("up", "▲"), ("down", "▼"), ("right", "▶")]
        return [each for each in signs if each[0] != "down" or not self.session.discrete]

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
        steers = self.session.footage.driven or (self.session.dreaming and self.session.actions == "wheel")
        if steers and not self.timer.active:
            self._step()

    # --- what is shown

    def refresh(self, sliders: bool = True) -> None:
        """Show the session as it is; `sliders` says whether those of the latents move too."""
        view = self.session.view()
        self._show("reality", self._overlaid(view), dreaming=False)
        self._show("reconstruction", view.reconstruction, dreaming=False)
        for number in range(MOST_BRANCHES):
            dream = view.dreams[number] if number < len(view.dreams) else None
            self._show(f"dream {number + 1}", dream, dreaming=True)
        self._show("error", view.error, view.dreaming)
        if view.mean_error is not None:
            compared = "dream 1" if view.dreaming else "reconstruction"
            self._screens["error"][2].text = f"Difference of reality and {compared}: RMS {view.mean_error:.1f} of 255"
        self._slider._props["max"] = max(view.frames - 1, 1)
        self._slider.value = view.frame
        self._place.text = f"frame {view.frame + 1} of {view.frames}"
        self._tell(view)
        self._readings.show(view)
        if sliders:
            self._latents.show(view)

    def _show(self, name: str, picture: NDArray[np.uint8] | None, dreaming: bool) -> None:
        figure, image, _ = self._screens[name]
        figure.set_visibility(picture is not None)
        figure.classes(add="dreaming" if dreaming else "fed", remove="fed" if dreaming else "dreaming")
        if picture is not None:
            image.set_source(uri(picture, 192))

    def _overlaid(self, view: View) -> NDArray[np.uint8]:
        self._screens["reality"][2].text = "Reality"
        if self._overlay == OBJECTS:
            return with_objects(view.reality, view.masks)
        if self._overlay == PLAIN:
            return view.reality
        try:
            relevance = self.session.explain(self._overlay, self._target)
        except RunError as error:
            self._screens["reality"][2].text = f"Reality ({error})"
            return view.reality
        verdict = verdict_of(self.session.run.path, self._overlay, self._target)
        self._screens["reality"][2].text = f"{self._overlay} of {self._target}: {verdict}"
        return with_relevance(view.reality, relevance)

    def _tell(self, view: View) -> None:
        session = self.session
        apart = (
            " Reality and the first dream are no longer at the same moment: one has ended."
            if not session.aligned
            else ""
        )
        self._note.text = (
            "Green frames are fed with reality, red ones are dreamt. The reconstruction shows what one frame's latents "
            + f"keep, not what the memory knows.{apart} Split: {session.split}; episode {session.number}, "
            + f"{view.about}; {session.run.path.name}, seed {session.run.experiment.seed}."
        )
        roles = {name: f"method-{number % 6}" for number, name in enumerate(view.errors)} | {COPIED: "method-none"}
        self._chart.content = small_chart(view.errors, roles, "moments since the branch", "RMS difference to reality")
        if not view.dreaming:
            self._told.text = "No dream yet. A dream is what the memory expects; it never sees what really comes."
            return
        dreamt = [
            f"dream {number + 1}: {branch.dreamt} moment{'' if branch.dreamt == 1 else 's'}, reward {reward:.2f}, "
            + f"{100 * alive:.0f} % that the episode goes on"
            for number, (branch, reward, alive) in enumerate(
                zip(session.branches, view.rewards, view.alive, strict=True)
            )
        ]
        self._told.text = "; ".join(dreamt) + (
            ". Curves: RMS difference to the real frame of the same moment, of 255, in this one episode (n = 1); a "
            + "dream under other actions than reality's need not agree with it."
        )
