"""Reality, reconstruction, dreams and their error side by side, with overlays on reality and on dreams."""

from collections.abc import Awaitable
from typing import Any

import numpy as np
from nicegui import ui
from numpy.typing import NDArray

from clutr.experiments.live.parts import Picture, card, show_together
from clutr.experiments.live.sanity_checks import sanity_check_of
from clutr.experiments.live.views import View
from clutr.experiments.live.world_model_session import MOST_BRANCHES, WorldModelSession
from clutr.experiments.plots.html import percent
from clutr.experiments.plots.images import with_invented, with_objects, with_relevance
from clutr.experiments.storage import RunError

PLAIN, OBJECTS, INVENTED = "none", "objects", "what was invented"


class PictureRow:
    """A row of pictures.

    Args:
        session: what is inspected.
    """

    def __init__(self, session: WorldModelSession) -> None:
        self._session = session
        self._dreamt: dict[str, bool] = {}
        names = ["reality", "reconstruction", *(f"dream {n + 1}" for n in range(MOST_BRANCHES)), "error"]
        with card("Reality, and what the model makes of it"), ui.element("div").classes("screens"):
            self._screens = {name: Picture(name.replace(" ", "-"), name.capitalize()) for name in names}

    def show(self, view: View, overlay: str, target: str, on_dreams: str) -> Awaitable[Any] | None:
        """Show a step. Returns what `show_together` does.

        Args:
            view: of it.
            overlay: on reality: `PLAIN`, `OBJECTS`, or the method of an explanation.
            target: what is explained.
            on_dreams: `PLAIN` or `INVENTED`.
        """
        changes = [
            self._framed("reality", *self._overlaid(view, overlay, target), dreaming=False),
            self._framed("reconstruction", view.reconstruction, None, dreaming=False),
        ]
        visibilities = self._session.visibilities() if on_dreams == INVENTED else []
        for number in range(MOST_BRANCHES):
            name = f"dream {number + 1}"
            dream, caption = view.dreams[number] if number < len(view.dreams) else None, name.capitalize()
            if dream is not None and number < len(visibilities):
                visible = visibilities[number]
                if visible.seen is None or visible.world is None:
                    caption += f": {visible.how}"
                else:
                    dream = with_invented(dream, (~visible.seen & visible.world).numpy())
                    caption += f": {percent(visible.invented)} invented (striped), {visible.how}"
            changes.append(self._framed(name, dream, caption, dreaming=True))
        compared = "dream 1" if view.dreaming else "reconstruction"
        told = f"Difference of reality and {compared}: RMS {view.mean_error or 0:.1f} of 255"
        changes.append(self._framed("error", view.error, told, view.dreaming))
        return show_together(changes)

    def _framed(
        self, name: str, picture: NDArray[np.uint8] | None, caption: str | None, dreaming: bool
    ) -> tuple[Picture, NDArray[np.uint8] | None, str | None]:
        """What is to be shown of a screen, whose frame says whether it is dreamt."""
        screen = self._screens[name]
        if self._dreamt.get(name) != dreaming:
            self._dreamt[name] = dreaming
            screen.figure.classes(add="dreaming" if dreaming else "fed", remove="fed" if dreaming else "dreaming")
        return screen, picture, caption

    def _overlaid(self, view: View, overlay: str, target: str) -> tuple[NDArray[np.uint8], str]:
        """Reality and its caption."""
        if overlay == OBJECTS:
            return with_objects(view.reality, view.masks), "Reality, its objects tinted"
        if overlay == PLAIN:
            return view.reality, "Reality"
        try:
            relevance = self._session.explain(overlay, target)
        except RunError as error:
            return view.reality, f"Reality ({error})"
        checked = sanity_check_of(self._session.run.path, overlay, target)
        return with_relevance(view.reality, relevance), f"{overlay} of {target}: {checked}"
