"""Hash to row, as sorted runs: what came since the last look is one run, and runs merge when they
grow alike.

It is the logarithmic method (Bentley and Saxe 1980): n items lie in at most log2 n runs, a look-up
is one binary search in each, and everything is an array: 16 bytes an item, no Python objects.
Nothing is sorted before somebody asks: what is only read in order never is. Several rows may share
a hash; the caller compares the keys.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.rows import RowTable

Hashes = NDArray[np.uint64]
RowNumbers = NDArray[np.int64]


class _Run(NamedTuple):
    hashes: Hashes
    rows: RowNumbers


class Index:
    """Of the rows of `table`, by hash. Several threads may search at once, while none adds rows."""

    def __init__(self, table: RowTable) -> None:
        self._table = table
        self._runs: tuple[_Run, ...] = ()
        self._covered = 0  # rows of the table that the runs have, or have forgotten
        self._following = threading.Lock()

    def _follow(self) -> None:
        """Take up the rows that were added since, but those that ended already; so does a merge."""
        facts, live = self._table.facts, self._table.live
        rows = self._covered + np.flatnonzero(live[self._covered :])
        new = _sorted(facts["hash"][rows], rows)
        runs = list(self._runs)
        while runs and len(runs[-1].rows) <= 2 * len(new.rows):
            old = runs.pop()
            pairs = np.concatenate((old.hashes, new.hashes)), np.concatenate((old.rows, new.rows))
            kept = live[pairs[1]]
            new = _sorted(pairs[0][kept], pairs[1][kept])
        self._runs, self._covered = (*runs, new), len(facts)

    def candidates(self, hashes: Hashes) -> tuple[RowNumbers, RowNumbers]:
        """Pairs (which of `hashes`, row) for every row that may match, dead ones included."""
        with self._following:
            if self._covered < self._table.count:
                self._follow()
        which: list[NDArray[Any]] = []
        rows: list[NDArray[Any]] = []
        if not self._runs:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        # In order, so that a search goes where the one before went: a fifth of the time.
        order = np.argsort(hashes)
        hashes = hashes[order]
        for run in self._runs:
            if not len(run.rows):
                continue
            left = np.searchsorted(run.hashes, hashes, "left")
            hits = np.flatnonzero(run.hashes[np.minimum(left, len(run.hashes) - 1)] == hashes)
            many = np.searchsorted(run.hashes, hashes[hits], "right") - left[hits]
            within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            which.append(np.repeat(hits, many))
            rows.append(run.rows[np.repeat(left[hits], many) + within])
        if not which:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return order[np.concatenate(which)], np.concatenate(rows)

    def __len__(self) -> int:
        return sum(len(run.rows) for run in self._runs)

    def __repr__(self) -> str:
        return f"<Index of {len(self)} rows in {len(self._runs)} runs>"


def _sorted(hashes: Hashes, rows: RowNumbers) -> _Run:
    order = np.argsort(hashes)
    return _Run(hashes[order], rows[order])
