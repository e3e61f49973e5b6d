"""Pictures of a probe report for the documentation, as PNG files of a few hundred kilobytes at most."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clutr.experiments.plots.images import strip, with_relevance
from clutr.experiments.reports.probe_report import load_section
from clutr.experiments.storage import write_atomically

Picture = NDArray[np.uint8]
WORDS = 150
"""Pixels for the words on the left of a row."""


def write_figures(probes: Path, images: Path, name: str) -> list[Path]:
    """Pictures of the sections in `probes` as `images/probes-NAME-*.png`: seen or invented, moved objects, risk, past.

    Sections that were not measured, or are not there, have none.
    """
    written = []
    for what, rows in (
        ("seen", _seen(probes)),
        ("moved", _moved(probes)),
        ("risk", _risk(probes)),
        ("past", _past(probes)),
    ):
        if rows:
            written.append(_written(rows, images / f"probes-{name}-{what}.png"))
    return written


def write_student_figure(probes: Path, images: Path, name: str) -> Path:
    """An episode of the first student in `probes/students.npz` and what it looks at, as `images/probes-NAME.png`."""
    with np.load(probes / "students.npz", allow_pickle=False) as arrays:
        first = next(iter(arrays)).partition("|")[0]
        frames, saliency = arrays[f"{first}|frames"], arrays[f"{first}|saliency"]
        steps = ", ".join(str(each) for each in arrays[f"{first}|steps"].tolist())
    heat = [with_relevance(frame, each) for frame, each in zip(frames, saliency, strict=True)]
    rows = [(f"steps {steps}", list(frames)), ("what matters to the next action", heat)]
    return _written(rows, images / f"probes-{name}.png")


Rows = Sequence[tuple[str, Sequence[Picture]]]


def _written(rows: Rows, path: Path) -> Path:
    """Rows of pictures, each with its words on the left."""
    strips = [strip(list(pictures)) for _, pictures in rows]
    width = WORDS + max(each.shape[1] for each in strips)
    canvas = Image.new("RGB", (width, sum(each.shape[0] + 6 for each in strips)), "white")
    draw, font, top = ImageDraw.Draw(canvas), ImageFont.load_default(14), 0
    for (words, _), each in zip(rows, strips, strict=True):
        canvas.paste(Image.fromarray(each), (WORDS, top))
        draw.multiline_text((4, top + 8), _wrapped(words, 20), fill=(27, 32, 39), font=font)
        top += each.shape[0] + 6
    buffer = io.BytesIO()
    canvas.quantize(128, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
    return path


def _wrapped(words: str, most: int) -> str:
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) >= most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _measured(probes: Path, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    if not (probes / f"{name}.json").exists():
        return None
    values, arrays = load_section(probes, name)
    return None if "why_empty" in values else (values, arrays)


def _seen(probes: Path) -> Rows:
    found = _measured(probes, "seen")
    if found is None:
        return []
    values, arrays = found
    ahead = ", ".join(str(step) for step in values["horizons"])
    words = (f"what came, {ahead} steps ahead", "dream", "dream, invented pixels tinted")
    return [(told, list(arrays[part][:, 0])) for told, part in zip(words, ("true", "dream", "tinted"), strict=True)]


def _moved(probes: Path) -> Rows:
    found = _measured(probes, "interventions")
    if found is None or "why_empty" in found[0]["moved"]:
        return []
    values, arrays = found
    words = f"the moment; {'; '.join(values['shown'])}"
    return [
        (words if not n else "another moment", [frame, *moved])
        for n, (frame, moved) in enumerate(zip(arrays["frames"], arrays["moved"], strict=True))
    ]


def _risk(probes: Path) -> Rows:
    found = _measured(probes, "risk")
    if found is None:
        return []
    values, arrays = found
    options = "; ".join(
        f"{name} {said:.0%} ({'left' if left else 'stayed'})" for name, (said, left) in values["examples"][0].items()
    )
    return [
        ("the moment, and the simulator a second later: " + "; ".join(values["options"]),
         [arrays["frames"][0], *arrays["ended"][0]]),
        (f"dreamt; risk said: {options}", [arrays["frames"][0], *arrays["dreamt"][0]]),
    ]  # fmt: skip


def _past(probes: Path) -> Rows:
    found = _measured(probes, "past_pixels")
    if found is None:
        return []
    values, arrays = found
    frames = arrays["frames"][0]
    rows: list[tuple[str, Sequence[Picture]]] = [(f"the last {len(frames)} frames", list(frames))]
    target = values["rows"][0]["target"]
    for row in values["rows"]:
        if row["target"] == target and row["method"] in ("integrated gradients", "occlusion"):
            maps = arrays[f"map/{target}/{row['method']}"][0]
            flat = with_relevance(frames.reshape(-1, *frames.shape[2:]), maps.reshape(-1, maps.shape[-1]))
            words = f"{row['method']} of {target}, {'passed' if row['passed'] else 'did not pass'}"
            rows.append((words, list(flat.reshape(frames.shape))))
    return rows
