"""An episode at a glance: how surprising its frames were, and where the alarm for the unfamiliar is raised."""

from collections.abc import Callable
from typing import Any

import numpy as np
from nicegui import ui

from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.charts import css_colour
from clutr.probes.trust import LAST

WIDTH, HEIGHT = 1_000, 36
MOST = 200
"""Vertices of the curve."""
ANEW = 5
"""Frames that come while somebody drives before the curve is drawn anew."""
WHERE = (
    "event => { const box = event.currentTarget.getBoundingClientRect(); emit((event.clientX - box.left) / box.width) }"
)


class Timeline:
    """Builds itself into the present page, under the slider of frames, and as wide.

    Args:
        session: what is inspected.
        go: takes a person to a frame.
    """

    def __init__(self, session: WorldModelSession, go: Callable[[int], None]) -> None:
        self._session, self._go = session, go
        self._drawn: tuple[Any, int, bool] = (None, 0, False)
        """The episode whose curve is shown, how many frames it had then, and whether there was a calibration."""
        with ui.element("div").classes("timeline"):
            self._strip = ui.html("", sanitize=False).mark("timeline").on("click", self._click, js_handler=WHERE)
            self._cursor = ui.element("i").classes("cursor")
        with ui.row().classes("items-center w-full gap-3 no-wrap"):
            self._next = ui.button("Next alarm", on_click=self._to_alarm).mark("next-alarm")
            self._next.props("outline dense no-caps").classes("shrink-0")
            self._words = ui.label().classes("note").mark("timeline-note")

    def _click(self, event: Any) -> None:
        frames = len(self._session.episode.frames)
        self._go(round(float(event.args) * (frames - 1)))

    def _to_alarm(self) -> None:
        alarms, frame = self._session.alarms(), self._session.frame
        if alarms:
            self._go(next((each for each in alarms if each > frame), alarms[0]))

    def show(self) -> None:
        """Show the episode as it is, and where one is in it."""
        session = self._session
        frames, calibrated = len(session.episode.frames), session.calibration is not None
        self._cursor.style(f"left:{100 * session.frame / max(frames - 1, 1):.2f}%")
        episode, before, known = self._drawn
        if episode is session.episode and known == calibrated and before <= frames < before + ANEW:
            return
        self._drawn = (session.episode, frames, calibrated)
        alarms = session.alarms()
        self._strip.content = self._chart()
        self._next.set_enabled(bool(alarms))
        model = session.calibration.trust if session.calibration else None
        what = f"Surprise over the episode, mean of the last {LAST} frames; a click goes there."
        if model is None:
            self._words.text = what
        elif alarms:
            count = f"{len(alarms)} time{'' if len(alarms) == 1 else 's'}"
            self._words.text = f"{what} Above the dashed line (red) the alarm for the unfamiliar is raised: {count}."
        else:
            self._words.text = f"{what} The alarm for the unfamiliar is raised nowhere in this episode."

    def _chart(self) -> str:
        session = self._session
        surprise = session.course.recent_surprises().double().numpy()
        known = np.isfinite(surprise)
        if known.sum() < 2:
            return '<span class="note">The episode is too short yet for its surprise to be drawn.</span>'
        model = session.calibration.trust if session.calibration else None
        limit = None if model is None else model.limit
        values = surprise[known] if limit is None else np.append(surprise[known], limit)
        low, high = float(values.min()), float(values.max())
        last = max(len(surprise) - 1, 1)

        def up(value: float) -> float:
            return HEIGHT - 3 - (HEIGHT - 6) * (value - low) / max(high - low, 1e-9)

        def across(frame: float) -> float:
            return WIDTH * frame / last

        drawn = ""
        if limit is not None:
            for frame in np.flatnonzero(known & (surprise > limit)):
                drawn += f'<rect x="{across(frame - 0.5):.1f}" width="{WIDTH / last:.1f}" height="{HEIGHT}"/>'
            drawn = f'<g style="fill:{css_colour("bad")}" opacity=".3">{drawn}</g>'
            drawn += (
                f'<path d="M0 {up(limit):.1f}H{WIDTH}" stroke-dasharray="6 6" vector-effect="non-scaling-stroke" '
                + f'style="stroke:{css_colour("muted")}"/>'
            )
        places = np.flatnonzero(known)
        places = places[np.unique(np.linspace(0, len(places) - 1, min(len(places), MOST)).round().astype(int))]
        line = " ".join(f"{across(frame):.1f},{up(surprise[frame]):.1f}" for frame in places)
        words = f"surprise over the {len(surprise)} frames, alarms at frames "
        words += ", ".join(str(frame + 1) for frame in session.alarms()[:10]) or "none"
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{words}">{drawn}'
            + f'<polyline points="{line}" fill="none" stroke-width="1.5" vector-effect="non-scaling-stroke" '
            + f'style="stroke:{css_colour("accent")}"/></svg>'
        )
