"""Students as ONNX files, which run without this library, and without torch: on onnxruntime, in a browser, on a robot.

The graph is one step. In: the observation as the environment gives it, and the state (zeros at an episode's start).
Out: the policy, the value and the next state. The policy of a maze student is the log-probabilities of its actions;
that of a student on pictures is an action in the environment's units, the mean, and the two parameters of the Beta
distribution that it is the mean of.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clutr.agents.networks import ActorCritic
from clutr.agents.pixels import FRAMES, PictureNetwork, PixelActorCritic, PixelTorso
from clutr.agents.recurrent import LSTM
from clutr.agents.recurrent_pixels import RecurrentPixelActorCritic
from clutr.agents.student import Policy

OPSET = 17
TOLERANCE = 1e-5
"""How far the file's outputs may be from the student's, relative to numbers above 1: they round in another order."""
STEPS = 8
"""Steps in which the file is checked."""

Tensors = tuple[Tensor, ...]


class MazeStep(nn.Module):
    """The maze network's `step` in plain operations: what it computes in place or by compiled code cannot be traced."""

    inputs, outputs = ("image", "direction", "state"), ("log_probs", "value", "next_state")

    def __init__(self, network: ActorCritic) -> None:
        super().__init__()
        self.torso, self.core, self.actor, self.critic = network.torso, network.core, network.actor, network.critic

    def forward(self, image: Tensor, direction: Tensor, state: Tensor) -> Tensors:
        """One step: what `inputs` names in, what `outputs` names out."""
        seen = self.torso(self.torso.prepare({"image": image, "direction": direction}))
        hidden, following = _remember(self.core, seen, state)
        return F.log_softmax(_head(self.actor, hidden), -1), _head(self.critic, hidden).squeeze(-1), following

    @staticmethod
    def policy(actions: Any) -> Tensors:
        """The outputs that come from the distribution of the network itself."""
        return (actions.log_probs,)


class _PictureStep(nn.Module):
    """What the steps of both students on pictures share."""

    inputs, outputs = ("image", "state"), ("action", "alpha", "beta", "value", "next_state")

    def __init__(self, network: PictureNetwork) -> None:
        super().__init__()
        self.network, self.torso = network, network.torso

    def conclude(self, features: Tensor, following: Tensor) -> Tensors:
        actions, value = self.network._heads(features)
        return *self.policy(actions), value, following

    @staticmethod
    def policy(actions: Any) -> Tensors:
        """The outputs that come from the distribution of the network itself."""
        return actions.to_engine(actions.mode()), actions.alpha, actions.beta


class PixelStep(_PictureStep):
    """The step of the student that sees a few pictures at once; its state is those before, in the size that it sees."""

    def forward(self, image: Tensor, state: Tensor) -> Tensors:
        """One step."""
        stacks = torch.cat([state, _shrunk(image, self.torso).unsqueeze(1)], 1)
        rows, columns, channels = self.torso.picture
        pixels = stacks.permute(0, 2, 3, 1, 4).float().reshape(-1, rows, columns, FRAMES * channels)
        return self.conclude(self.torso(pixels), stacks[:, 1:])


class RecurrentPixelStep(_PictureStep):
    """The step of the student that sees one picture and remembers."""

    def __init__(self, network: RecurrentPixelActorCritic) -> None:
        super().__init__(network)
        self.core = network.core

    def forward(self, image: Tensor, state: Tensor) -> Tensors:
        """One step."""
        hidden, following = _remember(self.core, self.torso(_shrunk(image, self.torso).float()), state)
        return self.conclude(hidden, following)


EXPORTED: Mapping[type, Callable[[Any], Any]] = {
    ActorCritic: MazeStep,
    PixelActorCritic: PixelStep,
    RecurrentPixelActorCritic: RecurrentPixelStep,
}
"""The networks that can be exported, and what is traced of each."""


