"""What a request's JSON said once is not read again, and nothing else is taken for it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import RequestError
from aiaas_async.messages import TensorSpec
from aiaas_async.wire import v2form
from aiaas_async.wire.longlists import stand_in
from aiaas_async.wire.open_inference import InferRequest, Model, read_request
from aiaas_async.wire.unread import Unread
from aiaas_async.wire.v2head import decode_head
from aiaas_async.wire.v2left import left_as_it_came

WIDTH = 300  # numbers of an item: its list is long enough to be cut out of JSON


def model() -> Model:
    return Model("m", (TensorSpec("x", "float32", (WIDTH,)),), (TensorSpec("y", "float32", (2,)),))


def head(rows: int, **more: Any) -> bytes:
    size = {"binary_data_size": 4 * WIDTH * rows}
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, WIDTH], "parameters": size}
    return json.dumps({"inputs": [tensor], **more}).encode()


def body(first: float, rows: int = 1) -> bytes:
    return np.arange(first, first + rows * WIDTH, dtype=np.float32).tobytes()


def as_json(first: float, width: int = WIDTH) -> bytes:
    data = [first + i + 0.123456789 for i in range(width)]  # of over 4 KB
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The JSON texts that were decoded."""
    seen: list[bytes] = []

    def decode(text: bytes) -> Any:
        seen.append(text)
        return decode_head(text)

    monkeypatch.setattr("aiaas_async.wire.open_inference.decode_head", decode)
    return seen


def same(one: InferRequest, other: InferRequest) -> bool:
    return (one.outputs, one.terms) == (other.outputs, other.terms)


def test_the_json_of_a_request_is_read_once_and_its_bytes_each_time(decoded: list[bytes]) -> None:
    known, text = model(), head(2, parameters={"binary_data_output": True, "priority": 3})
    first = read_request(text + body(0.0, 2), str(len(text)), known)
    again = read_request(memoryview(text + body(9.0, 2)), str(len(text)), known)
    assert decoded == [text]
    assert same(first, again)
    assert again.terms.priority == 3
    assert again.inputs["x"].shape == (2, WIDTH)
    assert again.inputs["x"].tobytes() == body(9.0, 2)
    assert not again.inputs["x"].flags.writeable


@pytest.mark.parametrize("lazily", [True, False])
def test_long_lists_are_read_each_time(decoded: list[bytes], lazily: bool) -> None:
    known = model()
    found = [read_request(as_json(at), None, known, lazily=lazily) for at in (0.0, 5.0)]
    assert len(decoded) == 1
    for at, one in zip((0.0, 5.0), found, strict=True):
        x = one.inputs["x"]
        values = x.read() if isinstance(x, Unread) else x
        assert values[0, 1] == np.float32(at + 1.123456789)
    assert same(*found)


def test_a_known_request_with_more_or_fewer_bytes_is_refused_as_before() -> None:
    known, text = model(), head(1)
    read_request(text + body(0.0), str(len(text)), known)
    for wrong in (body(0.0)[:-4], body(0.0) + b"1234"):
        with pytest.raises(RequestError) as told:
            read_request(text + wrong, str(len(text)), known)
        with pytest.raises(RequestError) as fresh:
            read_request(text + wrong, str(len(text)), model())
        assert told.value.message == fresh.value.message


def test_a_known_request_with_a_list_of_another_length_is_refused_as_before() -> None:
    known = model()
    read_request(as_json(0.0), None, known)
    with pytest.raises(RequestError) as told:
        read_request(as_json(0.0, WIDTH + 1), None, known)
    with pytest.raises(RequestError) as fresh:
        read_request(as_json(0.0, WIDTH + 1), None, model())
    assert told.value.message == fresh.value.message


def test_who_writes_a_stand_in_gets_no_list_of_another(decoded: list[bytes]) -> None:
    known = model()
    read_request(as_json(0.0), None, known)
    (text,) = decoded
    assert stand_in(0) in text
    with pytest.raises(RequestError):  # two numbers for 300
        read_request(text, None, known)
    assert len(decoded) > 1


def test_numbers_in_the_text_itself_are_not_remembered(decoded: list[bytes]) -> None:
    tiny = Model("m", (TensorSpec("x", "float32", (2,)),), ())
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    text = json.dumps({"inputs": [tensor]}).encode()
    for _ in range(2):
        read_request(text, None, tiny)
    assert len(decoded) == 2


