"""Products with weights in panels are those with the weights as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from aiaas_async.nn import panelled as module
from aiaas_async.nn.panelled import fits, in_panels, pays, times
from aiaas_async.nn.team import Team
from tests.nn.graphs import normal


@given(
    st.sampled_from([1, 7, 64, 784, 1024, 1028, 4096]),
    st.integers(1, 4),
    st.sampled_from([0, 1, 2, 3, 4, 31, 32, 33, 37, 64, 65, 200]),
    st.sampled_from([1, 2**12, 2**18]),
    st.sampled_from([0, 10**9]),
)
@settings(deadline=None, max_examples=60)
def test_any_shape_in_any_blocks(
    depth: int, panels: int, rows: int, together: int, shared: int
) -> None:
    x, weight = normal((rows, depth)), normal((depth, 32 * panels), 1)
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TOGETHER", together)
        patch.setattr(module, "SHARED", shared)
        patch.setattr(module, "TEAM", Team(2))
        found = times(x, in_panels(weight).copy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x @ weight, rtol=1e-4, atol=1e-4 * depth**0.5)


def test_leading_dimensions_stay_and_strided_rows_are_read_where_they_are() -> None:
    weight = normal((256, 64), 1).astype(np.float32)
    x = normal((2, 3, 512)).astype(np.float32)[..., ::2]
    found = times(x, in_panels(weight).copy())
    assert found.shape == (2, 3, 64)
    np.testing.assert_allclose(found, x @ weight, rtol=1e-4, atol=1e-3)


def test_a_weight_in_panels_holds_the_same_numbers() -> None:
    weight = normal((5, 64)).astype(np.float32)
    found = in_panels(weight).copy()
    assert found.shape == (2, 5, 32)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(np.concatenate(list(found), axis=1), weight)


@pytest.mark.parametrize(
    ("shape", "does"),
    [
        ((4096, 4096), True),
        ((512, 512), True),
        ((784, 256), False),  # small
        ((4096, 1000), False),  # 31.25 panels
        ((4099, 4096), False),  # a prime: its blocks would be one number deep
        ((96, 32000), False),  # shallower than a block should be
        ((784, 1024), True),
    ],
)
def test_which_weights_fit(shape: tuple[int, int], does: bool) -> None:
    assert fits(shape) is does


def test_it_pays_where_openblas_has_kernels_for_avx_512(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [each for each in threadpool_info() if each["user_api"] == "blas"]
    assert found
    for name, does in (("SkylakeX", True), ("Haswell", False), ("Zen", False)):
        told = [each | {"architecture": name, "internal_api": "openblas"} for each in found]
        monkeypatch.setattr(module, "threadpool_info", lambda told=told: told)
        assert pays.__wrapped__() is does
    monkeypatch.setattr(module, "threadpool_info", list)
    assert pays.__wrapped__() is False
