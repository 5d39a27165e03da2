"""What onnxruntime says when it fails, as one of our errors: without paths, and short."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from aiaas_async.errors import AiaasError, MemoryBudgetError
from aiaas_async.names import clip

_MAX_CHARACTERS: Final = 300
_OUT_OF_MEMORY: Final = ("bad_alloc", "Failed to allocate memory")
# "[ONNXRuntimeError] : 1 : FAIL : ", a source file of theirs, and a C++ signature after it.
_NOISE: Final = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|"
    r"/onnxruntime_src/\S+ (?:[^()]*\([^()]*\) )?|Non-zero status code returned while |"
    r"Status Message: |This is an invalid model\. "
)


def told(
    error: Exception, what: str, kind: type[AiaasError], path: Path | None = None
) -> AiaasError:
    """`what` happened and why, as a `kind`, or as `MemoryBudgetError`; `path` is not told."""
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY):
        return MemoryBudgetError("the model needs more memory than its worker may use")
    if path is not None:
        text = text.replace(str(path), "it").replace(str(path.parent), "its folder")
    text = " ".join(_NOISE.sub("", text).split())
    return kind(f"{what}: {clip(text, _MAX_CHARACTERS)}")
