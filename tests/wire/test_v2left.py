"""What is left for a worker is what reading it at once would give, or it is not left."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import RequestError
from aiaas_async.messages import TensorSpec
from aiaas_async.wire.open_inference import InferRequest, Model, read_request
from aiaas_async.wire.unread import Unread, read_texts
from aiaas_async.wire.v2left import left_as_it_came
from tests.wire.test_v2form import WIDTH, as_json, body, head, model


def asked_in(pieces: list[bytes], known: Model) -> InferRequest | None:
    return left_as_it_came(pieces, str(len(head(2))), known)


def test_a_known_request_of_one_tensor_is_left_in_its_pieces() -> None:
    known, text, numbers = model(), head(2), body(3.0, 2)
    assert asked_in([text + numbers], known) is None
    read_request(text + body(0.0, 2), str(len(text)), known)
    for pieces in ([text + numbers], [text, numbers], [text + numbers[:5], b"", numbers[5:]]):
        asked = asked_in(pieces, known)
        assert asked is not None
        left = asked.inputs["x"]
        assert (left.shape, left.raw, left.nbytes) == ((2, WIDTH), True, len(numbers))
        assert b"".join(part.tobytes() for part in left.as_bytes) == numbers
        assert left.read().tobytes() == numbers
        assert left.fits(known.inputs[0])


def test_what_is_not_known_as_a_whole_is_not_left() -> None:
    known, text, numbers = model(), head(2), body(3.0, 2)
    read_request(text + numbers, str(len(text)), known)
    assert asked_in([text + numbers[:-4]], known) is None
    assert asked_in([text[:9], text[9:] + numbers], known) is None
    assert left_as_it_came([text + numbers], None, known) is None
    assert left_as_it_came([text + numbers], "x", known) is None
    crumbs = [text, *(numbers[at : at + 8] for at in range(0, len(numbers), 8))]
    assert asked_in(crumbs, known) is None
    halves = Model("m", (TensorSpec("x", "float16", (2,)),), ())
    tensor = {"name": "x", "datatype": "FP16", "shape": [1, 2]}
    asked = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 4}}]}).encode()
    read_request(asked + bytes(4), str(len(asked)), halves)
    assert left_as_it_came([asked + bytes(4)], str(len(asked)), halves) is None


def known_by(text: bytes) -> Model:
    known = model()
    read_request(text, None, known, lazily=True)
    return known


def test_a_list_is_left_that_lies_where_one_lay() -> None:
    known = model()
    assert left_as_it_came([as_json(0.0)], None, known) is None
    read_request(as_json(0.0), None, known, lazily=True)
    asked, usual = (
        left_as_it_came([as_json(7.0)], None, known),
        read_request(as_json(7.0), None, model(), lazily=True),
    )
    assert asked is not None
    left, other = asked.inputs["x"], usual.inputs["x"]
    assert isinstance(other, Unread)
    assert (left.parts, left.shape, left.raw) == (other.parts, other.shape, False)
    assert (asked.outputs, asked.terms) == (usual.outputs, usual.terms)
    assert left.read().tobytes() == other.read().tobytes()


def test_no_list_is_left_of_a_body_in_pieces_or_one_that_is_short() -> None:
    text, known = as_json(1.0), known_by(as_json(0.0))
    assert left_as_it_came([text], None, known) is not None
    assert left_as_it_came([text[:50], text[50:]], None, known) is None
    short = text.replace(b".123456789", b"")
    assert len(short) < 4096
    assert left_as_it_came([short], None, known) is None
    wide = text.replace(b", ", b"," + b" " * 300)
    assert len(wide) > 1 << 16
    assert left_as_it_came([wide], None, known) is None


INNER = [b"1", b" ", b",", b"[", b"]", b"{", b"}", b'"', b"\\", b":", b"null", b"-1e3", b"data"]


@given(st.lists(st.sampled_from(INNER), max_size=8), st.integers(0, 299))
def test_whatever_stands_in_a_list_is_answered_as_if_nothing_was_known(
    spoilt: list[bytes], where: int
) -> None:
    text = as_json(3.0)
    number = b"%d.123456789" % (3 + where)
    at = text.index(number)
    text = text[:at] + b"".join(spoilt) + text[at:]
    known = known_by(as_json(0.0))
    assert outcome_of(text, known) == outcome_of(text, model())


def outcome_of(text: bytes, by: Model) -> tuple[Any, ...]:
    try:
        asked = left_as_it_came([text], None, by)
        return outcome(asked or read_request(text, None, by, lazily=True))
    except RequestError as error:
        return type(error), error.message


def outcome(asked: InferRequest) -> tuple[Any, ...]:
    """The numbers that a worker reads, else those of who reads what it could not."""
    x = asked.inputs["x"]
    if isinstance(x, Unread):
        found, unread = read_texts(x.as_bytes[0], x.shape[1:], [(len(x), x.nbytes)])
        if not unread:
            return ("read", found.tobytes())
        try:
            x = x.read()
        except RequestError as error:
            return type(error), error.message
    return "read", x.tobytes()
