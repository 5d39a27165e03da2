"""Open Inference Protocol V2: the bytes of an infer request become arrays, arrays those of a reply.

A body is JSON, then the bytes of the tensors that the JSON announces (the binary tensor
extension); those are viewed, never copied. What is wrong is said in the words of the protocol's
reference server, since its clients look for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from aiaas_async.errors import InputError, MalformedError, RequestError
from aiaas_async.messages import TensorSpec
from aiaas_async.wire.jsonnumbers import read_numbers
from aiaas_async.wire.longlists import LongList
from aiaas_async.wire.unread import Unread
from aiaas_async.wire.v2form import Form, Forms, Part
from aiaas_async.wire.v2head import Input, Output, cut_lists, decode_head
from aiaas_async.wire.v2parameters import (
    Terms,
    check_memory,
    flag,
    read_parameters,
    whole,
)
from aiaas_async.wire.v2reply import Asked
from aiaas_async.wire.v2tensors import (
    BF16,
    DATATYPES,
    Array,
    check_shape,
    raw_shape,
    read_binary,
    read_json,
    read_list,
)

Body = bytes | memoryview
HEADER_LENGTH: Final = "Inference-Header-Content-Length"
# A batch this small of any item overflows nothing that `check_shape` watches.
_MANY_ITEMS: Final = 1 << 20
_LONG: Final = 1 << 16  # bytes of JSON, which take 0.4 ms


@dataclass(frozen=True, slots=True)
class Model:
    """The version a request is for, as its inputs are checked against. `controls` are inputs that
    its parameters fill; `forms` of requests that were right."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    controls: tuple[TensorSpec, ...] = ()
    specs: Mapping[str, TensorSpec] = field(init=False)
    forms: Forms = field(default_factory=Forms, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "specs", {spec.name: spec for spec in self.inputs})


class InferRequest(msgspec.Struct, frozen=True):
    """`inputs` lead with the batch dimension."""

    id: str
    inputs: dict[str, Any]
    outputs: tuple[Asked, ...]
    terms: Terms = Terms()


_ONLY_BINARY: Final = {"binary_data_size"}


def read_request(
    body: Body, header_length: str | None, model: Model, *, lazily: bool = False
) -> InferRequest:
    """With the numbers of long JSON lists `Unread`, where that is asked for and all is JSON.

    Raises `InputError`, `MalformedError`; `NotFoundError` for shared memory."""
    if lazily and header_length is None:
        # What is wrong may be that a list with a text in it was cut in its middle.
        with suppress(RequestError):
            return _read(body, header_length, model, lazily=True)
    return _read(body, header_length, model)


def _read(
    body: Body, header_length: str | None, model: Model, *, lazily: bool = False
) -> InferRequest:
    length = _header_length(header_length, len(body))
    if length == 0 and header_length is not None:
        return _raw_request(body, model)
    text, lists = cut_lists(bytes(body[:length]), read=not lazily)
    cut = _Cut(lists, body, header_length, model) if lists else None
    size = len(body) - length
    form = model.forms.find(text, size, len(lists))
    if form is not None:
        inputs = _filled(form, body, length, model, cut)
        return InferRequest("", inputs, form.outputs, form.terms)
    head = decode_head(text)
    terms = read_parameters(head.parameters)
    inputs = _inputs(head.inputs, body, length, model, cut)
    if lazily and cut and len(cut.taken) < len(lists):  # nobody would look at what became no input
        raise MalformedError("a list belongs to no input")
    outputs = _outputs(head.outputs, terms.binary, model)
    if not head.id:  # by which each request is another
        parts = tuple([Part(one, _binary_size(one)) for one in head.inputs])
        model.forms.keep(text, Form(parts, outputs, terms, size, len(lists)))
    return InferRequest(head.id, inputs, outputs, terms)


def _filled(
    form: Form, body: Body, at: int, model: Model, cut: _Cut | None
) -> dict[str, Array | Unread]:
    """The tensors of a body of a known form; the binary ones begin at `at`."""
    found: dict[str, Array | Unread] = {}
    for part in form.parts:
        if part.size is None:
            found[part.one.name] = _from_json(part.one, cut)
        else:
            found[part.one.name] = part.read(body, at, model.name)
            at += part.size
    return found