def _remember(core: LSTM, seen: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`LSTM.step` in plain operations."""
    hidden, cell = state.chunk(2, 1)
    gates = F.linear(seen, core.weight_ih_l0, core.bias_ih_l0)
    gates = gates + F.linear(hidden, core.weight_hh_l0, core.bias_hh_l0)
    into, forget, candidate, out = gates.chunk(4, 1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(candidate)
    hidden = torch.sigmoid(out) * torch.tanh(cell)
    return hidden, torch.cat([hidden, cell], 1)


def _head(layers: nn.Module, hidden: Tensor) -> Tensor:
    first, _, last = layers.children()
    found: Tensor = last(torch.tanh(first(hidden)))
    return found


def _shrunk(image: Tensor, torso: PixelTorso) -> Tensor:
    """`shrink` in plain operations: the numbers are small enough for float32 to hold them exactly."""
    side, (rows, columns, channels) = torso.shrink, torso.picture
    if side == 1:
        return image
    pixels = image[:, : rows * side, : columns * side].float().reshape(-1, rows, side, columns, side, channels)
    return torch.floor((pixels.sum((2, 4)) + side * side // 2) / (side * side)).to(torch.uint8)


@dataclass(frozen=True)
class _Example:
    """Random observations of a network, and the state that it begins with."""

    network: Any
    space: gymnasium.spaces.Dict
    names: Sequence[str]

    def observations(self, count: int) -> Iterator[dict[str, Tensor]]:
        rng = np.random.default_rng(0)
        while True:
            yield {name: self._part(self.space[name], count, rng) for name in self.names if name != "state"}

    def _part(self, space: Any, count: int, rng: np.random.Generator) -> Tensor:
        if isinstance(space, gymnasium.spaces.Discrete):
            return torch.as_tensor(rng.integers(0, int(space.n), count))
        symbols = isinstance(self.network, ActorCritic)  # of which MiniGrid has eleven
        return torch.as_tensor(rng.integers(0, 11 if symbols else 256, (count, *space.shape), np.uint8))


def export(student: Policy, space: gymnasium.spaces.Dict, about: Mapping[str, str] | None = None) -> bytes:
    """A student of this library's PPO as the content of an ONNX file, checked against the student on onnxruntime.

    Args:
        student: `ppo`'s, `pixel-ppo`'s or `recurrent-pixel-ppo`'s, on the CPU.
        space: of one environment's observations.
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
    if type(network) not in EXPORTED:
        raise ValueError(f"students of this library's PPO can be exported, not a {type(student).__name__}")
    step = EXPORTED[type(network)](network).eval()
    state = network.initial_state(2)
    observation = next(_Example(network, space, step.inputs).observations(2))
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # of shapes, which are the same for every batch, and of the exporter's age
        warnings.simplefilter("ignore")
        torch.onnx.export(
            step,
            tuple((observation | {"state": state})[name] for name in step.inputs),
            buffer,  # type: ignore[arg-type]  # a file, as far as the exporter that traces is concerned
            input_names=list(step.inputs),
            output_names=list(step.outputs),
            dynamic_axes={name: {0: "batch"} for name in (*step.inputs, *step.outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    shape = ",".join(map(str, state.shape[1:]))
    onnx.helper.set_model_props(model, {"state_shape": shape, **dict(about or {})})
    content: bytes = model.SerializeToString()
    if (difference := largest_difference(content, network, space)) > TOLERANCE:
        raise ValueError(f"the file's outputs differ from the student's by {difference:.2g}")
    return content


def largest_difference(content: bytes, network: Any, space: gymnasium.spaces.Dict, count: int = 16) -> float:
    """The largest difference of any output between file and network over several steps, relative to numbers above 1.

    Args:
        content: of the file.
        network: the student's.
        space: of one environment's observations.
        count: observations in a batch.
    """
    import onnxruntime  # noqa: PLC0415

    step = EXPORTED[type(network)](network)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    ours, theirs = network.initial_state(count), network.initial_state(count).numpy()
    worst = 0.0
    for _, observation in zip(range(STEPS), _Example(network, space, step.inputs).observations(count), strict=False):
        actions, value, ours = network.step(observation, ours)
        given = {name: part.numpy() for name, part in observation.items()} | {"state": theirs}
        found: list[NDArray[Any]] = session.run(list(step.outputs), given)
        for mine, other in zip((*step.policy(actions), value, ours), found, strict=True):
            expected = mine.detach().numpy().astype(np.float64)
            worst = max(worst, float((np.abs(expected - other) / np.maximum(1, np.abs(expected))).max()))
        theirs = found[-1]
    return worst
