"""The command `clutr inspect`: parse, open the runs, serve."""

from importlib.util import find_spec
from pathlib import Path

from clutr.experiments.cli.arguments import Arguments, options_of
from clutr.experiments.display import say
from clutr.experiments.storage import RunError


def inspect_command(args: Arguments) -> None:
    """A live page on world models and curriculum runs: dream, steer, change latents, decode tasks, watch students."""
    options = options_of(
        "inspect",
        args,
        inspect_command.__doc__ or "",
        runs=(tuple[Path, ...], ..., "Directories of world models and of curriculum runs, a tab each."),
        port=(int, 8642, "Where the page is served."),
        host=(str, "127.0.0.1", "The address; others than this machine's own need --remote."),
        remote=(bool, False, "Allow an address that other machines can reach: whoever reaches the page can use it."),
        browser=(bool, True, "Open the page in a browser."),
        manifolds=(Path, Path("runs") / "manifolds", "Where pretrained manifolds are kept."),
    )
    if not options.runs:
        raise RunError("name at least one run: `clutr inspect RUN`")
    if find_spec("nicegui") is None:
        raise RunError('the live page needs NiceGUI: pip install "clutr[inspect]"')
    from clutr.experiments.live.page import open_session, require_address, serve  # noqa: PLC0415 (it imports NiceGUI)

    require_address(options.host, options.port, options.remote)
    sessions = [open_session(path, options.manifolds) for path in options.runs]
    address = f"[{options.host}]" if ":" in options.host else options.host
    say(f"open http://{address}:{options.port} (Ctrl+C ends it)")
    serve(sessions, options.host, options.port, options.browser, options.remote)
