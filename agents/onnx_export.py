"""Students as ONNX files, which run without this library, and without torch: on onnxruntime, in a browser, on a robot.

The graph is one step: observation and recurrent state in; log-probabilities of the actions, value and next state out.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clutr.agents.networks import ActorCritic
from clutr.agents.student import Policy

INPUTS, OUTPUTS = ("image", "direction", "state"), ("log_probs", "value", "next_state")
OPSET = 17
TOLERANCE = 1e-5
"""How far the file's outputs may be from the student's, relative to numbers above 1: they round in another order."""
STEPS = 8
"""Steps in which the file is checked."""


class _Step(nn.Module):
    """The network's `step` in plain operations: what it computes in place or by compiled code cannot be traced."""

    def __init__(self, network: ActorCritic) -> None:
        super().__init__()
        self.torso, self.core, self.actor, self.critic = network.torso, network.core, network.actor, network.critic

    def forward(self, image: Tensor, direction: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = self.torso(self.torso.prepare({"image": image, "direction": direction}))
        hidden, cell = state.chunk(2, 1)
        weights = self.core
        gates = F.linear(seen, weights.weight_ih_l0, weights.bias_ih_l0)
        gates = gates + F.linear(hidden, weights.weight_hh_l0, weights.bias_hh_l0)
        into, forget, candidate, out = gates.chunk(4, 1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(candidate)
        hidden = torch.sigmoid(out) * torch.tanh(cell)
        log_probs = F.log_softmax(_head(self.actor, hidden), -1)
        return log_probs, _head(self.critic, hidden).squeeze(-1), torch.cat([hidden, cell], 1)


def _head(layers: nn.Module, hidden: Tensor) -> Tensor:
    first, _, last = layers.children()
    found: Tensor = last(torch.tanh(first(hidden)))
    return found


def export(student: Policy, view: int, about: Mapping[str, str] | None = None) -> bytes:
    """A recurrent maze student as the content of an ONNX file, checked against the student on onnxruntime.

    Args:
        student: `ppo`'s, on the CPU.
        view: side of the picture that it sees.
        about: what is known of it, for the file's metadata.

    Raises:
        ValueError: if it is another student, or the file does not do what the student does.
        ImportError: if onnx and onnxruntime are not installed.
    """
    try:
        import onnx  # noqa: PLC0415 (an extra)
        import onnxruntime  # noqa: F401, PLC0415
    except ImportError:
        raise ImportError('ONNX files need onnx and onnxruntime: pip install "clutr[onnx]"') from None
    network: Any = getattr(student, "network", None)
    if not isinstance(network, ActorCritic):
        raise ValueError(f"the recurrent student of mazes can be exported, not a {type(student).__name__}")
    observation = _random_observations(view, 2)
    example = (observation["image"], observation["direction"], network.initial_state(2))
    buffer = io.BytesIO()
    torch.onnx.export(
        _Step(network).eval(),
        example,
        buffer,  # type: ignore[arg-type]  # a file, as far as the exporter that traces is concerned
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "batch"} for name in (*INPUTS, *OUTPUTS)},
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, {"state_width": str(example[2].shape[1]), **dict(about or {})})
    content: bytes = model.SerializeToString()
    difference = largest_difference(content, network, view)
    if difference > TOLERANCE:
        raise ValueError(f"the file's outputs differ from the student's by {difference:.2g}")
    return content


def _random_observations(view: int, count: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 11, (count, view, view, 3), generator=rng, dtype=torch.uint8)
    return {"image": image, "direction": torch.randint(0, 4, (count,), generator=rng)}


def largest_difference(content: bytes, network: ActorCritic, view: int, count: int = 64) -> float:
    """The largest relative difference of any output between the file and the network, over several steps.

    Args:
        content: of the file.
        network: the student's.
        view: side of the picture.
        count: observations in a batch.
    """
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    ours, theirs = network.initial_state(count), network.initial_state(count).numpy()
    worst, observation = 0.0, _random_observations(view, count)
    for _ in range(STEPS):
        actions, value, ours = network.step(observation, ours)
        given = {name: part.numpy() for name, part in observation.items()} | {"state": theirs}
        found: list[NDArray[np.float32]] = session.run(list(OUTPUTS), given)
        log_probs: Any = getattr(actions, "log_probs")  # noqa: B009 (of categorical ones, which mazes have)
        for mine, other in zip((log_probs, value, ours), found, strict=True):
            expected = mine.numpy()
            worst = max(worst, float((np.abs(expected - other) / np.maximum(1, np.abs(expected))).max()))
        theirs = found[2]
    return worst
