"""Items as a request's body: a stream of values, each of which the server stores as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aiaas_async.client.body import CHUNK
from aiaas_async.wire.codecs import MSGPACK
from aiaas_async.wire.items import Piece, pack_items
from aiaas_async.wire.tensors import Array


@dataclass(slots=True)
class Items:
    """Rows `start` to `stop` - 1 of `arrays`, in values of `step` rows; `sent` is told where each
    one ends. It can be opened again for another try."""

    arrays: Mapping[str, Array]
    keys: Sequence[str] | None
    start: int
    stop: int
    step: int
    sent: Callable[[int], None]
    failure: Exception | None = field(default=None, init=False)

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Content-Type": MSGPACK.content_type}

    def open(self, remaining_s: float, moved: Callable[[], None]) -> AsyncIterator[Piece]:
        del remaining_s
        self.failure = None
        return self._pieces(moved)

    async def _pieces(self, moved: Callable[[], None]) -> AsyncIterator[Piece]:
        try:
            for at in range(self.start, self.stop, self.step):
                end = min(at + self.step, self.stop)
                for piece in _cut(self._value(at, end)):
                    yield piece
                    moved()
                self.sent(end)
        except Exception as error:
            # aiohttp reports it as a broken connection; the transport asks here for the truth.
            self.failure = error
            raise

    def _value(self, at: int, end: int) -> Iterator[Piece]:
        columns = {name: array[at:end] for name, array in self.arrays.items()}
        return pack_items(columns, None if self.keys is None else self.keys[at:end])


def _cut(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Pieces that aiohttp takes in one go."""
    for piece in pieces:
        for at in range(0, len(piece), CHUNK):
            yield piece[at : at + CHUNK]
