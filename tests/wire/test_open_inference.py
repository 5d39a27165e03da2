"""The Open Inference Protocol's bodies: what a request's bytes mean."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import (
    InputError,
    MalformedError,
    NotFoundError,
    RequestError,
    TooLargeError,
)
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.messages import TensorSpec
from aiaas_async.wire import v2head
from aiaas_async.wire.open_inference import Model, read_request
from aiaas_async.wire.unread import Unread, read_texts
from aiaas_async.wire.v2head import MAX_DEPTH, check_structure
from aiaas_async.wire.v2reply import Asked
from aiaas_async.wire.v2tensors import DATATYPES, pack, read_binary


def model(*inputs: TensorSpec, outputs: tuple[str, ...] = ("y", "z")) -> Model:
    known = inputs or (TensorSpec("x", "float32", (2,)),)
    return Model("m", known, tuple(TensorSpec(name, "float32", (2,)) for name in outputs))


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], **more}


def binary(size: int = 8, **more: Any) -> dict[str, Any]:
    return tensor(parameters={"binary_data_size": size}, **more)


def sent(head: dict[str, Any], *parts: bytes) -> tuple[bytes, str]:
    raw = json.dumps(head).encode()
    return raw + b"".join(parts), str(len(raw))


TWO = np.array([1, 2], np.float32).tobytes()


def test_binary_tensors_are_views_on_the_body() -> None:
    body, length = sent({"inputs": [binary()]}, TWO)
    found = read_request(body, length, model()).inputs["x"]
    assert found.tolist() == [[1, 2]]
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("name", NUMPY)
@settings(max_examples=30)  # for each of twelve types
@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), data=st.data())
def test_bytes_come_back_as_they_went(name: str, shape: list[int], data: st.DataObject) -> None:
    dtype = NUMPY[name]
    size = int(np.zeros(shape, np.bool_).size)
    raw = data.draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    if name == "bool":
        raw = bytes(byte % 2 for byte in raw)
    found = read_binary(memoryview(raw), "x", DATATYPES[name], shape, "m")
    assert (found.dtype, list(found.shape)) == (dtype, shape)
    assert bytes(pack(found)) == raw


def refused(body: bytes, length: str | None = None, to: Model | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        read_request(body, length, to or model())
    assert isinstance(caught.value, InputError | MalformedError | NotFoundError)
    return caught.value.message


@pytest.mark.parametrize("given", ["-1", "x", "", "99999", "9" * 30, "1e1", "٣"])
def test_a_header_length_beyond_the_body_is_refused(given: str) -> None:
    body, _ = sent({"inputs": [binary()]}, TWO)
    assert refused(body, given).startswith(
        f"inference header size should be in range (0, {len(body)}), got: {given}"
    )


def test_too_few_and_too_many_bytes_are_refused() -> None:
    body, length = sent({"inputs": [binary()]}, TWO)
    assert refused(body[:-1], length) == (
        "unexpected size for input 'x', expecting 1 additional bytes for model 'm'"
    )
    assert refused(body + b"!", length) == "unexpected additional input data for model 'm'"
    body, length = sent({"inputs": [binary(7)]}, TWO[:7])
    assert refused(body, length) == (
        "input byte size mismatch for input 'x' for model 'm'. Expected 8, got 7"
    )


def test_more_than_a_hundred_levels_are_refused_wherever_they_are() -> None:
    for deep in (MAX_DEPTH, 5000, 200_000):
        body = b'{"inputs":[],"z":' + b"[" * deep + b"]" * deep + b"}"
        assert "JSON nesting depth exceeds" in refused(body)
    check_structure(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    check_structure(b'["' + b"[" * 200 + b'"]')
    check_structure(b"[" + b"[]," * 200 + b"0]")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    ({"inputs": {}}, "Unable to parse 'inputs': attempt to access JSON non-array as array"),
    ({"inputs": [7]}, "Unable to parse 'inputs'"),
    ({"inputs": [{}]}, "Unable to parse 'name'"),
    (
        {"inputs": [tensor(name=7, data=[])]},
        "Unable to parse 'name': attempt to access JSON non-string as string",
    ),
    ({"inputs": [tensor(datatype=7, data=[])]}, "Unable to parse 'datatype'"),
    ({"inputs": [tensor(shape="2", data=[])]}, "Unable to parse 'shape'"),
    ({"inputs": [tensor(shape=[-1, 2], data=[1, 2])]}, "Unable to parse 'shape'"),
    (
        {"inputs": [tensor(shape=[1.5, 2], data=[1, 2])]},
        "Unable to parse 'shape': attempt to access JSON non-signed-integer as signed-integer",
    ),
    ({"inputs": [tensor(shape=[2**70, 2], data=[1])]}, "Unable to parse 'shape'"),
    ({"inputs": [tensor(shape=[2**30] * 9, data=[1])]}, "Unable to parse 'shape'"),
    ({"inputs": [tensor(shape=[1] * 2000, data=[1])]}, "Unable to parse 'shape'"),
    ({"inputs": [tensor(shape=[0, 2], data=[])]}, "inference request batch-size must be >= 1"),
    ({"inputs": [tensor(shape=[2], data=[1, 2])]}, "unexpected shape for input 'x' for model 'm'."),
    ({"inputs": [tensor(shape=[1, 3], data=[1, 2, 3])]}, "unexpected shape for input 'x'"),
    ({"inputs": []}, "expected 1 inputs but got 0 inputs for model 'm'"),
    ({"inputs": [tensor()]}, "Input must set only one of the following fields"),
    ({"inputs": [binary(data=[1])]}, "Input must set only one of the following fields"),
    ({"inputs": [tensor(data=[1, 2])] * 2}, "input 'x' already exists in request"),
    ({"inputs": [tensor(name="q", data=[1, 2])]}, "unexpected inference input 'q' for model 'm'"),
    (
        {"inputs": [tensor(datatype="INT32", data=[1, 2])]},
        "inference input 'x' data-type is 'INT32', but model 'm' expects 'FP32'",
    ),
    ({"inputs": [tensor(datatype="no", data=[1])]}, "inference input 'x' data-type is 'no'"),
    ({"inputs": [tensor(datatype="BF16", data=[1, 2])]}, "receiving BF16 data via JSON is not"),
    ({"inputs": [tensor(data=7)]}, "Unable to parse 'data'"),
    ({"inputs": [tensor(data=None)]}, "Unable to parse 'data'"),
    ({"inputs": [tensor(data=[1, "2"])]}, "Unable to parse 'data'"),
    ({"inputs": [tensor(data=[1, None])]}, "Unable to parse 'data'"),
    ({"inputs": [tensor(data=[[1], 2])]}, "Unable to parse 'data'"),
    ({"inputs": [tensor(data=[1, [2]])]}, "Unable to parse 'data'"),
    ({"inputs": [tensor(data=[[1], "2"])]}, "Unable to parse 'data'"),
    ({"inputs": [tensor(data=[1])]}, "Unable to parse 'data': Shape does not match true shape"),
    ({"inputs": [tensor(data=[1, 2, 3])]}, "Unable to parse 'data': Shape does not match"),
    ({"inputs": [tensor(data=[{}, {}])]}, "Unable to parse 'data'"),
    ({"inputs": [binary(-1)]}, "Unable to parse 'binary_data_size'"),
    ({"inputs": [binary(2**64)]}, "Unable to parse 'binary_data_size'"),
    ({"inputs": [tensor(parameters={"binary_data_size": True})]}, "Unable to parse 'binary_data"),
    ({"inputs": [tensor(parameters=[])]}, "Unable to parse 'parameters'"),
    (
        {"inputs": [tensor(parameters={"shared_memory_region": "r"})]},
        "Unable to find shared memory region: 'r'",
    ),
    ({"inputs": [], "id": 7}, "Unable to parse 'id'"),
    ({"inputs": [], "parameters": {"triton_x": 1}}, "parameter keys starting with 'triton_' are"),
    ({"inputs": [], "parameters": {"x": [1]}}, "parameter 'x' has invalid type"),
    ({"inputs": [], "parameters": {"timeout": -1}}, "Unable to parse 'timeout'"),
    ({"inputs": [], "parameters": {"priority": 1.5}}, "Unable to parse 'priority'"),
    ({"inputs": [], "parameters": {"sequence_start": 1}}, "Unable to parse 'sequence_start'"),
    ({"inputs": [], "parameters": {"sequence_id": -1}}, "Unable to parse 'sequence_id'"),
    ({"inputs": [], "parameters": {"binary_data_output": 1}}, "Unable to parse 'binary_data_out"),
    ({"inputs": [], "outputs": {}}, "Unable to parse 'outputs'"),
]


@pytest.mark.parametrize(("head", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_is_said_in_the_reference_servers_words(
    head: dict[str, Any], said: str
) -> None:
    assert refused(json.dumps(head).encode()).startswith(said)


OUTPUTS: list[tuple[list[Any], str]] = [
    ([{"name": "y"}, {"name": "y"}], "output 'y' already exists in request"),
    ([{"name": "q"}], "unexpected inference output 'q' for model 'm'"),
    ([{"name": "y", "parameters": {"binary_data": 1}}], "Unable to parse 'binary_data'"),
    ([{"name": "y", "parameters": {"classification": -1}}], "Unable to set 'classification'"),
    ([{"name": "y", "parameters": {"shared_memory_region": "r"}}], "Unable to find shared memory"),
    ([{}], "Unable to parse 'name'"),
]


@pytest.mark.parametrize(("outputs", "said"), OUTPUTS)
def test_outputs_that_cannot_be_are_refused(outputs: list[Any], said: str) -> None:
    head = {"inputs": [tensor(data=[1, 2])], "outputs": outputs}
    assert refused(json.dumps(head).encode()).startswith(said)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"inputs":[NaN]}', b"[]", b"null", b'{"inputs":[]}x', b"\0" * 9]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    refused(body)


def test_a_text_that_is_no_text_in_json_is_refused() -> None:
    body = b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,1],"data":["\\ud800"]}]}'
    refused(body, to=model(TensorSpec("x", "string", (1,))))


def test_outputs_go_as_they_were_asked_for_each_or_all() -> None:
    head: dict[str, Any] = {"inputs": [tensor(data=[[1, 2]])]}
    assert read_request(json.dumps(head).encode(), None, model()).outputs == (
        Asked("y"),
        Asked("z"),
    )
    head |= {
        "parameters": {"binary_data_output": True},
        "outputs": [
            {"name": "z", "parameters": {"binary_data": False, "classification": 3}},
            {"name": "y"},
        ],
    }
    assert read_request(json.dumps(head).encode(), None, model()).outputs == (
        Asked("z", binary=False, classes=3),
        Asked("y", binary=True),
    )


def test_json_and_bytes_mix_in_the_order_of_the_inputs() -> None:
    specs = [TensorSpec(name, "float32", (2,)) for name in "abc"]
    head = {"inputs": [binary(name="c"), tensor(name="b", data=[3, 4]), binary(name="a")]}
    body, length = sent(head, TWO, TWO[::-1])
    found = read_request(body, length, model(*specs)).inputs
    assert found["c"].tolist() == [[1, 2]]
    assert found["b"].tolist() == [[3, 4]]
    assert found["a"].tobytes() == TWO[::-1]


def strings(data: bytes, shape: list[int]) -> tuple[bytes, str]:
    size = {"binary_data_size": len(data)}
    one = {"name": "x", "datatype": "BYTES", "shape": shape, "parameters": size}
    return sent({"inputs": [one]}, data)


TEXTS = model(TensorSpec("x", "string", (-1,)))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.just("a\0")))
def test_texts_come_back_as_they_went_or_are_refused(texts: list[str]) -> None:
    data = b"".join(len(raw).to_bytes(4, "little") + raw for raw in map(str.encode, texts))
    binary = strings(data, [1, len(texts)])
    head = {"name": "x", "datatype": "BYTES", "shape": [1, len(texts)], "data": texts}
    for body, length in (binary, (json.dumps({"inputs": [head]}).encode(), None)):
        if any(text.endswith("\0") for text in texts):
            assert "ends in a NUL character" in refused(body, length, TEXTS)
        else:
            assert read_request(body, length, TEXTS).inputs["x"].tolist() == [texts]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\1\0\0\0a", "expected 2 string elements for inference input 'x', got 1"),
        (b"\0\0\0\0" * 3, "unexpected number of string elements 3 for inference input 'x'"),
        (b"\1\0\0\0a\1\0", "incomplete string length indicator for inference input 'x'"),
        (b"\1\0\0\0a\2\0\0\0a", "incomplete string data for inference input 'x'"),
        (b"\1\0\0\0a\xff\xff\xff\xff", "incomplete string data for inference input 'x'"),
        (b"\1\0\0\0a\1\0\0\0\xff", "a string of inference input 'x' is not UTF-8"),
    ],
)
def test_texts_that_do_not_fit_are_refused(data: bytes, said: str) -> None:
    body, length = strings(data, [1, 2])
    assert refused(body, length, TEXTS).startswith(said)


def test_many_texts_beside_a_long_one_are_refused_before_they_take_memory() -> None:
    texts = ["a"] * 100_000 + ["b" * 100_000]
    head = {"name": "x", "datatype": "BYTES", "shape": [1, len(texts)], "data": texts}
    assert "too large together" in refused(json.dumps({"inputs": [head]}).encode(), to=TEXTS)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("UINT64", [2**64]),
        ("INT32", [1.0]),
        ("INT64", ["1"]),
        ("BOOL", [1]),
        ("BYTES", [1]),
        ("FP64", [10**400]),
        ("BYTES", [["a"], "bc"]),
    ],
)
def test_values_beyond_their_datatype_are_refused(datatype: str, data: list[Any]) -> None:
    dtype = {name: ours for ours, name in DATATYPES.items()}[datatype]
    head = {"name": "x", "datatype": datatype, "shape": [len(data)], "data": data}
    body = json.dumps({"inputs": [head]}).encode()
    assert refused(body, to=model(TensorSpec("x", dtype, ()))).startswith("Unable to parse 'data'")


@pytest.mark.parametrize(
    ("spec", "body", "shape"),
    [
        (TensorSpec("x", "float32", (2,)), TWO, [1, 2]),
        (TensorSpec("x", "float32", (-1,)), TWO * 2, [1, 4]),
        (TensorSpec("x", "float32", (-1, 2)), TWO * 3, [1, 3, 2]),
        (TensorSpec("x", "float32", (-1,)), b"", [1, 0]),
        (TensorSpec("x", "string", (1,)), b"", [1, 1]),
        (TensorSpec("x", "string", (-1,)), b"abc", [1, 1]),
    ],
)
def test_the_shape_of_a_raw_body_is_worked_out(
    spec: TensorSpec, body: bytes, shape: list[int]
) -> None:
    found = read_request(body, "0", model(spec))
    assert list(found.inputs["x"].shape) == shape
    assert all(asked.binary for asked in found.outputs)


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ([TensorSpec("x", "float32", (3,))], "input byte size mismatch for input 'x'"),
        ([TensorSpec("x", "float32", (-1, -1))], "The shape of the raw input 'x' can not be"),
        ([TensorSpec("x", "float32", (-1, 3))], "The shape of the raw input 'x' for model 'm'"),
        ([TensorSpec("x", "float32", (-1, 0))], "The shape of the raw input 'x' for model 'm'"),
        ([TensorSpec("x", "string", (2,))], "For BYTES datatype raw input 'x'"),
        ([TensorSpec("x", "float32", ()), TensorSpec("q", "float32", ())], "Raw request must"),
    ],
)
def test_raw_bodies_that_cannot_be_are_refused(specs: list[TensorSpec], said: str) -> None:
    assert refused(TWO, "0", model(*specs)).startswith(said)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def depth_of(value: Any) -> int:
    parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return isinstance(value, list | dict) + max(map(depth_of, parts), default=0)


@given(value=JSON_LIKE, deeper=st.integers(MAX_DEPTH - 8, MAX_DEPTH + 2), text=st.text('[]{}\\"a'))
def test_depth_is_counted_outside_of_texts(value: Any, deeper: int, text: str) -> None:
    body = b"[" * deeper + json.dumps([text, value]).encode() + b"]" * deeper
    if deeper + depth_of([value]) <= MAX_DEPTH:
        check_structure(body)
    else:
        with pytest.raises(MalformedError):
            check_structure(body)


FIELDS = {
    "name": st.just("x") | JSON_LIKE,
    "datatype": st.sampled_from([*DATATYPES.values(), "BF16"]) | JSON_LIKE,
    "shape": st.lists(st.integers(-1, 3), max_size=4) | JSON_LIKE,
    "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20)}) | JSON_LIKE,
    "data": st.lists(st.integers(-1, 300) | st.booleans() | st.text(max_size=2)) | JSON_LIKE,
}


@given(
    one=st.fixed_dictionaries({}, optional=FIELDS),
    more=st.fixed_dictionaries({}, optional={"id": JSON_LIKE, "outputs": JSON_LIKE}),
    rest=st.binary(max_size=20),
    dtype=st.sampled_from(list(DATATYPES)),
    shift=st.integers(-5, 5),
)
def test_whatever_comes_is_read_or_refused_and_nothing_else(
    one: dict[str, Any], more: dict[str, Any], rest: bytes, dtype: str, shift: int
) -> None:
    body, length = sent({"inputs": [one], **more}, rest)
    try:
        found = read_request(body, str(int(length) + shift), model(TensorSpec("x", dtype, (-1,))))
    except RequestError as error:
        said = error.message
        found = None
    assert len(said) < 1000 if found is None else found.inputs["x"].ndim == 2


@given(st.binary(max_size=60), st.text(max_size=4) | st.none())
def test_whatever_bytes_come_are_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(RequestError):
        read_request(body, length, model(TensorSpec("a", "bool", ()), TensorSpec("b", "bool", ())))


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[' + b"{}," * 2000 + b"{}]}",
        b'{"inputs":[],"z":[' + b"[]," * 200_000 + b"0]}",
        b'{"inputs":[],"parameters":{' + b",".join(b'"%d":1' % n for n in range(300)) + b"}}",
    ],
    ids=["objects", "lists", "parameters"],
)
def test_more_parts_than_any_request_has_are_too_large(body: bytes) -> None:
    with pytest.raises(TooLargeError):
        read_request(body, None, model())


def test_braces_in_texts_are_no_objects() -> None:
    texts = ['{"a":[' * 3] * 1000
    head = {"name": "x", "datatype": "BYTES", "shape": [1, 1000], "data": texts}
    found = read_request(json.dumps({"inputs": [head]}).encode(), None, TEXTS)
    assert found.inputs["x"].tolist() == [texts]


def outcome(body: bytes, dtype: str, *, lazily: bool = False) -> Any:
    """What reading `body` gives, arrays as lists with their dtype, or what is said of it."""
    try:
        found = read_request(body, None, model(TensorSpec("x", dtype, (-1,))), lazily=lazily)
        x = found.inputs["x"]
        if isinstance(x, Unread):
            x = settled(x)
    except RequestError as error:
        return type(error), error.message
    return found.id, x.dtype, x.shape, x.tolist()


def settled(left: Unread) -> Any:
    """As a worker reads it, or the slow way where it cannot."""
    spec = TensorSpec("x", "float32", left.shape[1:])
    if left.fits(spec):
        found, unread = read_texts(left.as_bytes[0], left.shape[1:], [(len(left), left.nbytes)])
        if not unread:
            return found
    return left.read()


LEAVES = {
    "whole": st.integers(-300, 300),
    "small": st.integers(0, 100),
    "large": st.integers(-(2**63), 2**64 - 1),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "larger": st.integers(2**64, 2**66),
    "truths": st.booleans(),
    "texts": st.text(max_size=2),
    "nothing": st.none(),
}


def long_values(data: st.DataObject) -> Any:
    """300 leaves of a kind or two, flat or nested, evenly or not."""
    kinds = data.draw(st.lists(st.sampled_from(list(LEAVES)), min_size=1, max_size=2))
    leaves = data.draw(st.lists(st.one_of(*(LEAVES[kind] for kind in kinds)), min_size=1))
    values: Any = (leaves * 300)[:300]
    return data.draw(st.sampled_from([values, [values], [[v] for v in values], [values, [1]]]))


@pytest.mark.parametrize("dtype", DATATYPES)
@given(data=st.data())
def test_a_long_list_means_what_it_does_in_a_short_body(dtype: str, data: st.DataObject) -> None:
    values = long_values(data)
    shape = data.draw(st.sampled_from([[1, 300], [300, 1], [2, 151], [1]]))
    one = {"name": "x", "datatype": DATATYPES[dtype], "shape": shape, "data": values}
    body = json.dumps({"id": "i" * 70_000, "inputs": [one]}).encode()
    long = outcome(body, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(v2head, "take_lists", lambda text, *_, **__: (text, []))
        assert repr(long) == repr(outcome(body, dtype))


@pytest.mark.parametrize("dtype", DATATYPES)
@given(data=st.data())
def test_what_is_left_to_a_worker_means_the_same(dtype: str, data: st.DataObject) -> None:
    values = long_values(data)
    shape = data.draw(st.sampled_from([[1, 300], [300, 1], [2, 151], [10**6, 300], [1]]))
    one = {"name": "x", "datatype": DATATYPES[dtype], "shape": shape, "data": values}
    text = json.dumps({"id": "i" * 5000, "inputs": [one]})
    spoilt = data.draw(st.sampled_from(["]}]", "]] }]", ",]}]", "], [1]}]"]))
    body = text.replace("]}]", spoilt).encode()
    assert repr(outcome(body, dtype, lazily=True)) == repr(outcome(body, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("spoilt", ["]] }]", ",]}]", "] 1}]", "}]"])
def test_what_is_no_json_is_told_as_such_though_it_was_left_to_a_worker(
    dtype: str, spoilt: str
) -> None:
    one = {"name": "x", "datatype": DATATYPES[dtype], "shape": [1, 900], "data": [7] * 900}
    body = json.dumps({"id": "i" * 5000, "inputs": [one]}).replace("]}]", spoilt).encode()
    assert outcome(body, dtype, lazily=True) == outcome(body, dtype)
    assert outcome(body, dtype)[0] is MalformedError


JUNK = "[1,,2" + ", 3" * 900 + "]"
GOOD = "[" + "0.5, " * 899 + "1]"
HIDDEN = {
    "beside the inputs": f'{{"data": {JUNK}, "inputs": [%s, "data": {GOOD}}}]}}',
    "given before": f'{{"inputs": [%s, "data": {JUNK}, "data": {GOOD}}}]}}',
    "too deep": f'{{"data": {"[" * 600}1{"]" * 600}, "inputs": [%s, "data": {GOOD}}}]}}',
}


@pytest.mark.parametrize("where", HIDDEN)
def test_a_bad_list_that_is_no_input_is_told_though_others_are_left(where: str) -> None:
    one = json.dumps({"name": "x", "datatype": "FP32", "shape": [1, 900]})[:-1]
    body = (HIDDEN[where] % one).encode()
    assert outcome(body, "float32", lazily=True) == outcome(body, "float32")
    assert outcome(body, "float32")[0] is MalformedError


@pytest.mark.parametrize("shape", [[1200, -1, -1], [], [-1], [1, -1, -1]])
@pytest.mark.parametrize("lazily", [False, True])
def test_a_shape_that_no_tensor_has_is_refused(shape: list[int], lazily: bool) -> None:
    spec = model(TensorSpec("x", "float32", (-1, -1) if len(shape) == 3 else ()))
    body = json.dumps({"inputs": [tensor(shape=shape, data=[0.5] * 1200)]}).encode()
    with pytest.raises(InputError):
        read_request(body, None, spec, lazily=lazily)


def test_long_lists_of_floats_alone_are_left_to_a_worker() -> None:
    spec = model(TensorSpec("x", "float32", (900,)), TensorSpec("n", "int32", (900,)))
    x = tensor(shape=[1, 900], data=[[0.5] * 900])
    n = {"name": "n", "datatype": "INT32", "shape": [1, 900], "data": [7] * 900}
    body = json.dumps({"inputs": [x, n]}).encode()
    found = read_request(body, None, spec, lazily=True).inputs
    assert isinstance(found["x"], Unread)
    assert found["x"].shape == (1, 900)
    assert found["x"].read().tolist() == [[0.5] * 900]
    assert found["n"].tolist() == [[7] * 900]
    assert not isinstance(read_request(body, None, spec).inputs["x"], Unread)


def test_of_data_given_twice_the_last_is_taken_however_long_they_are() -> None:
    first, last = [[1.0] * 20_000], [[2.0] * 20_000]
    raw = [json.dumps({"data": data})[1:-1] for data in (first, last)]
    rest = json.dumps({"name": "x", "datatype": "FP32", "shape": [1, 20_000]})[:-1]
    body = f'{{"inputs": [{rest}, {", ".join(raw)}}}]}}'.encode()
    assert outcome(body, "float32")[3] == last
