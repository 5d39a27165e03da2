"""AI models as a service in one asyncio process. The clients are here: `Client`, `AsyncClient`.

Names are looked up when they are first used (PEP 562), so that importing the package, or one
small module of it, loads neither aiohttp nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiaas_async.client.async_client import AsyncClient
    from aiaas_async.client.sync import Client
    from aiaas_async.errors import AiaasError
    from aiaas_async.requestid import request_id

__all__ = ["AiaasError", "AsyncClient", "Client", "__version__", "request_id"]

__version__ = "0.1.0"

_HOME: Final = {
    "AiaasError": "aiaas_async.errors",
    "AsyncClient": "aiaas_async.client.async_client",
    "Client": "aiaas_async.client.sync",
    "request_id": "aiaas_async.requestid",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
