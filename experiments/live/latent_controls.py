"""Beside the pictures: what the latents tell of the true state, and sliders that change them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nicegui import ui

from clutr.experiments.live.parts import card
from clutr.experiments.live.views import Reading, View
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.html import text

SHOWN = 12
"""Active latents that are shown before the others are folded away."""
MOST_FOLDED = 64
"""Folded ones that can be moved: a grid of cells has hundreds of latents."""
BELIEVED = 0.5
"""R² from which a reading is not grey."""


class ReadingsTable:
    """A table of true quantities beside what is read from the latents.

    Args:
        session: what is inspected.
    """

    def __init__(self, session: WorldModelSession) -> None:
        names = ("quantity", "true", "seen", "dreamt", "R²")
        head = "<tr>" + "".join(f'<th scope="col">{name}</th>' for name in names) + "</tr>"
        with card("What the latents tell"):
            with ui.element("table").classes("readings").mark("readings"):
                ui.html(head, tag="thead", sanitize=False)
                self._rows = ui.html("", tag="tbody", sanitize=False).mark("reading-rows")
            ui.label(
                "True: what the simulator says of the real frame. Seen and dreamt: linear read-outs of the latents of "
                + "this frame and of the first dream's, fitted on training episodes. They show what is in the latents, "
                + f"not that the memory uses it. R² is of n = {session.known.frames:,} frames of the test split; "
                + f"readings below {BELIEVED} are grey: do not believe them."
            ).classes("note")

    def show(self, view: View) -> None:
        """Show a step's readings."""
        self._rows.content = "".join(self._row(each) for each in view.readings)

    @staticmethod
    def _row(reading: Reading) -> str:
        believed = "" if reading.r2 >= BELIEVED else ' class="doubted"'
        unit = f" <small>{text(reading.unit)}</small>" if reading.unit else ""
        numbers = (reading.true, reading.seen, reading.dreamt, reading.r2)
        cells = "".join(f"<td>{'' if number is None else f'{number:z.2f}'}</td>" for number in numbers)
        return f'<tr{believed}><th scope="row">{text(reading.name)}{unit}</th>{cells}</tr>'


class LatentSliders:
    """A slider a latent.

    Args:
        session: what is inspected.
        changed: called when a person has changed one.
    """

    def __init__(self, session: WorldModelSession, changed: Callable[[], None]) -> None:
        self._session, self._changed = session, changed
        self._sliders: dict[int, Any] = {}
        known = session.known
        active = [number for number in known.order if known.active[number]]
        passive = [number for number in known.order if not known.active[number]]
        with card("Latents, by how much they tell of a frame"):
            for number in active[:SHOWN]:
                self._add(number)
            if folded := [*active[SHOWN:], *passive]:
                told = f"{len(folded)} more, of which {len(passive)} passive"
                with ui.expansion(told).classes("w-full").mark("passive") as more:
                    self._folded = ui.column().classes("w-full gap-0")
                more.on_value_change(lambda event: self._unfold(folded) if event.value else None)
            ui.button("As the encoder says", on_click=self._forget).mark("forget").props(
                "outline dense no-caps"
            ).classes("self-start")
            ui.label(
                "In standard deviations over the recording; beside each its KL divergence. A change shows in the "
                + "reconstruction, or in the first dream, which goes on from it; the next step forgets a change of "
                + "what is seen. Latents far from those of any frame decode to pictures that mean nothing."
            ).classes("note")

    def _unfold(self, folded: Sequence[int]) -> None:
        """Build what was folded away, maybe hundreds: only somebody who asks for them waits for them."""
        if self._folded.default_slot.children:
            return
        with self._folded:
            for number in folded[:MOST_FOLDED]:
                self._add(number)
            if len(folded) > MOST_FOLDED:
                ui.label(f"{len(folded) - MOST_FOLDED} more tell still less and are left out.").classes("note")
        self.show(self._session.view())

    def _add(self, number: int) -> None:
        with ui.row().classes("items-center w-full no-wrap gap-2 latent-row"):
            ui.label(f"z{number}").style("width:2.4em")
            slider = ui.slider(min=-3, max=3, step=0.05, value=0).mark(f"latent-{number}")
            slider.props(f'aria-label="z{number}"')
            slider.on("update:model-value", self._edit(number, slider), throttle=0.05)
            ui.label(f"{self._session.known.kl[number]:.1f} nats").classes("note").style("min-width:5em")
            self._sliders[number] = slider

    def _edit(self, number: int, slider: Any) -> Callable[[], None]:
        def edit() -> None:
            self._session.edit(number, float(slider.value))
            self._changed()

        return edit

    def _forget(self) -> None:
        self._session.forget_edits()
        self._changed()
        self.show(self._session.view())

    def show(self, view: View) -> None:
        """Move the sliders to a step's latents."""
        for number, slider in self._sliders.items():
            slider.value = round(float(np.clip(view.latents[number], -3, 3)), 2)  # sent only if it is another one
