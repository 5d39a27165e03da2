"""/models: versions, their files, commit, load, unload, loss, gradient, aliases."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec
from aiohttp import web

from aiaas_async.errors import DigestError, InvalidError, NotFoundError, PreconditionError
from aiaas_async.http.body import stream_body
from aiaas_async.http.exchange import (
    BUDGET,
    CONTROL_BYTES,
    PLATFORM,
    answer_codec,
    read_object,
    reply,
    tenant_of,
    timeout_of,
    whole_query,
)
from aiaas_async.http.longreply import reply_arrays
from aiaas_async.messages import render_metadata
from aiaas_async.misfit import misfit
from aiaas_async.names import ModelRef, clip
from aiaas_async.registry.catalog import Catalog
from aiaas_async.registry.records import AliasRecord, Traffic, VersionRecord
from aiaas_async.schedule.origin import Origin
from aiaas_async.service.calls import Wrt, check_wrt
from aiaas_async.service.standing import Standings

_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]+={0,2}):")
_PAGE = 100


async def list_models(request: web.Request) -> web.StreamResponse:
    """A page of models in the order of their names; `after` is the last name of the page before."""
    catalog = request.app[PLATFORM].models.catalog
    standings = request.app[PLATFORM].cluster.standings()
    limit = whole_query(request, "limit", _PAGE, 1000)
    after = request.query.get("after", "")
    names = [name for name in catalog.names() if name > after]
    page = [_render_model(catalog, name, standings) for name in names[:limit]]
    following = names[limit - 1] if 0 < limit < len(names) else None
    return reply(answer_codec(request), {"models": page, "next": following})


async def show_model(request: web.Request) -> web.StreamResponse:
    platform, name = request.app[PLATFORM], request.match_info["name"]
    facts = _render_model(platform.models.catalog, name, platform.cluster.standings())
    return reply(answer_codec(request), facts)


async def show_version(request: web.Request) -> web.StreamResponse:
    standings = request.app[PLATFORM].cluster.standings()
    return reply(answer_codec(request), _render_version(_record(request), standings))


async def delete_model(request: web.Request) -> web.StreamResponse:
    await request.app[PLATFORM].models.delete(request.match_info["name"])
    return web.Response(status=204)


async def delete_version(request: web.Request) -> web.StreamResponse:
    """`?state=registered`: only while it is not committed."""
    models, info = request.app[PLATFORM].models, request.match_info
    state = request.query.get("state")
    if state is None:
        await models.delete(info["name"], info["version"])
    elif state == "registered":
        await models.discard(ModelRef(info["name"], info["version"]))
    else:
        raise InvalidError(f"?state= must be registered or left out, got {clip(state)}")
    return web.Response(status=204)


async def put_file(request: web.Request) -> web.StreamResponse:
    platform = request.app[PLATFORM]
    ref = _record(request).ref
    settings = platform.settings
    pace = request.app[BUDGET].pace
    chunks = stream_body(request, settings.max_file_mb << 20, settings.read_timeout_s, pace)
    entry = await platform.models.upload(
        ref, request.match_info["path"], chunks, _expected_digest(request)
    )
    facts = {"path": entry.path, "sha256": entry.sha256, "size": entry.size}
    return reply(answer_codec(request), facts, 201)


async def get_file(request: web.Request) -> web.StreamResponse:
    """The file's bytes; Range is honoured."""
    record, label = _record(request), request.match_info["path"]
    for entry in record.files:
        if entry.path == label:
            # No ETag: aiohttp sends one of its own, made of the time of the last change.
            digest = base64.b64encode(bytes.fromhex(entry.sha256)).decode()
            headers = {
                "Content-Type": "application/octet-stream",
                "Repr-Digest": f"sha-256=:{digest}:",
            }
            path = await request.app[PLATFORM].models.path_of(entry)
            return web.FileResponse(path, headers=headers)
    known = ", ".join(entry.path for entry in record.files) or "none"
    raise NotFoundError(f"{record.ref} has no file {clip(label)}; files: {known}")


async def commit(request: web.Request) -> web.StreamResponse:
    platform = request.app[PLATFORM]
    record = await platform.models.commit(_record(request).ref)
    return reply(answer_codec(request), _render_version(record, platform.cluster.standings()))


async def release(request: web.Request) -> web.StreamResponse:
    """A candidate is one no longer: `latest` may choose it, though its gate did not hold."""
    platform = request.app[PLATFORM]
    record = await platform.models.release(_record(request).ref)
    return reply(answer_codec(request), _render_version(record, platform.cluster.standings()))


async def load(request: web.Request) -> web.StreamResponse:
    body, codec = await _optional_object(request)
    info = request.match_info
    pin = body.get("pin", False)
    if not isinstance(pin, bool):
        raise InvalidError(f"'pin' must be true or false, got {clip(pin)}")
    result = await request.app[PLATFORM].calls.load(
        info["name"], info["version"], pin=pin, timeout_s=timeout_of(request, body)
    )
    return reply(codec, {"node": result.node, **result.facts})


async def unload(request: web.Request) -> web.StreamResponse:
    await request.app[PLATFORM].models.unload(_record(request).ref)
    return web.Response(status=204)


async def loss(request: web.Request) -> web.StreamResponse:
    return await _differentiate(request, "nothing")


async def gradient(request: web.Request) -> web.StreamResponse:
    return await _differentiate(request, None)


