"""What `clutr world probe` and `clutr probe` found of a run: the same panels as in their static pages."""

from pathlib import Path

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


_drawn: dict[Path, tuple[object, str]] = {}
"""The last page of each run, and which files it was drawn from: all of its charts take seconds."""


def probes_page(session: WorldModelSession | CurriculumSession) -> str:
    """A complete HTML document; one that says what is wrong if the probes cannot be shown.

    It is drawn anew when a file of the probes has changed.
    """
    path = session.run.path
    files = _files(path / "probes")
    known = _drawn.get(path)
    if known is not None and known[0] == files:
        return known[1]
    try:
        panels = probe_panels(session.run) if isinstance(session, WorldModelSession) else student_panels(session.run)
    except (RunError, ValueError, KeyError, TypeError) as error:
        return _page(path.name, [Panel("nothing", "The probes cannot be shown", "", f"Probe the run again ({error}).")])
    page = _page(path.name, panels)
    _drawn[path] = files, page
    return page


def _files(folder: Path) -> object:
    """What changes when a file is written: names, times, sizes, and numbers, since files are replaced as a whole."""
    found = [(path.name, path.lstat()) for path in sorted(folder.glob("*"))]
    return [(name, about.st_mtime_ns, about.st_size, about.st_ino) for name, about in found]


def _page(name: str, panels: list[Panel]) -> str:
    return render_page(name, "Probes", "", panels, footer="Made from the run's probes alone.")
