"""What is laid into a frame is seen at the other end, aligned and in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiaas_async.compute.frames import (
    ALIGNMENT,
    Pieces,
    decode_reply,
    decode_request,
    encode,
    lay,
    plan,
    views,
    whole,
)
from aiaas_async.compute.jobs import Done, Infer, Reply, Request, Unload

DTYPES = st.sampled_from(["?", "u1", "<i2", "<f2", "<f4", "<f8", "<i8", ">f4", "<U3", "<U0"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
ARRAYS = st.dictionaries(
    st.text(max_size=8), DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)), max_size=4
)


def laid(pieces: list[Pieces]) -> tuple[Any, bytes]:
    metas, size = plan(pieces)
    body = bytearray(size)
    lay(pieces, metas, memoryview(body))
    return metas, bytes(body)


@given(ARRAYS, st.integers(0, 2**40))
def test_a_request_and_a_reply_carry_any_arrays(arrays: dict[str, Any], number: int) -> None:
    metas, body = laid(whole(arrays))
    request = Request(number, Infer("m", 3, ("y",)), metas)
    reply = Reply(number, Done({"loss": 0.5}, 7), metas)
    for sent, (got, inline) in (
        (request, decode_request(memoryview(encode(request, body)))),
        (reply, decode_reply(bytearray(encode(reply, body)))),
    ):
        assert got == sent
        found = views(got.arrays, inline)
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()


@given(ARRAYS)
def test_every_array_begins_at_a_multiple_of_the_alignment(arrays: dict[str, Any]) -> None:
    metas, body = laid(whole(arrays))
    assert all(meta.offset % ALIGNMENT == 0 for meta in metas)
    datagram = encode(Request(1, Unload("m"), metas), body)
    _, inline = decode_request(memoryview(datagram))
    assert bytes(inline) == body
    assert not body or (len(datagram) - len(inline)) % ALIGNMENT == 0
    assert all(view.flags.aligned for view in views(metas, inline).values())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), DTYPES, st.data())
def test_pieces_come_out_as_one_array_end_to_end(
    rows: list[int], dtype: str, data: st.DataObject
) -> None:
    parts = [data.draw(hnp.arrays(dtype, (count, 2))) for count in rows]
    metas, body = laid([Pieces("x", parts)])
    found = views(metas, body)["x"]
    expected = np.concatenate(parts)
    assert found.shape == expected.shape
    assert found.tolist() == expected.tolist() or np.array_equal(found, expected, equal_nan=True)


def test_texts_of_several_lengths_share_the_longest_type() -> None:
    metas, body = laid([Pieces("t", [np.array(["a"]), np.array(["long", "é"])])])
    assert views(metas, body)["t"].tolist() == ["a", "long", "é"]


def test_a_transposed_array_is_laid_in_order() -> None:
    array = np.arange(6.0).reshape(2, 3).T
    metas, body = laid(whole({"a": array}))
    np.testing.assert_array_equal(views(metas, body)["a"], array)