async def _differentiate(request: web.Request, wrt: Wrt | None) -> web.StreamResponse:
    body, codec = await read_object(request)
    info = request.match_info
    asked = wrt or check_wrt(body.get("wrt", "both"))
    origin = Origin(tenant=tenant_of(request))
    record, result = await request.app[PLATFORM].calls.differentiate(
        info["name"], info["version"], body, asked, timeout_of(request, body), origin
    )
    answer: dict[str, Any] = {
        "model": record.ref.name,
        "version": record.ref.version,
        "loss": result.facts["loss"],
    }
    for side in ("inputs", "parameters"):
        if asked in (side, "both"):
            prefix = f"{side}/"
            answer.setdefault("gradients", {})[side] = {
                name.removeprefix(prefix): array
                for name, array in result.arrays.items()
                if name.startswith(prefix)
            }
    return await reply_arrays(request, codec, answer)


async def put_alias(request: web.Request) -> web.StreamResponse:
    """Move an alias, and share its calls with a canary or a shadow; If-Match with the ETag of an
    earlier answer makes it compare-and-set."""
    body, codec = await read_object(request, CONTROL_BYTES)
    version, traffic = _pointed(body)
    info = request.match_info
    record = await request.app[PLATFORM].models.set_alias(
        info["name"], info["alias"], version, _expected_revision(request), traffic
    )
    return reply(codec, render_alias(record), ETag=f'"{record.revision}"')


def _pointed(body: dict[str, Any]) -> tuple[str, Traffic]:
    """The version an alias is to point at, and who shares its calls."""
    version = body.pop("version", None)
    if not isinstance(version, str):
        raise InvalidError(f"'version' must be a string, got {clip(version)}")
    try:
        return version, msgspec.convert(body, Traffic, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidError(
            f"an alias is {{version, canary?, weight?, shadow?}}: {misfit(error, body, Traffic)}"
        ) from error


async def get_alias(request: web.Request) -> web.StreamResponse:
    info = request.match_info
    record = request.app[PLATFORM].models.catalog.alias(info["name"], info["alias"])
    return reply(answer_codec(request), render_alias(record), ETag=f'"{record.revision}"')


async def roll_back_alias(request: web.Request) -> web.StreamResponse:
    """The alias goes back to the version it had before; If-Match as for PUT."""
    info = request.match_info
    record = await request.app[PLATFORM].models.roll_back_alias(
        info["name"], info["alias"], _expected_revision(request)
    )
    return reply(answer_codec(request), render_alias(record), ETag=f'"{record.revision}"')


async def delete_alias(request: web.Request) -> web.StreamResponse:
    info = request.match_info
    await request.app[PLATFORM].models.delete_alias(info["name"], info["alias"])
    return web.Response(status=204)


def _record(request: web.Request) -> VersionRecord:
    info = request.match_info
    return request.app[PLATFORM].models.catalog.version(info["name"], info["version"])


async def _optional_object(request: web.Request) -> Any:
    if not request.can_read_body:
        return {}, answer_codec(request)
    return await read_object(request, CONTROL_BYTES)


def _expected_revision(request: web.Request) -> int | None:
    """The alias's revision that If-Match or If-None-Match: * asks for; None: any."""
    if request.headers.get("If-None-Match") == "*":
        return 0
    raw = request.headers.get("If-Match")
    if raw is None:
        return None
    text = raw.strip().strip('"')
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise PreconditionError(f"If-Match {clip(raw)} is no ETag of an alias; GET it for one")
    return int(text)


def _expected_digest(request: web.Request) -> str | None:
    """SHA-256 (hex) from Repr-Digest (RFC 9530), if given."""
    raw = request.headers.get("Repr-Digest")
    if raw is None:
        return None
    found = _DIGEST.search(raw)
    try:
        digest = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise DigestError(f"Repr-Digest must be sha-256=:<base64>:, got {clip(raw)}")
    return digest.hex()


def _render_model(catalog: Catalog, name: str, standings: Standings) -> dict[str, Any]:
    model = catalog.model(name)
    return {
        "name": name,
        "latest": catalog.latest(name),
        "versions": [
            {"version": record.ref.version, **_standing(record, standings)}
            for record in model.ordered()
        ],
        "aliases": {alias: record.version for alias, record in model.aliases.items()},
    }


def _standing(record: VersionRecord, standings: Standings) -> dict[str, Any]:
    """Whether a version can be called, and why not; and whether `latest` passes over it."""
    now = standings.of(record)
    return {
        "state": now.state,
        "reason": now.reason,
        "quarantined_until": now.until,
        "candidate": None if record.candidate is None else msgspec.to_builtins(record.candidate),
    }


def _render_version(record: VersionRecord, standings: Standings) -> dict[str, Any]:
    return {
        **render_metadata(record.metadata),
        **_standing(record, standings),
        "files": [{"path": e.path, "sha256": e.sha256, "size": e.size} for e in record.files],
        "nbytes": record.nbytes,
        "created_at": record.created_at,
        "committed_at": record.committed_at,
        "digest": record.digest,
    }


def render_alias(record: AliasRecord) -> dict[str, Any]:
    return {
        "alias": record.alias,
        "model": record.name,
        "version": record.version,
        "revision": record.revision,
        "previous": list(record.previous),
        **msgspec.to_builtins(record.traffic),
    }
