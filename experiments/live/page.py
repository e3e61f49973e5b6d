"""The page itself: tabs over sessions, served on this machine alone unless somebody asks for more."""

import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from nicegui import app, ui

from clutr.experiments.live.csrf import OwnRequests, is_loopback
from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.curriculum_tab import CurriculumTab
from clutr.experiments.live.probes_page import has_probes, probes_page
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.live.world_model_tab import WorldModelTab
from clutr.experiments.plots.charts import PALETTE
from clutr.experiments.plots.page import theme
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.run_directory import WorldModelRun

Session = WorldModelSession | CurriculumSession


def open_session(path: Path, manifolds: Path) -> Session:
    """The session of a run of either kind.

    Raises:
        RunError: if `path` is no run, or there is nothing to inspect yet.
    """
    if (path / "world.yaml").is_file():
        return WorldModelSession(WorldModelRun(path))
    if (path / "config.yaml").is_file():
        return CurriculumSession(RunDirectory(path), manifolds)
    raise RunError(f"{path} is neither a world model (world.yaml) nor a curriculum run (config.yaml)")


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


def build(sessions: Sequence[Session]) -> None:
    """Put sessions, a tab each, into the present page."""
    files = resources.files("clutr.experiments.live")
    style, script = ((files / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    ui.add_head_html(f"<style>{theme()}{style}</style><script>{script}</script>")
    ui.colors(primary=PALETTE["accent"][0])
    ui.label("CLUTR, live").classes("kicker")
    ui.html(f"<h1>{', '.join(session.run.path.name for session in sessions)}</h1>", sanitize=True)
    parts = list(_parts(sessions))
    if len(parts) == 1:
        parts[0][1]()
        return
    with ui.tabs().props("no-caps") as tabs:
        for number, (words, _) in enumerate(parts):  # by number: two runs may have the same name
            ui.tab(str(number), words).mark(f"tab-{number + 1}")
    filled = []
    panels = ui.tab_panels(tabs, value="0", animated=False).classes("w-full").style("background:transparent")
    with panels.props("keep-alive"):
        for number, (_, put) in enumerate(parts):
            with ui.tab_panel(str(number)).classes("p-0"):
                filled.append(put())

    def listen() -> None:
        """The keys are those of the tab that is seen; a tab that was seen before would hear them too."""
        for number, tab in enumerate(filled):
            if isinstance(tab, WorldModelTab):
                tab.keyboard.active = str(number) == panels.value

    panels.on_value_change(listen)
    listen()


def _parts(sessions: Sequence[Session]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The tabs' names, and what fills them."""
    for number, session in enumerate(sessions):
        yield f"{_kind(session)}: {session.run.path.name}", partial(_tab, session)
        if has_probes(session):
            yield f"Probes: {session.run.path.name}", partial(_probes, number)


def _probes(number: int) -> None:
    """The probes' page in a frame, for it has a style of its own."""
    ui.element("iframe").props(f'src="/probes/{number}" title="probes"').classes("probes").mark("probes")


def _kind(session: Session) -> str:
    return "World model" if isinstance(session, WorldModelSession) else "Curriculum"


def _tab(session: Session) -> Any:
    return WorldModelTab(session) if isinstance(session, WorldModelSession) else CurriculumTab(session)


def add_routes(sessions: Sequence[Session], remote: bool) -> None:
    """Everything that the server answers, beside NiceGUI's own parts: the page, and what probes found."""
    app.add_middleware(OwnRequests, remote=remote)

    @ui.page("/")
    def page() -> None:
        build(sessions)

    @app.get("/probes/{number}")
    def probes(number: int) -> HTMLResponse:
        if 0 <= number < len(sessions):
            return HTMLResponse(probes_page(sessions[number]))
        return HTMLResponse("there is no such run", 404)


def serve(sessions: Sequence[Session], host: str, port: int, show: bool, remote: bool = False) -> None:
    """Serve the page until interrupted. All who open it share the sessions. No file is ever served from a run."""
    add_routes(sessions, remote)
    ui.run(host=host, port=port, show=show, reload=False, title="CLUTR", show_welcome_message=False, dark=None)
