"""Pictures of a world model: dreams beside reality, errors by horizon beside their baselines, and what was recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import card, facts_table, grid, legend, note
from clutr.experiments.plots.images import png_uri
from clutr.experiments.plots.page import Panel

ROLES = {
    "trained": "method-1",
    "untrained core": "method-2",
    "linear": "method-3",
    "copy last": "muted",
    "damped velocity": "method-4",
    "mean": "accent",
    "ceiling": "ink",
}
"""Colour of each method's curve."""
COLUMNS = 12
"""Steps of a strip."""
FED, DREAMT = (46, 160, 67), (207, 60, 60)
"""Frames' borders: green while the model is fed with reality, red while it dreams."""


def strips(videos: Sequence[NDArray[np.uint8]], context: int, source: str) -> Panel:
    """Reality, reconstruction, dream and error, at evenly spaced steps.

    Args:
        videos: `[4, T, side, side, 3]` each.
        context: steps that were watched before the dream.
        source: the run, for the caption.
    """
    cards = []
    for number, video in enumerate(videos):
        steps = video.shape[1]
        chosen = np.unique(np.linspace(max(0, context - 3), steps - 1, COLUMNS).round().astype(int))
        rows = [[_framed(video[row, t], FED if t < context else DREAMT) for t in chosen] for row in range(len(video))]
        image = np.concatenate([np.concatenate(row, axis=1) for row in rows])
        times = ", ".join(f"{t - context + 1:+d}" for t in chosen)
        picture = f'<img src="{png_uri(image)}" alt="Reality, reconstruction, dream, error" style="width:100%">'
        cards.append(card(f"Dream {number + 1}", picture, f"steps {times}"))
    caption = (
        "From top to bottom: reality, what the backbone makes of it, the dream, and their difference to reality. Green "
        + f"frames are fed with reality (the context is {context} frames), red ones are dreamt under the recorded "
        + f"actions, each expected from the one before. Split: test; n = {len(videos)} dreams, not chosen; {source}."
    )
    return Panel("dreams", "Dreams beside reality", "".join(cards), caption)


