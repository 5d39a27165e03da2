"""The roster: which nodes there are, remembered over restarts.

The settings say how many nodes there are until one joins or leaves; from then on the members are
what was made of them, until somebody changes the setting: then its number holds again, with as
many of the known members as it allows, the longest-serving first, so that little data moves.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import msgspec

from aiaas_async.errors import AiaasError
from aiaas_async.formats.files import replacing
from aiaas_async.names import check_name

logger = logging.getLogger(__name__)


class _Stored(msgspec.Struct, frozen=True):
    """`setting` is what the settings said when a node last joined or left; 0: one a core."""

    setting: int
    members: tuple[str, ...]


def members_at_start(file: Path, setting: int, wanted: int) -> list[str]:
    """Who is there at a start: `setting` is the settings' number of nodes, `wanted` what it
    comes to on this machine."""
    known = _read(file)
    if known is None:
        return filled([], wanted)
    if known.setting == setting:
        return list(known.members)
    return filled(known.members, wanted)


def filled(members: Sequence[str], wanted: int) -> list[str]:
    """The first `wanted` of `members`, and new ones where these are too few."""
    found = list(members[:wanted])
    while len(found) < wanted:
        found.append(free_name(found))
    return found


def free_name(taken: Sequence[str]) -> str:
    """The first free "node-N"."""
    return next(name for name in (f"node-{number}" for number in count()) if name not in taken)


def remember(file: Path, setting: int, members: Sequence[str]) -> None:
    """Write down who is there now. Raises `StorageError`."""
    with replacing(file) as out:
        out.write(msgspec.json.encode(_Stored(setting, tuple(members))))


def _read(file: Path) -> _Stored | None:
    """What was remembered; None: nothing, or nothing that makes sense."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_Stored)
        for name in found.members:
            check_name(name, "node id")
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, AiaasError) as error:
        logger.error("which nodes had joined cannot be read: %s", error)  # noqa: TRY400
        return None
    return found if found.members and len(set(found.members)) == len(found.members) else None
