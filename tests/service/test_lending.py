"""Which servers lend cores, and while what."""

from __future__ import annotations

import os

from aiaas_async.config import Settings
from aiaas_async.service.lifespan import _cores

CORES = len(os.sched_getaffinity(0))


def test_cores_are_lent_unless_the_settings_say_no() -> None:
    assert _cores(Settings()).share("a", 0.0) == (CORES if CORES > 1 else 0)
    assert _cores(Settings(lend_cores=False)).share("a", 0.0) == 0


def test_where_address_space_is_short_none_are() -> None:
    assert _cores(Settings(worker_memory_mb=1024)).share("a", 0.0) == 0
