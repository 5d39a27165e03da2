"""The asynchronous client: one object for the whole platform, numpy in and numpy out."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from aiaas_async.client.address import path, resolve_tenant, resolve_timeout, resolve_url
from aiaas_async.client.datasets import DatasetMethods
from aiaas_async.client.deployments import DeploymentMethods
from aiaas_async.client.jobs import JobMethods
from aiaas_async.client.request import Request
from aiaas_async.client.retry import RetryPolicy
from aiaas_async.client.surface import field_of
from aiaas_async.client.transport import Transport
from aiaas_async.client.uploads import UploadMethods
from aiaas_async.errors import CapacityError


class AsyncClient(UploadMethods, DatasetMethods, JobMethods, DeploymentMethods):
    """A client of the server at `url` (else $AIAAS_URL, else http://127.0.0.1:8080).

    `timeout` in seconds (else $AIAAS_TIMEOUT, else 30) holds for every request. Refusals that
    say when to come back are repeated within it, as `retries` has it. `tenant` (else
    $AIAAS_TENANT) is whose requests these are, where tenants share the nodes. Errors are those of
    `aiaas_async.errors` and `aiaas_async.client.failures`. To be used in one event loop.

        async with AsyncClient() as client:
            answer = await client.call(image=pixels, model="image_classifier")
    """

    def __init__(
        self,
        url: str | None = None,
        timeout: float | None = None,
        retries: RetryPolicy | None = None,
        tenant: str | None = None,
    ) -> None:
        self.tenant = resolve_tenant(tenant)
        self._transport = Transport(
            resolve_url(url),
            resolve_timeout(timeout),
            retries or RetryPolicy(),
            {} if self.tenant is None else {"X-Tenant": self.tenant},
        )

    @property
    def url(self) -> str:
        return self._transport.url

    @property
    def timeout(self) -> float:
        return self._transport.timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client cannot be used again."""
        await self._transport.close()

    async def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = field_of(await self._get("/nodes"), "nodes")
        return found

    async def node(self, node_id: str) -> dict[str, Any]:
        facts: dict[str, Any] = await self._get(path("nodes", node_id))
        return facts

    async def ring(self, key: str) -> dict[str, Any]:
        """Which node a key goes to, and why."""
        facts: dict[str, Any] = await self._get("/ring", key=key)
        return facts

    async def ready(self) -> bool:
        """Whether the server takes requests. Raises `UnreachableError` when there is none."""
        try:
            await self._transport.send(Request("GET", "/health/ready", patient=False))
        except CapacityError:
            return False
        return True

    async def metrics(self) -> str:
        """The server's metrics as Prometheus text."""
        request = Request("GET", "/metrics", headers={"Accept": "text/plain"})
        return (await self._transport.send(request)).body.decode()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"
