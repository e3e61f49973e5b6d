"""Probing a run's students: what they look at, know and use, in mazes and on roads."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.agents.student import Student
from clutr.envs.capabilities import SIDE
from clutr.envs.domain import Domain
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation_files import require_seed
from clutr.experiments.files import read_json, require_writable
from clutr.experiments.plots.page import Panel, render_page
from clutr.experiments.plots.students import knows_panel, looks_panel, uses_panel
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, read_arrays, write_atomically
from clutr.probes.mask_agreement import mask_agreement
from clutr.probes.student_probes import is_remembered, probe_memory, probe_use
from clutr.probes.student_saliency import check_saliency, saliency_maps
from clutr.probes.student_steps import StudentMoments, collect, network_of

CONTROLS = 3
"""Untrained students beside each one."""
LOOKED = 40
"""Moments on which saliency is scored."""
FILMED = 6
"""Moments of one episode that are pictured."""
STEPS = 100
"""Most steps of an episode."""


def probe_students(run: RunDirectory, levels: int, seed: int, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Probe each student of a run's newest checkpoint, and keep the numbers as `probes/students.json` and `.npz`.

    Args:
        run: whose students.
        levels: random levels that they play, each once.
        seed: of levels, actions and splits.
        progress: told of students probed.

    Returns:
        By student what it knows (`clutr.probes.student_probes.probe_memory`), `uses` and `looks` at.

    Raises:
        RunError: if the run has no readable checkpoint, or its students are none of this library's PPO.
    """
    state, problems = run.load_checkpoint()
    if state is None:
        raise RunError(f"{run.path} cannot be probed: {'; '.join(problems) or 'it has no checkpoint yet'}")
    require_writable(run.path / "probes", "Nothing was probed.")
    domain, config = run.domain(), run.experiment.student
    engine = domain.engine(1)
    require_seed(seed)
    drawn = int(named_generator(seed, "probe", "untrained").initial_seed() % 2**31)
    seeds = (run.experiment.seed, *(drawn + number for number in range(CONTROLS)))
    found: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, kept in state["students"].items():
        student, *untrained = (
            config.build(engine.observation_space, engine.action_space, each, name) for each in seeds
        )
        # a model that ships holds its weights alone: the rest stays as it was built
        student.load_state_dict({**student.state_dict(), **kept})
        try:
            found[name], pictures = probe_student(domain, student, untrained, levels, seed)
        except ValueError as error:
            raise RunError(f"{run.path} cannot be probed: {error}") from None
        arrays |= {f"{name}|{what}": values for what, values in pictures.items()}
        progress(len(found), len(state["students"]), {})
    about = {"steps": state["steps"], "seed": seed, "levels": levels}
    folder = run.path / "probes"
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **named)
    write_atomically(folder / "students.npz", buffer.getvalue())
    write_atomically(folder / "students.json", json.dumps({"about": about, "students": found}, indent=1).encode())
    return found


def probe_student(
    domain: Domain, student: Student, untrained: list[Student], levels: int, seed: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What one student knows, uses and looks at, as plain values; and pictures of the first level's episode.

    Raises:
        ValueError: if it is none of this library's PPO, or there are fewer than three levels.
    """
    steps, moments = collect(domain, student, untrained, levels, seed, STEPS)
    network, other = network_of(student), network_of(untrained[0])
    known = probe_memory(steps, seed)
    scored = moments.rows(_spread((moments.groups > 0).nonzero().flatten(), LOOKED))
    filmed = moments.rows(_spread((moments.groups == 0).nonzero().flatten(), FILMED))
    maps, bare = saliency_maps(network, scored), saliency_maps(other, scored)
    looks = check_saliency(network, maps, bare, maps, scored, seed).plain()
    looks["objects"] = mask_agreement(_enlarged(maps, scored), scored.masks, scored.objects)
    uses = [each.plain() for each in probe_use(network, steps, seed)]
    shown = _enlarged(saliency_maps(network, filmed), filmed)
    arrays = {"frames": filmed.pictures.numpy(), "saliency": shown.numpy(), "steps": filmed.steps.numpy()}
    return known | {"looks": looks, "uses": uses, "actions": _names_of(domain)}, arrays


def _spread(rows: Tensor, count: int) -> Tensor:
    """At most so many of some rows, evenly."""
    return rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()]


def _enlarged(maps: Tensor, moments: StudentMoments) -> Tensor:
    """Maps `[M, h, w]` over what the student sees as maps `[M, SIDE, SIDE]` over the observer's pictures."""
    if "direction" not in moments.observation:  # cars: the same picture, smaller
        return torch.nn.functional.interpolate(maps[:, None], (SIDE, SIDE))[:, 0]
    tile = SIDE // maps.shape[1]
    first = (SIDE - tile * maps.shape[1]) // 2
    found = torch.zeros(len(maps), SIDE, SIDE)
    upright = maps.transpose(1, 2)  # MiniGrid's index is x first
    large = upright.repeat_interleave(tile, 1).repeat_interleave(tile, 2)
    found[:, first : first + large.shape[1], first : first + large.shape[2]] = large
    return found


def _names_of(domain: Domain) -> list[str]:
    """Of actions, or of the numbers of an action."""
    if not hasattr(domain.engine(1).action_space, "n"):
        return ["steering", "gas", "brake"]
    return ["turn left", "turn right", "forward", "pick up", "drop", "toggle", "done"]


def student_panels(run: RunDirectory) -> list[Panel]:
    """Three panels for each student, from `probes/students.json`. Raises `RunError` if that is not there."""
    kept, arrays = _load(run)
    about, panels = kept["about"], []
    for name, values in kept["students"].items():
        seeds = f"seed {run.experiment.seed}, probes' {about['seed']}"
        source = f"{run.path.name}, {name} at {about['steps']:,} steps; {seeds}"
        mine = {key.partition("|")[2]: each for key, each in arrays.items() if key.startswith(f"{name}|")}
        panels += [looks_panel(name, values, mine, source), knows_panel(name, values, source)]
        panels.append(uses_panel(name, values, source))
    return panels


def _load(run: RunDirectory) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        folder = run.path / "probes"
        return read_json(folder / "students.json", about=dict, students=dict), read_arrays(folder / "students.npz")
    except FileNotFoundError:
        raise RunError(f"{run.path} holds no probes of students: `clutr probe {run.path}` makes them") from None


def build_student_page(run: RunDirectory) -> Path:
    """Write `probes.html` from `probes/students.json`. Returns its path. Raises `RunError` if that is not there."""
    facts = []
    for name, values in _load(run)[0]["students"].items():
        known = [quantity for quantity, memory in values["memory"].items() if is_remembered(memory)]
        used = [each["quantity"] for each in values["uses"] if each["passed"]]
        looks = values["looks"]
        words = "its maps passed" if looks["passed"] else "its maps did not pass"
        facts += [
            (f"{name}: looks", f"{looks['deletion'][0]:.2f}", f"more change than at random when hidden; {words}"),
            (f"{name}: knows", str(len(known)), listed(known) or "nothing beyond its controls"),
            (f"{name}: uses", str(len(used)), listed(used) or "nothing beyond random pushes"),
        ]
    lead = "What students look at, know and use, each with its controls."
    page = render_page(run.path.name, "Probes of students", lead, student_panels(run), facts)
    path = run.path / "probes.html"
    write_atomically(path, page.encode())
    return path


def listed(quantities: list[str]) -> str:
    """Names of quantities in words."""
    return ", ".join(each.replace("_", " ") for each in quantities)
