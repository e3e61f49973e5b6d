"""Films of students: several players side by side, one level after another, as GIF, WebP or MP4."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clutr.experiments.evaluation.filming import FilmedEpisode
from clutr.experiments.storage import RunError, write_atomically

KINDS = (".gif", ".webp", ".mp4")
GAP, HEAD, FOOT, CURVE = 12, 20, 18, 46
"""Pixels between players, and of the lines above and below their pictures."""
REST_SECONDS = 1.0
"""For which the end of a level stays."""
COLOURS = 64
"""Of a GIF are kept as they are, and as many stand for all others: drawings have few."""
MOST_DRAWN = 2_048
"""Colours of drawings, edges of letters and all; photographs and dreams have many more."""
QUALITY = 80
"""Of a WebP that is compressed with loss."""
_INK, _MUTED, _GOOD, _BAD, _ACCENT = (27, 32, 39), (93, 103, 116), (29, 127, 78), (179, 57, 47), (31, 95, 191)

Picture = NDArray[np.uint8]


def compose(levels: Sequence[Sequence[FilmedEpisode]], side: int) -> Iterator[Picture]:
    """The pictures of a film, one a step; who has ended waits for the others.

    Args:
        levels: for each level the episodes of all players, in the same order.
        side: height of a player's picture in pixels.
    """
    for episodes in levels:
        longest = max(len(episode.frames) for episode in episodes)
        rest = round(REST_SECONDS * episodes[0].fps)
        for step in range(longest + rest):
            columns = [_column(episode, min(step, len(episode.frames) - 1), side) for episode in episodes]
            tallest = max(column.height for column in columns)
            canvas = Image.new("RGB", (sum(c.width + GAP for c in columns) + GAP, tallest + GAP), "white")
            left = GAP
            for column in columns:
                canvas.paste(column, (left, GAP // 2))
                left += column.width + GAP
            yield np.asarray(canvas)


def compose_dream(
    pictures: NDArray[np.uint8], titles: Sequence[str], context: int, side: int, fps: float
) -> Iterator[Picture]:
    """The pictures of a film of a dream, one a step, with its end held for a while.

    Args:
        pictures: `[K, T, H, W, 3]`: reality, and what was seen or dreamt in its place.
        titles: of the K columns.
        context: steps that were watched before the dream.
        side: height of a picture in pixels.
        fps: steps a second.
    """
    font, steps = ImageFont.load_default(12), pictures.shape[1]
    for step in [*range(steps), *[steps - 1] * round(REST_SECONDS * fps)]:
        columns = [_fitted(frame, side) for frame in pictures[:, step]]
        width = columns[0].width
        canvas = Image.new("RGB", (len(columns) * (width + GAP) + GAP, HEAD + side + FOOT + GAP), "white")
        draw = ImageDraw.Draw(canvas)
        dreaming = step >= context
        words = f"dreams, step {step - context + 1}" if dreaming else f"watches, frame {step + 1} of {context}"
        for number, (column, title) in enumerate(zip(columns, titles, strict=True)):
            left = GAP + number * (width + GAP)
            canvas.paste(column, (left, HEAD + GAP // 2))
            draw.text((left, 2 + GAP // 2), _short(title, width, font), fill=_INK, font=font)
        draw.text((GAP, HEAD + side + 2 + GAP // 2), words, fill=_BAD if dreaming else _GOOD, font=font)
        yield np.asarray(canvas)


def _column(episode: FilmedEpisode, step: int, side: int) -> Image.Image:
    """One player at one step."""
    frame = _fitted(episode.frames[step], side)
    if episode.saliency is not None:
        heat = Image.new("RGB", (side // 2, side // 2 + FOOT), "white")
        heat.paste(_heat(episode.saliency[step], side // 2), (0, 0))
        ImageDraw.Draw(heat).text((0, side // 2 + 2), "what matters", fill=_MUTED, font=ImageFont.load_default(12))
        frame = _beside(frame, heat)
    below = FOOT + (CURVE if episode.expected is not None else 0)
    column = Image.new("RGB", (frame.width, HEAD + frame.height + below), "white")
    column.paste(frame, (0, HEAD))
    draw, font = ImageDraw.Draw(column), ImageFont.load_default(12)
    draw.text((0, 2), _short(f"{episode.player}: {episode.level}", frame.width, font), fill=_INK, font=font)
    words, colour = f"step {step}", _MUTED
    if step == len(episode.frames) - 1:
        words, colour = (f"solved in {step} steps", _GOOD) if episode.solved else (f"not solved ({step} steps)", _BAD)
    draw.text((0, HEAD + frame.height + 2), words, fill=colour, font=font)
    if episode.expected is not None:
        _draw_curve(draw, episode.expected, step, (0, HEAD + frame.height + FOOT, frame.width, CURVE - 4), font)
    return column


def _short(text: str, width: int, font: Any) -> str:
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text[:-2]}\u2026"
    return text


def _fitted(frame: Picture, side: int) -> Image.Image:
    """A picture of the height `side`: whole multiples of small ones, without blur."""
    image = Image.fromarray(frame)
    size = (round(image.width * side / image.height), side)
    sharp = side % image.height == 0
    return image.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)


def _heat(saliency: NDArray[np.float64], side: int) -> Image.Image:
    """Saliency as a picture: white where nothing matters, red where hiding changes the action."""
    strength = np.sqrt(np.clip(saliency, 0, 1))[..., None]  # so that small changes can be seen, too
    shown = (255 * (1 - strength) + np.array(_BAD) * strength).astype(np.uint8)
    image = Image.fromarray(shown).resize((side, side), Image.Resampling.NEAREST)
    ImageDraw.Draw(image).rectangle((0, 0, side - 1, side - 1), outline=_MUTED)
    return image


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    joined = Image.new("RGB", (left.width + 6 + right.width, left.height), "white")
    joined.paste(left, (0, 0))
    joined.paste(right, (left.width + 6, 0))
    return joined


def _draw_curve(
    draw: ImageDraw.ImageDraw, values: NDArray[np.float64], step: int, box: tuple[int, int, int, int], font: Any
) -> None:
    """The expected return up to `step`, in a box of left, top, width and height."""
    left, top, width, height = box
    low, high = min(0.0, float(values.min())), max(1e-6, float(values.max()))
    across = left + (width - 1) * np.arange(step + 1) / max(1, len(values) - 1)
    down = top + height - 1 - (height - 2) * (values[: step + 1] - low) / (high - low)
    draw.line((left, top + height, left + width, top + height), fill=(217, 222, 229))
    points = [(float(x), float(y)) for x, y in zip(across, down, strict=True)]
    draw.line(points if len(points) > 1 else 2 * points, fill=_ACCENT, width=2)
    words = f"expects {values[step]:.2f}"
    draw.text((left + width - font.getlength(words), top - FOOT + 2), words, fill=_ACCENT, font=font)


def write_film(frames: Sequence[Picture], path: Path, fps: float) -> None:
    """Write a film as what the name ends with.

    Args:
        frames: `[H, W, 3]` each; smaller ones are put on white.
        path: ends with .gif, .webp or .mp4.
        fps: pictures a second.

    Raises:
        RunError: if the name ends otherwise, MP4's extra is not installed, or the file cannot be written.
    """
    require_kind(path)
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    height, width = height + height % 2, width + width % 2  # as videos want it
    missing = [(height - frame.shape[0], width - frame.shape[1]) for frame in frames]
    pads = [((0, below), (0, right), (0, 0)) for below, right in missing]
    padded = [np.pad(frame, pad, constant_values=255) for frame, pad in zip(frames, pads, strict=True)]
    if path.suffix == ".mp4":
        _write_mp4(padded, path, fps)
        return
    images = [Image.fromarray(frame) for frame in padded]
    options: dict[str, Any] = {"optimize": True}
    if path.suffix == ".webp":
        options = {"lossless": True, "method": 4} if is_drawn(padded) else {"quality": QUALITY, "method": 4}
    if path.suffix == ".gif":
        palette = _palette(padded)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    first, *rest = images
    duration = max(20, round(1000 / fps))  # browsers slow faster ones down
    first.save(buffer, path.suffix[1:], save_all=True, append_images=rest, duration=duration, loop=0, **options)
    write_atomically(path, buffer.getvalue())


def _colours(frames: Sequence[Picture]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The colours of some of the frames as numbers, and how often each is there."""
    seen = np.concatenate([frame.reshape(-1, 3) for frame in frames[:: max(1, len(frames) // 8)]]).astype(np.int32)
    return np.unique(seen @ np.array([65_536, 256, 1], np.int32), return_counts=True)


def is_drawn(frames: Sequence[Picture]) -> bool:
    """Whether a film has as few colours as drawings have; what has more is compressed with loss, if it can be."""
    return len(_colours(frames)[0]) <= MOST_DRAWN


def _palette(frames: Sequence[Picture]) -> Image.Image:
    """Colours for a GIF: the most frequent ones as they are, and a few for all others, of which each counts once."""
    codes, counts = _colours(frames)
    ranked = codes[np.argsort(-counts, kind="stable"), None] >> np.array([16, 8, 0])
    ranked = (ranked & 255).astype(np.uint8)
    colours, rest = ranked[:COLOURS].ravel().tolist(), ranked[COLOURS:]
    if len(rest):
        others = Image.fromarray(np.ascontiguousarray(rest[None])).quantize(COLOURS).getpalette() or []
        colours += others[: 3 * COLOURS]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    return palette


def require_kind(path: Path) -> None:
    """Raise `RunError` unless a film can be written under this name."""
    if path.suffix not in KINDS:
        raise RunError(f"a film ends with {', '.join(KINDS)}, got {path.name!r}")
    if path.suffix == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401, PLC0415 (an extra)
        except ImportError:
            raise RunError('MP4 needs an encoder: pip install "clutr[film]", or write a .gif') from None


def _write_mp4(frames: Sequence[Picture], path: Path, fps: float) -> None:
    import imageio_ffmpeg  # noqa: PLC0415

    height, width, _ = frames[0].shape
    temporary = path.with_name(f".{path.name}.tmp.mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer = imageio_ffmpeg.write_frames(
            str(temporary), (width, height), fps=fps, macro_block_size=2, output_params=["-crf", "20"]
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
