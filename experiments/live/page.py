"""The page itself: tabs over sessions, served on this machine alone unless somebody asks for more."""

import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources
from typing import Any

from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import HTMLResponse
from nicegui import app, ui

from clutr.experiments.live.csrf import OwnRequests, is_loopback
from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.curriculum_tab import CurriculumTab
from clutr.experiments.live.parts import card
from clutr.experiments.live.probes_page import has_probes, probes_page
from clutr.experiments.live.sessions import Refused, Session, TrainingSession, path_of
from clutr.experiments.live.side_by_side import SideBySide
from clutr.experiments.live.training_tab import TrainingTab
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.live.world_model_tab import WorldModelTab
from clutr.experiments.plots.charts import PALETTE
from clutr.experiments.plots.html import text
from clutr.experiments.plots.page import theme
from clutr.experiments.storage import RunError

RECONNECT_SECONDS = 60.0
"""For so long a page that lost its connection, such as a phone that slept, is kept as it is."""
LOOK_SECONDS = 2.0
"""Between two looks at what the runs have written."""


def require_address(host: str, port: int, remote: bool) -> None:
    """Refuse addresses that others can reach unless that was asked for, and ports that are taken.

    Raises:
        RunError: saying what to do.
    """
    if not is_loopback(host) and not remote:
        raise RunError(
            f"{host} can be reached from other machines, and whoever reaches the page can use it. --remote allows it; "
            + "an SSH tunnel to 127.0.0.1 is safer"
        )
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunError(f"cannot serve at {host}:{port}: {reason}. --port chooses another port") from None


def build(sessions: list[Session]) -> None:
    """Put sessions, a tab each, into the present page; several curriculum runs also side by side."""
    files = resources.files("clutr.experiments.live")
    style, script = ((files / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    ui.add_head_html(f"<style>{theme()}{style}</style><script>{script}</script>")
    ui.colors(primary=PALETTE["accent"][0])
    ui.label("CLUTR, live").classes("kicker")
    ui.html(text(", ".join(path_of(session).name for session in sessions)), tag="h1", sanitize=False)
    parts = list(_parts(sessions))
    filled: list[Any] = []
    if len(parts) == 1:
        filled.append(parts[0][1]())
    else:
        _tabs(parts, filled)

    def look() -> None:
        for part in filled:
            if hasattr(part, "look"):
                part.look()

    ui.timer(LOOK_SECONDS, look)


def _tabs(parts: Sequence[tuple[str, Callable[[], Any]]], filled: list[Any]) -> None:
    with ui.tabs().props("no-caps") as tabs:
        for number, (words, _) in enumerate(parts):  # by number: two runs may have the same name
            ui.tab(str(number), words).mark(f"tab-{number + 1}")
    panels = ui.tab_panels(tabs, value="0", animated=False).classes("w-full").style("background:transparent")
    with panels.props("keep-alive"):
        for number, (_, put) in enumerate(parts):
            with ui.tab_panel(str(number)).classes("p-0"):
                filled.append(put())

    def listen() -> None:
        """The keys are those of the tab that is seen; a tab that was seen before would hear them too."""
        for number, tab in enumerate(filled):
            if hasattr(tab, "attend"):
                tab.attend(str(number) == panels.value)

    panels.on_value_change(listen)
    listen()


def _parts(sessions: list[Session]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The tabs' names, and what fills them."""
    curricula = [session for session in sessions if isinstance(session, CurriculumSession)]
    if len(curricula) > 1:
        yield "Side by side", partial(SideBySide, curricula)
    for number, session in enumerate(sessions):
        name = path_of(session).name
        if isinstance(session, Refused):
            yield f"Not opened: {name}", partial(_refused, session)
            continue
        yield (
            f"{'Curriculum' if isinstance(session, CurriculumSession) else 'World model'}: {name}",
            partial(_tab, sessions, number),
        )
        if not isinstance(session, TrainingSession) and has_probes(session):
            yield f"Probes: {name}", partial(_probes, number)


def _refused(session: Refused) -> None:
    with card("This run was not opened"):
        ui.label(session.reason).classes("reason").mark("refused")
        ui.label(str(session.path)).classes("note")


def _probes(number: int) -> None:
    """The probes' page in a frame, for it has a style of its own."""
    ui.element("iframe").props(f'src="/probes/{number}" title="probes"').classes("probes").mark("probes")


def _tab(sessions: list[Session], number: int) -> Any:
    session = sessions[number]
    if isinstance(session, WorldModelSession):
        return WorldModelTab(session)
    if isinstance(session, CurriculumSession):
        return CurriculumTab(session)
    assert isinstance(session, TrainingSession)
    return TrainingTab(sessions, number)


def add_routes(sessions: list[Session], remote: bool) -> None:
    """Everything that the server answers, beside NiceGUI's own parts: the page, and what probes found."""
    app.add_middleware(OwnRequests, remote=remote)

    @ui.page("/")
    def page() -> None:
        build(sessions)

    @app.get("/probes/{number}")
    def probes(number: int) -> HTMLResponse:
        session = sessions[number] if 0 <= number < len(sessions) else None
        if isinstance(session, WorldModelSession | CurriculumSession):
            return HTMLResponse(probes_page(session))
        return HTMLResponse("there is no such run", 404)


def serve(sessions: list[Session], host: str, port: int, show: bool, remote: bool = False) -> None:
    """Serve the page until interrupted. All who open it share the sessions. No file is ever served from a run."""
    add_routes(sessions, remote)
    near = is_loopback(host)  # then compressing takes longer than sending
    ui.run(
        host=host,
        port=port,
        show=show,
        reload=False,
        title="CLUTR",
        show_welcome_message=False,
        dark=None,
        reconnect_timeout=RECONNECT_SECONDS,
        gzip_middleware_factory=None if near else GZipMiddleware,
        ws_per_message_deflate=not near,
    )
