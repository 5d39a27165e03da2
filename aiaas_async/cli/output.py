"""How commands show what they got: JSON for programs, tables and bars for people."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
from rich.cells import cell_len

_GAP: Final = "  "
_NARROWEST: Final = 20  # columns for what is wrapped; below, the terminal folds the line itself


def print_json(value: Any) -> None:
    """`value` as indented JSON; arrays as nested lists."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    """Numpy values, without importing numpy for commands that have none."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "_asdict"):
        return value._asdict()
    raise TypeError(f"no JSON form of {type(value).__name__}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table, or the sentence `empty` when there are no rows.

    The last column alone may be long, and is wrapped where a terminal bounds it; the others are
    names to copy, and stay whole. In a pipe a row is a line, however long: for grep and awk.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    left = _terminal_width() - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    head, *lines = [_laid_out(row, widths, max(left, _NARROWEST)) for row in (columns, *cells)]
    click.echo(click.style(head[0], bold=True))
    for line in itertools.chain.from_iterable(lines):
        click.echo(line)


def _terminal_width() -> int:
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if on_terminal else sys.maxsize


def _laid_out(row: Sequence[str], widths: Sequence[int], last: int) -> list[str]:
    """The lines of a row whose last cell has `last` columns."""
    *names, text = row
    begin = "".join(
        name + " " * (width - cell_len(name)) + _GAP
        for name, width in zip(names, widths, strict=False)
    )
    if cell_len(text) <= last:
        return [(begin + text).rstrip()]
    first, *others = textwrap.wrap(text, last, break_long_words=False, break_on_hyphens=False)
    return [begin + first, *(" " * cell_len(begin) + other for other in others)]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def ended(reason: str, until: float | None) -> str:
    """`reason` with when it ends by itself, by the clock of whoever reads it."""
    if until is None:
        return reason
    return f"until {time.strftime('%H:%M:%S', time.localtime(until))}: {reason}"


def size(nbytes: float) -> str:
    """`nbytes` with a unit people read."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024 or unit == "GiB":
            break
        nbytes /= 1024
    return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
