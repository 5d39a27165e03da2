"""The parameters of an infer request, of its tensors and of its outputs."""

from __future__ import annotations

from typing import Any, Final

from aiaas_async.errors import InputError, NotFoundError, TooLargeError
from aiaas_async.names import clip

Parameters = dict[str, Any]
MAX_PARAMETERS: Final = 256


def read_parameters(given: Parameters) -> tuple[int, bool]:
    """The time asked for in microseconds, and whether outputs are bytes unless they say else."""
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
    for name in ("sequence_start", "sequence_end"):
        flag(given, name)
    whole(given, "priority")
    if not isinstance(given.get("sequence_id", ""), str):
        whole(given, "sequence_id")
    return whole(given, "timeout"), flag(given, "binary_data_output")


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
