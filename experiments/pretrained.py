"""Models that ship: a card, which says how a model was made and how good it is, beside its weights.

A name such as `maze-dr@best` stands wherever the directory of a run or a world model may. It is unpacked once into the
user's cache as such a directory, so that everything that reads runs reads models, too. A file whose hash is not the
card's is refused, and loading never runs code (`clutr.experiments.storage`). Cards are read without torch.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from clutr.envs.home import temporary_cache
from clutr.envs.registry import no_such
from clutr.experiments.files import RunError, as_directory, can_write, write_atomically

Kind = Literal["manifold", "student", "world-model"]
Precision = Literal["float32", "float16"]
CACHE_VARIABLE = "CLUTR_MODELS"
STEPS: dict[Kind, str] = {
    "manifold": "gradient steps",
    "student": "environment steps a student",
    "world-model": "passes",
}
"""What the steps on a card are."""
CHECKPOINT = "checkpoints/update-000000"
"""A student's file in the directory of a run, without its suffix."""
CONFIGURATIONS: dict[Kind, str] = {"manifold": "config.yaml", "student": "config.yaml", "world-model": "world.yaml"}


def models_folder() -> Path:
    """Where the models are that were installed with the package."""
    return Path(str(resources.files("clutr"))) / "models"


def user_cache(variable: str, name: str) -> Path:
    """A folder of the user's cache in which to write: the last of `caches`."""
    return caches(variable, name)[-1]


def caches(variable: str, name: str) -> tuple[Path, ...]:
    """Folders of the user's cache in which to look, of which the last is where to write.

    It is `$variable`, else `clutr/name` in `$XDG_CACHE_HOME` or `~/.cache`; where these cannot be written, or there is
    no home, another in the directory for temporary files. `$XDG_CACHE_HOME` counts only if it is an absolute path.

    Raises:
        RunError: if there is none, naming the variable.
    """
    if chosen := os.environ.get(variable):
        return (as_directory(chosen),)
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    usual: Path | None
    try:
        usual = (given if given.is_absolute() else Path.home() / ".cache") / "clutr" / name
    except RuntimeError:  # no HOME, and nobody has this user id
        usual = None
    if usual is not None and can_write(usual):
        return (usual,)
    try:
        elsewhere = temporary_cache() / name
    except OSError as error:
        raise RunError(
            f"there is no folder for {name} that can be written ({error}): name one with the variable {variable}"
        ) from None
    return (usual, elsewhere) if usual is not None and usual.is_dir() else (elsewhere,)


@dataclass(frozen=True)
class Card:
    """What is known about a model: `NAME.json` in the folder of the models."""

    name: str
    kind: Kind
    domain: str
    about: str
    """A sentence: what it is, trained on what."""
    command: str
    """What made it."""
    seed: int
    steps: int
    """Environment steps of one student; gradient steps of a manifold; passes of a world model's memory."""
    commit: str
    """Of the code that trained it."""
    config: str
    """The text of `config.yaml` or `world.yaml`: with the seed it reproduces the training."""
    measured: dict[str, Any]
    """How good it is: `what` in words, `value`, `interval` (95 %), `suite`, `episodes` a level, `more` figures."""
    note: str
    """What one should know before relying on it; nothing: as expected."""
    precision: Precision
    """Of the weights in the file; in use they are float32."""
    size: int
    """Bytes of the weights' file."""
    sha256: str
    """Of the weights' file."""
    identity: str = ""
    """Of a manifold: the name under which runs share it (`manifold_path`)."""
    manifold: str = ""
    """Of a student that was taught on a manifold that ships: that model's name."""
    licence: str = "MIT"

    @property
    def weights(self) -> Path:
        """The weights' file."""
        return models_folder() / f"{self.name}.safetensors"


def cards() -> dict[str, Card]:
    """The cards of all models that are installed, by name. Raises `RunError` if one is damaged."""
    return {path.stem: read_card(path) for path in sorted(models_folder().glob("*.json"))}


def read_card(path: Path) -> Card:
    """A card. Raises `RunError` if it is damaged."""
    try:
        return Card(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"the card {path} is damaged ({error}): install the package again") from None


def card(name: str, kind: Kind | None = None) -> Card:
    """The card of a model by name. Raises `RunError` if there is none of that name, or of that kind."""
    known = cards()
    if kind is not None:
        known = {each: found for each, found in known.items() if found.kind == kind}
    if name not in known:
        raise RunError(no_such("model" if kind is None else kind, name, known))
    return known[name]


def is_name(path: Path | str) -> bool:
    """Whether this is meant as the name of a model: it has an `@`, no folder, and no file or folder is called so."""
    return "@" in str(path) and os.sep not in str(path) and not Path(path).exists()


def require_no_name(path: Path | str) -> None:
    """Raise `RunError` if a new directory would be called as models that ship are, and so hide one."""
    if is_name(path):
        raise RunError(f"{path} is a name of the kind that models that ship have: name another directory with --run")


