"""The curriculum's part of the page: a map of its tasks, and the student at play on one of them."""

from typing import Any

import numpy as np
from nicegui import ui

from clutr.experiments.live.curriculum_session import CurriculumSession, Play, SelectedTask, StudentStep
from clutr.experiments.plots.gallery import spread
from clutr.experiments.plots.html import percent
from clutr.experiments.plots.images import png_uri
from clutr.experiments.plots.latent_map import MOST_POINTS, SIZE, Canvas, dots, scale_by_score, scale_by_time

SECONDS = 0.08
"""Between two steps of the student."""
NEAR = 6.0
"""Pixels of the map within which a click takes the recorded task and not the point itself."""
TIME = "time of the proposal"


class CurriculumTab:
    """Builds itself into the present page.

    Args:
        session: what is inspected.
    """

    def __init__(self, session: CurriculumSession) -> None:
        self.session = session
        self._canvas = Canvas.around(session.places)
        drawn = np.array(spread(len(session.places), MOST_POINTS))
        data, where = session.map_data, self._canvas.place(session.places[drawn])
        measured = bool(np.isfinite(data.scores).any())
        self._layers = {TIME: (scale_by_time(data.steps), data.steps[drawn], "steps")}
        if measured:
            self._layers = {data.score_name: (scale_by_score(data.scores), data.scores[drawn], "")} | self._layers
        self._dots = {name: dots(where, values, scale) for name, (scale, values, _) in self._layers.items()}
        self._colour = next(iter(self._layers))
        self._held = False
        self._play: Play | None = None
        with ui.row().classes("w-full gap-4 items-start"):
            with ui.column().classes("gap-3 grow").style("min-width:min(100%,420px);flex-basis:420px"):
                self._build_map()
            with ui.column().classes("gap-3 grow").style("min-width:min(100%,420px);flex-basis:420px"):
                self._build_task()
        self.timer = ui.timer(SECONDS, self._tick, active=False)
        self._paint()
        self._show(session.chosen)

    def _build_map(self) -> None:
        session = self.session
        with ui.element("div").classes("card"):
            ui.label("Map of tasks").classes("title")
            colours = ui.select(list(self._layers), value=self._colour, label="Coloured by").mark("colour")
            colours.on_value_change(self._recolour).style("min-width:12em")
            events = ["pointerdown", "pointermove", "pointerup", "pointerleave"]  # of mice and of fingers
            self._map = ui.interactive_image(size=(SIZE, SIZE), on_mouse=self._mouse, events=events, sanitize=False)
            self._map.classes("map").mark("map")
            self._ring = self._map.add_layer().mark("ring")  # by itself, so that a drag does not send all dots anew
            self._scale = ui.html("", sanitize=False).classes("w-full").mark("scale")
            shares, dim = session.plane.shares, session.map_data.latents.shape[1]
            ui.label(
                f"Principal components of {len(session.places):,} proposed latents: the two axes hold "
                + f"{percent(shares.sum(), 1)} of the variance of {dim} dimensions, so neighbours need not be alike. "
                + "Click a point for its task; press elsewhere or drag for the task that decodes there, with all other "
                + "dimensions as in the task clicked last. Split: training; "
                + f"{session.run.path.name}, seed {session.run.experiment.seed}."
            ).classes("note")

    def _build_task(self) -> None:
        with ui.element("div").classes("card"):
            ui.label("The task, and the student on it").classes("title")
            with ui.element("div").classes("screens"):
                with ui.element("figure").classes("screen"):
                    self._picture = ui.interactive_image().classes("pixels").mark("task")
                    ui.label("The level")
                with ui.element("figure").classes("screen") as self._seen_figure:
                    self._seen = ui.interactive_image().classes("pixels").mark("student")
                    ui.label("What the student sees")
                with ui.element("figure").classes("screen") as self._path_figure:
                    self._path = ui.interactive_image().classes("pixels").mark("path")
                    ui.label("Where it went")
            self._about = ui.label().classes("note").mark("task-note")
            with ui.row().classes("items-center gap-2"):
                ui.button("Watch the student", on_click=self._start).mark("watch").props("unelevated dense no-caps")
                ui.button("Stop", on_click=self._stop).mark("stop").props("outline dense no-caps")
            self._told = ui.label().classes("note").mark("play-note")

    # --- the map

    def _recolour(self, event: Any) -> None:
        self._colour = event.value
        self._paint()

    def _mouse(self, event: Any) -> None:
        if event.type in ("pointerup", "pointerleave"):
            self._held = False
            return
        if event.type == "pointerdown":
            self._held = True
        if not self._held:
            return
        at = np.array([[event.image_x, event.image_y]])
        x, y = self._canvas.back(at)[0]
        index = self.session.nearest(x, y)
        near = float(np.linalg.norm(self._canvas.place(self.session.places[[index]]) - at)) <= NEAR
        chosen = self.session.pick(index) if near and event.type == "pointerdown" else self.session.move(x, y)
        self._stop()
        self._show(chosen)

    def _paint(self) -> None:
        self._map.content = self._dots[self._colour]
        scale, _, unit = self._layers[self._colour]
        self._scale.content = scale.html(unit)

    def _show(self, chosen: SelectedTask) -> None:
        (x, y) = self._canvas.place(np.array([chosen.place]))[0]
        ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke-width="2" style="stroke:var(--ink)"/>'
        self._ring.content = ring
        self._picture.set_source(png_uri(chosen.picture, 240))
        self._about.text = chosen.about
        self._seen_figure.set_visibility(False)
        self._path_figure.set_visibility(False)
        self._told.text = f"The student has trained for {self.session.trained:,} steps. Its actions are sampled."

    # --- the student

    def _start(self) -> None:
        self._play = self.session.play()
        self._path_figure.set_visibility(False)
        self._seen_figure.set_visibility(True)
        self._scene(self._play.scene())
        self.timer.active = True

    def _stop(self) -> None:
        self.timer.active = False

    def _tick(self) -> None:
        if self._play is not None:
            self._scene(self._play.step())

    def _scene(self, scene: StudentStep) -> None:
        self._seen.set_source(png_uri(scene.picture, 240))
        end = " It solved the task." if scene.solved else " The episode is over." if scene.over else ""
        self._told.text = f"Step {scene.step}, return {scene.total:.2f}.{end}"
        if scene.over:
            self._stop()
            if scene.path is not None:
                self._path.set_source(png_uri(scene.path, 240))
            self._path_figure.set_visibility(scene.path is not None)
