"""Gains: whether a model's batches are faster with more threads than one, as measured.

Products of large matrices are, and most of what is small or does not go through BLAS is not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_WORTH_S: Final = 0.002  # of a batch; a thread that sleeps takes 0.05 ms to wake
# Of the time with one thread: with less gained, others have more of the cores. Each by itself takes
# a tenth more or less (4 x 4096, a lone request: 0.87), so what gains goes on until it costs time.
_GAIN: Final = 0.95
_LOSS: Final = 1.0
_CHECK: Final = 64  # batches that gain, after which one shows again what it takes without
_TRIALS: Final = 3  # the best of the last so many counts: a first one is cold, others disturbed
# Batches after which what brought nothing is tried once more: soon at first, for the machine may
# have been busy with something else, then ever later.
_FIRST_AGAIN: Final = 4
_LAST_AGAIN: Final = 16
_MOST: Final = 4096  # kinds of batches that are remembered


def _no_trials() -> deque[float]:
    return deque(maxlen=_TRIALS)


@dataclass(slots=True)
class _Times:
    """Seconds a row."""

    plain: deque[float] = field(default_factory=_no_trials)
    lent: deque[float] = field(default_factory=_no_trials)
    gains: int = 0  # of the last batches, without a break
    refused: int = 0  # since it was tried last
    again: int = _FIRST_AGAIN


class Gains:
    """Of one node. Batches are of a kind when they are of one model, and within a factor of two
    have as many rows."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, int], _Times] = {}

    def record(self, model: str, rows: int, seconds: float, *, lent: bool) -> None:
        """A batch took `seconds`, with borrowed threads or without."""
        kind = model, rows.bit_length()
        times = self._times.get(kind)
        if times is None:
            if len(self._times) >= _MOST:
                self._times.clear()
            times = self._times[kind] = _Times()
        (times.lent if lent else times.plain).append(seconds / rows)

    def worth(self, model: str, rows: int) -> bool:
        """Whether a batch of so many rows should borrow threads, if there are any."""
        times = self._times.get((model, rows.bit_length()))
        if times is None or len(times.plain) < _TRIALS:
            return False
        plain = min(times.plain)
        if plain * rows < _WORTH_S:
            return False
        if len(times.lent) < _TRIALS:
            return True
        if min(times.lent) < (_LOSS if times.gains else _GAIN) * plain:
            times.refused, times.again = 0, _FIRST_AGAIN
            times.gains += 1
            return times.gains % _CHECK > 0
        times.gains = 0
        times.refused += 1
        if times.refused < times.again:
            return False
        times.refused, times.again = 0, min(2 * times.again, _LAST_AGAIN)
        return True

    def forget(self, model: str) -> None:
        """Nothing is known of `model` any more."""
        for kind in [kind for kind in self._times if kind[0] == model]:
            del self._times[kind]

    def __repr__(self) -> str:
        return f"<Gains of {len(self._times)} kinds of batches>"
