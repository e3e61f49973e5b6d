"""Several runs next to each other: how far each is, their curves over each other, their students on one level."""

from collections.abc import Sequence

from nicegui import run, ui

from clutr.experiments.live.curriculum_session import PROPOSED, CurriculumSession
from clutr.experiments.live.curves_card import CurvesCard, curves_of_runs
from clutr.experiments.live.parts import Picture, card
from clutr.experiments.live.students import Play, SelectedTask
from clutr.experiments.live.task_card import EPISODES, SECONDS, LevelPicker
from clutr.experiments.plots.html import text
from clutr.experiments.storage import RunError


class SideBySide:
    """Builds itself into the present page; `look` follows the runs.

    Args:
        sessions: curriculum runs, at least two.
    """

    def __init__(self, sessions: Sequence[CurriculumSession]) -> None:
        self.sessions = sessions
        names = [session.run.path.name for session in sessions]
        self.names = [n if names.count(n) == 1 else f"{n} ({k + 1})" for k, n in enumerate(names)]
        self._versions: list[int] = []
        with (
            card("Runs"),
            ui.element("div").classes("scrolled").props('tabindex=0 role=region aria-label="table of runs"'),
        ):
            self._table = ui.html("", sanitize=False).mark("runs")
        self._build_students()
        self._curves = CurvesCard(
            "Learning curves, over each other",
            "The first student of each run. Curves on own levels compare what each curriculum made of its levels, not "
            + "how good the students are; zero-shot curves do. Single runs: a difference may be chance.",
        )
        self.timer = ui.timer(SECONDS, self._tick, active=False)
        self.look()

    def _build_students(self) -> None:
        """Students of the same environment as the first run's."""
        kind = type(self.sessions[0].domain)
        self._players = [
            (name, each) for name, each in zip(self.names, self.sessions, strict=True) if type(each.domain) is kind
        ]
        self._plays: list[Play | None] = []
        with card("Students on one level"):
            suites = {name: told for name, told in self.sessions[0].sources().items() if name != PROPOSED}
            self._picker = LevelPicker(suites, lambda *_: self._choose())
            with ui.element("div").classes("screens equal"):
                self._pictures = [Picture(f"side-{k + 1}", name) for k, (name, _) in enumerate(self._players)]
            with ui.row().classes("items-center gap-2"):
                ui.button("Watch them", on_click=self._start).mark("watch-all").props("unelevated dense no-caps")
                ui.button("Stop", on_click=self._stop).mark("stop-all").props("outline dense no-caps")
                self._many = ui.button(f"Play it {EPISODES} times each", on_click=self._play_many).mark("many-all")
                self._many.props("outline dense no-caps")
            ui.label("The same level for all; actions are sampled, so one episode each says little.").classes("note")
        self._level: SelectedTask | None = None
        self._choose()

    def _choose(self) -> None:
        """Show the level that was chosen; a random one is drawn anew."""
        if hasattr(self, "timer"):
            self._stop()
        try:
            self._level = self.sessions[0].task(self._picker.source.value, int(self._picker.level.value or 0))
        except RunError as error:
            ui.notify(str(error), type="warning")
            return
        for (name, _), picture in zip(self._players, self._pictures, strict=True):
            picture.show(self._level.picture, name)

    def _start(self) -> None:
        if self._level is None:
            self._choose()
        if (task := self._level) is None:
            return
        self._plays = []
        for (name, session), picture in zip(self._players, self._pictures, strict=True):
            try:
                playing = session.play(task)
            except RunError as error:
                self._plays.append(None)
                picture.show(task.picture, f"{name}: {error}")
                continue
            self._plays.append(playing)
            picture.show(playing.scene().picture, f"{name}: step 0")
        self.timer.active = True

    async def _play_many(self) -> None:
        """How often each student solves the level, one after the other, in a thread."""
        self._stop()
        if (task := self._level) is None:
            return
        self._many.set_enabled(False)
        try:
            for (name, session), picture in zip(self._players, self._pictures, strict=True):
                picture.show(task.picture, f"{name} plays {EPISODES} episodes ...")
                try:
                    found = await run.io_bound(session.trial, EPISODES, task)
                except RunError as error:
                    picture.show(task.picture, f"{name}: {error}")
                    continue
                if found is None or self._level is not task:  # the page closes, or another level is shown by now
                    return
                picture.show(task.picture if found.paths is None else found.paths, f"{name}, {found.words}")
        finally:
            self._many.set_enabled(True)

    def _stop(self) -> None:
        self.timer.active = False

    def _tick(self) -> None:
        going = False
        for (name, session), play, picture in zip(self._players, self._plays, self._pictures, strict=True):
            if play is None:
                continue
            scene = play.step()
            going |= not scene.over
            told = f"{name}, trained for {session.trained:,} steps. {scene.words}"
            picture.show(scene.picture if scene.path is None else scene.path, told)
        if not going:
            self._stop()

    def look(self) -> None:
        """Follow the runs."""
        for session in self.sessions:
            session.look()
        versions = [session.watch.version for session in self.sessions]
        if versions != self._versions:
            self._versions, self._html = versions, curves_of_runs(self.sessions, self.names)
        self._curves.show("", self._html, self.sessions[0].why_no_curves)
        head = "".join(f'<th scope="col">{name}</th>' for name in ("run", "curriculum", "seed", "progress"))
        rows = "".join(
            f'<tr><th scope="row">{text(name)}</th><td>{text(each.curriculum)}</td>'
            + f"<td>{each.run.experiment.seed}</td><td>{text(each.progress)}</td></tr>"
            for name, each in zip(self.names, self.sessions, strict=True)
        )
        self._table.content = f'<table class="runs"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
