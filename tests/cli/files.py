"""Files as users may give them to the commands."""

from __future__ import annotations


def npy(dtype: str, shape: str, end: str = "") -> bytes:
    """A .npy file of no numbers, whose header says this."""
    head = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}{end}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
