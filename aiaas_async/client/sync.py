"""The client for code that does not await: the asynchronous one, run in a thread of its own.

Every method is that of `AsyncClient` (a test compares the signatures); what they mean is said
there. Ctrl-C cancels the request. Several threads may share one client.
"""

# ruff: noqa: PLR0913 - the options of a request are keywords
from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiaas_async.client.answers import CallAnswer, GradientAnswer, LossAnswer
from aiaas_async.client.async_client import AsyncClient
from aiaas_async.client.body import Progress
from aiaas_async.client.models import Wrt
from aiaas_async.client.portal import Portal
from aiaas_async.client.retry import RetryPolicy
from aiaas_async.jobs.events import Event
from aiaas_async.names import LATEST

T = TypeVar("T")


class Client:
    """A client of the server at `url` (else $AIAAS_URL, else http://127.0.0.1:8080).

    with Client() as client:
        answer = client.call(image=pixels, model="image_classifier")
    """

    def __init__(
        self,
        url: str | None = None,
        timeout: float | None = None,
        retries: RetryPolicy | None = None,
        tenant: str | None = None,
    ) -> None:
        self._client = AsyncClient(url, timeout, retries, tenant)
        self._retries = retries
        self._start()

    def _start(self) -> None:
        self._process, self._portal = os.getpid(), Portal()
        self._ending = weakref.finalize(self, self._portal.close, self._client.close)

    @property
    def _async(self) -> AsyncClient:
        if self._process != os.getpid():
            # A fork has neither the thread nor a right to the parent's connections.
            self._ending.detach()
            self._client = AsyncClient(self.url, self.timeout, self._retries, self._client.tenant)
            self._start()
        return self._client

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._portal.run(work)

    def _each(self, found: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while (each := self._run(_next(found))) is not None:
                yield each
        finally:
            self._run(_end(found))

    @property
    def url(self) -> str:
        return self._client.url

    @property
    def timeout(self) -> float:
        return self._client.timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._ending()

    def register(
        self, metadata: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> dict[str, Any]:
        return self._run(self._async.register(metadata, **fields))

    def discover(self, query: Mapping[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
        return self._run(self._async.discover(query, **fields))

    def call(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        model: str | None = None,
        version: str | None = None,
        key: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        **arrays: Any,
    ) -> CallAnswer:
        return self._run(
            self._async.call(
                inputs,
                model=model,
                version=version,
                key=key,
                outputs=outputs,
                timeout=timeout,
                **arrays,
            )
        )

    def loss(
        self,
        model: str,
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        *,
        version: str = LATEST,
        loss: str | None = None,
        output: str | None = None,
        timeout: float | None = None,
    ) -> LossAnswer:
        return self._run(
            self._async.loss(
                model, inputs, targets, version=version, loss=loss, output=output, timeout=timeout
            )
        )

    def gradient(
        self,
        model: str,
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        *,
        version: str = LATEST,
        wrt: Wrt = "both",
        loss: str | None = None,
        output: str | None = None,
        timeout: float | None = None,
    ) -> GradientAnswer:
        return self._run(
            self._async.gradient(
                model,
                inputs,
                targets,
                version=version,
                wrt=wrt,
                loss=loss,
                output=output,
                timeout=timeout,
            )
        )

    def load(
        self, name: str, version: str = LATEST, *, pin: bool = False, timeout: float | None = None
    ) -> dict[str, Any]:
        return self._run(self._async.load(name, version, pin=pin, timeout=timeout))

    def unload(self, name: str, version: str = LATEST) -> None:
        return self._run(self._async.unload(name, version))

    def models(self) -> list[dict[str, Any]]:
        return self._run(self._async.models())

    def model(self, name: str) -> dict[str, Any]:
        return self._run(self._async.model(name))

    def version(self, name: str, version: str = LATEST) -> dict[str, Any]:
        return self._run(self._async.version(name, version))

    def delete_model(self, name: str) -> None:
        return self._run(self._async.delete_model(name))

    def delete_version(self, name: str, version: str, *, only_uncommitted: bool = False) -> None:
        return self._run(
            self._async.delete_version(name, version, only_uncommitted=only_uncommitted)
        )

    def alias(self, name: str, alias: str) -> dict[str, Any]:
        return self._run(self._async.alias(name, alias))

    def set_alias(
        self,
        name: str,
        alias: str,
        version: str,
        *,
        expected: int | None = None,
        canary: str | None = None,
        weight: float | None = None,
        shadow: str | None = None,
    ) -> dict[str, Any]:
        return self._run(
            self._async.set_alias(
                name,
                alias,
                version,
                expected=expected,
                canary=canary,
                weight=weight,
                shadow=shadow,
            )
        )

    def roll_back_alias(self, name: str, alias: str) -> dict[str, Any]:
        return self._run(self._async.roll_back_alias(name, alias))

    def release(self, name: str, version: str) -> dict[str, Any]:
        return self._run(self._async.release(name, version))

    def delete_alias(self, name: str, alias: str) -> None:
        return self._run(self._async.delete_alias(name, alias))

    def upload(
        self,
        name: str,
        version: str,
        label: str,
        source: Path | bytes,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        client = self._async
        return self._portal.run_telling(
            lambda told: client.upload(name, version, label, source, told), progress
        )

    def commit(self, name: str, version: str, *, timeout: float | None = None) -> dict[str, Any]:
        return self._run(self._async.commit(name, version, timeout=timeout))

    def push(
        self,
        name: str,
        version: str,
        source: Path | str,
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        client = self._async
        return self._portal.run_telling(
            lambda told: client.push(name, version, source, metadata, told), progress
        )

    def put_dataset(
        self, name: str, columns: Mapping[str, Any], replication: int = 1
    ) -> dict[str, Any]:
        return self._run(self._async.put_dataset(name, columns, replication))

    def put_items(
        self,
        name: str,
        columns: Mapping[str, Any],
        keys: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        client = self._async
        return self._portal.run_telling(
            lambda told: client.put_items(name, columns, keys, told), progress
        )

    def get_item(self, name: str, key: str) -> dict[str, Any]:
        return self._run(self._async.get_item(name, key))

    def items(
        self, name: str, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        return self._run(self._async.items(name, after, limit))

    def item_pages(self, name: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
        return self._each(self._async.item_pages(name, limit))

    def delete_item(self, name: str, key: str) -> None:
        return self._run(self._async.delete_item(name, key))

    def datasets(self) -> list[dict[str, Any]]:
        return self._run(self._async.datasets())

    def dataset(self, name: str) -> dict[str, Any]:
        return self._run(self._async.dataset(name))

    def items_range(self, name: str, start: int, stop: int) -> dict[str, Any]:
        return self._run(self._async.items_range(name, start, stop))

    def compact_dataset(self, name: str) -> dict[str, int]:
        return self._run(self._async.compact_dataset(name))

    def delete_dataset(self, name: str, *, only_empty: bool = False) -> None:
        return self._run(self._async.delete_dataset(name, only_empty=only_empty))

    def train(
        self,
        *,
        model: str,
        version: str,
        dataset: str,
        graph: Mapping[str, Any] | None = None,
        parent: str | None = None,
        plan: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        register_as: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return self._run(
            self._async.train(
                model=model,
                version=version,
                dataset=dataset,
                graph=graph,
                parent=parent,
                plan=plan,
                metadata=metadata,
                alias=alias,
                register_as=register_as,
            )
        )

    def job(self, job_id: str) -> dict[str, Any]:
        return self._run(self._async.job(job_id))

    def jobs(
        self, *, kind: str | None = None, state: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        return self._run(self._async.jobs(kind=kind, state=state, limit=limit))

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._run(self._async.cancel(job_id))

    def resume(self, job_id: str) -> dict[str, Any]:
        return self._run(self._async.resume(job_id))

    def follow(self, job_id: str) -> Iterator[Event]:
        return self._each(self._async.follow(job_id))

    def wait(self, job_id: str, timeout: float | None = None) -> dict[str, Any]:
        return self._run(self._async.wait(job_id, timeout))

    def deploy(self, model: str, **options: Any) -> dict[str, Any]:
        return self._run(self._async.deploy(model, **options))

    def deployments(self) -> list[dict[str, Any]]:
        return self._run(self._async.deployments())

    def deployment(self, deployment_id: str) -> dict[str, Any]:
        return self._run(self._async.deployment(deployment_id))

    def undeploy(self, deployment_id: str) -> None:
        self._run(self._async.undeploy(deployment_id))

    def batch(self, model: str, dataset: str, **options: Any) -> dict[str, Any]:
        return self._run(self._async.batch(model, dataset, **options))

    def join_node(self, node_id: str | None = None) -> dict[str, Any]:
        return self._run(self._async.join_node(node_id))

    def remove_node(self, node_id: str, *, force: bool = False) -> dict[str, Any]:
        return self._run(self._async.remove_node(node_id, force=force))

    def nodes(self) -> list[dict[str, Any]]:
        return self._run(self._async.nodes())

    def node(self, node_id: str) -> dict[str, Any]:
        return self._run(self._async.node(node_id))

    def ring(self, key: str) -> dict[str, Any]:
        return self._run(self._async.ring(key))

    def ready(self) -> bool:
        return self._run(self._async.ready())

    def metrics(self) -> str:
        return self._run(self._async.metrics())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"


async def _next(found: AsyncGenerator[T, None]) -> T | None:
    return await anext(found, None)


async def _end(found: AsyncGenerator[T, None]) -> None:
    running: Any = found
    while running.ag_running:  # noqa: ASYNC110 - an interrupt is on its way through it
        await asyncio.sleep(0)
    await found.aclose()
