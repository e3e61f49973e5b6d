"""Probing a world model: the sections' numbers as JSON and arrays, and one page that shows them with their verdicts."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clutr.manifold.base import Progress
from experiments.files import RunError, write_atomically
from experiments.world_probe_bench import Bench, Found, ProbeOptions
from experiments.world_probe_sections import PROBES
from experiments.world_run import WorldRun
from experiments.world_train import load_world


def _save(folder: Path, name: str, found: Found) -> None:
    values, arrays = found
    buffer = io.BytesIO()
    named: dict[str, Any] = {key.replace("/", "|"): value for key, value in arrays.items()}  # a name is a file there
    np.savez_compressed(buffer, **named)
    write_atomically(folder / f"{name}.npz", buffer.getvalue())
    write_atomically(folder / f"{name}.json", json.dumps(values, indent=1).encode())


def load_section(folder: Path, name: str) -> Found:
    """A section of a bundle as it was saved. Raises `RunError` if it is not there."""
    try:
        values = json.loads((folder / f"{name}.json").read_text())
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            return values, {key.replace("|", "/"): arrays[key] for key in arrays}
    except FileNotFoundError as error:
        raise RunError(f"{folder} holds no probe {name!r}: `clutr world probe` makes it ({error})") from None


def probe_world(
    run: WorldRun, options: ProbeOptions, progress: Callable[[str], Progress] = lambda _: lambda *_: None
) -> Path:
    """Probe a trained world model and keep each section as `probes/NAME.json` and `.npz`.

    Args:
        run: a trained world model.
        options: how much.
        progress: for each section's name, what is told of its progress.

    Returns:
        The folder.

    Raises:
        RunError: if the run is not trained or holds too few episodes.
    """
    bench = Bench(run, load_world(run), run.recording(), options)
    folder = run.path / "probes"
    folder.mkdir(exist_ok=True)
    for name, section in PROBES.items():
        bench.progress = progress(name)
        values, arrays = section(bench)
        about = {"split": "test and validation levels", "seed": options.seed, "levels": len(bench.episodes)}
        _save(folder, name, (values | {"about": about}, arrays))
    return folder


def load_bundle(folder: Path) -> Mapping[str, Found]:
    """All sections of a probe report. Raises `RunError` if one is not there."""
    return {name: load_section(folder, name) for name in PROBES}