def _framed(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    framed = np.empty((picture.shape[0] + 4, picture.shape[1] + 4, 3), np.uint8)
    framed[:] = colour
    framed[2:-2, 2:-2] = picture
    return framed


def _curves(name: str, title: str, x: Sequence[float], found: Mapping[str, Sequence[float | None]], unit: str) -> str:
    """One card with a curve a method, or a sentence where there is no number."""
    curves = {method: np.array(values, dtype=np.float64) for method, values in found.items()}  # None is NaN, a gap
    if not any(np.isfinite(numbers).any() for numbers in curves.values()):
        return card(title, note("Nothing could be measured in these dreams."))
    figure, plot = axes()
    largest = 0.0
    for method, numbers in curves.items():
        plot.plot(
            x, numbers, color=placeholder(ROLES.get(method, "muted")), linewidth=2.2 if method == "trained" else 1.2
        )
        if method not in ("linear", "damped velocity") and np.isfinite(numbers).any():
            largest = max(largest, float(np.nanmax(numbers)))  # the two may run away, and are cut then
    plot.set_ylim(0, 1.15 * largest or 1.0)
    label_axes(plot, "steps ahead", unit)
    plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    return card(title, to_svg(figure, name, f"{title} by horizon: {', '.join(found)}"))


def curves_panel(found: Mapping[str, Any], source: str) -> list[Panel]:
    """Errors by horizon of the world model and of everything that it must beat.

    Args:
        found: what `evaluate_world_model` measured.
        source: the run, for the captions.
    """
    latents = found["latents"]
    steps = list(range(1, len(next(iter(latents.values()))["nrmse"]) + 1))
    cards = [_curves("world-nrmse", "Latent error", steps, {n: c["nrmse"] for n, c in latents.items()}, "NRMSE")]
    rewards = {name: curve["reward_error_share"] for name, curve in found["outcomes"].items()}
    cards.append(_curves("world-reward", "Squared reward error", steps, rewards, "share; a constant scores 1"))
    pictures = found["pictures"]
    inside = [key for key in pictures["trained"] if key.startswith("mse_in/")]
    for key in ("mse", *inside):
        thing = key.partition("/")[2]
        title = f"Picture error inside {thing}" if thing else "Picture error"
        curves = {name: curve[key] for name, curve in pictures.items()}
        cards.append(_curves(f"world-{key.replace('/', '-')}", title, found["horizons"], curves, "mean squared error"))
    for key, unit in (("psnr", "dB, higher is better"), ("ssim", "1 is equal")):
        curves = {name: curve[key] for name, curve in pictures.items()}
        cards.append(_curves(f"world-{key}", key.upper(), found["horizons"], curves, unit))
    physical = found["physical"]
    for number, quantity in enumerate(physical["trained"]):
        curves = {name: curve[quantity] for name, curve in physical.items()}
        title = f"{quantity.replace('_', ' ')}, as read from latents"
        cards.append(_curves(f"world-physical-{number}", title, steps, curves, "RMSE"))
    held = [(name, _held(curve["valid_horizon"])) for name, curve in latents.items()]
    read = [(name, _told(value)) for name, value in found["read_out_r2"].items()]
    caption = (
        f"Mean over {found['windows']} dreams of test episodes, after a context of {found['context']} frames, under "
        + "the recorded actions. 'untrained core': the same memory whose core stayed as it was drawn. A claim that the "
        + f"memory has learnt something has to beat it, and all the others. {source}."
    )
    body = legend(ROLES) + grid(cards)
    valid = facts_table(held)
    told = (
        "Steps until the mean latent error exceeds 0.4 standard deviations or that of copying the last frame; 95 % "
        + f"bootstrap interval over episodes. {source}."
    )
    linear = (
        "R^2 on test frames of a ridge regression from one frame's latents to the true state, where it can be seen: "
        + f"offset, heading error and curvature only while road is in view, a goal's place while it is. {source}."
    )
    return [
        Panel("horizon", "How long a dream holds", valid, told),
        Panel("errors", "Errors by horizon", body, caption),
        Panel("state", "What one frame's latents tell", facts_table(read), linear),
    ]


def scene_panel(found: Mapping[str, Any], source: str) -> list[Panel]:
    """How much of the world dreams get right, and how far what they state can be trusted. Nothing for an unknown view.

    Args:
        found: what `evaluate_world_model` measured.
        source: the run, for the captions.
    """
    scene = found["scene"]
    if not scene:
        return []
    methods, horizons, main = scene["methods"], scene["horizons"], scene["surface"]
    keys = [key for key in methods["trained"] if key.startswith("iou/")]
    cards = [
        _curves(
            f"world-{key.replace('/', '-')}",
            f"{key.partition('/')[2]}: intersection over union".capitalize(),
            horizons,
            {name: curves[key] for name, curves in methods.items()},
            "IoU",
        )
        for key in keys
    ]
    for key, title in (("mse_seen", "Pixels that had been seen"), ("mse_unseen", "Pixels that nobody could have seen")):
        curves = {name: each[key] for name, each in methods.items()}
        cards.append(_curves(f"world-{key}", title, horizons, curves, "mean squared error"))
    told = {name: shares for name, shares in scene["seen_agreement"].items() if shares}
    if told:
        title = "Whether it knows what it invented"
        cards.append(_curves("world-agreement", title, horizons, told, "share of cells it is right about"))
    cards.append(_curves("world-seen", "Share that had been seen", horizons, {"trained": scene["seen_share"]}, "share"))
    held = facts_table([(name, _held(each["iou_horizon"])) for name, each in methods.items()])
    caption = (
        "Pixels are called by the object of the nearest usual colour; car or agent and indicators do not count. How "
        + f"many steps the mean IoU of {main} stays at .65 or more, with its 95 % interval over dreams. 'ceiling': the "
        + "pictures that were seen, warped by the simulator's true motion, edges extended; more can only be guessed. "
        + f"{source}."
    )
    stated = [
        (f"{name}, {steps} steps ahead", ", ".join(f"{float(k):.0%}: {v:.0%}" for k, v in each["coverage"].items()))
        for name, by_steps in found["calibration_ahead"].items()
        for steps, each in by_steps.items()
    ]
    spread = "Share of what came inside central intervals of dreams that were drawn at temperature 1. " + source + "."
    return [
        Panel("scene", "What is right of the world", held + grid(cards), caption),
        Panel("spread", "Whether dreams spread as reality does", facts_table(stated), spread),
    ]


def _told(r2: float) -> str:
    """R^2 in words where it says nothing but that: a quantity that hardly varies makes it any negative number."""
    return f"{r2:.2f}" if r2 >= -1 else "below -1: worse than saying the mean"


def _held(interval: Mapping[str, Any]) -> str:
    low, high = interval["interval"]
    return f"{interval['value']:g} [{low:g}, {high:g}]"


def coverage(found: Mapping[str, NDArray[np.float64]], source: str) -> Panel:
    """How often two true numbers occur together in the recording."""
    (x, across), (y, up) = found.items()
    figure, plot = axes(5.0, 3.2)
    low, high = np.percentile(across, [0.5, 99.5])
    box = ((low, max(high, low + 1e-9)), (up.min(), up.max() + 1e-9))
    counts, xs, ys = np.histogram2d(across, up, bins=40, range=box)
    shades = np.log1p(counts) / max(np.log1p(counts).max(), 1e-9)
    rows, columns = np.nonzero(counts)
    sizes = 2 + 10 * shades[rows, columns]
    centres = (xs[rows] + xs[rows + 1]) / 2, (ys[columns] + ys[columns + 1]) / 2
    plot.scatter(*centres, s=sizes, color=placeholder("accent"), linewidths=0)
    label_axes(plot, x.replace("_", " "), y.replace("_", " "))
    svg = to_svg(figure, "world-coverage", f"Frames by {x} and {y}")
    caption = (
        "Each dot is a cell of the two numbers that occurs; larger ones hold more frames. "
        + f"All splits; n = {len(across):,}; {source}."
    )
    return Panel("recording", "What was recorded", card("Coverage", svg), caption)
