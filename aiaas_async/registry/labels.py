"""File labels: what a version's file may be called. A label is never part of a path on disk,
but clients will make paths of it when they fetch the files."""

from __future__ import annotations

from typing import Final

from aiaas_async.errors import InvalidNameError
from aiaas_async.names import clip

MAX_LABEL_LENGTH: Final = 255


def check_label(label: str) -> str:
    """Return `label` if it is a relative path of plain segments, else raise `InvalidNameError`."""
    printable = 1 <= len(label) <= MAX_LABEL_LENGTH and label.isprintable()
    if not printable or "\\" in label or any(s in ("", ".", "..") for s in label.split("/")):
        raise InvalidNameError(
            f"file path {clip(label)} is not allowed: 1 to {MAX_LABEL_LENGTH} printable "
            "characters, relative, '/' between the parts, none of them empty, '.' or '..'",
            {"given": clip(label)},
        )
    return label
