"""Models as the Open Inference Protocol sees them: found, described, loaded and unloaded.

An unload is remembered here, in memory: the platform itself would load the model again at the
next call, but clients of this protocol expect it to be refused until it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiohttp import web

from aiaas_async.errors import AiaasError, InvalidError, NotFoundError, NotReadyError
from aiaas_async.http.exchange import PLATFORM
from aiaas_async.http.v2config import limits_for, platform_of
from aiaas_async.http.v2statistics import loaded_by, render
from aiaas_async.messages import Metadata, TensorSpec
from aiaas_async.names import LATEST, ModelRef
from aiaas_async.registry.records import ModelRecord, VersionRecord
from aiaas_async.service.platform import Platform
from aiaas_async.service.standing import Standing
from aiaas_async.wire.open_inference import Model
from aiaas_async.wire.sequences import split_controls
from aiaas_async.wire.v2tensors import DATATYPES

MAX_KEPT: Final = 1024  # what is not kept is made again in a few microseconds


class OpenInference:
    """What this protocol unloaded, and what requests are checked against. A version that is
    deleted and committed anew is another one."""

    def __init__(self) -> None:
        self._unloaded: set[tuple[ModelRef, float | None]] = set()
        self._models: dict[ModelRef, tuple[Metadata, Model]] = {}

    def model_for(self, record: VersionRecord) -> Model:
        """What requests for `record` are checked against."""
        known = self._models.get(record.ref)
        if known is None or known[0] is not record.metadata:
            inputs, controls = split_controls(record.metadata.inputs)
            model = Model(record.ref.name, inputs, record.metadata.outputs, controls)
            if len(self._models) >= MAX_KEPT:
                self._models.clear()
            known = self._models[record.ref] = (record.metadata, model)
        return known[1]

    def is_ready(self, record: VersionRecord) -> bool:
        if record.state != "ready":
            return False
        return not self._unloaded or (record.ref, record.committed_at) not in self._unloaded

    def unload(self, model: ModelRecord, known: Iterable[VersionRecord]) -> None:
        """`known` are all versions there are: what was deleted is forgotten."""
        self._unloaded &= {(r.ref, r.committed_at) for r in known}
        self._unloaded |= {(r.ref, r.committed_at) for r in model.versions.values()}

    def load(self, name: str) -> None:
        self._unloaded = {(ref, at) for ref, at in self._unloaded if ref.name != name}


V2: web.AppKey[OpenInference] = web.AppKey("v2", OpenInference)


def find(app: web.Application, name: str, version: str | None) -> VersionRecord:
    """Raises `NotFoundError` in the reference server's words, `InvalidError`."""
    catalog = app[PLATFORM].models.catalog
    try:
        return catalog.version(name, LATEST if version is None else version)
    except NotFoundError:
        if version is None or catalog.find(name) is None:
            raise _unknown(f"'{name[:80]}' is not found") from None
        missing = _unknown(f"'{name}' version {version[:80]} is not found")
    if not version.isascii() or not version.isdigit() or len(version) > 12:
        raise missing
    try:
        return catalog.version(name, f"=={int(version)}")
    except NotFoundError:
        raise missing from None


def _unknown(what: str) -> NotFoundError:
    return NotFoundError(f"Request for unknown model: {what}")


def ready_version(app: web.Application, name: str, version: str | None) -> VersionRecord:
    """Like `find`; raises `NotReadyError` for what is not to be called."""
    record = find(app, name, version)
    if app[V2].is_ready(record):
        return record
    if version is None:
        raise NotReadyError(f"Request for unknown model: '{name}' has no available versions")
    raise NotReadyError(
        f"Request for unknown model: '{name}' version {record.ref.version} is not at ready state"
    )


def called_version(app: web.Application, record: VersionRecord, version: str | None) -> str:
    """What a call that found `record` is to name: the alias it came by, which may share its calls
    among versions, else the version itself."""
    if version is None:
        return record.ref.version
    model = app[PLATFORM].models.catalog.model(record.ref.name)
    by_alias = version in model.aliases and version not in model.versions
    return version if by_alias else record.ref.version


def metadata_of(platform: Platform, record: VersionRecord) -> dict[str, Any]:
    model = platform.models.catalog.model(record.ref.name)
    versions = [known.ref.version for known in model.ordered() if known.state == "ready"]
    return {
        "name": record.ref.name,
        "versions": versions,
        "platform": platform_of(record),
        "inputs": [_tensor(spec) for spec in split_controls(record.metadata.inputs)[0]],
        "outputs": [_tensor(spec) for spec in record.metadata.outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1, *(spec.shape or ())]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype or ""], "shape": shape}


def statistics_of(app: web.Application, asked: Mapping[str, str]) -> list[dict[str, Any]]:
    """Of the version `asked` for, of a model's ready versions, or of all."""
    if "name" not in asked:
        records = list(app[PLATFORM].models.catalog.versions())
    elif "version" in asked:
        records = [ready_version(app, asked["name"], asked["version"])]
    else:
        model = ready_version(app, asked["name"], None).ref.name
        records = list(app[PLATFORM].models.catalog.model(model).ordered())
    platform = app[PLATFORM]
    loaded = loaded_by(platform.cluster.nodes.values())
    return [
        render(platform.models.statistics.seen(record.ref), record, loaded)
        for record in records
        if app[V2].is_ready(record)
    ]


def index(app: web.Application, *, only_ready: bool) -> list[dict[str, Any]]:
    """Every version there is, with its state."""
    shown, standings = [], app[PLATFORM].cluster.standings()
    for record in app[PLATFORM].models.catalog.versions():
        now = standings.of(record)
        is_ready = now.state == "ready" and app[V2].is_ready(record)
        if only_ready and not is_ready:
            continue
        row = {"name": record.ref.name, "version": record.ref.version}
        state = "READY" if is_ready else "UNAVAILABLE"
        reason = {} if is_ready else {"reason": _reason(now)}
        shown.append({**row, "state": state, **reason})
    return shown


def _reason(now: Standing) -> str:
    if now.state == "ready":
        return "unloaded"
    return now.reason or "its files are not committed"


async def load(app: web.Application, name: str, body: Mapping[str, Any], timeout_s: float) -> None:
    """Load the latest version of a model on the node its calls go to."""
    platform = app[PLATFORM]
    model = platform.models.catalog.find(name)
    if model is None:
        raise InvalidError(f"failed to load '{name[:80]}', no such model is registered")
    try:
        limits = limits_for(platform, find(app, name, None), body.get("parameters"))
        platform.models.set_batching(name, limits)
        await platform.calls.load(name, LATEST, pin=False, timeout_s=timeout_s)
    except AiaasError as error:
        error.message = f"failed to load '{name}', {error.message}"
        raise
    app[V2].load(name)


async def unload(app: web.Application, name: str) -> None:
    """Free every version of a model."""
    model = app[PLATFORM].models.catalog.find(name)
    if model is None:
        raise InvalidError(f"failed to unload '{name[:80]}', no such model is registered")
    app[V2].unload(model, app[PLATFORM].models.catalog.versions())
    for record in model.ordered():
        await app[PLATFORM].models.unload(record.ref)
