"""A small controller from latents and memory to steering and one pedal: linear, or with a hidden layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.agents.networks import linear
from clutr.world_model.driving.expert import FULL_LOCK
from clutr.world_model.linear_probe import fit_probe

OUTPUTS = 2
"""Steering from -1 (full lock to the left) to 1, and a pedal from -1 (brake) to 1 (gas)."""
PENALTY = 1e-3
"""Of the ridge that fits a linear controller, relative to the variance of its inputs."""
BATCH = 256
LEAST_SPREAD = 1e-2
"""Inputs that hardly change are not blown up."""


def from_actions(actions: Tensor) -> Tensor:
    """Steering, gas and brake `[N, 3]` as what a controller gives, `[N, 2]`."""
    return torch.stack([actions[:, 0] / FULL_LOCK, actions[:, 1] - actions[:, 2]], 1)


def to_actions(outputs: Tensor) -> Tensor:
    """What a controller gives, `[N, 2]`, as steering, gas and brake `[N, 3]`."""
    steering, pedal = outputs.clamp(-1, 1).unbind(1)
    return torch.stack([FULL_LOCK * steering, pedal.clamp(min=0), (-pedal).clamp(min=0)], 1)


@dataclass(frozen=True)
class FitOptions:
    """How a controller is fitted to an expert's actions."""

    hidden: int = 64
    """Width of its hidden layer; 0: it is linear, and fitted by ridge regression."""
    passes: int = 8
    """Through what was recorded, of a controller with a hidden layer."""
    learning_rate: float = 2e-3
    """AdamW's first step size, which falls linearly to 0."""


class Controller(nn.Module):
    """Outputs `[N, 2]` for inputs `[N, I]`, which it normalises; then an affine map of them, which evolution adjusts.

    Args:
        inputs: I.
        hidden: width of the hidden layer; 0: none.
        rng: draws the first weights.
    """

    mean: Tensor
    spread: Tensor
    gain: Tensor
    shift: Tensor

    def __init__(self, inputs: int, hidden: int, rng: torch.Generator) -> None:
        super().__init__()
        self.inputs, self.hidden = inputs, hidden
        layers = (
            [linear(inputs, hidden, rng, 1.0), nn.Tanh(), linear(hidden, OUTPUTS, rng, 0.1)]
            if hidden
            else [linear(inputs, OUTPUTS, rng, 0.1)]
        )
        self.layers = nn.Sequential(*layers)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.register_buffer("gain", torch.eye(OUTPUTS))
        self.register_buffer("shift", torch.zeros(OUTPUTS))

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.layers((inputs - self.mean) / self.spread)
        return found @ self.gain + self.shift

    @property
    def weights(self) -> int:
        """How many numbers were fitted."""
        return sum(each.numel() for each in self.layers.parameters())

    def state(self) -> dict[str, Any]:
        """Everything needed to make it again (`restore`)."""
        return {"inputs": self.inputs, "hidden": self.hidden, "weights": dict(self.state_dict())}


def restore(state: Mapping[str, Any]) -> Controller:
    """The controller of `Controller.state`."""
    found = Controller(int(state["inputs"]), int(state["hidden"]), torch.Generator())
    found.load_state_dict(state["weights"])
    return found


def fit(inputs: Tensor, wanted: Tensor, options: FitOptions, rng: torch.Generator) -> Controller:
    """A controller that does what an expert would have done.

    Args:
        inputs: `[n, I]`: what was seen.
        wanted: `[n, 2]`: what the expert would have done then, as `from_actions` gives it.
        options: how.
        rng: draws first weights and the order of samples.

    Raises:
        ValueError: nothing was recorded.
    """
    if not len(inputs):
        raise ValueError("a controller is fitted to recorded steps, and there are none")
    controller = Controller(inputs.shape[1], options.hidden, rng)
    if len(inputs) > 1:
        controller.mean.copy_(inputs.mean(0))
        controller.spread.copy_(inputs.std(0) + LEAST_SPREAD)
    normal = (inputs - controller.mean) / controller.spread
    if not options.hidden:
        probe = fit_probe(normal, wanted, PENALTY)
        layer: Any = controller.layers[0]
        layer.weight.data.copy_(probe.weights.T)
        layer.bias.data.copy_(probe.constant)
        return controller
    optimiser = Adam(
        controller.layers.parameters(), options.learning_rate, weight_decay=1e-4, decoupled_weight_decay=True
    )
    batches = max(1, len(normal) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, options.passes * batches)
    for _ in range(options.passes):
        for rows in torch.randperm(len(normal), generator=rng).tensor_split(batches):
            # between absolute and squared errors: rare full brakes must neither vanish nor rule
            loss = (controller.layers(normal[rows]) - wanted[rows]).abs().pow(1.5).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return controller.eval()
