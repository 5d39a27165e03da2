"""The parameters of an infer request, of its tensors and of its outputs."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from aiaas_async.errors import InputError, NotFoundError, TooLargeError
from aiaas_async.names import clip
from aiaas_async.wire.sequences import Mark

Parameters = dict[str, Any]


class Terms(msgspec.Struct, frozen=True):
    """What a request's own parameters ask for. `timeout_us` and `priority` are 0 where nothing is
    asked for; of priorities the lowest number goes first."""

    timeout_us: int = 0
    priority: int = 0
    mark: Mark = Mark()
    binary: bool = False  # outputs are bytes unless they say else


MAX_PARAMETERS: Final = 256


def read_parameters(given: Parameters) -> Terms:
    """Raises `InputError`, `TooLargeError`."""
    if not given:
        return _NO_TERMS
    if len(given) > MAX_PARAMETERS:
        raise TooLargeError(f"{len(given)} parameters, at most {MAX_PARAMETERS} are allowed")
    for name, value in given.items():
        if name.startswith("triton_"):
            raise InputError(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should "
                "not be specified."
            )
        if not isinstance(value, str | int | float):
            raise InputError(
                f"parameter {clip(name)} has invalid type. It should be either 'int', 'bool', or "
                "'string'."
            )
    return Terms(
        timeout_us=whole(given, "timeout"),
        priority=whole(given, "priority"),
        mark=_mark(given),
        binary=flag(given, "binary_data_output"),
    )


_NO_TERMS: Final = Terms()


def _mark(given: Parameters) -> Mark:
    named = given.get("sequence_id", 0)
    start, end = flag(given, "sequence_start"), flag(given, "sequence_end")
    return Mark(named if isinstance(named, str) else whole(given, "sequence_id"), start, end)


def flag(given: Parameters, name: str, default: bool = False) -> bool:
    """A parameter that is true or false. Raises `InputError`."""
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"Unable to parse '{name}': attempt to access JSON non-boolean as boolean")
    return value


def whole(given: Parameters, name: str, verb: str = "parse") -> int:
    """A parameter that is a whole number, 0 where it is not given. Raises `InputError`."""
    value = given.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise InputError(
            f"Unable to {verb} '{name}': attempt to access JSON non-unsigned-integer as "
            "unsigned-integer"
        )
    return value


def check_memory(parameters: Parameters) -> None:
    """Raise `NotFoundError` for shared memory: no region is ever registered here."""
    if "shared_memory_region" in parameters:
        region = clip(parameters["shared_memory_region"])
        raise NotFoundError(f"Unable to find shared memory region: {region}")
