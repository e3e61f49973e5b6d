"""Reality, reconstruction, dreams and their error side by side, with an overlay on reality."""

from typing import Any

import numpy as np
from nicegui import ui
from numpy.typing import NDArray

from clutr.experiments.live.sanity_checks import sanity_check_of
from clutr.experiments.live.views import View
from clutr.experiments.live.world_model_session import MOST_BRANCHES, WorldModelSession
from clutr.experiments.plots.images import png_uri, with_objects, with_relevance
from clutr.experiments.storage import RunError

PLAIN, OBJECTS = "none", "objects"


class PictureRow:
    """A row of pictures.

    Args:
        session: what is inspected.
    """

    def __init__(self, session: WorldModelSession) -> None:
        self._session = session
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

    def show(self, view: View, overlay: str, target: str) -> None:
        """Show a step.

        Args:
            view: of it.
            overlay: `PLAIN`, `OBJECTS`, or the method of an explanation.
            target: what is explained.
        """
        self._show("reality", self._overlaid(view, overlay, target), dreaming=False)
        self._show("reconstruction", view.reconstruction, dreaming=False)
        for number in range(MOST_BRANCHES):
            dream = view.dreams[number] if number < len(view.dreams) else None
            self._show(f"dream {number + 1}", dream, dreaming=True)
        self._show("error", view.error, view.dreaming)
        if view.mean_error is not None:
            compared = "dream 1" if view.dreaming else "reconstruction"
            self._screens["error"][2].text = f"Difference of reality and {compared}: RMS {view.mean_error:.1f} of 255"

    def _show(self, name: str, picture: NDArray[np.uint8] | None, dreaming: bool) -> None:
        figure, image, _ = self._screens[name]
        figure.set_visibility(picture is not None)
        figure.classes(add="dreaming" if dreaming else "fed", remove="fed" if dreaming else "dreaming")
        if picture is not None:
            image.set_source(png_uri(picture, 192))

    def _overlaid(self, view: View, overlay: str, target: str) -> NDArray[np.uint8]:
        caption = self._screens["reality"][2]
        caption.text = "Reality"
        if overlay == OBJECTS:
            return with_objects(view.reality, view.masks)
        if overlay == PLAIN:
            return view.reality
        try:
            relevance = self._session.explain(overlay, target)
        except RunError as error:
            caption.text = f"Reality ({error})"
            return view.reality
        caption.text = f"{overlay} of {target}: {sanity_check_of(self._session.run.path, overlay, target)}"
        return with_relevance(view.reality, relevance)
