"""The format's own package reads what we write, and we read what it writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from safetensors.numpy import load_file, save_file

from aiaas_async.formats.safetensors import map_tensors, write_tensors
from tests.formats.tensors import TENSORS


@given(TENSORS)
@settings(max_examples=50, deadline=None)
def test_both_read_the_same_arrays_from_each_other_s_files(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("t")
    write_tensors(folder / "ours", tensors, {"a": "b"})
    save_file(tensors, folder / "theirs", {"a": "b"})
    theirs, ours = load_file(folder / "ours"), map_tensors(folder / "theirs").tensors
    assert set(theirs) == set(ours) == set(tensors)
    for name, array in tensors.items():
        assert theirs[name].tobytes() == ours[name].tobytes() == array.tobytes()
        assert theirs[name].shape == ours[name].shape == array.shape
