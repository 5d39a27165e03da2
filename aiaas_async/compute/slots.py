"""Slots: anonymous shared memory for bodies too large for a datagram.

Each worker has two request slots and two reply slots, because at most two jobs are under way
(one computing, one waiting). A slot is a memfd: it has no name, so nothing is left behind when
both ends are killed. It only grows; the kernel refuses to shrink it (F_SEAL_SHRINK), so a worker
gone wild cannot make the server fault on its own mapping.
"""

from __future__ import annotations

import fcntl
import mmap
import os

JOBS_UNDER_WAY = 2
_GRAIN = 1 << 20


class Slot:
    """One end of one slot. Both ends hold the same memfd and map it on their own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None

    @classmethod
    def create(cls) -> Slot:
        fd = os.memfd_create("aiaas-slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(fd)

    def fileno(self) -> int:
        return self._fd

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def view(self, nbytes: int) -> memoryview:
        """The first `nbytes` of the slot, which grows to hold them. A view of an earlier,
        smaller mapping stays valid for as long as somebody holds it."""
        if self._map is None or len(self._map) < nbytes:
            size = -(-nbytes // _GRAIN) * _GRAIN
            if self.size < size:
                os.ftruncate(self._fd, size)
            self._map = mmap.mmap(self._fd, self.size)
        return memoryview(self._map)[:nbytes]

    def close(self) -> None:
        self._map = None  # unmapped when the last view goes
        os.close(self._fd)