def located(path: Path | str, *kinds: Kind) -> Path:
    """The directory of the model that `path` names, unpacked if need be; any other path as it is.

    Args:
        path: the name or a path.
        kinds: of models that do here; by default all.

    Raises:
        RunError: if no model has this name, it is of another kind, its file is damaged, or it cannot be unpacked.
    """
    if not is_name(path):
        return Path(path)
    require_kind(card(str(path)), *kinds)
    return unpack(str(path))


def require_kind(found: Card, *kinds: Kind) -> None:
    """Raise `RunError` unless a model is of one of these kinds; any will do if none is named."""
    if kinds and found.kind not in kinds:
        fitting = [name for name, each in cards().items() if each.kind in kinds]
        raise RunError(
            f"{found.name} is a {found.kind.replace('-', ' ')}, not a {' or '.join(kinds).replace('-', ' ')}; "
            + f"of these there are: {', '.join(fitting) or 'none'}"
        )


def unpacked(path: Path) -> Card | None:
    """The card of the model that was unpacked to this directory; None for any other directory."""
    inside = path.parent.parent in caches(CACHE_VARIABLE, "models")
    return cards().get(path.name) if inside else None


@cache
def checked(weights: Path, sha256: str, _changed: int) -> Path:
    """The file, whose hash is right. Raises `RunError` if it is not. A file is read once while it does not change."""
    if hashlib.sha256(weights.read_bytes()).hexdigest() != sha256:
        raise RunError(f"{weights} is damaged: its hash is not the one on its card. Install the package again")
    return weights


def weights_of(found: Card) -> Path:
    """The weights' file of a model. Raises `RunError` if it is missing or damaged."""
    try:
        changed = found.weights.stat().st_mtime_ns
    except OSError as error:
        raise RunError(f"the model {found.name} cannot be read: {error.strerror}: {found.weights}") from None
    return checked(found.weights, found.sha256, changed)


def unpack(name: str) -> Path:
    """A model as a directory of the user's cache (`$CLUTR_MODELS`, else `~/.cache/clutr/models`, see `caches`).

    Raises:
        RunError: if no model has this name, its file is damaged, or the cache cannot be written.
    """
    from clutr.experiments.storage import load_state, save_state  # noqa: PLC0415  # takes long to import

    found = card(name)
    weights = weights_of(found)
    described = hashlib.sha256(json.dumps(asdict(found), sort_keys=True).encode()).hexdigest()
    for folder in caches(CACHE_VARIABLE, "models"):
        path = folder / described[:12] / name
        configuration = path / CONFIGURATIONS[found.kind]
        if configuration.exists():  # it is written last
            return path
    for part, state in load_state(weights).items():
        save_state(path / f"{part}.safetensors", full_precision(state))
    if found.manifold:
        save_state(path / "manifold.safetensors", _manifold_of(card(found.manifold)))
    write_atomically(configuration, found.config.encode())
    return path


def shipped_manifold(identity: str) -> dict[str, Any] | None:
    """The state of the manifold that runs share under this name, if it ships. Raises `RunError` if it is damaged."""
    found = next((each for each in cards().values() if each.identity == identity), None)
    return None if found is None else _manifold_of(found)


def _manifold_of(found: Card) -> dict[str, Any]:
    from clutr.experiments.storage import load_state  # noqa: PLC0415  # takes long to import

    state: dict[str, Any] = full_precision(load_state(weights_of(found))["manifold"])
    return state


def half_precision(state: Any) -> Any:
    """The same with float16 in place of float32 in every tensor of more than one number; nested dicts and lists."""
    return _with_type(state, "float32", "float16")


def full_precision(state: Any) -> Any:
    """The same with float32 in place of float16, nested dicts and lists."""
    return _with_type(state, "float16", "float32")


def _with_type(state: Any, before: Precision, after: Precision) -> Any:
    import torch  # noqa: PLC0415  # takes long to import

    if isinstance(state, Mapping):
        return {name: _with_type(part, before, after) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_with_type(part, before, after) for part in state)
    if isinstance(state, torch.Tensor) and state.dtype == getattr(torch, before) and state.ndim:
        return state.to(getattr(torch, after))
    return state


def in_words(measured: Mapping[str, Any]) -> str:
    """What was measured, as a phrase: `solved 0.81 [0.79, 0.83] on accel12, 100 episodes a level`."""
    low, high = measured.get("interval") or (None, None)
    interval = "" if low is None else f" [{low:.3g}, {high:.3g}]"
    where = f" on {measured['suite']}" if measured.get("suite") else ""
    episodes = f", {measured['episodes']} episodes a level" if measured.get("episodes") else ""
    return f"{measured['what']} {measured['value']:.3g}{interval}{where}{episodes}"
