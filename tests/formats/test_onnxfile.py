"""No file name in an ONNX model escapes the walk, wherever it hides and however it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, SparseTensorProto, TensorProto, TrainingInfoProto, helper

from aiaas_async.errors import ArtifactError
from aiaas_async.formats.onnxfile import INSIDE, OnnxFile, read_onnx
from tests.runtimes.onnxmodels import linear_with_bias_in, model, stored, value, weight_in

# What the walk calls the messages of onnx.proto.
NAMES = {
    "model": "ModelProto",
    "main graph": "GraphProto",
    "graph": "GraphProto",
    "training": "TrainingInfoProto",
    "function": "FunctionProto",
    "node": "NodeProto",
    "attribute": "AttributeProto",
    "sparse": "SparseTensorProto",
    "weight": "TensorProto",
    "tensor": "TensorProto",
    "pair": "StringStringEntryProto",
    "hidden pair": "StringStringEntryProto",
    "input": "ValueInfoProto",
    "output": "ValueInfoProto",
    "weight name": "",
}
EXTERNAL_DATA = 13


def read(folder: Path, data: bytes) -> OnnxFile:
    return read_onnx(stored(folder, data), "model.onnx")


def messages_in(message: Any) -> Iterator[Any]:
    """`message` and every message in it."""
    yield message
    for field, content in message.ListFields():
        if field.message_type is not None:
            for each in [content] if hasattr(content, "ListFields") else content:
                yield from messages_in(each)


def locations_in(parsed: ModelProto) -> set[str]:
    return {
        entry.value
        for tensor in messages_in(parsed)
        if isinstance(tensor, TensorProto)
        for entry in tensor.external_data
        if entry.key == "location"
    }


def hiding_places() -> dict[str, ModelProto]:
    """Models with a file name in every place that can hold a tensor."""
    hidden = weight_in("hidden.bin")
    sparse = SparseTensorProto(values=hidden, dims=[2])
    branch = helper.make_graph([], "branch", [], [], [hidden])
    places: dict[str, ModelProto] = {
        "tensor": _with_attribute(t=hidden),
        "tensors": _with_attribute(tensors=[hidden]),
        "branch": _with_attribute(g=branch),
        "branches": _with_attribute(graphs=[branch]),
        "sparse": _with_attribute(sparse_tensor=sparse),
        "sparse ones": _with_attribute(sparse_tensors=[sparse]),
    }
    places["indices"] = model([], [value("x")], [value("y")])
    indices = SparseTensorProto(indices=hidden, dims=[2])
    places["indices"].graph.sparse_initializer.append(indices)
    places["training"] = model([], [value("x")], [value("y")])
    places["training"].training_info.append(TrainingInfoProto(algorithm=branch))
    places["function"] = model([], [value("x")], [value("y")])
    constant = helper.make_node("Constant", [], ["k"], value=hidden)
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("d", "f", [], ["k"], [constant], opsets)
    places["function"].functions.append(function)
    return places


def _with_attribute(**content: Any) -> ModelProto:
    made = model([helper.make_node("Any", ["x"], ["y"])], [value("x")], [value("y")])
    made.graph.node[0].attribute.add(name="a", **content)
    return made


def test_the_walk_goes_wherever_onnx_proto_can_hold_a_tensor() -> None:
    start: Any = ModelProto.DESCRIPTOR
    known = {start.name: start}
    waiting = [start]
    while waiting:
        for field in waiting.pop().fields:
            inner = field.message_type
            if inner is not None and inner.name not in known:
                known[inner.name] = inner
                waiting.append(inner)
    holders = {"TensorProto"}
    while more := {
        name
        for name, each in known.items()
        if name not in holders
        and any(f.message_type is not None and f.message_type.name in holders for f in each.fields)
    }:
        holders |= more
    for ours, fields in INSIDE.items():
        theirs = known[NAMES[ours]]
        held = {
            f.number: f.message_type.name
            for f in theirs.fields
            if f.message_type is not None and f.message_type.name in holders
        }
        if theirs.name == "TensorProto":
            held = {EXTERNAL_DATA: "StringStringEntryProto"}
        walked = {number: NAMES[inner] for number, inner in fields.items()}
        assert {n: t for n, t in walked.items() if t not in ("ValueInfoProto", "")} == held, ours


@pytest.mark.parametrize("place", hiding_places())
def test_a_file_name_outside_the_main_weights_is_refused(tmp_path: Path, place: str) -> None:
    data = hiding_places()[place].SerializeToString()
    assert b"hidden.bin" in data
    with pytest.raises(ArtifactError, match=r"a tensor refers to 'hidden\.bin'"):
        read(tmp_path, data)


def test_the_main_weights_files_and_the_shapeless_values_are_named(tmp_path: Path) -> None:
    made = linear_with_bias_in("a/b.bin")
    made.graph.initializer.append(weight_in("c.bin", "c"))
    made.graph.output.append(value("open", shape=None))
    data = made.SerializeToString()
    assert read(tmp_path, data) == OnnxFile(
        len(data),
        frozenset({"a/b.bin", "c.bin"}),
        frozenset({"open"}),
        ("x",),
        ("label", "y", "open"),
    )


def _length(count: int) -> bytes:
    return bytes([count])


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _length(len(content)) + content


def _model_around(pair: bytes) -> bytes:
    """A model with one weight that has this entry of external data."""
    return _field(7, _field(5, _field(13, pair)))


@pytest.mark.parametrize(
    "pair",
    [
        _field(1, b"location") + _field(2, b"b"),
        _field(2, b"b") + _field(1, b"location"),
        _field(1, b"x") + _field(1, b"location") + _field(2, b"a") + _field(2, b"b"),
        b"\x8a\x80\x00\x88\x00location" + _field(2, b"b"),  # numbers longer than need be
        _field(1, b"location") + b"\x18\x07" + _field(2, b"b"),  # an unknown number between
        _field(1, b"location") + b"\x1d1234\x191234567\x20" + _field(2, b"b"),
    ],
)
def test_however_an_entry_is_written_it_is_read(tmp_path: Path, pair: bytes) -> None:
    data = _model_around(pair)
    assert locations_in(ModelProto.FromString(data)) == {"b"}
    assert read(tmp_path, data).locations == {"b"}


def test_a_graph_given_in_two_pieces_is_read_whole(tmp_path: Path) -> None:
    data = _model_around(_field(1, b"location") + _field(2, b"a"))
    data += _model_around(_field(1, b"location") + _field(2, b"b"))
    assert read(tmp_path, data).locations == {"a", "b"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\x08", "ends within a number"),
        (b"\x08" + b"\xff" * 11, "more than ten bytes"),
        (b"\x3a\x05abc", "5 bytes announced, 3 there"),
        (b"\x3a\x02\x2d\x01", "ends within a field"),
        (b"\x0d123", "ends within a field"),
        (b"\x3a\x02\x2a\x05" + b"\x12\x05hello", "5 bytes announced, 0 there"),  # in a graph
        (b"\x3a\x02\x2d\x01" + b"\x12\x05hello", "ends within a field"),
        (b"\x00\x00", "no field has tag 0"),
        (b"\xf8\xff\xff\xff\x7f\x01", "no field has tag"),
        (b"\x0b\x0c", "a field of kind 3"),
        (_model_around(_field(1, b"location") + _field(2, b"\xff")), "damaged"),
        (b"PK\x03\x04", "not an ONNX file"),
    ],
)
def test_what_is_no_model_is_said_to_be_damaged(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        read(tmp_path, data)


def test_a_type_given_in_two_pieces_keeps_the_shape_of_the_first(tmp_path: Path) -> None:
    shaped, bare = (value("x", shape=shape).type.SerializeToString() for shape in (["N"], None))
    for types, shapeless in (([shaped, bare], set()), ([bare, bare], {"x"})):
        declared = _field(1, b"x") + b"".join(_field(2, each) for each in types)
        assert read(tmp_path, _field(7, _field(11, declared))).shapeless == shapeless


def test_depth_costs_no_stack(tmp_path: Path) -> None:
    data = b""
    for _ in range(3000):  # an attribute that is a graph with a node with an attribute …
        for number in (6, 5, 1):
            size = len(data)
            length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
            data = bytes([number << 3 | 2]) + length + data
    data = (
        b"\x3a"
        + bytes([len(data) & 0x7F | 0x80, len(data) >> 7 & 0x7F | 0x80, len(data) >> 14])
        + data
    )
    assert read(tmp_path, data).locations == frozenset()


SEEDS = [
    *(each.SerializeToString() for each in hiding_places().values()),
    *[linear_with_bias_in("b.bin", offset="0", length="8").SerializeToString()] * 20,
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                data[at] = draw(st.integers(0, 255))
            case 1:
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
            case 2 if len(data) > 8:
                del data[at : at + draw(st.integers(1, 4))]
            case _:
                data[at:at] = data[at : at + 24]
    return bytes(data)


@example(SEEDS[0])
@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=damaged())
def test_what_protobuf_finds_in_damaged_models_the_walk_finds_or_refuses(
    tmp_path: Path, data: bytes
) -> None:
    try:
        found = read(tmp_path, data).locations
    except ArtifactError:
        return
    try:
        theirs = locations_in(ModelProto.FromString(data))
    except (DecodeError, UnicodeDecodeError):
        return  # onnxruntime refuses it as well
    assert theirs <= found
