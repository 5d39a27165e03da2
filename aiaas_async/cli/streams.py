"""Standard streams that cannot be used: closed by who started us, or on a disk that is full."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

import click

CANNOT_WRITE: Final = 74  # EX_IOERR of sysexits.h
_OF_A_WRITE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EBADF, errno.EIO, errno.EFBIG})


def fill_closed() -> None:
    """Put something in the place of closed streams, before a socket or libuv takes their numbers:
    libuv aborts when it closes one of them. Writing to a closed output fails, as it should."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)  # the lowest free
            setattr(sys, name, open(fd, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


def is_of_output(error: OSError) -> bool:
    """Whether a write to standard output failed: errors of files carry their names."""
    return error.filename is None and error.errno in _OF_A_WRITE


def give_up_output(error: OSError) -> None:
    """Say why in one line, and leave nothing for the interpreter to flush at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    click.echo(f"error: standard output cannot be written: {error.strerror}", err=True)
    sys.exit(CANNOT_WRITE)
