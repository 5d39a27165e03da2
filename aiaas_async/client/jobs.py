"""Jobs: train, look, follow across broken connections and restarts, wait, cancel, resume."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from aiaas_async.client.address import check_timeout, path
from aiaas_async.client.events import EventReader
from aiaas_async.client.failures import DisconnectedError, UnreachableError, job_error
from aiaas_async.client.request import Request
from aiaas_async.client.surface import Surface, field_of, object_of
from aiaas_async.errors import DeadlineError, StoppingError
from aiaas_async.jobs.events import Event

# The server sends a comment every 15 s; after four that did not come the connection is dead.
SILENCE_S: Final = 60.0
_OVER: Final = frozenset({"succeeded", "failed", "cancelled"})
_END: Final = ("job", "kind", "state", "result", "error")  # what an end event says


class JobMethods(Surface):
    async def train(  # noqa: PLR0913 - they are one request's fields
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
        """Start a training run and return its job; the result becomes `model`:`version`.

        It begins from `graph`, or goes on from the weights of `parent` (name:version); `alias` is
        moved to the result. So is that of `register_as` (`alias`, `gate`), if the gate, for
        example "val_accuracy >= 0.97", holds; else the result stays a candidate.
        """
        body = object_of(
            {"model": model, "version": version, "dataset": dataset},
            {
                "graph": graph,
                "parent": parent,
                "plan": plan,
                "metadata": metadata,
                "alias": alias,
                "register_as": register_as,
            },
        )
        job: dict[str, Any] = await self._post("/train", body, repeatable=False)
        return job

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job's state, progress and result."""
        facts: dict[str, Any] = await self._get(path("jobs", job_id))
        return facts

    async def jobs(
        self, *, kind: str | None = None, state: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Jobs, newest first."""
        page = await self._get("/jobs", kind=kind, state=state, limit=limit)
        found: list[dict[str, Any]] = field_of(page, "jobs")
        return found

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """End a job; returns when it has ended."""
        facts: dict[str, Any] = await self._delete(path("jobs", job_id))
        return facts

    async def resume(self, job_id: str) -> dict[str, Any]:
        """Have a job that was cancelled or failed go on where it ended: a training from its last
        checkpoint, a batch with the items that have no result or were put since it was accepted.

        Raises `ConflictError` where there is nothing to go on from, or other data.
        """
        where = path("jobs", job_id, "resume")
        job: dict[str, Any] = await self._post(where, {}, repeatable=False)
        return job

    async def follow(self, job_id: str) -> AsyncGenerator[Event, None]:
        """A job's events from its first to its end.

        A broken connection is resumed where it broke, and a server that restarts is waited for,
        for as long as the client's timeout; then `UnreachableError` is raised. It numbers events
        higher than before, and tells what it knows of the run until then again.
        """
        await self.job(job_id)  # an unknown one is told at once
        last, fruitless = 0, 0
        while True:
            try:
                async with aclosing(self._events(job_id, last)) as events:
                    async for event in events:
                        last, fruitless = event.number, 0
                        yield event
                        if event.kind == "end":
                            return
            except (DisconnectedError, UnreachableError, StoppingError):
                pass
            now = await self._seen_again(job_id, fruitless)
            if now["state"] in _OVER:
                yield Event(last + 1, "end", {name: now[name] for name in _END if name in now})
                return
            fruitless += 1

    async def _events(self, job_id: str, after: int) -> AsyncGenerator[Event, None]:
        """Events after number `after`, until the connection ends."""
        headers = {"Accept": "text/event-stream"}
        if after:
            headers["Last-Event-ID"] = str(after)
        request = Request("GET", path("jobs", job_id, "events"), headers=headers)
        reader = EventReader()
        async with self._transport.stream(request) as content:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        data = await content.readany()
                except TimeoutError:
                    return
                if not data:
                    return
                for event in reader.feed(data):
                    yield event

    async def _seen_again(self, job_id: str, fruitless: int) -> dict[str, Any]:
        """The job, once the server answers again."""
        loop, transport = asyncio.get_running_loop(), self._transport
        deadline = loop.time() + transport.timeout_s
        while True:
            wait = transport.policy.backoff(fruitless, random.random())  # noqa: S311
            try:
                if fruitless:
                    await asyncio.sleep(wait)
                return await self.job(job_id)
            except (DisconnectedError, UnreachableError, StoppingError):
                if loop.time() + wait > deadline:
                    raise
                fruitless += 1

    async def wait(self, job_id: str, timeout: float | None = None) -> dict[str, Any]:  # noqa: ASYNC109
        """The job when it is over; raises the error that it failed with.

        Without `timeout` (seconds) it waits as long as the job takes.
        """
        limit = None if timeout is None else check_timeout(timeout)
        try:
            async with asyncio.timeout(limit):
                job = await self._end_of(job_id)
        except TimeoutError:
            raise DeadlineError(f"job {job_id} was not over within {limit:g} s") from None
        error = job_error(job)
        if error is not None:
            raise error
        return job

    async def _end_of(self, job_id: str) -> dict[str, Any]:
        async with aclosing(self.follow(job_id)) as events:
            async for _ in events:
                pass
        return await self.job(job_id)
