"""The index finds every row that is added, and forgets the dead when it takes up rows or merges."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.data.index import Index
from aiaas_async.data.items import table
from aiaas_async.data.journal import Block
from aiaas_async.data.rows import RowTable


def add(rows: RowTable, hashes: list[int], gone: list[int] | None = None) -> None:
    """One block of rows with these hashes, which ends the rows `gone`."""
    facts = table(rows.count + 1, np.array(hashes, np.uint64), np.zeros(len(hashes), np.uint32))
    block = Block(0, rows.count, facts, np.array(gone or [], np.uint64), 0)
    rows.add(block)
    rows.end(block)


def found(index: Index, asked: list[int]) -> list[tuple[int, int]]:
    which, rows = index.candidates(np.array(asked, np.uint64))
    return sorted(zip(which.tolist(), rows.tolist(), strict=True))


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=8), st.booleans()), max_size=12),
    st.lists(st.integers(0, 12), max_size=6),
)
def test_it_finds_what_a_scan_finds_whenever_it_was_asked_before(
    batches: list[tuple[list[int], bool]], asked: list[int]
) -> None:
    rows, hashes = RowTable(), []
    index = Index(rows)
    for batch, is_asked in batches:
        add(rows, batch)
        hashes += batch
        if is_asked:
            found(index, [3])
    expected = [(i, r) for i, a in enumerate(asked) for r, h in enumerate(hashes) if h == a]
    assert found(index, asked) == sorted(expected)


def test_rows_that_ended_before_anybody_asked_are_never_taken_up() -> None:
    rows = RowTable()
    add(rows, [7, 8])
    add(rows, [7], gone=[0])
    index = Index(rows)
    assert found(index, [7, 8]) == [(0, 2), (1, 1)]


def test_one_key_written_over_and_over_does_not_pile_up() -> None:
    rows = RowTable()
    index = Index(rows)
    for row in range(1_000):
        add(rows, [7], gone=[row - 1] if row else [])
        assert (0, row) in found(index, [7])
    assert len(index) < 10


def test_runs_stay_few() -> None:
    rows = RowTable()
    index = Index(rows)
    for row in range(4_096):
        add(rows, [row * 7919 % 4096])
        found(index, [0])
    assert len(index) == 4_096
    assert int(repr(index).split()[-2]) <= 12


def test_threads_that_ask_first_at_once_find_the_same() -> None:
    rows = RowTable()
    add(rows, [number * 7919 % 65_536 for number in range(65_536)])
    index = Index(rows)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: found(index, [7919, 1]), range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert len(index) == 65_536
