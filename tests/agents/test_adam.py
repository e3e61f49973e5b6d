"""The optimiser: torch's numbers and checkpoints. That its compiler stays away is in `test_fresh_process.py`."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from clutr.agents.adam import Adam


def _steps(network: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
    for step in range(count):
        optimiser.zero_grad()
        network(torch.arange(5.0) + step).square().sum().backward()
        optimiser.step()


def _networks() -> tuple[nn.Module, nn.Module]:
    ours, theirs = (nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize(
    ("theirs", "options"),
    [
        (torch.optim.Adam, {"lr": 0.01, "fused": True}),
        (torch.optim.Adam, {"lr": 0.01, "eps": 1e-5, "weight_decay": 0.1}),
        (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
        (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    ],
)
def test_torchs_numbers_and_checkpoints(theirs: Any, options: dict[str, Any]) -> None:
    own, other = _networks()
    decoupled: Any = {"decoupled_weight_decay": True} if theirs is torch.optim.AdamW else {}
    ours, reference = Adam(own.parameters(), **options, **decoupled), theirs(other.parameters(), **options)
    _steps(own, ours, 3)
    _steps(other, reference, 3)
    assert str(ours.state_dict()) == str(reference.state_dict())  # as checkpoints have it
    swapped = Adam(own.parameters(), **options, **decoupled)
    swapped.load_state_dict(deepcopy(reference.state_dict()))  # whose tensors would be shared
    _steps(own, swapped, 3)
    _steps(other, reference, 3)
    for parameter, expected in zip(own.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, expected)


def test_a_closure_is_evaluated_with_gradients() -> None:
    own, other = _networks()
    for network, optimiser in ((own, Adam(own.parameters())), (other, torch.optim.Adam(other.parameters()))):

        def loss(network: nn.Module = network) -> torch.Tensor:
            value: torch.Tensor = network(torch.ones(5)).square().sum()
            value.backward()
            return value

        assert optimiser.step(loss).requires_grad
    for parameter, expected in zip(own.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, expected)
