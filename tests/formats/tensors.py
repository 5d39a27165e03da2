"""Tensors of any dtype and shape, for the tests of this folder."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

_DTYPES = ("?", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8")
_LETTERS = st.characters(codec="utf-8", exclude_categories=("C", "Z"))

TENSORS = st.dictionaries(
    st.text(_LETTERS, min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    st.sampled_from(_DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
    ),
    max_size=5,
)
