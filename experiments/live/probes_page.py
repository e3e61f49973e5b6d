"""What `clutr world probe` and `clutr probe` found of a run: the same panels as in their static pages."""

from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.page import Panel, render_page
from clutr.experiments.reports.probe_report import probe_panels
from clutr.experiments.reports.student_probes import student_panels
from clutr.experiments.storage import RunError


def has_probes(session: WorldModelSession | CurriculumSession) -> bool:
    """Whether there is something to show."""
    name = "attribution.json" if isinstance(session, WorldModelSession) else "students.json"
    return (session.run.path / "probes" / name).is_file()


def probes_page(session: WorldModelSession | CurriculumSession) -> str:
    """A complete HTML document; one that says what is wrong if the probes cannot be shown."""
    try:
        panels = probe_panels(session.run) if isinstance(session, WorldModelSession) else student_panels(session.run)
    except (RunError, ValueError, KeyError, TypeError) as error:
        panels = [Panel("nothing", "The probes cannot be shown", "", f"Probe the run again ({error}).")]
    return render_page(session.run.path.name, "Probes", "", panels, footer="Made from the run's probes alone.")
