"""A layer graph that cannot be built is refused with the layer, the value and what is possible."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import GraphError
from aiaas_async.nn.graph import MAX_LAYERS, parse_graph, render_graph
from aiaas_async.nn.table import OPS
from tests.nn.graphs import Option, classifier, single, spec


def dense(name: str = "a", **options: Any) -> Option:
    return {"name": name, "op": "dense", "units": 2} | options


def image(layer: Option) -> Option:
    return spec([{"name": "a"} | layer], ["a"], (6, 5, 3))


CLOUDY = {"name": "x", "dtype": "float99", "shape": [4]}
BAD: list[tuple[Any, tuple[str, ...]]] = [
    ("a graph", ("must be an object", "'a graph'")),
    (spec([dense()], ["a"]) | {"layer": []}, ("'layer'", "inputs, layers, outputs")),
    (spec([], ["a"]), ("'layers'", "not empty", "[]")),
    (spec([dense()], []), ("'outputs'", "not empty")),
    (spec([dense()], ["a"]) | {"inputs": [CLOUDY]}, ("x", "float99", "float32")),
    (spec([dense()], ["a"]) | {"inputs": [{"name": "x"}]}, ("'x'", "dtype and shape")),
    (spec([dense()], ["a"], (0,)), ("'x'", "[0]")),
    (spec([dense()], ["a"], (2**20, 2**20)), ("'x'", "1048576")),
    (spec([], ["a"]) | {"layers": ["dense"]}, ("layer 1", "name, op", "'dense'")),
    (spec([dense("")], ["a"]), ("layer 1", "1 to 64", "''")),
    (spec([dense(), dense()], ["a"]), ("layer 2", "'a'", "taken")),
    (spec([dense("x")], ["x"]), ("layer 1", "'x'", "taken")),
    (spec([{"name": "a", "op": "dens", "units": 2}], ["a"]), ("'a'", "'dens'", "mean 'dense'")),
    (spec([{"name": "a", "op": None}], ["a"]), ("'a'", "None", "possible: add, argmax")),
    (spec([dense(unit=3)], ["a"]), ("'a' (dense)", "'unit'", "mean 'units'")),
    (spec([dense(units=0)], ["a"]), ("'a' (dense)", "units must be", "at least 1, got 0")),
    (spec([dense(units="8")], ["a"]), ("'a' (dense)", "units must be a whole number, got '8'")),
    (spec([dense(units=2**31 - 1)], ["a"], (9,)), ("'a' (dense)", "'a.weight'", "[9, 2147483647]")),
    (spec([{"name": "a", "op": "dense"}], ["a"]), ("'a' (dense)", "units is missing")),
    (spec([dense(inputs="x")], ["a"]), ("'a'", "list of names", "'x'")),
    (spec([dense(inputs=["y"])], ["a"]), ("'a'", "'y'", "possible: x")),
    (spec([dense(), dense("b", inputs=["b"])], ["b"]), ("'b'", "above it")),
    (spec([dense(inputs=["x", "x"])], ["a"]), ("'a' (dense)", "1 input", "['x', 'x']")),
    (spec([{"name": "a", "op": "add"}], ["a"]), ("'a' (add)", "two or more", "['x']")),
    (spec([dense()], ["b"]), ("output 'b'", "possible: a")),
    (spec([dense()], ["x"]), ("output 'x'", "not a layer")),
    (spec([dense()], ["a", "a"]), ("outputs repeat", "['a', 'a']")),
    (spec([dense()], []) | {"outputs": [["a"]]}, ("output ['a']",)),
    (
        spec([{"name": "a", "op": "argmax"}, dense("b")], ["b"]),
        ("'b' (dense)", "holds integer"),
    ),
    (spec([dense(), {"name": "b", "op": "add", "inputs": ["a", "x"]}], ["b"]), ("[[2], [4]]",)),
    (spec([{"name": "a", "op": "dropout", "rate": 1.0}], ["a"]), ("'a' (dropout)", "rate", "1.0")),
    (
        spec([{"name": "a", "op": "scale", "factor": float("nan")}], ["a"]),
        ("'a' (scale)", "factor must be finite"),
    ),
    (image({"op": "conv2d", "filters": 2, "kernel": [3]}), ("'a' (conv2d)", "length 2", "[3]")),
    (
        image({"op": "conv2d", "filters": 2, "kernel": [0, 3]}),
        ("kernel[0]", "of at least 1, got 0"),
    ),
    (
        image({"op": "max_pool", "kernel": [1, 9999]}),
        ("'a' (max_pool)", "kernel[1]", "at most 4096", "9999"),
    ),
    (image({"op": "max_pool", "kernel": [7, 2]}), ("'a' (max_pool)", "[7, 2]", "[6, 5]")),
    (
        image({"op": "max_pool", "padding": [[2, 0], [0, 0]]}),
        ("'a' (max_pool)", "less than the kernel [2, 2]", "[2, 0]"),
    ),
    (spec([{"name": "a", "op": "max_pool"}], ["a"]), ("[height, width, channels]", "[4]")),
    (image({"op": "reshape", "shape": [4, 4]}), ("'a' (reshape)", "[6, 5, 3]", "[4, 4]")),
    (image({"op": "transpose", "axes": [0, 1, 1]}), ("'a' (transpose)", "[0, 1, 1]")),
    (image({"op": "normalise", "mean": [0.0, 1.0], "std": [1.0]}), ("mean has 2", "3 channels")),
    (image({"op": "normalise", "mean": [0.0], "std": [0.0]}), ("std must be positive", "[0.0]")),
    (image({"op": "argmax", "labels": ["a"]}), ("1 labels", "3 classes")),
]


@pytest.mark.parametrize(("bad", "said"), BAD)
def test_a_bad_graph_is_refused_in_words_that_help(bad: Any, said: tuple[str, ...]) -> None:
    with pytest.raises(GraphError) as caught:
        parse_graph(bad)
    for words in said:
        assert words in caught.value.message


def test_a_layer_of_open_length_keeps_it() -> None:
    graph = parse_graph(spec([dense()], ["a"], (-1, 4)))
    assert graph.nodes[0].value.shape == (-1, 2)


def test_an_open_length_is_refused_where_parameters_depend_on_it() -> None:
    with pytest.raises(GraphError, match=r"layer 'a' .dense.: the last dimension .* must be known"):
        parse_graph(spec([dense()], ["a"], (-1,)))


def test_integers_need_a_layer_that_takes_them() -> None:
    with pytest.raises(GraphError, match="put a scale layer before it"):
        single("relu", (4,), "uint8")


def test_strings_are_no_input() -> None:
    with pytest.raises(GraphError, match="not strings"):
        single("relu", (4,), "string")


def test_too_many_layers_are_refused() -> None:
    layers = [{"name": f"r{i}", "op": "relu"} for i in range(MAX_LAYERS + 1)]
    with pytest.raises(GraphError, match=f"at most {MAX_LAYERS}"):
        parse_graph(spec(layers, ["r0"]))


def test_a_graph_survives_being_written_as_json() -> None:
    graph = classifier().graph
    written = msgspec.json.encode(render_graph(graph))
    assert parse_graph(msgspec.json.decode(written)) == graph


def test_options_at_their_defaults_and_the_layer_before_are_left_out() -> None:
    layers = [dense(use_bias=True, inputs=["x"]), dense("b", inputs=["x"])]
    rendered = render_graph(parse_graph(spec(layers, ["b"])))
    assert rendered["layers"] == [dense(), dense("b", inputs=["x"])]


numbers = st.integers(-3, 9) | st.sampled_from([4096, 2**31 - 1, 2**31, 2**64]) | st.floats()
scalars = st.none() | st.booleans() | numbers | st.text(max_size=4) | st.sampled_from(["x", "same"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
OPTION_NAMES = sorted({field for op in OPS.values() for field in op.__struct_fields__})
keys = st.sampled_from(["name", "op", "inputs", *OPTION_NAMES])
layers_like = st.fixed_dictionaries(
    {"name": st.sampled_from("abcde") | values, "op": st.sampled_from(sorted(OPS)) | values}
).flatmap(lambda base: st.dictionaries(keys, values, max_size=3).map(lambda more: more | base))


@given(st.lists(layers_like, min_size=1, max_size=4), st.data())
def test_whatever_is_written_as_layers_only_a_graph_error_comes_of_it(
    layers: list[Option], data: st.DataObject
) -> None:
    shape = data.draw(st.sampled_from([(4,), (6, 5, 3), (-1, 4), ()]))
    dtype = data.draw(st.sampled_from(["float32", "int32"]))
    graph = spec(layers, ["a"], shape)
    graph["inputs"][0]["dtype"] = dtype
    _parses_or_refuses(graph)


@given(st.data())
def test_whatever_is_changed_in_a_good_graph_only_a_graph_error_comes_of_it(
    data: st.DataObject,
) -> None:
    graph = classifier().to_spec()
    target: Any = graph
    while isinstance(target, dict | list) and target:
        places = list(target) if isinstance(target, dict) else [*range(len(target))]
        at = data.draw(st.sampled_from(places))
        if not isinstance(target[at], dict | list) or not target[at] or data.draw(st.booleans()):
            target[at] = data.draw(values)
            break
        target = target[at]
    _parses_or_refuses(graph)


@given(values)
def test_whatever_is_given_as_a_graph_only_a_graph_error_comes_of_it(given: Any) -> None:
    _parses_or_refuses(given)


def _parses_or_refuses(given: Any) -> None:
    before = repr(given)
    with contextlib.suppress(GraphError):
        graph = parse_graph(given)
        assert parse_graph(render_graph(graph)) == graph
    assert repr(given) == before
