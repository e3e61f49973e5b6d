"""Latent grids on a decoder whose latents are known: one moves a bar, one the brightness, one nothing."""

import pytest
import torch
from torch import Tensor

from clutr.probes.latent_traversals import best_matches, latent_traversals, monotonicity, traverse


def decode(codes: Tensor) -> Tensor:
    """Latent 0 lights four pixels, latent 1 the whole picture, latent 2 nothing."""
    pictures = torch.zeros(len(codes), 8, 8, 3)
    pictures[:, 2:4, 2:4] += codes[:, 0, None, None, None]
    return pictures + 0.1 * codes[:, 1, None, None, None]


CODE = torch.tensor([0.5, 0.0, 9.0])


def test_a_sweep_by_hand() -> None:
    found = traverse(decode, CODE, 0, spread=0.1)
    torch.testing.assert_close(found.values, 0.5 + 0.1 * torch.arange(-3.0, 4.0))
    assert found.pictures.shape == (7, 8, 8, 3)
    assert float(found.difference[2, 3]) == pytest.approx(0.6)
    assert float(found.difference[5, 5]) == 0
    assert found.area == pytest.approx(4)
    assert found.energy == pytest.approx(0.01 * 4 * 4 / 64)
    assert traverse(decode, CODE, 1, 1.0).area == pytest.approx(64)
    assert traverse(decode, CODE, 1, 1.0).frequency == pytest.approx(0, abs=1e-6)
    passive = traverse(decode, CODE, 2, 1.0)
    assert (passive.energy, passive.area) == (0.0, 0.0)


def test_a_grid_begins_with_what_tells_most() -> None:
    grid = latent_traversals(decode, CODE, torch.ones(3), torch.tensor([0.2, 3.0, 0.0]), most=2)
    assert [each.latent for each in grid] == [1, 0]


def test_matches_with_the_true_state() -> None:
    rng = torch.Generator().manual_seed(1)
    latents = torch.randn(400, 3, generator=rng)
    latents[:, 2] = 7.0
    privileged_state = torch.stack([torch.randn(400, generator=rng), latents[:, 0] ** 3, -latents[:, 1]], 1)
    found = best_matches(latents, privileged_state, ("noise", "speed", "offset"))
    assert [match.quantity for match in found[:2]] == ["speed", "offset"]
    assert 0.7 < found[0].correlation < 0.9
    assert found[0].monotonicity == pytest.approx(1)
    assert [found[1].correlation, found[1].monotonicity] == pytest.approx([-1, -1])
    assert (found[2].correlation, found[2].monotonicity) == (0.0, 0.0)


def test_quantities_that_follow_a_sweep() -> None:
    """Encoding reads the bar back; one quantity rises with it, one falls, one is never moved by it."""

    def encode(pictures: Tensor) -> Tensor:
        return pictures[:, 2, 2, :1]

    def read(codes: Tensor) -> Tensor:
        return torch.cat([codes**3, -codes, 0 * codes], 1)

    assert monotonicity(traverse(decode, CODE, 0, 0.1), encode, read).tolist() == pytest.approx([1, -1, 0])
    assert monotonicity(traverse(decode, CODE, 2, 0.1), encode, read).tolist() == [0, 0, 0]
