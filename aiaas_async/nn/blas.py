"""How this process's BLAS takes small products.

OpenBLAS copies both matrices into an order of its own at every product, which one of few rows does
not earn back. Its kernels for AVX-512 take a product of at most 100^3 multiply-adds as it lies
("small matrix"), if only rows of a matrix lie close enough: so a weight is cut into panels of some
of its columns, each in one piece of memory. Its other kernels always copy, and nothing is gained.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from threadpoolctl import threadpool_info

from aiaas_async.nn.layer import Array

UNPACKED: Final = 100**3  # multiply-adds of a product that is not copied
_UNPACKING: Final = "SkylakeX"  # OpenBLAS's name for all cores with AVX-512, AMD's too


@cache
def takes_as_it_lies() -> bool:
    """Whether it has such kernels here. Looks through the process's libraries once, 1.3 ms."""
    libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
    return bool(libraries) and all(
        each["internal_api"] == "openblas" and each.get("architecture") == _UNPACKING
        for each in libraries
    )


def in_panels(weight: Array, columns: int) -> Array:
    """A weight [K, N] as panels [N / columns, K, columns]: a view, whose copies lie so."""
    depth, total = weight.shape
    return weight.reshape(depth, total // columns, columns).swapaxes(0, 1)
