"""Texts as numpy's arrays hold them: filled up with NULs to the longest, so that a text's own NULs
at its end would be lost.
"""

from __future__ import annotations

from collections.abc import Sequence


def nul_at_end(texts: Sequence[str]) -> str | None:
    """What is wrong with the first of `texts` that an array would not give back as it is."""
    if "\0" not in "".join(texts):
        return None
    for number, text in enumerate(texts):
        if text.endswith("\0"):
            return f"text {number} ends in a NUL character, which arrays of texts do not keep"
    return None
