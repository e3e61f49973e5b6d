"""The map of a curriculum's tasks, under a mouse, a finger, or the arrow keys."""

from collections.abc import Callable
from typing import Any

import numpy as np
from nicegui import ui

from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.parts import card
from clutr.experiments.plots.gallery import spread
from clutr.experiments.plots.html import percent
from clutr.experiments.plots.latent_map import MOST_POINTS, SIZE, Canvas, dots, scale_by_score, scale_by_time

NEAR = 6.0
"""Pixels of the map within which a click takes the recorded task and not the point itself."""
KEY_STEP = 6.0
"""Pixels of the map that an arrow key moves the point."""
TIME = "time of the proposal"
KEYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


class MapCard:
    """Builds itself into the present page; the session must have a map.

    Args:
        session: what is inspected.
        chosen: called when a person has chosen another task.
    """

    def __init__(self, session: CurriculumSession, chosen: Callable[[], None]) -> None:
        self.session, self._chosen = session, chosen
        self._colour, self._held = "", False
        with card("Map of tasks"):
            self._colours = ui.select([TIME], value=TIME, label="Coloured by").mark("colour")
            self._colours.on_value_change(self._recolour).style("min-width:12em")
            events = ["pointerdown", "pointermove", "pointerup", "pointerleave"]  # of mice and of fingers
            self._map = ui.interactive_image(size=(SIZE, SIZE), on_mouse=self._mouse, events=events, sanitize=False)
            self._map.classes("map").mark("map")
            self._map.props('tabindex=0 role=application aria-label="map of tasks: arrow keys move the point"')
            for key, (x, y) in KEYS.items():
                self._map.on(f"keydown.{key}.prevent", lambda _, x=x, y=y: self._nudge(x, y), args=[])
            self._ring = self._map.add_layer().mark("ring")  # by itself, so that a drag does not send all dots anew
            self._scale = ui.html("", sanitize=False).classes("w-full").mark("scale")
            self._note = ui.label().classes("note")
        self.renew()

    def renew(self) -> None:
        """Show the session's map as it is."""
        tasks = self.session.map
        assert tasks is not None
        self._canvas = Canvas.around(tasks.places)
        drawn = np.array(spread(len(tasks.places), MOST_POINTS))
        data, where = tasks.data, self._canvas.place(tasks.places[drawn])
        self._layers = {TIME: (scale_by_time(data.steps), data.steps[drawn], "steps")}
        if bool(np.isfinite(data.scores).any()):
            self._layers = {data.score_name: (scale_by_score(data.scores), data.scores[drawn], "")} | self._layers
        self._dots = {name: dots(where, values, scale) for name, (scale, values, _) in self._layers.items()}
        self._colour = self._colour if self._colour in self._layers else next(iter(self._layers))
        self._colours.set_options(list(self._layers), value=self._colour)
        shares, dim = tasks.plane.shares, data.latents.shape[1]
        self._note.text = (
            f"Principal components of {len(tasks.places):,} proposed latents: the two axes hold "
            + f"{percent(shares.sum(), 1)} of the variance of {dim} dimensions, so neighbours need not be alike. "
            + "Click a point for its task; press elsewhere, drag, or use the arrow keys for the task that decodes "
            + "there, with all other dimensions as in the task clicked last. Split: training; "
            + f"{self.session.run.path.name}, seed {self.session.run.experiment.seed}."
        )
        self._paint()
        self.ring()

    def _recolour(self, event: Any) -> None:
        if event.value in self._layers:
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
        tasks = self.session.map
        assert tasks is not None
        near = float(np.linalg.norm(self._canvas.place(tasks.places[[index]]) - at)) <= NEAR
        _ = self.session.pick(index) if near and event.type == "pointerdown" else self.session.move(x, y)
        self._chosen()

    def _nudge(self, right: int, down: int) -> None:
        """Move the point by a key; the middle of the map where none is chosen on it."""
        place = self.session.chosen.place
        at = np.full((1, 2), SIZE / 2) if place is None else self._canvas.place(np.array([place]))
        x, y = self._canvas.back(at + KEY_STEP * np.array([[right, down]]))[0]
        self.session.move(x, y)
        self._chosen()

    def _paint(self) -> None:
        self._map.content = self._dots[self._colour]
        scale, _, unit = self._layers[self._colour]
        self._scale.content = scale.html(unit)

    def ring(self) -> None:
        """Mark where the chosen task lies, if it lies on the map."""
        place = self.session.chosen.place
        if place is None:
            self._ring.content = ""
            return
        (x, y) = self._canvas.place(np.array([place]))[0]
        self._ring.content = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke-width="2" style="stroke:var(--ink)"/>'
        )
