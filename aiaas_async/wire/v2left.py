"""Requests whose numbers are left where they came, for the worker to read: their form is known, and
the event loop looks at nothing else.

The bytes of an image lie in several pieces, which need not be joined; a list of 784 numbers is
found between what surrounded it the last time: 9 us, and 18 where it is searched for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from aiaas_async.wire.open_inference import InferRequest, Model, read_left, tensors_at
from aiaas_async.wire.unread import Unread
from aiaas_async.wire.v2tensors import Array

_MOST_PIECES: Final = 64  # laid one by one: of 98 KB so many take 0.1 ms, 1,024 take 3
_LONGEST_LIST: Final = 1 << 16  # bytes, which take 0.4 ms: others wait for a worker that reads


def left_as_it_came(
    pieces: Sequence[bytes], header_length: str | None, model: Model
) -> InferRequest | None:
    """A request of a known form whose only tensor is float32, `Unread` where it lies in the pieces
    of the body. None for others, which `read_request` reads from the whole body."""
    if header_length is not None:
        return _left_bytes(pieces, tensors_at(header_length), model)
    if len(pieces) == 1 and len(pieces[0]) <= _LONGEST_LIST:
        return _left_list(pieces[0], model)
    return None


def _left_bytes(pieces: Sequence[bytes], at: int, model: Model) -> InferRequest | None:
    """Of a request whose tensor begins at byte `at`."""
    if not 0 < at <= len(pieces[0]) or len(pieces) > _MOST_PIECES:
        return None
    form = model.forms.find(pieces[0][:at], sum(map(len, pieces)) - at, 0)
    if form is None or (one := form.only) is None:
        return None
    views = [memoryview(piece) for piece in pieces]
    views[0] = views[0][at:]
    parts, shape = tuple([view for view in views if view]), tuple(one.shape)
    unread = Unread(parts, shape, partial(_joined, parts, shape), raw=True)
    return InferRequest("", {one.name: unread}, form.outputs, form.terms)


def _joined(parts: Sequence[memoryview], shape: tuple[int, ...]) -> Array:
    return np.ndarray(shape, np.float32, b"".join(parts))


def _left_list(body: bytes, model: Model) -> InferRequest | None:
    found = model.forms.around(body)
    if found is None or (one := found[0].only) is None:
        return None
    form, text = found
    unread = Unread((text,), tuple(one.shape), partial(read_left, one, text, body, None, model))
    return InferRequest("", {one.name: unread}, form.outputs, form.terms)
