"""A world model that is not trained yet: its curves, and the model itself as soon as it can be opened."""

from nicegui import ui

from clutr.experiments.live.curves_card import CurvesCard, curves_of_parts
from clutr.experiments.live.sessions import Session, TrainingSession
from clutr.experiments.live.world_model_tab import WorldModelTab
from clutr.experiments.storage import RunError


class TrainingTab:
    """Builds itself into the present page; `look` follows the training.

    Args:
        sessions: those of the page: an opened model takes the place of its training.
        number: of this one.
    """

    def __init__(self, sessions: list[Session], number: int) -> None:
        self._sessions, self._number = sessions, number
        session = sessions[number]
        assert isinstance(session, TrainingSession)
        self._session, self._version, self._html, self._seen = session, -1, "", True
        self._model: WorldModelTab | None = None
        with ui.column().classes("w-full gap-3") as self._all:
            self._card = CurvesCard(
                "This world model is not trained yet",
                "Each part counts its own steps: the backbone is fitted first, then the memory, then the control whose "
                + "core stays as it was drawn. The model can be opened once all of them have been saved.",
            )
            self._open = ui.button("Open the model", on_click=self._show_model).mark("open-model")
            self._open.props("unelevated dense no-caps").classes("self-start")
        self.look()

    def look(self) -> None:
        """Follow the training."""
        if self._model is not None:
            return
        watch = self._session.watch
        watch.look()
        if watch.version != self._version:
            self._version, self._html = watch.version, curves_of_parts(watch.columns)
        self._card.show(f"{watch.words}.", self._html)
        self._open.set_visibility(self._session.ready)

    def attend(self, seen: bool) -> None:
        """Whether the keys are this tab's."""
        self._seen = seen
        if self._model is not None:
            self._model.attend(seen)

    def _show_model(self) -> None:
        try:
            model = self._session.open()
        except RunError as error:
            ui.notify(str(error), type="warning")
            return
        self._sessions[self._number] = model
        self._all.clear()
        with self._all:
            self._model = WorldModelTab(model)
        self._model.attend(self._seen)
