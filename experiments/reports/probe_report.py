"""Probing a world model: the sections' numbers as JSON and arrays, and a page with their sanity checks."""

import io
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from clutr.envs.progress import Progress
from clutr.experiments.files import read_json, require_writable
from clutr.experiments.plots.attribution import attribution_panels
from clutr.experiments.plots.page import Panel, render_page
from clutr.experiments.plots.probes import (
    dynamics_panel,
    features_panel,
    health_panel,
    latents_panel,
    sanity_check_rows,
    sanity_checks_panel,
    state_probe_panel,
)
from clutr.experiments.plots.questions import latent_tests_panel, seen_panel, situations_panel, trust_panel
from clutr.experiments.plots.what_if import interventions_panel, past_pixels_panel, risk_panel
from clutr.experiments.storage import RunError, read_arrays, write_atomically
from clutr.experiments.world_model.probing import PROBES, ProbeContext, ProbeOptions, ProbeResult
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import load_world_model


def _save(folder: Path, name: str, found: ProbeResult) -> None:
    values, arrays = found
    buffer = io.BytesIO()
    named: dict[str, Any] = {key.replace("/", "|"): value for key, value in arrays.items()}  # a name is a file there
    np.savez_compressed(buffer, **named)
    write_atomically(folder / f"{name}.npz", buffer.getvalue())
    write_atomically(folder / f"{name}.json", json.dumps(values, indent=1).encode())


def load_section(folder: Path, name: str) -> ProbeResult:
    """A section as it was saved. Raises `RunError` if it is not there."""
    try:
        return read_json(folder / f"{name}.json"), {
            key.replace("|", "/"): array for key, array in read_arrays(folder / f"{name}.npz").items()
        }
    except FileNotFoundError as error:
        raise RunError(f"{folder} holds no probe {name!r}: `clutr world probe` makes it ({error})") from None


def probe_world_model(
    run: WorldModelRun,
    options: ProbeOptions,
    progress: Callable[[str], Progress] = lambda _: lambda *_: None,
    sections: Collection[str] = tuple(PROBES),
) -> Path:
    """Probe a trained world model and keep each section as `probes/NAME.json` and `.npz`.

    Args:
        run: a trained world model.
        options: how much.
        progress: for each section's name, what is told of its progress.
        sections: which, by name; a page needs all of them.

    Returns:
        The folder.

    Raises:
        RunError: if the run is not trained or holds too few episodes, or, before any work, it cannot be written to.
    """
    folder = run.path / "probes"
    require_writable(folder, "Nothing was probed.")
    context = ProbeContext(run, load_world_model(run), run.dataset(), options)
    folder.mkdir(exist_ok=True)
    for name in sections:
        section = PROBES[name]
        context.progress = progress(name)
        values, arrays = section(context)
        about = {"split": "test and validation levels", "seed": options.seed, "levels": len(context.episodes)}
        _save(folder, name, (values | {"about": about}, arrays))
    return folder


def load_sections(folder: Path) -> Mapping[str, ProbeResult]:
    """All sections of a probe report. Raises `RunError` if one is not there."""
    return {name: load_section(folder, name) for name in PROBES}


def probe_panels(run: WorldModelRun) -> list[Panel]:
    """The panels of the sections in `probes/`, ordered by the question that they answer.

    Raises:
        RunError: if a section is not there.
    """
    return [panel for asked in panels_by_question(run).items() for panel in _asked(*asked)]


def panels_by_question(run: WorldModelRun) -> dict[str, list[Panel]]:
    """The same by the question that they answer.

    Raises:
        RunError: if a section is not there.
    """
    sections = load_sections(run.path / "probes")
    about = sections["attribution"][0]["about"]
    source = f"{run.path.name}: seed {run.experiment.seed}, probes' seed {about['seed']}; {about['split']}"
    when, where = attribution_panels(*sections["attribution"], source)
    return {
        "Can I trust it here?": [
            trust_panel(*sections["trust"], source),
            sanity_checks_panel(sections, source),
            situations_panel(*sections["situations"], source),
        ],
        "What did it see?": [
            seen_panel(*sections["seen"], source),
            features_panel(*sections["features"], source),
            where,
            past_pixels_panel(*sections["past_pixels"], source),
            interventions_panel(*sections["interventions"], source),
        ],
        "What would happen if?": [risk_panel(*sections["risk"], source)],
        "What does it know?": [
            state_probe_panel(sections["state_probes"][0], source),
            latents_panel(*sections["latents"], source),
            latent_tests_panel(*sections["latent_tests"], source),
        ],
        "Why was it wrong?": [
            when,
            dynamics_panel(*sections["dynamics"], source),
            health_panel(sections["health"][0], source),
        ],
    }


def _asked(question: str, panels: list[Panel]) -> list[Panel]:
    """The panels under their question, which stands above the first of them."""
    first = panels[0]
    return [replace(first, title=f"{question} {first.title}"), *panels[1:]]


def build_probe_page(run: WorldModelRun) -> Path:
    """Write `probes.html` from the sections in `probes/`. Returns its path. Raises `RunError` if one is not there."""
    sections = load_sections(run.path / "probes")
    rows = [row for row in sanity_check_rows(sections) if not row["control"]]
    maps = [row for row in sections["attribution"][0]["rows"] if row["method"] != "chance"]
    lost = [each for each in sections["features"][0]["objects"] if each["lost_in"]]
    held = next(row for row in rows if row["what"] == "what the memory knows, beyond controls")
    facts = [
        ("Maps that passed", f"{sum(row['passed'] for row in maps)} of {len(maps)}", "of what they call relevant"),
        ("Known", f"{held['passed']} of {held['checked']}", "quantities, beyond controls"),
        ("Objects lost", str(len(lost)), ", ".join(each["thing"] for each in lost) or "none before the latents"),
        ("Levels", str(sections["attribution"][0]["about"]["levels"]), "that the model was not trained on"),
    ]
    lead = "What the world model has learnt, each explanation with the number that says whether to believe it."
    page = render_page(run.path.name, "Probes", lead, probe_panels(run), facts)
    path = run.path / "probes.html"
    write_atomically(path, page.encode())
    return path


def sanity_check_table(run: WorldModelRun) -> Table:
    """Which explanations passed, for the terminal."""
    table = Table("explanation", "passed", "which", title="sanity checks", title_justify="left", title_style="bold")
    for row in sanity_check_rows(load_sections(run.path / "probes")):
        words = "a control, which ought to fail" if row["control"] else row["words"]
        table.add_row(row["what"], f"{row['passed']} of {row['checked']}", words)
    return table
