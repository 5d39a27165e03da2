"""The Python clients: one asynchronous, and one that runs it for code that is not.

Looked up when first used, like those of the package itself: errors alone must not load aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiaas_async.client.answers import CallAnswer, GradientAnswer, LossAnswer, Timing
    from aiaas_async.client.async_client import AsyncClient
    from aiaas_async.client.failures import (
        DisconnectedError,
        UnexpectedAnswerError,
        UnreachableError,
    )
    from aiaas_async.client.retry import RetryPolicy
    from aiaas_async.client.sync import Client
    from aiaas_async.jobs.events import Event

__all__ = [
    "AsyncClient",
    "CallAnswer",
    "Client",
    "DisconnectedError",
    "Event",
    "GradientAnswer",
    "LossAnswer",
    "RetryPolicy",
    "Timing",
    "UnexpectedAnswerError",
    "UnreachableError",
]

_HOME: Final = {
    "AsyncClient": "aiaas_async.client.async_client",
    "CallAnswer": "aiaas_async.client.answers",
    "Client": "aiaas_async.client.sync",
    "DisconnectedError": "aiaas_async.client.failures",
    "Event": "aiaas_async.jobs.events",
    "GradientAnswer": "aiaas_async.client.answers",
    "LossAnswer": "aiaas_async.client.answers",
    "RetryPolicy": "aiaas_async.client.retry",
    "Timing": "aiaas_async.client.answers",
    "UnexpectedAnswerError": "aiaas_async.client.failures",
    "UnreachableError": "aiaas_async.client.failures",
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
