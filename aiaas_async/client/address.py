"""Where the server is, how long to wait for it, and how names become paths."""

from __future__ import annotations

import math
import os
from urllib.parse import quote, urlsplit

from aiaas_async.errors import InvalidError, InvalidNameError
from aiaas_async.names import check_name, clip

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT_S = 30.0


def resolve_url(url: str | None) -> str:
    """`url`, else $AIAAS_URL, else the default; without a slash at the end."""
    chosen = (url or os.environ.get("AIAAS_URL") or DEFAULT_URL).rstrip("/")
    try:
        parts = urlsplit(chosen)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if "@" in chosen:  # not repeated: there may be a password before it
        sound = False
        chosen = f"…@{chosen.rpartition('@')[2]}"
    if not sound or parts.query or parts.fragment:
        raise InvalidError(
            f"url must be http://HOST:PORT or https://HOST, without user or query, got "
            f"{clip(chosen)}"
        )
    return chosen


def resolve_timeout(timeout: float | None) -> float:
    """`timeout`, else $AIAAS_TIMEOUT, else 30 seconds."""
    if timeout is not None:
        return check_timeout(timeout)
    raw = os.environ.get("AIAAS_TIMEOUT")
    if not raw:
        return DEFAULT_TIMEOUT_S
    try:
        return check_timeout(float(raw))
    except ValueError:
        raise InvalidError(f"AIAAS_TIMEOUT must be seconds above 0, got {clip(raw)}") from None


def resolve_tenant(tenant: str | None) -> str | None:
    """`tenant`, else $AIAAS_TENANT, else None: the server then takes its default."""
    chosen = tenant or os.environ.get("AIAAS_TENANT") or None
    return None if chosen is None else check_name(chosen, "tenant")


def check_timeout(timeout: float) -> float:
    """Return `timeout` in seconds if it is one, else raise `InvalidError`."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not math.isfinite(timeout) or timeout <= 0:
        raise InvalidError(f"timeout must be seconds above 0, got {clip(timeout)}")
    return float(timeout)


def path(*parts: str) -> str:
    """The parts as one URL path, each quoted as a whole."""
    return "".join(f"/{quote(_checked(part), safe='')}" for part in parts)


def _checked(part: str) -> str:
    # Whatever normalises a URL on its way would turn /models/m/versions/.. into /models/m.
    if not isinstance(part, str) or part in ("", ".", ".."):
        raise InvalidNameError(f"{clip(part)} is not a name")
    return part
