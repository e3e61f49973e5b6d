"""`clutr film`: students on any suite, and dreams of a world model, as moving pictures."""

from dataclasses import dataclass
from pathlib import Path

from clutr.experiments.cli.arguments import UsageError, command


@dataclass(frozen=True)
class FilmCommandOptions:
    """What a film shows."""

    suite: str | None = None
    """The suite; by default the domain's first. `clutr list suites` names them."""
    levels: tuple[str, ...] = ()
    """Which of its levels, in this order; by default the first three."""
    output: Path = Path("film.gif")
    """The file; it ends with .gif, .webp or .mp4 (which needs clutr[film])."""
    paths: bool = False
    """Show the way so far."""
    values: bool = False
    """Show the return that the student expects."""
    saliency: bool = False
    """Show which parts of the observation matter to the next action."""
    side: int = 240
    """Height of a player's picture in pixels."""
    fps: float | None = None
    """Steps a second; by default those of the environment."""
    seed: int = 1
    """Seed of levels and actions."""


@command("film", options="clutr.experiments.cli.film:FilmCommandOptions")
def film(runs: tuple[Path, ...], /, options: FilmCommandOptions) -> None:
    """A film (GIF, WebP, MP4) of students on a suite, several runs side by side; or of a world model's dreams.

    Args:
        runs: The runs' directories or names of students that ship; or one world model.
        options: What it shows.
    """
    if not runs:
        raise UsageError("name at least one run: `clutr film RUN`")
    from dataclasses import asdict

    from clutr.experiments.directories import look_at_run, look_at_world_model
    from clutr.experiments.display import say, work_display
    from clutr.experiments.files import as_directory, as_output
    from clutr.experiments.pretrained import card, is_name

    first = as_directory(runs[0])
    of_world = len(runs) == 1 and (
        card(str(first)).kind == "world-model" if is_name(first) else (first / "world.yaml").is_file()
    )
    for each in runs:
        (look_at_world_model if of_world else look_at_run)(each)
    as_output(options.output, "Nothing was filmed.")
    from clutr.experiments.reports.film import make_dream_film, make_film

    chosen = asdict(options)
    if of_world:
        kept = {name: chosen[name] for name in ("output", "side", "fps", "seed")}
        if of_students := [name for name, value in chosen.items() if value and name not in kept]:
            raise UsageError(f"--{of_students[0]} is for films of students, and {runs[0]} is a world model")
        frames = make_dream_film(runs[0], **kept, display=work_display)
    else:
        with work_display("filming") as progress:
            frames = make_film(runs, **chosen, progress=progress)
    size = options.output.stat().st_size
    say(f"open {options.output}: {frames} pictures, {size / 1e6:.2f} MB")