@dataclass(slots=True)
class _Cut:
    """What was cut out of a request, and the request; of the lists, those that were `taken`."""

    lists: Mapping[bytes, LongList]
    body: Body
    header_length: str | None
    model: Model
    taken: set[bytes] = field(default_factory=set)

    def take(self, data: bytes) -> LongList | None:
        """The list that `data` stands for, if it does."""
        found = self.lists.get(data)
        if found is not None:
            self.taken.add(data)
        return found


def read_left(
    one: Input, text: memoryview, body: Body, header_length: str | None, model: Model
) -> Array:
    """An input that was left, whose list is `text` in the body of its request, as an array. Raises
    what is wrong with the request."""
    numbers = read_numbers(text)
    found = None if numbers is None else read_list(numbers, one.datatype, one.shape)
    if found is None:
        again = read_request(body, header_length, model)
        found = again.inputs[one.name]
    return found


def tensors_at(header_length: str | None) -> int:
    """Where in a body its binary tensors begin, as far as can be told before it is checked."""
    text = (header_length or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


def takes_long(size: int, header_length: str | None, model: Model) -> bool:
    """Whether reading a body takes milliseconds: long JSON or texts, not the bytes of numbers."""
    if size <= _LONG:
        return False
    texts = any(spec.dtype == "string" for spec in model.inputs)
    return texts or _header_length(header_length, size) > _LONG


def _header_length(given: str | None, size: int) -> int:
    if given is None:
        return size
    text = given.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > size:
        raise MalformedError(
            f"inference header size should be in range (0, {size}), got: {text[:40]}"
        )
    return int(text)


def _inputs(
    given: Sequence[Input], body: Body, at: int, model: Model, cut: _Cut | None
) -> dict[str, Array | Unread]:
    """The tensors of a body whose binary ones begin at `at`."""
    specs = model.specs
    found: dict[str, Array | Unread] = {}
    for one in given:
        if one.name in found:
            raise InputError(f"input {_quote(one.name)} already exists in request")
        size = _binary_size(one)
        if one.name not in specs:
            raise InputError(
                f"unexpected inference input {_quote(one.name)} for model '{model.name}'"
            )
        _check_type(one, specs[one.name], model)
        if size is None:
            found[one.name] = _from_json(one, cut)
            continue
        missing = size - (len(body) - at)
        if missing > 0:
            raise InputError(
                f"unexpected size for input '{one.name}', expecting {missing} additional bytes "
                f"for model '{model.name}'"
            )
        part = memoryview(body)[at : at + size]
        found[one.name] = read_binary(part, one.name, one.datatype, one.shape, model.name)
        at += size
    if at != len(body):
        raise InputError(f"unexpected additional input data for model '{model.name}'")
    check_complete(found, model)
    return found


def _binary_size(one: Input) -> int | None:
    """Bytes that follow the JSON for this input; None when its data is in the JSON."""
    if one.data is msgspec.UNSET:
        if one.parameters.keys() == _ONLY_BINARY:
            return whole(one.parameters, "binary_data_size")
    elif not one.parameters:
        return None
    given = {
        "data": one.data is not msgspec.UNSET,
        "binary_data_size": "binary_data_size" in one.parameters,
        "shared_memory_region": "shared_memory_region" in one.parameters,
    }
    fields = [f"'{name}'" for name, is_set in given.items() if is_set]
    if len(fields) != 1:
        raise InputError(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in "
            "'parameters', 'shared_memory_region' in 'parameters'. But "
            + (f"set {' '.join(fields)}" if fields else "no field is set")
        )
    check_memory(one.parameters)
    return whole(one.parameters, "binary_data_size") if given["binary_data_size"] else None


def _check_type(one: Input, spec: TensorSpec, model: Model) -> None:
    """bfloat16 is no dtype of the platform's: it is taken for float32."""
    expected = DATATYPES[spec.dtype or ""]
    shape = one.shape
    alike = one.datatype == expected and tuple(shape[1:]) == spec.shape
    if alike and shape and _is_count(shape[0]) and min(shape) >= 0:
        return
    if one.datatype not in (expected, BF16 if expected == "FP32" else expected):
        raise InputError(
            f"inference input '{spec.name}' data-type is {_quote(one.datatype)}, but model "
            f"'{model.name}' expects '{expected}'"
        )
    check_shape(one.shape)
    _check_dimensions(spec, one.shape, model)


def _is_count(size: int) -> bool:
    return 0 <= size < _MANY_ITEMS


def _check_dimensions(spec: TensorSpec, shape: Sequence[int], model: Model) -> None:
    wanted = (-1, *(spec.shape or ()))
    if len(shape) != len(wanted) or any(
        want not in (-1, got) for want, got in zip(wanted, shape, strict=True)
    ):
        raise InputError(
            f"unexpected shape for input '{spec.name}' for model '{model.name}'. Expected "
            f"{_dims(wanted)}, got {_dims(shape)}. NOTE: the first dimension is the batch"
        )


def _from_json(one: Input, cut: _Cut | None) -> Array | Unread:
    assert isinstance(one.data, msgspec.Raw)
    raw = bytes(one.data)
    if cut is not None and (long := cut.take(raw)) is not None:
        if long.numbers is None and one.datatype == "FP32":
            again = partial(read_left, one, long.text, cut.body, cut.header_length, cut.model)
            return Unread((long.text,), tuple(one.shape), again)
        if long.numbers is None:
            return read_left(one, long.text, cut.body, cut.header_length, cut.model)
        found = read_list(long.numbers, one.datatype, one.shape)
        if found is not None:
            return found
        raw = bytes(long.text)
    return read_json(raw, one.name, one.datatype, one.shape)


def check_complete(found: Mapping[str, Array | Unread], model: Model) -> None:
    """Raise `InputError` unless every input is there, and all have as many rows."""
    names = [spec.name for spec in model.inputs]
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"expected {len(names)} inputs but got {len(found)} inputs for model '{model.name}'. "
            f"Got input(s) {list(found)}, but missing required input(s) {missing}. Please provide "
            "all required input(s)."
        )
    first = len(found[names[0]])
    for name, array in found.items():
        if len(array) != first:
            raise InputError(
                f"input '{name}' batch size does not match other inputs for '{model.name}'"
            )
    if first == 0:
        raise InputError(f"inference request batch-size must be >= 1 for '{model.name}'")


