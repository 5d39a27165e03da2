"""Which codec a request gets, and what the codecs do at their edges."""

from __future__ import annotations

import numpy as np
import pytest

from aiaas_async.errors import MalformedError, TooLargeError, UnsupportedMediaError
from aiaas_async.wire.codecs import JSON, MSGPACK, Codec, codec_for, decode_json, reply_codec
from aiaas_async.wire.tensors import unpack_tensor


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("Application/MsgPack", MSGPACK),
        ("application/x-msgpack", MSGPACK),
    ],
)
def test_content_type_chooses_the_codec(content_type: str, codec: Codec) -> None:
    assert codec_for(content_type) is codec


@pytest.mark.parametrize("content_type", [None, "", "text/html", "application/octet-stream"])
def test_other_content_types_are_refused(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaError, match="application/msgpack"):
        codec_for(content_type)


@pytest.mark.parametrize(
    ("accept", "codec"),
    [
        (None, MSGPACK),
        ("*/*", MSGPACK),
        ("application/json", JSON),
        ("application/json;q=0.5, application/msgpack", MSGPACK),
        ("application/json, application/msgpack;q=0.5", JSON),
        ("text/html, application/json;q=0.2", JSON),
        ("text/html", MSGPACK),
        ("application/json;q=nonsense", MSGPACK),
    ],
)
def test_accept_chooses_the_reply_else_the_request_does(accept: str | None, codec: Codec) -> None:
    assert reply_codec(accept, MSGPACK) is codec


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1,]", b"NaN", b'{"a": Infinity}', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_json(body)


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_a_body_that_is_empty_is_called_so(body: bytes) -> None:
    with pytest.raises(MalformedError, match="the body is empty"):
        decode_json(body)


def test_json_with_too_many_containers_is_refused_before_they_are_built() -> None:
    with pytest.raises(TooLargeError, match=r"500000 .* use MessagePack, with arrays as"):
        decode_json(b"[" + b"[]," * 500_000 + b"[]]")


def test_arrays_go_out_as_lists_in_json_and_as_tensors_in_msgpack() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert JSON.decode(JSON.encode({"x": array})) == {"x": array.tolist()}
    tensor = MSGPACK.decode(MSGPACK.encode({"x": array}))["x"]
    assert np.array_equal(unpack_tensor(tensor, "x"), array)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_numpy_scalars_and_texts_go_out_as_plain_values(codec: Codec) -> None:
    value = {"label": np.int64(7), "score": np.float32(0.5), "name": np.array(["a"])[0]}
    assert codec.decode(codec.encode(value)) == {"label": 7, "score": 0.5, "name": "a"}


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_strings_go_out_as_nested_lists(codec: Codec) -> None:
    assert codec.decode(codec.encode(np.array([["a"], ["bc"]]))) == [["a"], ["bc"]]
