"""Every failure a caller can meet, as one tree with a stable code each.

    AiaasError
    ├── RequestError            the caller can mend it
    │   ├── MalformedError          malformed         the bytes are not what their type says
    │   ├── UnsupportedMediaError   unsupported_media no such content type or coding
    │   ├── TooLargeError           too_large         over a cap on size
    │   ├── ForbiddenOriginError    forbidden_origin  sent by a web page of another origin
    │   ├── MisdirectedError        misdirected       a Host this server does not serve
    │   ├── MethodError             method            the path exists, the method does not
    │   ├── InvalidError            invalid           well-formed, but the value makes no sense
    │   │   ├── InvalidNameError        invalid_name
    │   │   ├── InputError              invalid_input     missing, extra, of another type or shape
    │   │   ├── GraphError              invalid_graph     a layer graph that cannot be built
    │   │   ├── ArtifactError           invalid_artifact  a model file that cannot be read
    │   │   └── DigestError             digest_mismatch
    │   ├── NotFoundError           not_found
    │   │   └── NoMatchError            no_match          discovery: `near_misses` says why
    │   └── ConflictError           conflict
    │       ├── AmbiguousError          ambiguous         `candidates` names them
    │       ├── NotReadyError           not_ready         the version has no artifact yet
    │       ├── CorruptError            corrupt           the version's files are missing or damaged
    │       └── PreconditionError       precondition      compare-and-set lost the race
    ├── CapacityError           the caller may try again, or elsewhere
    │   ├── OverloadedError         overloaded        a bounded queue is full
    │   ├── QuotaError              quota
    │   ├── StoppingError           stopping          the server or the part asked shuts down
    │   ├── MemoryBudgetError       memory_budget     does not fit any node's budget
    │   │   └── UnplaceableError        unplaceable       nor would it fit empty nodes
    │   └── StorageError            storage           the disk is full or failing
    ├── DeadlineError           deadline          not answered in the time the request allowed
    ├── WorkerError             the compute process failed
    │   ├── WorkerDiedError         worker_died
    │   └── QuarantinedError        quarantined       this version killed its worker too often
    ├── DivergedError           diverged          a loss became NaN or infinite
    ├── CancelledJobError       cancelled
    └── InternalError           internal          a defect of ours

HTTP statuses are the edge's business (`http/status.py`); nothing here knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class AiaasError(Exception):
    """Root of the tree. `details` holds JSON-like facts a program can act on;
    `retry_after` is in seconds, where waiting helps. `request_id` is what the server's log calls
    the request, where a client raises what the server answered."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    request_id: str | None = None

    def __init__(
        self,
        message: str,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.retry_after = retry_after


class RequestError(AiaasError):
    code = "request"
    title = "Bad request"


class MalformedError(RequestError):
    code = "malformed"
    title = "Malformed body"


class UnsupportedMediaError(RequestError):
    code = "unsupported_media"
    title = "Unsupported content type"


class TooLargeError(RequestError):
    code = "too_large"
    title = "Too large"


class ForbiddenOriginError(RequestError):
    code = "forbidden_origin"
    title = "Foreign origin"


class MisdirectedError(RequestError):
    code = "misdirected"
    title = "Unknown host"


class MethodError(RequestError):
    code = "method"
    title = "Method not allowed"


class InvalidError(RequestError):
    code = "invalid"
    title = "Invalid value"


class InvalidNameError(InvalidError):
    code = "invalid_name"
    title = "Invalid name"


class InputError(InvalidError):
    code = "invalid_input"
    title = "Invalid input"


class GraphError(InvalidError):
    code = "invalid_graph"
    title = "Invalid layer graph"


class ArtifactError(InvalidError):
    code = "invalid_artifact"
    title = "Invalid model file"


class DigestError(InvalidError):
    code = "digest_mismatch"
    title = "Digest mismatch"


class NotFoundError(RequestError):
    code = "not_found"
    title = "Not found"


class NoMatchError(NotFoundError):
    code = "no_match"
    title = "No model matches"


class ConflictError(RequestError):
    code = "conflict"
    title = "Conflict"


class AmbiguousError(ConflictError):
    code = "ambiguous"
    title = "Ambiguous"


class NotReadyError(ConflictError):
    code = "not_ready"
    title = "Not ready"


class CorruptError(ConflictError):
    code = "corrupt"
    title = "Corrupt artifact"


class PreconditionError(ConflictError):
    code = "precondition"
    title = "Precondition failed"


class CapacityError(AiaasError):
    code = "capacity"
    title = "No capacity"


class OverloadedError(CapacityError):
    code = "overloaded"
    title = "Overloaded"


class QuotaError(CapacityError):
    code = "quota"
    title = "Over quota"


class StoppingError(CapacityError):
    code = "stopping"
    title = "Stopping"


class MemoryBudgetError(CapacityError):
    code = "memory_budget"
    title = "Over the memory budget"


class UnplaceableError(MemoryBudgetError):
    code = "unplaceable"
    title = "Too large for all nodes"


class StorageError(CapacityError):
    code = "storage"
    title = "Storage failed"


class DeadlineError(AiaasError):
    code = "deadline"
    title = "Deadline exceeded"


class WorkerError(AiaasError):
    code = "worker"
    title = "Compute failed"


class WorkerDiedError(WorkerError):
    code = "worker_died"
    title = "Compute process died"


class QuarantinedError(WorkerError):
    code = "quarantined"
    title = "Quarantined"


class DivergedError(AiaasError):
    code = "diverged"
    title = "Training diverged"


class CancelledJobError(AiaasError):
    code = "cancelled"
    title = "Cancelled"


class InternalError(AiaasError):
    code = "internal"
    title = "Internal error"


def _walk(cls: type[AiaasError]) -> dict[str, type[AiaasError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found |= _walk(child)
    return found


BY_CODE: dict[str, type[AiaasError]] = _walk(AiaasError) | {"internal": InternalError}


def from_code(
    code: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    retry_after: float | None = None,
) -> AiaasError:
    """The error a code stands for; a code this release does not know becomes `AiaasError`."""
    return BY_CODE.get(code, AiaasError)(message, details, retry_after)
