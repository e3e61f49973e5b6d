"""The page itself: tabs over sessions, served on this machine alone unless somebody asks for more."""

import ipaddress
import socket
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from nicegui import ui

from experiments.files import RunError
from experiments.inspect.curriculum_session import CurriculumSession
from experiments.inspect.curriculum_tab import CurriculumTab
from experiments.inspect.world_session import WorldSession
from experiments.inspect.world_tab import WorldTab
from experiments.panels.drawing import PALETTE
from experiments.panels.page import theme
from experiments.run_dir import RunDirectory
from experiments.world_run import WorldRun

Session = WorldSession | CurriculumSession


def open_session(path: Path, manifolds: Path) -> Session:
    """The session of a run of either kind.

    Raises:
        RunError: if `path` is no run, or there is nothing to inspect yet.
    """
    if (path / "world.yaml").is_file():
        return WorldSession(WorldRun(path))
    if (path / "config.yaml").is_file():
        return CurriculumSession(RunDirectory(path), manifolds)
    raise RunError(f"{path} is neither a world model (world.yaml) nor a curriculum run (config.yaml)")


def require_address(host: str, port: int, remote: bool) -> None:
    """Refuse addresses that others can reach unless that was asked for, and ports that are taken.

    Raises:
        RunError: saying what to do.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not remote:
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
    style = (resources.files("experiments.inspect") / "page.css").read_text(encoding="utf-8")
    ui.add_head_html(f"<style>{theme()}{style}</style>")
    ui.colors(primary=PALETTE["accent"][0])
    ui.label("CLUTR, live").classes("kicker")
    ui.html(f"<h1>{', '.join(session.run.path.name for session in sessions)}</h1>", sanitize=True)
    if len(sessions) == 1:
        _tab(sessions[0])
        return
    with ui.tabs().props("no-caps") as tabs:
        labels = [
            ui.tab(f"{_kind(each)}: {each.run.path.name}").mark(f"tab {n + 1}") for n, each in enumerate(sessions)
        ]
    with ui.tab_panels(tabs, value=labels[0]).classes("w-full").style("background:transparent").props("keep-alive"):
        for label, session in zip(labels, sessions, strict=True):
            with ui.tab_panel(label).classes("p-0"):
                _tab(session)


def _kind(session: Session) -> str:
    return "World model" if isinstance(session, WorldSession) else "Curriculum"


def _tab(session: Session) -> Any:
    return WorldTab(session) if isinstance(session, WorldSession) else CurriculumTab(session)


def serve(sessions: Sequence[Session], host: str, port: int, show: bool) -> None:
    """Serve the page until interrupted. All who open it share the sessions. No file is ever served from a run."""

    @ui.page("/")
    def page() -> None:
        build(sessions)

    ui.run(host=host, port=port, show=show, reload=False, title="CLUTR", show_welcome_message=False, dark=None)
