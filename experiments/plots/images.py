"""Arrays as pictures in a page: data URIs, strips of pictures, and overlays."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REST = 1_500
"""Milliseconds for which a video's last picture stays before it begins anew."""
QUALITY = 88
"""Of a compressed picture: a page with lossless ones would be four times as large."""
OBJECT_COLOURS = (
    (0, 0, 0),
    (90, 130, 220),
    (250, 210, 60),
    (230, 60, 60),
    (150, 90, 200),
    (60, 60, 60),
    (80, 200, 180),
)
"""Tints of objects by number; the background stays as it is."""
TINT = 0.45
"""The share of an object's tint."""
ENLARGED = 3
"""How much larger than their pixels pictures of a strip are shown."""


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _image(picture: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture))


def png_uri(picture: NDArray[np.uint8], height: int = 0) -> str:
    """A picture `[H, W, 3]` as a data URI, enlarged by a whole factor, without blur, to at least `height` pixels."""
    times = max(1, -(-height // len(picture)))
    return _data_uri(_image(picture.repeat(times, 0).repeat(times, 1)), "png")


def video_uri(frames: NDArray[np.uint8], fps: float) -> str:
    """Frames `[T, H, W, 3]`, `fps` a second, as an animated, lossless WebP in a data URI."""
    first, *rest = map(_image, frames)
    durations = [round(1000 / fps)] * len(rest) + [REST]
    options = {"save_all": True, "append_images": rest, "duration": durations, "loop": 0}
    return _data_uri(first, "webp", lossless=True, quality=70, method=4, **options)


def sheet_uri(videos: NDArray[np.uint8]) -> str:
    """Videos `[K, T, side, side, 3]` as one picture of K rows and T columns in a data URI."""
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in videos])
    return _data_uri(_image(sheet), "webp", quality=QUALITY, method=4)


def strip(pictures: Sequence[NDArray[np.uint8]], gap: int = 2) -> NDArray[np.uint8]:
    """Pictures of equal size side by side, enlarged."""
    spaced = []
    for picture in pictures:
        spaced += [picture, np.full((picture.shape[0], gap, 3), 255, np.uint8)]
    joined: NDArray[np.uint8] = np.concatenate(spaced[:-1], 1).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    return joined


def grey(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Values in [0, 1] as a grey picture `[..., 3]`."""
    shades = (255 * np.clip(values, 0, 1)).astype(np.uint8)
    return np.repeat(shades[..., None], 3, -1)


def with_relevance(picture: NDArray[np.uint8], relevance: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """A greyed picture `[H, W, 3]` under relevance `[H, W]`: red raises the prediction, blue lowers it."""
    largest = max(float(np.quantile(np.abs(relevance), 0.99)), 1e-30)
    strength = np.clip(np.abs(relevance) / largest, 0, 1)[..., None]
    ground = 0.5 * np.repeat(picture.mean(-1, keepdims=True), 3, -1) + 90
    colour = np.where(relevance[..., None] > 0, np.array([225.0, 60, 40]), np.array([40.0, 90, 225]))
    shown: NDArray[np.uint8] = np.clip(ground * (1 - strength) + colour * strength, 0, 255).astype(np.uint8)
    return shown


def with_objects(picture: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture `[H, W, 3]` with each object of the masks `[H, W]` but the background (0) tinted."""
    colours = np.array(OBJECT_COLOURS, np.float64)[np.minimum(masks, len(OBJECT_COLOURS) - 1)]
    share = np.where(masks > 0, TINT, 0.0)[..., None]
    return ((1 - share) * picture + share * colours).round().astype(np.uint8)


def with_invented(picture: NDArray[np.uint8], invented: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture `[H, W, 3]` with the pixels of a mask `[H, W]` striped: colour alone is not for all."""
    rows, columns = np.indices(invented.shape)
    share = np.where(invented, np.where((rows + columns) % 4 < 1, 0.85, 0.4), 0.0)[..., None]
    shown: NDArray[np.uint8] = ((1 - share) * picture + share * np.array([170.0, 70.0, 230.0])).round().astype(np.uint8)
    return shown
