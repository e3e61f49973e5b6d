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
from experiments.inspect.world_session import ACTIONS, MOST_BRANCHES, View, WorldSession

SECONDS = 0.08
"""Between two moments while playing."""
KEYS = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "up", "ArrowDown": "down"}
WORDS = {"recorded": "as in reality", "wheel": "yours (arrow keys)", "random": "a random walk"}
PLAIN, OBJECTS = "none", "objects"
SHOWN = 12
"""Active latents that are shown before the others are folded away."""


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
                self._build_readings()
                self._build_latents()
        self.timer = ui.timer(SECONDS, self._tick, active=False)
        ui.keyboard(on_key=self._key, ignore=["input", "select", "textarea"])
        self.refresh()

    # --- building

    def _build_pictures(self) -> None:
        self._screens: dict[str, Any] = {}
        names = ["reality", "reconstruction", *(f"dream {n + 1}" for n in range(MOST_BRANCHES)), "error"]
        with ui.element("div").classes("card"):
            with ui.element("div").classes("screens"):
                for name in names:
                    with ui.element("figure").classes("screen").mark(f"figure {name}") as figure:
                        picture = ui.interactive_image().classes("pixels").mark(name)
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
            with ui.row().classes("items-center w-full gap-3"):
                ui.button("Branch a dream here", on_click=self._branch).mark("branch").props(
                    "unelevated dense no-caps color=red-8"
                )
                ui.button("Wake up", on_click=self._wake).mark("wake").props("outline dense no-caps")
                names = {name: WORDS[name] for name in ACTIONS}
                self._actions = ui.select(names, value="recorded", label="Actions in dreams").mark("actions")
                self._actions.on_value_change(self._choose_actions).style("min-width:12em")
                for key, sign in (("left", "◀"), ("up", "▲"), ("down", "▼"), ("right", "▶")):
                    ui.button(sign, on_click=lambda _, key=key: self._nudge(key)).mark(f"key {key}").props(
                        f'flat dense aria-label="{key}"'
                    )
            with ui.row().classes("items-center w-full no-wrap gap-3"):
                ui.label("Temperature")
                self._temperature = ui.slider(min=0, max=1.5, step=0.05, value=0).props("label").mark("temperature")
                self._temperature.on_value_change(self._choose_temperature)
                ui.label("Horizon")
                self._horizon = ui.slider(min=1, max=200, value=self.session.horizon).props("label").mark("horizon")
                self._horizon.on_value_change(lambda event: setattr(self.session, "horizon", int(event.value)))
            self._told = ui.label().classes("note").mark("dream note")

    def _build_readings(self) -> None:
        known = self.session.known
        with ui.element("div").classes("card"):
            ui.label("What the latents tell").classes("title")
            head = "<tr><th></th><th>true</th><th>seen</th><th>dreamt</th><th>R²</th></tr>"
            rows = "".join(f"<tr>{self._cells(name)}</tr>" for name in self.session.quantities)
            with ui.element("table").classes("readings").mark("readings"):
                ui.html(head, tag="thead", sanitize=False)
                self._readings = ui.html(rows, tag="tbody", sanitize=False).mark("reading rows")
            ui.label(
                f"Linear read-outs of one frame, fitted on training episodes. R² is of {known.frames} frames of the "
                + "test split; a reading whose R² is low is grey: do not believe it."
            ).classes("note")

    @staticmethod
    def _cells(name: str) -> str:
        return f"<th>{name.replace('_', ' ')}</th>" + "<td></td>" * 4

    def _build_latents(self) -> None:
        session = self.session
        self._latents: dict[int, Any] = {}
        active = [number for number in session.known.order if session.known.active[number]]
        folded = [*active[SHOWN:], *(number for number in session.known.order if not session.known.active[number])]
        with ui.element("div").classes("card"):
            ui.label("Latents, by how much they are used").classes("title")
            for number in active[:SHOWN]:
                self._latent(number)
            with ui.expansion(f"{len(folded)} more, less used or passive").classes("w-full").mark("passive"):
                for number in folded:
                    self._latent(number)
            ui.label(
                "In standard deviations over the recording. A change shows in the reconstruction, or in the first "
                + "dream, which goes on from it; the next step forgets a change of what is seen."
            ).classes("note")

    def _latent(self, number: int) -> None:
        with ui.row().classes("items-center w-full no-wrap gap-2 latent-row"):
            ui.label(f"z{number}").style("width:2.4em")
            slider = (
                ui.slider(min=-3, max=3, step=0.05, value=0).mark(f"latent {number}").props(f'aria-label="z{number}"')
            )
            slider.on("update:model-value", self._edit(number, slider), throttle=0.05)
            ui.label(f"{self.session.known.kl[number]:.1f} nats").classes("note").style("min-width:5em")
            self._latents[number] = slider

    # --- what a person does

    def _edit(self, number: int, slider: Any) -> Callable[[], None]:
        def edit() -> None:
            self.session.edit(number, float(slider.value))
            self.refresh(sliders=False)

        return edit

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
        compared = "dream 1" if view.dreaming else "reconstruction"
        self._screens["error"][2].text = f"Difference of reality and {compared}, {view.mean_error:.1f} of 255"
        self._slider._props["max"] = max(view.frames - 1, 1)
        self._slider.value = view.frame
        self._place.text = f"frame {view.frame + 1} of {view.frames}"
        self._tell(view)
        self._readings.content = "".join(self._reading(each) for each in view.readings)
        if sliders:
            for number, slider in self._latents.items():
                slider.value = round(float(np.clip(view.latents[number], -3, 3)), 2)

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
        self._note.text = (
            f"{session.run.path.name}, seed {session.run.experiment.seed}; {session.split} episode {session.number}: "
            + f"{view.about}. Green is fed with reality, red is dreamt."
        )
        if not view.dreaming:
            self._told.text = "No dream yet. A dream is what the memory expects; it never sees what really comes."
            return
        dreamt = [
            f"dream {number + 1}: {branch.dreamt} moments, reward {reward:.2f}, {100 * alive:.0f} % goes on"
            for number, (branch, reward, alive) in enumerate(
                zip(session.branches, view.rewards, view.alive, strict=True)
            )
        ]
        self._told.text = "; ".join(dreamt)

    @staticmethod
    def _reading(reading: Any) -> str:
        believed = "" if reading.r_squared >= 0.5 else ' class="doubted"'
        unit = f" <small>{reading.unit}</small>" if reading.unit else ""
        dreamt = "" if reading.dreamt is None else f"{reading.dreamt:.2f}"
        return (
            f"<tr{believed}><th>{reading.name}{unit}</th><td>{reading.true:.2f}</td><td>{reading.seen:.2f}</td>"
            + f"<td>{dreamt}</td><td>{reading.r_squared:.2f}</td></tr>"
        )