def _raw_request(body: Body, model: Model) -> InferRequest:
    """The whole body is the one input, a batch of one; every output goes back as bytes."""
    if len(model.inputs) != 1:
        raise InputError(
            f"Raw request must only have 1 input (found 1) to be deduced but got "
            f"{len(model.inputs)} inputs in '{model.name}' model configuration"
        )
    spec = model.inputs[0]
    kind = DATATYPES[spec.dtype or ""]
    if kind == "BYTES":
        body = len(body).to_bytes(4, "little") + bytes(body)
    shape = raw_shape(spec, kind, len(body), model.name)
    array = read_binary(memoryview(body), spec.name, kind, shape, model.name)
    return InferRequest("", {spec.name: array}, _all_outputs(model, binary=True))


def _all_outputs(model: Model, *, binary: bool) -> tuple[Asked, ...]:
    return tuple(Asked(spec.name, binary) for spec in model.outputs)


def _outputs(given: Sequence[Output] | None, binary: bool, model: Model) -> tuple[Asked, ...]:
    if not given:
        return _all_outputs(model, binary=binary)
    known = {spec.name for spec in model.outputs}
    found: dict[str, Asked] = {}
    for one in given:
        if one.name in found:
            raise InputError(f"output {_quote(one.name)} already exists in request")
        if one.name not in known:
            raise InputError(
                f"unexpected inference output {_quote(one.name)} for model '{model.name}'"
            )
        check_memory(one.parameters)
        found[one.name] = Asked(
            one.name,
            flag(one.parameters, "binary_data", binary),
            whole(one.parameters, "classification", "set"),
        )
    return tuple(found.values())


def _quote(text: str) -> str:
    return f"'{text[:80]}'"


def _dims(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
