"""What the parts of the client share: sending a value to a path, and getting one back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiaas_async.client.address import check_timeout
from aiaas_async.client.body import Encoded
from aiaas_async.client.failures import UnexpectedAnswerError
from aiaas_async.client.request import Request
from aiaas_async.client.transport import Transport
from aiaas_async.names import clip


class Surface:
    """A client over `_transport`; the parts of the API are its subclasses."""

    _transport: Transport

    async def _get(self, path: str, **query: object) -> Any:
        """The object at `path`; of the query only what is not None."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return (await self._transport.send(Request("GET", path, query=given))).value()

    async def _post(
        self,
        path: str,
        value: Mapping[str, Any],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the transport keeps it
        timed: bool = False,
        repeatable: bool = True,
    ) -> Any:
        request = Request(
            "POST",
            path,
            Encoded(value, timed=timed),
            timeout_s=None if timeout is None else check_timeout(timeout),
            repeatable=repeatable,
        )
        reply = await self._transport.send(request)
        return None if reply.status == 204 else reply.value()

    async def _delete(self, path: str, **query: str) -> Any:
        reply = await self._transport.send(Request("DELETE", path, query=query))
        return reply.value() if reply.body and reply.ok else None


def field_of(answer: Any, name: str) -> Any:
    """One field of an answer that is an object. Raises `UnexpectedAnswerError`."""
    if not isinstance(answer, dict) or name not in answer:
        raise UnexpectedAnswerError(f"the answer has no {name!r}: {clip(answer)}")
    return answer[name]


def object_of(given: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """`given` and keywords as one object; a keyword that is None says nothing."""
    return {**(given or {}), **{name: v for name, v in fields.items() if v is not None}}
