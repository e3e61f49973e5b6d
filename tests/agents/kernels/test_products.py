"""Compiled products, squashing functions and the search for equal rows, against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clutr.agents.kernels.activations import Tanh
from clutr.agents.kernels.distinct import distinct_rows
from clutr.agents.kernels.products import PANEL, add_product, pack


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 20),
    inner=st.integers(1, 600),
    panels=st.integers(1, 3),
    gap=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
def test_products_equal_numpys(rows: int, inner: int, panels: int, gap: int, seed: int) -> None:
    """Also of rows that lie apart in memory, whose neighbours stay as they are."""
    rng = np.random.default_rng(seed)
    out = panels * PANEL
    weight = rng.standard_normal((out, inner), np.float32)
    left = rng.standard_normal((rows, inner + gap), np.float32)
    result = rng.standard_normal((rows, out + gap), np.float32)
    expected = result.astype(np.float64)
    expected[:, gap:] += left[:, gap:].astype(np.float64) @ weight.T
    packed = pack(torch.from_numpy(weight)).numpy()
    add_product(result.reshape(-1), gap, out + gap, left.reshape(-1), gap, inner + gap, rows, packed)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-4)
    np.testing.assert_array_equal(result[:, :gap], expected[:, :gap])


def test_a_row_of_a_product_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(0)
    packed = pack(torch.from_numpy(rng.standard_normal((32, 70), np.float32))).numpy()
    left = rng.standard_normal((13, 70), np.float32)
    together = np.zeros((13, 32), np.float32)
    add_product(together.reshape(-1), 0, 32, left.reshape(-1), 0, 70, 13, packed)
    for row in range(13):
        alone = np.zeros(32, np.float32)
        add_product(alone, 0, 32, left.reshape(-1), row * 70, 70, 1, packed)
        np.testing.assert_array_equal(alone, together[row])


def test_weights_of_uneven_size_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of the matrix must be a multiple of 16, got 17"):
        pack(torch.zeros(17, 4))


def test_tanh_and_its_gradient() -> None:
    extremes = torch.tensor([0.0, 1e-6, -1e-6, 3e38, -3e38, torch.inf, -torch.inf])
    x = torch.cat([torch.linspace(-100, 100, 4001), extremes]).requires_grad_()
    assert x.numel() % 16 == 8
    padded = torch.cat([x, torch.zeros(8)])
    ours = Tanh()(padded)[: len(x)]
    torch.testing.assert_close(ours, x.tanh(), rtol=0, atol=2.5e-7)
    (mine,), (theirs,) = (torch.autograd.grad(y.sum(), x) for y in (ours, x.tanh()))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=5e-7)
    assert Tanh()(torch.full((16,), torch.nan)).isnan().all()


@pytest.mark.parametrize("shape", [(3,), (16,)])
def test_tanh_of_any_length_and_precision(shape: tuple[int, ...]) -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(shape, dtype=dtype)
        torch.testing.assert_close(Tanh()(x), x.tanh(), rtol=0, atol=2.5e-7)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=3, max_size=3), max_size=60))
def test_distinct_rows_in_the_order_in_which_they_come(rows: list[bytes]) -> None:
    array: NDArray[np.uint8] = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 3)
    first, number = distinct_rows(array)
    distinct = list(dict.fromkeys(rows))
    assert [rows[row] for row in first] == distinct
    assert [distinct[each] for each in number] == rows
