"""A level, chosen from suites or proposals, and the student at play on it."""

from typing import Any

from nicegui import run, ui

from clutr.experiments.live.curriculum_session import PROPOSED, CurriculumSession
from clutr.experiments.live.parts import Picture, card
from clutr.experiments.live.students import DRAWN, Play, StudentStep
from clutr.experiments.storage import RunError

SECONDS = 0.08
"""Between two steps of the student."""
EPISODES, MOST = 20, 500
"""Episodes of a trial, unless somebody asks for more."""


class LevelPicker:
    """Two selects: where a level comes from, and which one.

    Args:
        sources: names of levels by source.
        taken: called with source and number when a person has chosen.
    """

    def __init__(self, sources: dict[str, list[str]], taken: Any) -> None:
        self._sources, self._taken, self._busy = sources, taken, False
        first = next(iter(sources))
        with ui.row().classes("items-center w-full gap-3"):
            self.source = ui.select(_named(sources), value=first, label="Levels").mark("source")
            self.level = ui.select(_numbered(sources[first]), value=0, label="Level").mark("level")
        self.source.style("min-width:11em").on_value_change(self._choose_source)
        self.level.style("min-width:12em").on_value_change(self._choose)

    def renew(self, sources: dict[str, list[str]]) -> None:
        """Offer what there is now; what was chosen stays chosen by its name."""
        if sources == self._sources:
            return
        self._busy = True
        kept = self._sources.get(self.source.value, [])
        name = kept[self.level.value] if self.level.value is not None and self.level.value < len(kept) else ""
        self._sources = sources
        source = self.source.value if self.source.value in sources else next(iter(sources))
        self.source.set_options(_named(sources), value=source)
        number = sources[source].index(name) if name in sources[source] else 0
        self.level.set_options(_numbered(sources[source]), value=number)
        self._busy = False

    def forget(self) -> None:
        """A level from elsewhere is shown now."""
        self._busy = True
        self.level.value = None
        self._busy = False

    def _choose_source(self) -> None:
        if self._busy:
            return
        self._busy = True
        self.level.set_options(_numbered(self._sources[self.source.value]), value=0)
        self._busy = False
        self._choose()

    def _choose(self) -> None:
        if not self._busy and self.level.value is not None:
            self._taken(self.source.value, int(self.level.value))


def _named(sources: dict[str, list[str]]) -> dict[str, str]:
    return {name: "proposed by the curriculum" if name == PROPOSED else f"suite {name}" for name in sources}


def _numbered(names: list[str]) -> dict[int, str]:
    return dict(enumerate(names))


class TaskCard:
    """Builds itself into the present page.

    Args:
        session: what is inspected.
        changed: called when another task was chosen here.
    """

    def __init__(self, session: CurriculumSession, changed: Any) -> None:
        self.session, self._changed = session, changed
        self._play: Play | None = None
        self._own = True  # the level that is shown was chosen here
        with card("The task, and the student on it"):
            self._picker = LevelPicker(session.sources(), self._take)
            with ui.element("div").classes("screens"):
                self._picture = Picture("task", "The level")
                self._seen = Picture("student", "What the student sees")
                self._path = Picture("path", "Where it went")
            self._about = ui.label().classes("note").mark("task-note")
            with ui.row().classes("items-center gap-2"):
                ui.button("Watch the student", on_click=self._start).mark("watch").props("unelevated dense no-caps")
                ui.button("Stop", on_click=self._stop).mark("stop").props("outline dense no-caps")
                self._try = ui.button("Play it many times", on_click=self._play_many).mark("many")
                self._try.props("outline dense no-caps")
                self._count = ui.number("Episodes", value=EPISODES, min=2, max=MOST, precision=0).mark("count")
                self._count.style("width:6.5em").props("dense")
            self._told = ui.label().classes("note").mark("play-note").props("role=status")
        self.timer = ui.timer(SECONDS, self._tick, active=False)
        self.show()

    def _take(self, source: str, number: int) -> None:
        try:
            self.session.take(source, number)
        except RunError as error:
            ui.notify(str(error), type="warning")
            return
        self._own = True
        self._changed()

    def show(self) -> None:
        """Show the chosen task; who played another one stops."""
        self._stop()
        if not self._own:
            self._picker.forget()
        self._own = False
        chosen = self.session.chosen
        self._picture.show(chosen.picture)
        self._about.text = chosen.about
        self._seen.show(None)
        self._path.show(None)
        self._told.text = self._student()

    def renew(self) -> None:
        """Offer new levels, and say how far the student is by now."""
        self._picker.renew(self.session.sources())
        if not self.timer.active:
            self._told.text = self._student()

    def _student(self) -> str:
        if self.session.student is None:
            return f"There is no student to watch: {self.session.missing}"
        return f"The student has trained for {self.session.trained:,} steps. Its actions are sampled."

    def _start(self) -> None:
        try:
            self._play = self.session.play()
        except RunError as error:
            ui.notify(str(error), type="warning")
            return
        self._path.show(None)
        self._scene(self._play.scene())
        self.timer.active = True

    async def _play_many(self) -> None:
        """How often the student solves the level, in a thread: it may take a while."""
        self._stop()
        episodes, task = min(max(int(self._count.value or EPISODES), 2), MOST), self.session.chosen
        self._told.text = f"The student plays {episodes} episodes of this level ..."
        self._try.set_enabled(False)
        try:
            found = await run.io_bound(self.session.trial, episodes)
        except RunError as error:
            self._told.text = str(error)
            return
        finally:
            self._try.set_enabled(True)
        if found is not None and self.session.chosen is task:  # else another level is shown by now
            told = f"Where it went in {min(episodes, DRAWN)} episodes, laid over each other"
            self._path.show(found.paths, told)
            self._told.text = found.words + " The interval is about this student on this level."

    def _stop(self) -> None:
        if hasattr(self, "timer"):
            self.timer.active = False

    def _tick(self) -> None:
        if self._play is not None:
            self._scene(self._play.step())

    def _scene(self, scene: StudentStep) -> None:
        self._seen.show(scene.picture)
        self._told.text = scene.words
        if scene.over:
            self._stop()
            self._path.show(scene.path, "Where it went")
