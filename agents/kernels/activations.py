"""tanh and its gradient, several times as fast as torch's on a processor."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from clutr.agents.kernels.products import Floats
from clutr.agents.kernels.vectors import WIDTH, Code, vector_function
from clutr.envs.numba_cache import njit


@vector_function(arrays=2, integers=1)
def _tanh(code: Code, source: Any, target: Any, at: Any) -> None:
    code.store(code.tanh(code.load(source, at)), target, at)


@njit(nogil=True, error_model="numpy")
def tanh(source: Floats, target: Floats) -> None:
    """Fill `target` with the tanh of `source`, to about 1e-7; both flat, of a length that is a multiple of `WIDTH`."""
    for place in range(0, len(source), WIDTH):
        _tanh(source, target, place)


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        tanh(x.detach().contiguous().view(-1).numpy(), result.view(-1).numpy())
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return torch.addcmul(gradients[0], gradients[0], result.square(), value=-1)


class Tanh(nn.Module):
    """`torch.nn.Tanh`, by the compiled function where that applies."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        if x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() % WIDTH == 0:
            result: Tensor = _Tanh.apply(x)
            return result
        return x.tanh()
