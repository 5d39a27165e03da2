"""Products in small blocks are the products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.nn import product
from aiaas_async.nn.blas import UNPACKED
from aiaas_async.nn.product import multiplied, panels
from tests.nn.graphs import normal

sizes = st.integers(1, 70)


@given(
    sizes,
    sizes,
    st.integers(1, 40),
    st.integers(1, 8),
    st.sampled_from([50, 2000, UNPACKED]),
    st.booleans(),
)
@settings(deadline=None)
def test_blocks_of_any_size_give_the_whole_product(
    count: int, width: int, depth: int, sixteens: int, unpacked: int, blocks: bool
) -> None:
    x, weight = normal((count, 2 * width, depth)), normal((depth, 16 * sixteens), 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product, "UNPACKED", unpacked)
        patch.setattr(product, "takes_as_it_lies", lambda: blocks)
        apart = panels(weight, count * width)
        for rows in (x[:, :width], x[:, :width].copy()):
            out = np.empty((count, width, 16 * sixteens))
            multiplied(rows, apart, out)()
            np.testing.assert_allclose(out, rows @ weight, atol=1e-9)


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize(
    ("rows", "depth", "filters", "columns"),
    [
        (12544, 16, 96, 96),
        (196, 112, 672, 48),
        (49, 192, 1152, 96),
        (49, 1152, 192, 16),
        (49, 1152, 24, 24),
    ],
)
def test_a_weight_is_cut_where_some_rows_times_all_of_it_are_too_much(
    rows: int,
    depth: int,
    filters: int,
    columns: int,
    blocks: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(product, "takes_as_it_lies", lambda: blocks)
    apart = panels(normal((depth, filters)), rows)
    assert apart.shape == ((filters // columns, depth, columns) if blocks else (1, depth, filters))
