"""Warm-up: calls stored with a version, run before it is ready on a node.

The files `warmup/NAME.json` and `warmup/NAME.msgpack` of an artifact are bodies of calls:
`{"inputs": …, "outputs"?: […]}`, or just the inputs. A runtime never sees them. They are checked
when the version is committed, and run wherever it is loaded: a page of weights that was never
read, or a kernel that plans its first run, then costs no caller.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiaas_async.compute.frames import Array
from aiaas_async.errors import AiaasError, ArtifactError, InputError
from aiaas_async.formats.files import opened
from aiaas_async.messages import TensorSpec
from aiaas_async.names import WARM_UPS, clip
from aiaas_async.runtimes.base import Model
from aiaas_async.wire.arrays import read_inputs
from aiaas_async.wire.codecs import JSON, MSGPACK, Codec
from aiaas_async.wire.tensors import is_tensor

logger = logging.getLogger(__name__)

MAX_REQUESTS: Final = 16
MAX_BYTES: Final = 4 << 20  # of one request
_CODECS: Final[dict[str, Codec]] = {".json": JSON, ".msgpack": MSGPACK}
_FIELDS: Final = ("inputs", "outputs")


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A stored call; arrays are [rows, *item shape], `outputs` None for all."""

    label: str
    arrays: Mapping[str, Array]
    outputs: tuple[str, ...] | None


def without_warm_ups(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files of the model itself."""
    return {label: path for label, path in files.items() if not label.startswith(WARM_UPS)}


def read_warm_ups(
    files: Mapping[str, Path], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> list[WarmUp]:
    """The stored calls in the order of their labels. Raises `ArtifactError` naming the first that
    is no call of this signature."""
    labels = sorted(label for label in files if label.startswith(WARM_UPS))
    if len(labels) > MAX_REQUESTS:
        raise ArtifactError(f"{len(labels)} warm-up requests; at most {MAX_REQUESTS} are run")
    found = []
    for label in labels:
        try:
            found.append(_read(label, _decoded(label, files[label]), inputs, outputs))
        except AiaasError as error:
            raise _refused(label, error) from error
    return found


def run_warm_ups(model: Model, requests: Sequence[WarmUp]) -> None:
    """Run each. Raises `ArtifactError` naming the first that fails."""
    for request in requests:
        try:
            model.predict(request.arrays, request.outputs)
        except AiaasError as error:
            raise _refused(request.label, error) from error
        except MemoryError:
            raise
        except Exception as error:
            logger.exception("a warm-up request failed")
            raise ArtifactError(
                f"the warm-up request {clip(request.label)} fails ({type(error).__name__}); the "
                "server's log says more"
            ) from error


def _refused(label: str, error: AiaasError) -> ArtifactError:
    return ArtifactError(f"the warm-up request {clip(label)} fails: {error.message}")


def _decoded(label: str, path: Path) -> Any:
    codec = _CODECS.get(Path(label).suffix)
    if codec is None:
        raise ArtifactError(f"its name must end in {' or '.join(_CODECS)}")
    with opened(path, "it") as (file, size):
        if size > MAX_BYTES:
            raise ArtifactError(f"it has {size} bytes, at most {MAX_BYTES} are allowed")
        return codec.decode(file.read(MAX_BYTES))


def _read(
    label: str, body: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> WarmUp:
    if not isinstance(body, dict):
        raise InputError(f"an object is expected, got {clip(body)}")
    given, wanted = body.get("inputs"), None
    if isinstance(given, Mapping) and not is_tensor(given):
        if unknown := [field for field in body if field not in _FIELDS]:
            raise InputError(f"it has the field {clip(unknown[0])}; fields: {', '.join(_FIELDS)}")
        wanted = body.get("outputs")
    else:
        given = body
    names = [spec.name for spec in outputs]
    if wanted is not None and (
        not isinstance(wanted, list) or not wanted or any(name not in names for name in wanted)
    ):
        raise InputError(f"'outputs' must be some of {clip(names)}, got {clip(wanted)}")
    # Numbers that callers may not send harm nobody here.
    batch = read_inputs(given, inputs, allow_nonfinite=True)
    return WarmUp(label, batch.arrays, None if wanted is None else tuple(wanted))
