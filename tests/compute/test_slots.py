"""A slot is one memory with two ends, which grows and never shrinks."""

from __future__ import annotations

import os

import pytest

from aiaas_async.compute.slots import Slot


def both_ends() -> tuple[Slot, Slot]:
    one = Slot.create()
    return one, Slot(os.dup(one.fileno()))


def test_what_one_end_writes_the_other_sees_also_after_growing() -> None:
    here, there = both_ends()
    here.view(5)[:] = b"small"
    assert there.view(5).tobytes() == b"small"
    there.view(3 << 20)[-4:] = b"tail"
    assert here.view(3 << 20)[-4:].tobytes() == b"tail"
    assert here.view(5).tobytes() == b"small"
    here.close()
    there.close()


def test_a_view_outlives_growth_and_closing() -> None:
    here, there = both_ends()
    early = here.view(4)
    early[:] = b"kept"
    here.view(5 << 20)
    here.close()
    there.close()
    assert early.tobytes() == b"kept"


def test_no_end_can_shrink_it_under_the_other() -> None:
    here, there = both_ends()
    here.view(10)
    with pytest.raises(PermissionError):
        os.ftruncate(there.fileno(), 0)
    here.close()
    there.close()
