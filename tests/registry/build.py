"""What the registry's tests are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from aiaas_async.messages import FileEntry, Metadata, TensorSpec, parse_metadata
from aiaas_async.names import ModelRef
from aiaas_async.registry.catalog import VersionRecord
from aiaas_async.registry.draft import Draft

IMAGE = TensorSpec("image", "float32", (8, 8, 1))
LABEL = TensorSpec("label", "string", ())


def metadata(name: str = "digits", version: str = "1.0", **more: Any) -> Metadata:
    body = {"name": name, "version": version, "inputs": ["image"], "outputs": ["label"], **more}
    return parse_metadata(body)


def entry(path: str = "weights.safetensors", content: str = "weights") -> FileEntry:
    return FileEntry(path, hashlib.sha256(content.encode()).hexdigest(), len(content))


def commit(draft: Draft, ref: ModelRef, nbytes: int = 100) -> VersionRecord:
    """Commit `ref` with the signature its registered names have."""
    record = draft.version(ref)
    return draft.commit(
        ref, typed(record.registered.inputs), typed(record.registered.outputs), nbytes, record.files
    )


def typed(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(s.name, s.dtype or "float32", (8, 8, 1) if s.shape is None else s.shape)
        for s in specs
    )


def add_ready(
    draft: Draft, name: str = "digits", version: str = "1.0", **more: Any
) -> VersionRecord:
    """Register, fill and commit a version."""
    record, _ = draft.register(metadata(name, version, **more))
    draft.add_file(record.ref, entry())
    return commit(draft, record.ref)
