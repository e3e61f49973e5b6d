"""What an object has to save so that it can go on bit for bit."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Stateful:
    """An object whose state is that of the attributes named in `saved`.

    An attribute may be a generator, anything with a `state_dict` of its own (a network, an optimiser, another
    `Stateful`), a tensor, or a plain value; None stands for a part that the options leave out. A subclass adds to the
    names of its parent: `saved = (*Parent.saved, "more")`.
    """

    saved: ClassVar[tuple[str, ...]] = ()
    """Names of attributes, which are the keys of the state too."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, which are copies, and plain values, nested in dicts and lists."""
        return {name: _state_of(getattr(self, name)) for name in self.saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. Tensors go to the device of those that they replace."""
        for name in self.saved:
            part, value = getattr(self, name), state[name]
            if isinstance(part, torch.Generator):
                part.set_state(value)
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(value)
            elif isinstance(value, Tensor):
                setattr(self, name, value.clone().to(part.device if isinstance(part, Tensor) else value.device))
            else:
                setattr(self, name, value)


def _state_of(part: Any) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, nn.Module):
        return dict(part.state_dict())
    if hasattr(part, "state_dict"):
        return part.state_dict()
    return part.clone() if isinstance(part, Tensor) else part
