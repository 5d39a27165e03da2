"""`generate` of the Open Inference Protocol: the fields of a JSON object become a model's inputs.

What is named as an input is its value, or a list of its values; `parameters` may hold more of
them. Whatever else is there is a parameter, which must be plain and which no model sees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aiaas_async.errors import InputError, MalformedError, TooLargeError
from aiaas_async.messages import TensorSpec
from aiaas_async.names import clip
from aiaas_async.wire.numerals import decode
from aiaas_async.wire.open_inference import Model, check_complete
from aiaas_async.wire.v2head import check_structure
from aiaas_async.wire.v2parameters import MAX_PARAMETERS, Terms, read_parameters
from aiaas_async.wire.v2reply import NO_LISTS, Asked, long_lists
from aiaas_async.wire.v2tensors import DATATYPES, Array, check_shape, from_values, to_json

_PARAMETERS: Final = "parameters"
_ID: Final = "id"
_UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)


class _Fields(list[tuple[str, Any]]):
    """An object as it was written: names may repeat."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """`inputs` lead with the batch dimension."""

    id: str
    inputs: dict[str, Array]
    terms: Terms


def read_generate(body: bytes, model: Model) -> GenerateRequest:
    """Raises `InputError`, `MalformedError`, `TooLargeError` in the reference server's words."""
    fields = _fields(body)
    inputs: dict[str, Array] = {}
    plain: dict[str, Any] = {}
    request_id = ""
    for name, value in fields:
        if name == _ID and name not in model.specs:
            request_id = _text(value)
        elif name == _PARAMETERS:
            if not isinstance(value, _Fields):
                raise InputError(f"Expected JSON object for keyword: '{_PARAMETERS}'")
            for inner, given in value:
                _take(inner, given, model, inputs, plain)
        else:
            _take(name, value, model, inputs, plain)
    check_complete(inputs, model)
    return GenerateRequest(request_id, inputs, read_parameters(plain))


def _fields(body: bytes) -> _Fields:
    check_structure(body)
    try:
        decode(body)  # refuses what `json.loads` lets pass: half characters, NaN, infinity
        found = json.loads(body, object_pairs_hook=_Fields)
    except _UNREADABLE as error:
        reason = clip(str(error), 200)
        raise MalformedError(f"failed to parse the request JSON buffer: {reason}") from None
    if not isinstance(found, _Fields):
        raise MalformedError("attempt to access JSON non-object as object")
    if len(found) > MAX_PARAMETERS:
        raise TooLargeError(f"{len(found)} fields, at most {MAX_PARAMETERS} are allowed")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError("Unable to parse 'id': attempt to access JSON non-string as string")
    return value


def _take(
    name: str, value: Any, model: Model, inputs: dict[str, Array], plain: dict[str, Any]
) -> None:
    """One field: an input, or a parameter."""
    spec = model.specs.get(name)
    if spec is None:
        plain[name] = value
        return
    if name in inputs:
        raise InputError(f"input '{name}' already exists in request")
    values = value if type(value) is list else [value]
    inputs[name] = from_values(values, name, DATATYPES[spec.dtype or ""], _shape(spec, len(values)))


def _shape(spec: TensorSpec, count: int) -> list[int]:
    """The shape that `count` values make of an input, batch first: sizes that are fixed are
    filled, the innermost open one takes what is left."""
    fixed = math.prod(size for size in spec.shape or () if size != -1)
    if not fixed or count % fixed:
        raise InputError(
            f"The schema can not convert input '{spec.name}' to tensor with proper shape"
        )
    left, shape = count // fixed, []
    for size in reversed((-1, *(spec.shape or ()))):
        shape.append(left if size == -1 else size)
        left = 1 if size == -1 else left
    shape.reverse()
    check_shape(shape)
    return shape


def generated_lists(outputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The outputs that become lists, flat, if writing them takes milliseconds."""
    found = long_lists(outputs, [Asked(name) for name in outputs])
    return {name: array for name, array in found.items() if array.size != 1}


def write_generated(
    head: Mapping[str, Any],
    outputs: Mapping[str, Array],
    lists: Mapping[str, msgspec.Raw] = NO_LISTS,
) -> bytes:
    """The reply's JSON: an output of one value is that value, others are flat lists. `lists` are
    outputs whose JSON is written already.

    Raises `InputError` for what has no JSON form."""
    values = {name: lists.get(name) or _value(array, name) for name, array in outputs.items()}
    return msgspec.json.encode({**head, **values})


def _value(array: Array, name: str) -> Any:
    flat = to_json(array, name)
    return flat[0] if len(flat) == 1 else flat
