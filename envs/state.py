"""What an object has to save so that it can go on bit for bit."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Generator, Tensor, nn

from clutr.envs.domain import LevelBatch


class Stateful:
    """An object whose state is that of the attributes named in `saved`.

    An attribute may be a generator, anything with a `state_dict` of its own (a network, an optimiser, another
    `Stateful`), a tensor, a batch of levels, a plain value, or a dict or list of those (a named tuple is saved as a
    dict); None stands for a part that the options leave out. A subclass adds to the names of its parent: `saved =
    (*Parent.saved, "more")`.
    """

    saved: ClassVar[tuple[str, ...]] = ()
    """Names of attributes, which are the keys of the state too."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, which are copies, and plain values, nested in dicts and lists."""
        return {name: _state_of(getattr(self, name)) for name in self.saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. Tensors go to the device of those that they replace."""
        for name in self.saved:
            part = getattr(self, name)
            restored = _restored(part, state[name])
            if restored is not part:
                setattr(self, name, restored)


def _state_of(part: Any) -> Any:
    if isinstance(part, Generator):
        return part.get_state()
    if isinstance(part, LevelBatch):
        return {"kind": type(part).__name__, "tensors": _state_of(part.tensors())}
    if hasattr(part, "state_dict"):
        state = part.state_dict()
        return dict(state) if isinstance(part, nn.Module) else state
    items = part._asdict() if hasattr(part, "_asdict") else part
    if isinstance(items, dict):
        return {name: _state_of(item) for name, item in items.items()}
    if isinstance(part, list):
        return [_state_of(item) for item in part]
    return part.clone() if isinstance(part, Tensor) else part


def _restored(part: Any, state: Any) -> Any:
    """`part` itself, brought to `state`, where it has a state of its own; else a copy of what `state` holds."""
    for load in ("load_state_dict", "set_state"):
        if hasattr(part, load):
            getattr(part, load)(state)
            return part
    if isinstance(state, Tensor):
        return state.clone().to(part.device if isinstance(part, Tensor) else state.device)
    if isinstance(state, Mapping):
        items = {name: _restored(None, item) for name, item in state.items()}
        return LevelBatch.kind(items["kind"]).from_tensors(items["tensors"]) if "kind" in items else items
    if isinstance(state, list) and isinstance(part, list) and len(part) == len(state):
        return [_restored(one, item) for one, item in zip(part, state, strict=True)]
    return state
