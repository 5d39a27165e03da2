"""A version's configuration in the reference server's words: shown, and changed by a load.

Only how calls are batched can be changed, for as long as the server runs or until the model is
loaded without a configuration; what a version is, its files and its registration say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from aiaas_async.errors import InvalidError
from aiaas_async.messages import TensorSpec
from aiaas_async.names import clip
from aiaas_async.registry.records import VersionRecord
from aiaas_async.service.models import BatchLimits
from aiaas_async.service.platform import Platform
from aiaas_async.service.sequences import IDLE_S, MAX_SEQUENCES
from aiaas_async.wire.numerals import decode
from aiaas_async.wire.sequences import END, ID, START, split_controls
from aiaas_async.wire.v2tensors import BYTES, DATATYPES

_PLATFORMS: Final = {"onnx": "onnxruntime_onnx"}
_KINDS: Final = {
    START: "CONTROL_SEQUENCE_START",
    END: "CONTROL_SEQUENCE_END",
    ID: "CONTROL_SEQUENCE_CORRID",
}
_FALSE_TRUE: Final = {"FP32": "fp32_false_true", "BOOL": "bool_false_true"}
_MOST_ROWS: Final = 1 << 16
_MOST_DELAY_US: Final = 10_000_000


def platform_of(record: VersionRecord) -> str:
    """The protocol's name for what runs a version."""
    return _PLATFORMS.get(record.metadata.runtime, record.metadata.runtime)


def config_of(platform: Platform, record: VersionRecord) -> dict[str, Any]:
    """The configuration of a version."""
    limits = platform.models.batching(record.ref.name)
    inputs, controls = split_controls(record.metadata.inputs)
    delay = {"max_queue_delay_microseconds": round(limits.max_delay_s * 1e6)}
    scheduling = {"sequence_batching": _sequences(controls)} if controls else {}
    return {
        "name": record.ref.name,
        "platform": platform_of(record),
        "backend": record.metadata.runtime,
        "version_policy": {"all": {}},
        "max_batch_size": limits.max_batch_size,
        "input": [_configured(spec) for spec in inputs],
        "output": [_configured(spec) for spec in record.metadata.outputs],
        "instance_group": [
            {"name": record.ref.name, "kind": "KIND_CPU", "count": len(platform.cluster.nodes)}
        ],
        **(scheduling or {"dynamic_batching": delay}),
        "parameters": {},
    }


def _configured(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": _data_type(spec), "dims": list(spec.shape or ())}


def _data_type(spec: TensorSpec) -> str:
    kind = DATATYPES[spec.dtype or ""]
    return "TYPE_STRING" if kind == BYTES else f"TYPE_{kind}"


def _sequences(controls: tuple[TensorSpec, ...]) -> dict[str, Any]:
    return {
        "max_sequence_idle_microseconds": round(IDLE_S * 1e6),
        "oldest": {"max_candidate_sequences": MAX_SEQUENCES},
        "control_input": [{"name": spec.name, "control": [_control(spec)]} for spec in controls],
    }


def _control(spec: TensorSpec) -> dict[str, Any]:
    if spec.name == ID:
        return {"kind": _KINDS[ID], "data_type": _data_type(spec)}
    field = _FALSE_TRUE.get(DATATYPES[spec.dtype or ""], "int32_false_true")
    return {"kind": _KINDS[spec.name], field: [0, 1]}


def limits_for(platform: Platform, record: VersionRecord, parameters: Any) -> BatchLimits | None:
    """The batching that a load's `parameters` ask for; None: as the server's settings have it.

    Raises `InvalidError` for files, and for a configuration that changes anything else.
    """
    if not parameters:
        return None
    if not isinstance(parameters, Mapping) or set(parameters) != {"config"}:
        raise InvalidError(
            "files are not taken here: PUT them to /models/NAME/versions/VERSION/files/…"
        )
    wanted = _parsed(parameters["config"])
    now = config_of(platform, record)
    limits = platform.models.batching(record.ref.name)
    rows, delay_s = limits.max_batch_size, limits.max_delay_s
    for name, value in wanted.items():
        if name == "max_batch_size":
            rows = _number(name, value, 1, _MOST_ROWS)
        elif name == "dynamic_batching" and "dynamic_batching" in now:
            delay_s = _delay_us(value) / 1e6
        elif value != now.get(name):
            raise InvalidError(
                f"a load can change max_batch_size and dynamic_batching, not {clip(name)}"
            )
    return BatchLimits(rows, delay_s)


def _parsed(config: Any) -> dict[str, Any]:
    try:
        return msgspec.convert(decode(config if isinstance(config, str) else b""), dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise InvalidError("its configuration is not a JSON object") from None


def _delay_us(value: Any) -> int:
    known = "max_queue_delay_microseconds"
    if not isinstance(value, Mapping) or not set(value) <= {known}:
        raise InvalidError(f"dynamic_batching can hold {known} alone, got {clip(value)}")
    return _number(known, value.get(known, 0), 0, _MOST_DELAY_US)


def _number(name: str, value: Any, low: int, high: int) -> int:
    """A whole number, or its digits, as the reference server's configurations have it."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise InvalidError(f"{name} must be {low} to {high}, got {clip(value)}")
    return value