LONG = b"[" + b" " * 5000 + b"3, 4]"
ELSEWHERE = {
    "at the top": b'{"inputs":[{%s,"data":[1,2]}],"data":LIST}',
    "at the top before": b'{"data":LIST,"inputs":[{%s,"data":[1,2]}]}',
    "in parameters": b'{"inputs":[{%s,"parameters":{"data":LIST},"data":[1,2]}]}',
    "twice, the short last": b'{"inputs":[{%s,"data":LIST,"data":[1,2]}]}',
    "twice, the long last": b'{"inputs":[{%s,"data":[1,2],"data":LIST}]}',
    "in an output": b'{"inputs":[{%s,"data":[1,2]}],"outputs":[{"name":"y","data":LIST}]}',
    "in both": b'{"inputs":[{%s,"data":LIST}],"data":LIST}',
}


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize(
    "content", [LONG, b"[" + b"1.5, " * 1500 + b"2]", b"[%s1 2]" % (b" " * 5000)]
)
def test_a_list_that_is_no_inputs_data_is_never_taken_for_it(where: str, content: bytes) -> None:
    def asked() -> Model:
        return Model("m", (TensorSpec("x", "float32", (2,)),), (TensorSpec("y", "float32", (2,)),))

    fields = b'"name":"x","datatype":"FP32","shape":[1,2]'
    known = asked()
    text = (ELSEWHERE[where] % fields).replace(b"LIST", LONG)
    assert told(text, known) == told(text, known) == told(text, asked())
    other = (ELSEWHERE[where] % fields).replace(b"LIST", content)
    assert told(other, known) == told(other, asked())


def told(text: bytes, by: Model) -> object:
    """The numbers of a request, as the server reads them, or why it is refused."""
    try:
        asked = left_as_it_came([text], None, by) or read_request(text, None, by, lazily=True)
        x = asked.inputs["x"]
        return (x.read() if isinstance(x, Unread) else x).tolist()
    except RequestError as error:
        return error.message


def test_a_step_of_a_sequence_is_another_each_time(decoded: list[bytes]) -> None:
    known, text = model(), head(1, parameters={"sequence_id": 7})
    for _ in range(2):
        read_request(text + body(0.0), str(len(text)), known)
    assert decoded == [text, text]


def test_who_looks_is_not_disturbed_by_who_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads keep forms of long bodies: here one does while a list is compared."""
    known = model()
    read_request(as_json(0.0), None, known, lazily=True)
    plain = v2form._is_plain_list

    def keeping(body_: bytes, start: int, end: int) -> bool:
        for number in range(20):
            text = head(1, parameters={"priority": number})
            read_request(text + body(0.0), str(len(text)), known)
        return plain(body_, start, end)

    monkeypatch.setattr(v2form, "_is_plain_list", keeping)
    assert left_as_it_came([as_json(4.0)], None, known) is not None


def test_what_was_refused_is_refused_again(decoded: list[bytes]) -> None:
    known, text = model(), head(1, outputs=[{"name": "unknown"}])
    for _ in range(2):
        with pytest.raises(RequestError):
            read_request(text + body(0.0), str(len(text)), known)
    assert len(decoded) == 2


def test_a_request_with_an_id_is_another_each_time(decoded: list[bytes]) -> None:
    known = model()
    for number in (1, 1, 2):
        text = head(1, id=str(number))
        assert read_request(text + body(0.0), str(len(text)), known).id == str(number)
    assert len(decoded) == 3


def test_only_so_many_are_remembered_and_none_that_is_long(decoded: list[bytes]) -> None:
    known, long = model(), head(1, parameters={"x" * 512: 1})
    texts = [head(1, parameters={"priority": number}) for number in range(50)]
    for text in (*texts, *reversed(texts)):
        read_request(text + body(0.0), str(len(text)), known)
    assert decoded == [*texts, *reversed(texts[:-16])]
    decoded.clear()
    for _ in range(2):
        read_request(long + body(0.0), str(len(long)), known)
    assert decoded == [long, long]


@given(
    st.sampled_from(["BOOL", "BF16", "FP16", "INT8", "UINT64", "FP64", "BYTES"]),
    st.lists(st.binary(max_size=6), min_size=1, max_size=4),
)
def test_every_datatype_is_read_the_second_time_as_the_first(
    datatype: str, texts: list[bytes]
) -> None:
    dtype = {
        "BOOL": "bool",
        "BF16": "float32",
        "FP16": "float16",
        "INT8": "int8",
        "UINT64": "uint64",
        "FP64": "float64",
        "BYTES": "string",
    }[datatype]
    size = {"BOOL": 1, "INT8": 1, "BF16": 2, "FP16": 2}.get(datatype, 8)
    known = Model("m", (TensorSpec("x", dtype, ()),), ())
    if datatype == "BYTES":
        texts = [text.hex().encode() for text in texts]
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    else:
        raw = b"".join((text + bytes(size))[:size] for text in texts)
    tensor: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": [len(texts)]}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    text = json.dumps({"inputs": [tensor]}).encode()
    first = read_request(text + raw, str(len(text)), known).inputs["x"]
    with pytest.MonkeyPatch.context() as patch:  # the second time the JSON is not looked at
        patch.delattr("aiaas_async.wire.open_inference.decode_head")
        again = read_request(text + raw, str(len(text)), known).inputs["x"]
    assert (first.dtype, first.shape) == (again.dtype, again.shape)
    assert first.tobytes() == again.tobytes()
