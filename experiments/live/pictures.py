"""Arrays as pictures for a page."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OVERLAYS = ((0, 0, 0), (90, 130, 220), (250, 210, 60), (230, 60, 60), (150, 90, 200), (60, 60, 60), (80, 200, 180))
"""Colours of objects by number; the background stays as it is."""
TRANSPARENT = 0.45
EMPTY = np.zeros((1, 1, 3), np.uint8)


def uri(picture: NDArray[np.uint8], pixels: int = 0) -> str:
    """A picture `[H, W, 3]` as a data URI, enlarged without blur to at least `pixels` in height."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    if pixels > image.height:
        times = -(-pixels // image.height)
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def with_objects(picture: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture with each object but the background tinted."""
    colours = np.array(OVERLAYS, np.float64)[np.minimum(masks, len(OVERLAYS) - 1)]
    share = np.where(masks > 0, TRANSPARENT, 0.0)[..., None]
    return ((1 - share) * picture + share * colours).round().astype(np.uint8)


def with_relevance(picture: NDArray[np.uint8], relevance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A darkened picture under relevance `[H, W]`: what speaks for is orange, what speaks against is blue."""
    largest = max(float(np.abs(relevance).max()), 1e-12)
    strength = (np.abs(relevance) / largest)[..., None]
    colours = np.where(relevance[..., None] > 0, (255, 140, 0), (40, 120, 255))
    return np.clip((1 - strength) * 0.45 * picture + strength * colours, 0, 255).round().astype(np.uint8)
