"""What is known of the process's BLAS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from aiaas_async.nn import blas
from aiaas_async.nn.blas import in_panels, takes_as_it_lies
from tests.nn.graphs import normal


@pytest.mark.parametrize(
    ("changes", "does"),
    [
        ({"internal_api": "openblas", "architecture": "SkylakeX"}, True),
        ({"internal_api": "openblas", "architecture": "Haswell"}, False),
        ({"internal_api": "mkl", "architecture": "SkylakeX"}, False),
    ],
)
def test_openblas_with_avx_512_takes_small_products_as_they_lie(
    changes: dict[str, Any], does: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [each | changes for each in threadpool_info() if each["user_api"] == "blas"]
    assert told
    monkeypatch.setattr(blas, "threadpool_info", lambda: told)
    assert takes_as_it_lies.__wrapped__() is does


def test_where_no_blas_is_known_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "threadpool_info", list)
    assert not takes_as_it_lies.__wrapped__()


def test_panels_are_columns_that_lie_together() -> None:
    weight = normal((5, 12))
    found = in_panels(weight, 4)
    assert found.shape == (3, 5, 4)
    assert np.shares_memory(found, weight)
    np.testing.assert_array_equal(np.concatenate(list(found), axis=1), weight)
