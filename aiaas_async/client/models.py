"""Models: register, find, call, differentiate, name by alias, delete."""

# ruff: noqa: ASYNC109, PLR0913 - a deadline is sent to the server, and options are keywords
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from aiaas_async.client.address import path
from aiaas_async.client.answers import (
    CallAnswer,
    GradientAnswer,
    LossAnswer,
    call_answer,
    gradient_answer,
    loss_answer,
)
from aiaas_async.client.body import Encoded
from aiaas_async.client.request import Request
from aiaas_async.client.surface import Surface, field_of, object_of
from aiaas_async.client.values import pack_all
from aiaas_async.names import LATEST

# The server reads a whole artifact before it vouches for it.
COMMIT_TIMEOUT_S: Final = 120.0
_PAGE: Final = 1000

Wrt = Literal["inputs", "parameters", "both"]


class ModelMethods(Surface):
    async def register(
        self, metadata: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> dict[str, Any]:
        """Store the metadata of a version: `name`, `version`, `inputs`, `outputs`, …

        The same again is fine; other metadata for the same version raises `ConflictError`.
        """
        stored: dict[str, Any] = await self._post("/register", object_of(metadata, fields))
        return stored

    async def discover(
        self, query: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> dict[str, Any]:
        """The best match's metadata; its `matches` are all of them, ranked.

        Raises `NoMatchError`, whose details say why the near misses failed.
        """
        found: dict[str, Any] = await self._post("/discover", object_of(query, fields))
        return found

    async def call(
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
        """Run a model on `inputs` (or on keywords, where no name clashes with an option).

        An array of exactly the signature's shape is one item; one more dimension is a batch.
        `call(model=…, inputs={…})` means the same, as for `loss` and `gradient`.
        Without `model` the one that takes exactly these inputs is called.
        """
        if arrays.keys() == {"inputs"} and isinstance(arrays["inputs"], Mapping):
            arrays = dict(arrays["inputs"])  # as `loss` and `gradient` take them
        packed = pack_all({**(inputs or {}), **arrays}, "input")
        options = {"model": model, "version": version, "key": key}
        options["outputs"] = None if outputs is None else list(outputs)  # type: ignore[assignment]
        body = object_of({"inputs": packed}, options)
        return call_answer(await self._post("/call", body, timeout=timeout, timed=True))

    async def loss(
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
        """The loss of a model's output against `targets`."""
        body = _examples(inputs, targets, loss=loss, output=output)
        where = version_path(model, version) + "/loss"
        return loss_answer(await self._post(where, body, timeout=timeout, timed=True))

    async def gradient(
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
        """The gradients of the loss by the inputs, the parameters, or both."""
        body = _examples(inputs, targets, loss=loss, output=output, wrt=wrt)
        where = version_path(model, version) + "/gradient"
        return gradient_answer(await self._post(where, body, timeout=timeout, timed=True))

    async def load(
        self,
        name: str,
        version: str = LATEST,
        *,
        pin: bool = False,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Load a version before its first call; a pinned one is never evicted."""
        where = version_path(name, version) + "/load"
        facts: dict[str, Any] = await self._post(where, {"pin": pin}, timeout=timeout, timed=True)
        return facts

    async def unload(self, name: str, version: str = LATEST) -> None:
        """Free a version's memory on every node."""
        await self._post(version_path(name, version) + "/unload", {})

    async def models(self) -> list[dict[str, Any]]:
        """Every model, in the order of their names."""
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = await self._get("/models", after=after, limit=_PAGE)
            found += field_of(page, "models")
            after = page.get("next")
            if after is None:
                return found

    async def model(self, name: str) -> dict[str, Any]:
        """A model's versions and aliases."""
        facts: dict[str, Any] = await self._get(path("models", name))
        return facts

    async def version(self, name: str, version: str = LATEST) -> dict[str, Any]:
        """A version's metadata, state and files."""
        facts: dict[str, Any] = await self._get(version_path(name, version))
        return facts

    async def release(self, name: str, version: str) -> dict[str, Any]:
        """A candidate, whose gate did not hold, is one no longer: `latest` may choose it."""
        facts: dict[str, Any] = await self._post(version_path(name, version) + "/release", {})
        return facts

    async def delete_model(self, name: str) -> None:
        await self._delete(path("models", name))

    async def delete_version(
        self, name: str, version: str, *, only_uncommitted: bool = False
    ) -> None:
        """With `only_uncommitted` a version that is committed raises `ConflictError` and stays."""
        only = {"state": "registered"} if only_uncommitted else {}
        await self._delete(version_path(name, version), **only)

    async def alias(self, name: str, alias: str) -> dict[str, Any]:
        """What an alias points at, and its `revision`."""
        facts: dict[str, Any] = await self._get(path("models", name, "aliases", alias))
        return facts

    async def set_alias(
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
        """Point an alias at a version. With `expected`, the revision it is believed to have
        (0: none yet), it raises `PreconditionError` when somebody was faster.

        The version `canary` gets a share `weight` of the calls, `shadow` a copy of each.
        """
        headers = {"If-Match": f'"{expected}"'} if expected else {}
        if expected == 0:
            headers = {"If-None-Match": "*"}
        traffic = {"canary": canary, "weight": weight, "shadow": shadow}
        request = Request(
            "PUT",
            path("models", name, "aliases", alias),
            Encoded(object_of({"version": version}, traffic)),
            headers=headers,
            # After a success that got lost the same condition would fail.
            repeatable=expected is None,
        )
        moved: dict[str, Any] = (await self._transport.send(request)).value()
        return moved

    async def roll_back_alias(self, name: str, alias: str) -> dict[str, Any]:
        """Point an alias at the version it had before; raises `ConflictError` without one."""
        moved: dict[str, Any] = await self._post(
            path("models", name, "aliases", alias, "rollback"), {}, repeatable=False
        )
        return moved

    async def delete_alias(self, name: str, alias: str) -> None:
        await self._delete(path("models", name, "aliases", alias))


def version_path(name: str, version: str) -> str:
    return path("models", name, "versions", version)


def _examples(
    inputs: Mapping[str, Any], targets: Mapping[str, Any], **options: str | None
) -> dict[str, Any]:
    packed = {"inputs": pack_all(inputs, "input"), "targets": pack_all(targets, "target")}
    return object_of(packed, options)
