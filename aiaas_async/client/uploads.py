"""Artifacts: upload files, commit a version, or push a whole folder."""

# ruff: noqa: ASYNC109 - the deadline is the transport's to keep
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiaas_async.client.address import path
from aiaas_async.client.body import Progress, Streamed, stream_of
from aiaas_async.client.folder import Contents, examine
from aiaas_async.client.models import ModelMethods, version_path
from aiaas_async.client.request import Request
from aiaas_async.client.surface import field_of
from aiaas_async.errors import AiaasError, InvalidError, NotFoundError
from aiaas_async.registry.labels import check_label

# The server reads a whole artifact before it vouches for it.
COMMIT_TIMEOUT_S: Final = 120.0
WITHDRAW_TIMEOUT_S: Final = 5.0


class UploadMethods(ModelMethods):
    async def upload(
        self,
        name: str,
        version: str,
        label: str,
        source: Path | bytes,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Send one file of a version, called `label` there; `progress(sent, total)` in bytes.

        The timeout is for each megabyte, not for the whole.
        """
        return await self._upload(name, version, label, await stream_of(source, progress))

    async def _upload(self, name: str, version: str, label: str, body: Streamed) -> dict[str, Any]:
        where = version_path(name, version) + "/files" + path(*check_label(label).split("/"))
        reply = await self._transport.send(Request("PUT", where, body))
        entry: dict[str, Any] = reply.value()
        return entry

    async def commit(
        self, name: str, version: str, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Make a version immutable and callable; the server reads its files first."""
        limit = max(COMMIT_TIMEOUT_S, self._transport.timeout_s) if timeout is None else timeout
        where = version_path(name, version) + "/commit"
        facts: dict[str, Any] = await self._post(where, {}, timeout=limit)
        return facts

    async def push(
        self,
        name: str,
        version: str,
        source: Path | str,
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Register, upload and commit a file or a folder; doing it again is fine. One that fails
        takes back what it registered itself.

        Metadata comes from what is registered, else from the folder's metadata.json and
        graph.json; the fields of `metadata` go over those of the folder.
        `progress(sent, total)` is in bytes over all files.
        """
        contents = await asyncio.to_thread(examine, Path(source))
        known, ours = await self._registered(name, version, metadata, contents)
        try:
            await self._send(known, contents, progress)
            return await self.commit(name, version)
        except BaseException as failure:
            if ours:
                await self._withdraw(name, version, failure)
            raise

    async def _send(
        self, known: Mapping[str, Any], contents: Contents, progress: Progress | None
    ) -> None:
        """Upload what the version does not have yet."""
        name, version = known["name"], known["version"]
        stored = {entry["path"]: entry["sha256"] for entry in field_of(known, "files")}
        total = await asyncio.to_thread(contents.nbytes)
        before = 0
        for label, file in contents.files.items():
            body = await stream_of(file, _shifted(progress, before, total))
            if stored.get(label) != body.sha256:
                await self._upload(name, version, label, body)
            before += body.size
            if progress is not None:
                progress(before, total)

    async def _withdraw(self, name: str, version: str, failure: BaseException) -> None:
        """Delete a version whose push failed, unless it is committed after all."""
        try:
            async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                await self.delete_version(name, version, only_uncommitted=True)
        except (AiaasError, TimeoutError) as error:
            failure.add_note(f"the registration of {name}:{version} stays: {error}")

    async def _registered(
        self, name: str, version: str, metadata: Mapping[str, Any] | None, contents: Contents
    ) -> tuple[dict[str, Any], bool]:
        """The version as the server has it, and whether it was registered just now."""
        try:
            known = await self.version(name, version)
        except NotFoundError:
            known = {}
        # An alias or a specifier names a version too, but not one to push to.
        there = known.get("version") == version
        if there and metadata is None:
            contents.check_runtime(known.get("runtime", "numpy"))
            return known, False
        if metadata is None:
            metadata = contents.metadata
        elif contents.metadata is not None:  # a description alone leaves the signature be
            metadata = {**contents.metadata, **metadata}
        if metadata is None:
            missing = contents.what_is_missing()
            raise InvalidError(f"{name}:{version} is not registered, and {missing}")
        contents.check_runtime(metadata.get("runtime", "numpy"))
        await self.register({**metadata, "name": name, "version": version})
        return await self.version(name, version), not there


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of one file as progress of all."""
    if progress is None:
        return None
    return lambda sent, _: progress(before + sent, total)
