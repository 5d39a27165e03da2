"""The index finds every row added, and forgets the dead when runs merge."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.data.index import Index


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=12),
    st.lists(st.integers(0, 12), max_size=6),
)
def test_it_finds_what_a_scan_finds(batches: list[list[int]], asked: list[int]) -> None:
    index, hashes = Index(), np.empty(0, np.uint64)
    for batch in batches:
        first = len(hashes)
        hashes = np.concatenate((hashes, np.array(batch, np.uint64)))
        rows = np.arange(first, len(hashes))
        index.add(hashes[first:], rows, np.ones(len(hashes), np.bool_))
    which, rows = index.candidates(np.array(asked, np.uint64))
    expected = sorted(
        (i, r) for i, a in enumerate(asked) for r in np.flatnonzero(hashes == a).tolist()
    )
    assert sorted(zip(which.tolist(), rows.tolist(), strict=True)) == expected


def test_one_key_written_over_and_over_does_not_pile_up() -> None:
    index, live = Index(), np.zeros(1_000, np.bool_)
    for row in range(1_000):
        live[row] = True
        index.add(np.array([7], np.uint64), np.array([row]), live)
        live[row] = False
    assert len(index) < 10


def test_runs_stay_few() -> None:
    index, live = Index(), np.ones(4_096, np.bool_)
    for row in range(4_096):
        index.add(np.array([row * 7919 % 4096], np.uint64), np.array([row]), live)
    assert len(index) == 4_096
    assert int(repr(index).split()[-2]) <= 12
