"""The runs that a page opens: world models, trained or not yet, curricula, and those that it cannot open."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.run_watch import RunWatch
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, backbone_path, memory_path


@dataclass(frozen=True)
class Refused:
    """A run that cannot be opened: the page shows why, and the other runs."""

    path: Path
    reason: str
    """In a line."""


class TrainingSession:
    """A world model that is not trained yet: what its training measures, until it can be opened.

    Args:
        run: a world model's directory.
    """

    def __init__(self, run: WorldModelRun) -> None:
        self.run, self.watch = run, RunWatch(run.path, "update", None)
        _ = run.experiment  # read once, so that a broken file is refused and not shown as a training

    @property
    def ready(self) -> bool:
        """Whether all parts are there."""
        return all(path.exists() for path in (backbone_path(self.run), *(memory_path(self.run, n) for n in MEMORIES)))

    def open(self) -> WorldModelSession:
        """The world model itself. Raises `RunError` if it cannot be opened yet."""
        return WorldModelSession(self.run)


Session = WorldModelSession | CurriculumSession | TrainingSession | Refused


def path_of(session: Session) -> Path:
    """The directory of a session's run."""
    return session.path if isinstance(session, Refused) else session.run.path


def open_session(path: Path, manifolds: Path) -> Session:
    """The session of a run of either kind.

    Raises:
        RunError: if `path` is no run, or it cannot be read.
    """
    if not path.is_dir():
        raise RunError(f"there is no directory {path}")
    if (path / "world.yaml").is_file():
        training = TrainingSession(WorldModelRun(path))
        return training.open() if training.ready else training
    if (path / "config.yaml").is_file():
        return CurriculumSession(RunDirectory(path), manifolds)
    raise RunError(
        f"{path} is neither a world model (world.yaml) nor a curriculum run (config.yaml), nor a folder that holds some"
    )


def runs_in(path: Path) -> list[Path]:
    """The runs that a folder holds, by name; the path itself if it is a run, or holds none."""

    def is_run(folder: Path) -> bool:
        return any((folder / name).is_file() for name in ("world.yaml", "config.yaml"))

    if is_run(path) or not path.is_dir():
        return [path]
    return sorted(each for each in path.iterdir() if each.is_dir() and is_run(each)) or [path]


def _refused(path: Path, error: Exception) -> Refused:
    return Refused(path, " ".join(str(error).split()) or type(error).__name__)


def open_sessions(
    paths: Sequence[Path], manifolds: Path, find: Callable[[Path], Path] = lambda path: path
) -> list[Session]:
    """A session of each run, in their order; one that cannot be opened is `Refused`, and the others are opened.

    Args:
        paths: of runs, or of folders of runs.
        manifolds: where pretrained manifolds are kept.
        find: gives the directory that a path, which may be a name, stands for.

    Raises:
        RunError: if none can be opened, with the first one's reason.
    """
    found: list[Session] = []

    for path in paths:
        try:
            runs = runs_in(find(path))
        except Exception as error:  # one bad run never stops the page, whatever is bad about it
            found.append(_refused(path, error))
            continue
        for each in runs:
            try:
                found.append(open_session(each, manifolds))
            except Exception as error:
                found.append(_refused(each, error))
    refused = [each for each in found if isinstance(each, Refused)]
    if found and len(refused) == len(found):
        raise RunError(refused[0].reason)
    return found
