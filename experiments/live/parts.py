"""Small parts of a page: cards with their headings, and pictures with names for those who cannot see them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from nicegui import ui
from numpy.typing import NDArray

from clutr.experiments.plots.html import text
from clutr.experiments.plots.images import png_uri


@contextmanager
def card(title: str) -> Iterator[None]:
    """A part of the page with a heading, which screen readers list."""
    with ui.element("section").classes("card").props(f'aria-label="{text(title)}"'):
        ui.html(text(title), tag="h2", sanitize=False).classes("title")
        yield


class Picture:
    """A picture with its caption; hidden until it shows something.

    Args:
        marker: by which it is found; its figure is `figure-MARKER`.
        caption: below it, and its name.
    """

    def __init__(self, marker: str, caption: str) -> None:
        with ui.element("figure").classes("screen").mark(f"figure-{marker}") as figure:
            self.image = ui.element("img").classes("pixels").mark(f"picture-{marker}")
            with ui.element("figcaption"):
                self._label = ui.label(caption)
        self.figure: Any = figure
        self.image._props["alt"] = caption
        self.figure.set_visibility(False)

    @property
    def source(self) -> str:
        """What is shown, as a data URI."""
        return str(self.image._props.get("src", ""))

    def show(self, picture: NDArray[np.uint8] | None, caption: str | None = None) -> None:
        """Show a picture `[H, W, 3]`, or hide; the browser enlarges it without blur."""
        self.figure.set_visibility(picture is not None)
        if caption is not None and caption != self._label.text:
            self._label.text = caption
            self.image._props["alt"] = caption
            self.image.update()
        if picture is not None and (source := png_uri(picture)) != self.source:
            self.image._props["src"] = source
            self.image.update()
