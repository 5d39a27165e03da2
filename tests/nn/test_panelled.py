"""Products with weights in panels are those with the weights as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.nn import panelled as module
from aiaas_async.nn.activations import Relu
from aiaas_async.nn.blas import takes_as_it_lies
from aiaas_async.nn.layer import Array
from aiaas_async.nn.panelled import ROWS, WIDTHS, as_panels, fits, times
from aiaas_async.nn.team import Team
from tests.nn.graphs import normal

TWO = Team(2)


def drawn(shape: tuple[int, ...], seed: int = 7) -> Array:
    return normal(shape, seed).astype(np.float32)


@given(
    st.sampled_from([1, 7, 64, 784, 1024, 1028, 4096]),
    st.sampled_from([32, 64, 96, 144, 40, 1000, 16]),
    st.sampled_from([0, 1, 2, 3, 4, 31, 32, 33, 37, 64, 65, 200]),
    st.sampled_from([1, 2**12, 2**18]),
    st.sampled_from([0, 10**9]),
)
@settings(deadline=None, max_examples=60)
def test_any_shape_in_any_blocks(
    depth: int, columns: int, rows: int, together: int, shared: int
) -> None:
    x, weight = drawn((rows, depth)), drawn((depth, columns), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TOGETHER", together)
        patch.setattr(module, "SHARED", shared)
        patch.setattr(module, "TEAM", TWO)
        found = times(x, as_panels(weight).copy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x @ weight, rtol=1e-4, atol=1e-4 * depth**0.5)


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("shared", [0, 10**9])
def test_bias_and_activation_are_applied_to_all_columns(
    rows: int, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARED", shared)
    monkeypatch.setattr(module, "TEAM", TWO)
    x, weight, bias = drawn((rows, 256)), drawn((256, 96), 1), 10 * drawn((96,), 2)
    panels = as_panels(weight).copy()
    plain = times(x, panels)
    np.testing.assert_array_equal(times(x, panels, bias), plain + bias)
    np.testing.assert_array_equal(times(x, panels, bias, Relu().apply), np.maximum(plain + bias, 0))


@pytest.mark.skipif(not takes_as_it_lies(), reason="where BLAS copies, nothing is laid out")
@pytest.mark.parametrize("shape", [(4096, 64), (1000, 96), (3072, 40), (784, 64)])
def test_a_row_s_bits_depend_neither_on_its_company_nor_on_the_threads(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARED", 0)
    x, weight = drawn((3 * ROWS, shape[0])), as_panels(drawn(shape, 1)).copy()
    whole, lone = times(x, weight), times(x[:1], weight)
    for threads in (1, 2, 3):
        monkeypatch.setattr(module, "TEAM", Team(threads))
        np.testing.assert_array_equal(times(x[:1], weight), lone)
        for rows in (2, 3, 7, 8, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 1):
            np.testing.assert_array_equal(times(x[:rows], weight), whole[:rows])


def test_leading_dimensions_stay_and_rows_may_lie_apart() -> None:
    weight = drawn((256, 64), 1)
    x = drawn((2, 3, 512))[..., ::2]
    found = times(x, as_panels(weight).copy())
    assert found.shape == (2, 3, 64)
    np.testing.assert_allclose(found, x @ weight, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "width"),
    [
        ((4096, 4096), 32),
        ((512, 512), 32),
        ((784, 1024), 32),
        ((4096, 1000), 40),
        ((1280, 1200), 48),
        ((4096, 1040), 40),
        ((784, 256), None),  # small
        ((4096, 1001), None),  # of no width
        ((4099, 4096), None),  # a prime: its blocks would be one number deep
        ((96, 32000), None),  # shallower than a block should be
    ],
)
def test_which_weights_fit(shape: tuple[int, int], width: int | None) -> None:
    assert fits(shape) is (width is not None)
    if width is not None:
        assert as_panels(np.empty(shape, np.float32)).shape[2] == width
        assert width in WIDTHS
