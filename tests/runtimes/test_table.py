"""Runtimes by name."""

from __future__ import annotations

import pytest

from aiaas_async.errors import InvalidError
from aiaas_async.runtimes.layers import LayersRuntime
from aiaas_async.runtimes.table import Runtimes


def test_numpy_is_the_layers_runtime_made_once() -> None:
    runtimes = Runtimes()
    assert isinstance(runtimes["numpy"], LayersRuntime)
    assert runtimes["numpy"] is runtimes["numpy"]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidError, match="'numpi' is not known: numpy, onnx; did you mean"):
        Runtimes()["numpi"]
