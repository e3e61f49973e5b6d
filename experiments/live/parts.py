"""Small parts of a page: cards with their headings, and pictures with names for those who cannot see them."""

import base64
import io
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from nicegui import ui
from numpy.typing import NDArray
from PIL import Image

from clutr.experiments.plots.html import text


@contextmanager
def card(title: str) -> Iterator[None]:
    """A part of the page with a heading, which screen readers list."""
    with ui.element("section").classes("card").props(f'aria-label="{text(title)}"'):
        ui.html(text(title), tag="h2", sanitize=False).classes("title")
        yield


class Pixels(ui.element, component="pixels.js"):
    """An image element whose pixels can change without the page being drawn anew."""


class Picture:
    """A picture with its caption; hidden until it shows something.

    Args:
        marker: by which it is found; its figure is `figure-MARKER`.
        caption: below it until it is told another one, and its name.
    """

    def __init__(self, marker: str, caption: str) -> None:
        with ui.element("figure").classes("screen").mark(f"figure-{marker}") as figure:
            self.image = Pixels().classes("pixels").mark(f"picture-{marker}")
            with ui.element("figcaption"):
                self._label = ui.label(caption)
        self.figure: Any = figure
        self._pixels: NDArray[np.uint8] | None = None
        self.image._props["alt"] = caption
        self.figure.set_visibility(False)

    def show(self, picture: NDArray[np.uint8] | None, caption: str | None = None) -> None:
        """Show a picture `[H, W, 3]`, or hide; the browser enlarges it without blur."""
        show_together([(self, picture, caption)])

    def change(self, picture: NDArray[np.uint8] | None, caption: str | None) -> str:
        """Show it, but for the pixels. Returns what has the browser show those; nothing if they are as they were."""
        self.figure.set_visibility(picture is not None)
        if caption is not None:
            self._label.text = caption
        if picture is None or (self._pixels is not None and np.array_equal(picture, self._pixels)):
            return ""
        self._pixels = picture
        source = quick_png_uri(picture)
        with self.image._props.suspend_updates():  # for whoever opens the page later
            self.image._props["src"] = source
        return f'runMethod({self.image.id}, "show", ["{source}"]);'


def show_together(
    changes: Iterable[tuple[Picture, NDArray[np.uint8] | None, str | None]],
) -> Awaitable[Any] | None:
    """Show several pictures of one page with their captions: the pixels of all of them go in one message.

    Returns:
        What can be awaited at once, or not at all: the browser has them then. None if no pixel is another one.
    """
    told, client = "", None
    for picture, pixels, caption in changes:
        told += picture.change(pixels, caption)
        client = picture.image.client
    if not told or client is None:
        return None
    answer: Awaitable[Any] = client.run_javascript(told)
    return answer


def quick_png_uri(picture: NDArray[np.uint8]) -> str:
    """A picture `[H, W, 3]` as a data URI: larger than it could be, for it is not kept, and soon."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format="png", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
