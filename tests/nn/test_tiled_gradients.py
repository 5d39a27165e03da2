"""Gradients of image layers are worked out in runs of images: many give what one by one give."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np

from aiaas_async.nn import pooling
from aiaas_async.nn.convolution import Conv2d
from aiaas_async.nn.layer import Array, Mode, Need
from aiaas_async.nn.pooling import MaxPool
from tests.nn.graphs import normal

BOTH, INPUTS, PARAMETERS = Need(True, True), Need(True, False), Need(False, True)


def test_both_gradients_of_a_convolution_are_those_worked_out_apart() -> None:
    layer = Conv2d(filters=8, kernel=(3, 2))
    x, weight = normal((40, 14, 14, 4)), normal((3, 2, 4, 8), 1)
    params: list[Array] = [weight, normal((8,), 2)]
    y, saved = layer.forward([x], params, Mode())
    dy = normal(y.shape, 3)
    (dx,), grads = layer.backward(dy, saved, params, BOTH)
    (dx_alone,), _ = layer.backward(dy, saved, params, INPUTS)
    _, grads_alone = layer.backward(dy, saved, params, PARAMETERS)
    assert dx is not None
    assert dx_alone is not None
    np.testing.assert_allclose(dx, dx_alone, rtol=1e-12, atol=1e-12)
    for found, alone in zip(grads, grads_alone, strict=True):
        np.testing.assert_allclose(found, alone, rtol=1e-12, atol=1e-10)


def test_a_max_pool_hands_gradients_back_in_any_runs_of_images() -> None:
    x = np.round(normal((7, 9, 8, 3)))
    for layer in (MaxPool(), MaxPool(kernel=(3, 2), stride=(1, 2), padding="same")):
        y, saved = layer.forward([x], [], Mode())
        dy = normal(y.shape, 4)
        (whole,), _ = layer.backward(dy, saved, [], INPUTS)
        with patch.object(pooling, "GROUP_BYTES", 2 * x[:1].nbytes):
            (parts,), _ = layer.backward(dy, saved, [], INPUTS)
        assert whole is not None
        assert np.array_equal(whole, np.asarray(parts))
