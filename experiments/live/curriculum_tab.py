"""The curriculum's part of the page: a map of its tasks, its curves, and the student at play on any level."""

from nicegui import ui

from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.curves_card import CurvesCard, curves_of_run
from clutr.experiments.live.map_card import MapCard
from clutr.experiments.live.task_card import TaskCard

HALF = "min-width:min(100%,420px);flex:1 1 420px"
WHOLE = "min-width:0;flex:1 1 100%"


class CurriculumTab:
    """Builds itself into the present page; `look` follows the run.

    Args:
        session: what is inspected.
    """

    def __init__(self, session: CurriculumSession) -> None:
        self.session = session
        self._map: MapCard | None = None
        self._versions = (session.version, session.watch.version)
        with ui.row().classes("w-full gap-4 items-start"):
            self._place = ui.column().classes("gap-3").style(HALF)
            with ui.column().classes("gap-3").style(HALF):
                self._task = TaskCard(session, self._show)
            with ui.column().classes("gap-3").style(WHOLE) as self._below:
                self._curves = CurvesCard(
                    "Learning curves",
                    "Own levels are those that the curriculum chose, so these curves may fall although the student "
                    + "improves; zero-shot results measure progress. "
                    + f"One run, n = 1; {session.run.path.name}, seed {session.run.experiment.seed}.",
                )
        self._html = curves_of_run(session)
        self._tell()

    def _tell(self) -> None:
        session = self.session
        if session.map is not None and self._map is None:
            with self._place:
                self._map = MapCard(session, self._show)
        self._place.set_visibility(self._map is not None)
        words = f"{session.curriculum}: {session.progress}."
        if session.map is None and session.card is None:
            words += " It has no map of tasks: its curriculum chooses no latents, or recorded none yet."
        self._curves.show(words, self._html, session.why_no_curves)
        # without a map the curves stand beside the task: no half of the page is empty
        self._below.style(WHOLE if session.map is not None else HALF)

    def _show(self) -> None:
        self._task.show()
        if self._map is not None:
            self._map.ring()

    def look(self) -> None:
        """Follow the run: what it has written since is shown."""
        self.session.look()
        versions = (self.session.version, self.session.watch.version)
        if versions[0] != self._versions[0]:
            self._task.renew()
            if self._map is not None:
                self._map.renew()
        if versions[1] != self._versions[1]:
            self._html = curves_of_run(self.session)
        self._versions = versions
        self._tell()
