"""Probing a run's students: what they remember of where they are, where they have been and where the goal is."""

import json
from pathlib import Path
from typing import Any

from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation_files import require_seed
from clutr.experiments.plots.page import Panel, render_page
from clutr.experiments.plots.probes import students_panel
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, write_atomically
from clutr.probes.student_probes import collect_steps, probe_memory

CONTROLS = 3
"""Untrained students beside each one."""


def probe_students(run: RunDirectory, levels: int, seed: int, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Probe each student of a run's newest checkpoint, and keep the numbers as `probes/students.json`.

    Args:
        run: whose students.
        levels: random levels that they walk, each once.
        seed: of levels, actions and splits.
        progress: told of students probed.

    Returns:
        By student what `clutr.probes.student_probes.probe_memory` found.

    Raises:
        RunError: if the run has no readable checkpoint, or its students have no recurrent core to probe.
    """
    state, problems = run.load_checkpoint()
    if state is None:
        raise RunError(f"{run.path} cannot be probed: {'; '.join(problems) or 'it has no checkpoint yet'}")
    domain, config = run.domain(), run.experiment.student
    engine = domain.engine(1)
    require_seed(seed)
    drawn = int(named_generator(seed, "probe", "untrained").initial_seed() % 2**31)
    seeds = (run.experiment.seed, *(drawn + number for number in range(CONTROLS)))
    found: dict[str, Any] = {}
    for name, kept in state["students"].items():
        student, *untrained = (
            config.build(engine.observation_space, engine.action_space, each, name) for each in seeds
        )
        student.load_state_dict(kept)
        try:
            walks = collect_steps(domain, student, untrained, levels, seed)
            found[name] = probe_memory(walks, seed)
        except ValueError as error:
            raise RunError(f"{run.path} cannot be probed: {error}") from None
        progress(len(found), len(state["students"]), {})
    about = {"steps": state["steps"], "seed": seed, "levels": levels}
    folder = run.path / "probes"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "students.json", json.dumps({"about": about, "students": found}, indent=1).encode())
    return found


def student_panels(run: RunDirectory) -> list[Panel]:
    """A panel for each student, from `probes/students.json`. Raises `RunError` if that is not there."""
    kept = _load(run)
    about, panels = kept["about"], []
    for name, values in kept["students"].items():
        seeds = f"seed {run.experiment.seed}, probes' {about['seed']}"
        panel = students_panel(values, f"{run.path.name}, {name} at {about['steps']:,} steps; {seeds}")
        panels.append(Panel(f"memory-{name}", f"What the {name} remembers", panel.body, panel.caption))
    return panels


def _load(run: RunDirectory) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads((run.path / "probes" / "students.json").read_text())
    except FileNotFoundError:
        raise RunError(f"{run.path} holds no probes of students: `clutr probe {run.path}` makes them") from None
    return kept


def build_student_page(run: RunDirectory) -> Path:
    """Write `probes.html` from `probes/students.json`. Returns its path. Raises `RunError` if that is not there."""
    facts = []
    for name, values in _load(run)["students"].items():
        goal = max(("goal_ahead", "goal_right"), key=lambda each: values["memory"][each]["hidden"])
        for quantity in ("visited cells", goal):
            if quantity in values["memory"]:
                score = values["memory"][quantity]
                value, low, high = score["beyond_view"]
                remark = f"R^2; {value:+.2f} [{low:.2f}, {high:.2f}] beyond the view"
                facts.append((f"{name}: {quantity.replace('_', ' ')}", f"{score['hidden'][0]:.2f}", remark))
    lead = "What can be read of the true state from the students' memory, beside controls that know nothing of it."
    page = render_page(run.path.name, "Probes of students", lead, student_panels(run), facts)
    path = run.path / "probes.html"
    write_atomically(path, page.encode())
    return path
