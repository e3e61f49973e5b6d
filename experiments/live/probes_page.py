"""What `clutr world probe` and `clutr probe` found of a run: the same panels as in their static pages."""

import json
from pathlib import Path

from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.page import Panel, render_page
from clutr.experiments.plots.probes import students_panel
from clutr.experiments.reports.probe_report import load_sections, probe_panels
from clutr.experiments.storage import RunError

FOOTER = "Made from the run's probes alone."
NARROW = """<style>@media screen and (max-width:760px){
th,td{padding:5px 6px}
th:first-child,td:first-child,#verdicts td{white-space:normal;overflow-wrap:anywhere}
th:first-child,td:first-child{min-width:6.5em}
}</style>"""
"""In a frame on a phone: names break into lines, so that what a table says of them is seen without scrolling."""


def has_probes(session: WorldModelSession | CurriculumSession) -> bool:
    """Whether there is something to show."""
    name = "attribution.json" if isinstance(session, WorldModelSession) else "students.json"
    return (session.run.path / "probes" / name).is_file()


def probes_page(session: WorldModelSession | CurriculumSession) -> str:
    """A complete HTML document; one that says what is wrong if the probes cannot be shown."""
    name = session.run.path.name
    try:
        panels = _of_world(session) if isinstance(session, WorldModelSession) else _of_students(session)
    except (RunError, ValueError, KeyError, TypeError) as error:
        panels = [Panel("nothing", "The probes cannot be shown", "", f"Probe the run again ({error}).")]
    return render_page(name, "Probes", NARROW, panels, FOOTER)


def _of_world(session: WorldModelSession) -> list[Panel]:
    bundle = load_sections(session.run.path / "probes")
    about = bundle["attribution"][0]["about"]
    seeds = f"seed {session.run.experiment.seed}, probes' seed {about['seed']}"
    return probe_panels(bundle, f"{session.run.path.name}: {seeds}; {about['split']}")


def _of_students(session: CurriculumSession) -> list[Panel]:
    run = session.run
    kept = json.loads(Path(run.path / "probes" / "students.json").read_text())
    about, panels = kept["about"], []
    for name, values in kept["students"].items():
        seeds = f"seed {run.experiment.seed}, probes' {about['seed']}"
        panel = students_panel(values, {}, f"{run.path.name}, {name} at {about['steps']:,} steps; {seeds}")
        panels.append(Panel(f"memory-{name}", f"What the {name} remembers", panel.body, panel.caption))
    return panels
