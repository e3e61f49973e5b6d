"""Sheets of small pictures with a few words, for pages that are not made by a run: PNGs of few kilobytes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from clutr.experiments.storage import write_atomically

GAP, LINE, FONT = 6, 15, 12
"""Pixels between pictures, of a line of words, and of its letters."""
CAPTION = "Description"
"""The name of the caption in a file's metadata, as PNG has it."""
_INK, _MUTED = (27, 32, 39), (93, 103, 116)


@dataclass(frozen=True)
class Row:
    """Some pictures side by side."""

    pictures: Sequence[NDArray[np.uint8]]
    """`[H, W, 3]` each."""
    words: Sequence[str] = ()
    """A line below each; none if empty."""
    label: str = ""
    """Lines to the left."""


def sheet(rows: Sequence[Row], side: int) -> Image.Image:
    """Rows of pictures on white, each picture of the height `side`."""
    font = ImageFont.load_default(FONT)
    lines = [line for row in rows for line in row.label.splitlines()]
    margin = max((round(font.getlength(line)) + 2 * GAP for line in lines), default=GAP)
    sized = [[_fitted(picture, side) for picture in row.pictures] for row in rows]
    width = margin + max(sum(each.width + GAP for each in images) for images in sized)
    heights = [side + GAP + (LINE if row.words else 0) for row in rows]
    canvas = Image.new("RGB", (width, sum(heights) + GAP), "white")
    draw, top = ImageDraw.Draw(canvas), GAP
    for row, images, height in zip(rows, sized, heights, strict=True):
        for number, line in enumerate(row.label.splitlines()):
            draw.text((GAP, top + LINE * number), line, fill=_MUTED if number else _INK, font=font)
        left = margin
        for number, image in enumerate(images):
            canvas.paste(image, (left, top))
            if row.words:
                draw.text((left, top + side), row.words[number], fill=_MUTED, font=font)
            left += image.width + GAP
        top += height
    return canvas


def _fitted(picture: NDArray[np.uint8], side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return image.resize((round(image.width * side / image.height), side), Image.Resampling.LANCZOS)


def write_still(image: Image.Image, path: Path, caption: str) -> None:
    """Write a picture as a PNG, with its caption in the file. Raises `RunError` if that fails."""
    info, buffer = PngInfo(), io.BytesIO()
    info.add_itxt(CAPTION, caption)
    image.save(buffer, "png", pnginfo=info, optimize=True)
    write_atomically(path, buffer.getvalue())


def caption_of(path: Path) -> str:
    """The caption in a file that `write_still` wrote."""
    with Image.open(path) as image:
        image.load()
        return str(image.info.get(CAPTION, ""))
