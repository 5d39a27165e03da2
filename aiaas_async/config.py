"""The server's settings: one flat table, each with a default, a range and one line of explanation.

Flags go over the environment (`AIAAS_…`), over the file, over the defaults. A key that does not
exist is an error wherever it stands: a setting that is silently ignored is worse than none.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from aiaas_async.errors import InvalidError
from aiaas_async.misfit import misfit
from aiaas_async.names import check_name, clip
from aiaas_async.schedule.disciplines import make_discipline

ENVIRONMENT_PREFIX: Final = "AIAAS_"
# Read by the clients, not by the server.
_CLIENT_VARIABLES: Final = frozenset({"AIAAS_URL", "AIAAS_TIMEOUT", "AIAAS_TENANT", "AIAAS_CONFIG"})


def _whole(low: int, high: int, text: str) -> Any:
    return msgspec.Meta(ge=low, le=high, description=text)


def _number(low: float, high: float, text: str) -> Any:
    return msgspec.Meta(ge=low, le=high, description=text)


def _text(text: str) -> Any:
    return msgspec.Meta(description=text)


class RuntimeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A runtime of the operator's own: `target` is "package.module:Class"."""

    target: str


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting. The descriptions are those of `config.example.toml`."""

    host: Annotated[str, _text("address to listen on; others than loopback need allow_remote")] = (
        "127.0.0.1"
    )
    port: Annotated[int, _whole(0, 65535, "port to listen on; 0 takes a free one")] = 8080
    allow_remote: Annotated[
        bool, _text("listen beyond loopback: the server asks nobody for a password")
    ] = False
    allowed_hosts: Annotated[
        tuple[str, ...], _text('names that requests may carry in Host; "*" allows all')
    ] = ("127.0.0.1", "localhost", "::1")
    data_dir: Annotated[str, _text("folder of the registry, artifacts, data sets and jobs")] = (
        "aiaas-data"
    )
    nodes: Annotated[
        int,
        _whole(
            0, 256, "nodes at first, 0: one a core; who joins or leaves is kept until this changes"
        ),
    ] = 0
    worker_threads: Annotated[
        int,
        _whole(1, 256, "BLAS threads of each worker; nodes times threads above the cores slows"),
    ] = 1
    lend_cores: Annotated[
        bool, _text("a node that works alone may use the cores of idle nodes, where that is faster")
    ] = True
    worker_memory_mb: Annotated[
        int, _whole(0, 1 << 24, "address space a worker may use, in MiB, 128 at least; 0: no limit")
    ] = 0
    node_memory_mb: Annotated[
        int,
        _whole(
            1, 1 << 24, "weights a node keeps loaded, in MiB; beyond, the least recently used go"
        ),
    ] = 4096
    points_per_node: Annotated[
        int, _whole(1, 4096, "points of each node on the hash ring; more balance better")
    ] = 320
    load_factor: Annotated[
        float, _number(1.05, 100.0, "a node takes at most this many times the mean load")
    ] = 1.25
    mailbox_items: Annotated[
        int, _whole(1, 1 << 20, "requests that may wait at a node; beyond, 503")
    ] = 1024
    mailbox_mb: Annotated[int, _whole(1, 1 << 20, "MiB of requests that may wait at a node")] = 256
    schedule: Annotated[
        str, _text("order of what waits at a node: fifo, priority, sjf, edf or fair")
    ] = "fair"
    max_batch_size: Annotated[
        int, _whole(1, 65536, "items that go to a worker as one batch, at most")
    ] = 32
    max_delay_ms: Annotated[
        float, _number(0.0, 10_000.0, "how long a batch that is not full waits for company")
    ] = 0.0
    timeout_ms: Annotated[
        int,
        _whole(
            1, 86_400_000, "time a request has when it names none, and a batch in a worker at least"
        ),
    ] = 30_000
    max_timeout_ms: Annotated[int, _whole(1, 86_400_000, "time a request may ask for, at most")] = (
        600_000
    )
    load_timeout_s: Annotated[
        float, _number(1.0, 86_400.0, "time a worker has to load a version")
    ] = 300.0
    max_body_mb: Annotated[
        int, _whole(1, 4096, "largest body of a call in MiB; uploads of files are not bound by it")
    ] = 64
    max_file_mb: Annotated[int, _whole(1, 1 << 24, "largest uploaded file in MiB")] = 65_536
    storage_mb: Annotated[
        int,
        _whole(0, 1 << 30, "MiB of uploaded files (layouts come on top); 0: what the disk has"),
    ] = 0
    in_flight_body_mb: Annotated[
        int,
        _whole(1, 1 << 20, "MiB of requests not answered and replies not read yet; beyond, 503"),
    ] = 1024
    read_timeout_s: Annotated[
        float, _number(0.1, 3600.0, "time a body has to arrive, or an upload's next piece")
    ] = 30.0
    body_grace_s: Annotated[
        float, _number(0.01, 3600.0, "time a body, or the reader of a reply, may be slow at first")
    ] = 5.0
    body_min_kib_s: Annotated[
        int, _whole(0, 1 << 20, "KiB a second of a body, or a reply, after that; 0: any pace")
    ] = 64
    max_connections: Annotated[
        int, _whole(0, 1 << 20, "connections open at once; beyond, 503; 0: no limit")
    ] = 1000
    max_connections_per_address: Annotated[
        int,
        _whole(0, 1 << 20, "connections from one other machine; beyond, 429; 0: no limit"),
    ] = 100
    keepalive_s: Annotated[
        float, _number(0.0, 3600.0, "how long an idle connection is kept open")
    ] = 75.0
    running_jobs: Annotated[int, _whole(1, 64, "jobs that run at once; further ones wait")] = 1
    job_nice: Annotated[
        int, _whole(0, 19, "niceness of training processes, so that calls go first")
    ] = 10
    grace_s: Annotated[
        float, _number(0.0, 3600.0, "time that requests and jobs have to end at shutdown")
    ] = 20.0
    log_level: Annotated[str, _text("debug, info, warning or error")] = "info"
    access_log: Annotated[bool, _text("one JSON line on stderr for each request")] = False
    stall_ms: Annotated[
        float, _number(1.0, 60_000.0, "a stall of the event loop this long is logged and counted")
    ] = 100.0
    trace_endpoint: Annotated[
        str,
        _text(
            "where OpenTelemetry traces go, e.g. http://127.0.0.1:4318/v1/traces (extra [otel]); "
            "empty: nowhere"
        ),
    ] = ""
    trace_ratio: Annotated[
        float, _number(0.0, 1.0, "share of requests traced, where the caller leaves it to us")
    ] = 1.0
    tenants: Annotated[
        dict[str, Annotated[float, msgspec.Meta(ge=0.01, le=100.0)]],
        _text("weights of tenants where the schedule is fair: [tenants] NAME = 2.0; others have 1"),
    ] = {}
    runtimes: Annotated[
        dict[str, RuntimeSettings], _text("own runtimes: [runtimes.NAME] target = 'module:Class'")
    ] = {}

    @property
    def folder(self) -> Path:
        """`data_dir` as an absolute path."""
        return Path(self.data_dir).expanduser().absolute()

    @property
    def node_count(self) -> int:
        return self.nodes or len(os.sched_getaffinity(0))


# Tables of any names, as the example shows them.
TABLES: Final = {
    "tenants": (
        "# Weights of tenants (header X-Tenant) where the schedule is fair; others have 1:",
        "# [tenants]",
        "# research = 0.5",
        "# shop = 4.0",
    ),
    "runtimes": (
        "# Runtimes of your own (trusted code that is installed beside the server):",
        "# [runtimes.my_runtime]",
        '# target = "my_package.my_module:MyRuntime"',
    ),
}
FIELDS: Final = {field.name: field for field in msgspec.structs.fields(Settings)}
# What may follow the prefix.
_VARIABLES: Final = [
    *(name.upper() for name in FIELDS),
    *sorted(each.removeprefix(ENVIRONMENT_PREFIX) for each in _CLIENT_VARIABLES),
]
_LEAST_WORKER_MB: Final = 128
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings in force. Raises `InvalidError` naming the key and where it stands."""
    values: dict[str, Any] = {}
    if file is not None:
        values |= _checked(_known(_read(file), f"{file}"), lambda key: f"{file}: setting {key}")
    values |= _from_environment(environment or {})
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    values |= _checked(given, lambda key: f"--{key.replace('_', '-')}")
    return check_settings(msgspec.convert(values, Settings, strict=True))


def check_settings(settings: Settings) -> Settings:
    """Raise `InvalidError` where settings contradict each other."""
    if settings.host not in LOOPBACK and not settings.allow_remote:
        raise InvalidError(
            f"host {clip(settings.host)} is reachable from other machines, and the server asks "
            "nobody for a password: set allow_remote = true (--allow-remote) if that is meant"
        )
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise InvalidError(
            f"log_level must be debug, info, warning or error, got {clip(settings.log_level)}"
        )
    if settings.trace_endpoint and not settings.trace_endpoint.startswith(("http://", "https://")):
        raise InvalidError(
            "trace_endpoint must be a URL, e.g. http://127.0.0.1:4318/v1/traces, got "
            f"{clip(settings.trace_endpoint)}"
        )
    if 0 < settings.worker_memory_mb < _LEAST_WORKER_MB:
        raise InvalidError(
            f"worker_memory_mb must be 0 (no limit) or {_LEAST_WORKER_MB} at least, got "
            f"{settings.worker_memory_mb}: a worker takes 115 MiB of address space before it has "
            "loaded anything"
        )
    make_discipline(settings.schedule)
    cores = len(os.sched_getaffinity(0))
    threads = settings.worker_threads
    if threads > 1 and threads * settings.node_count > cores:
        raise InvalidError(
            f"{settings.node_count} nodes with {threads} BLAS threads each on {cores} cores run 2 "
            "to 5 times slower than one thread each: lower nodes or worker_threads"
        )
    for name in settings.tenants:
        check_name(name, "tenant")
    for name in settings.runtimes:
        check_name(name, "runtime")
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise InvalidError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"{file} is not TOML: {error}") from error


def _known(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key in values:
        if key not in FIELDS:
            raise InvalidError(f"{where}: there is no setting {clip(key)}{_hint(key, FIELDS)}")
    return dict(values)


def _hint(key: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(key, list(known), 1)
    return f"; did you mean {prefix}{near[0]}?" if near else "; config.example.toml lists them"


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in _CLIENT_VARIABLES:
            key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            if key not in FIELDS:
                hint = _hint(key.upper(), _VARIABLES, ENVIRONMENT_PREFIX)
                raise InvalidError(f"environment: {clip(variable)} is no setting{hint}")
            found[key] = _parsed(key, text)
    return found


def _parsed(key: str, text: str) -> Any:
    """A variable's text as the field's type; msgspec says what does not fit."""
    kind = FIELDS[key].type
    if kind == Annotated[tuple[str, ...], kind.__metadata__[0]]:
        return [part.strip() for part in text.split(",") if part.strip()]
    if key in TABLES:
        raise InvalidError(f"{key} can be set in the configuration file only")
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _refused(f"{ENVIRONMENT_PREFIX}{key.upper()}", key, text, error) from error


def _checked(values: dict[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
    """`values`, each of its field's type; `place` says where one stands."""
    for key, value in values.items():
        try:
            msgspec.convert(value, FIELDS[key].type, strict=True)
        except msgspec.ValidationError as error:
            raise _refused(place(key), key, value, error) from error
    return values


def _refused(where: str, key: str, value: Any, error: msgspec.ValidationError) -> InvalidError:
    allowed = _allowed(msgspec.inspect.type_info(FIELDS[key].type))
    if allowed is None:
        return InvalidError(misfit(error, value, FIELDS[key].type, where))
    return InvalidError(f"{where}: must be {allowed}, got {clip(value)}")


def _allowed(kind: msgspec.inspect.Type) -> str | None:
    """What a setting may be, in words; None for a table, where the validator names the place."""
    if isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        what = "a whole number" if isinstance(kind, msgspec.inspect.IntType) else "a number"
        return f"{what} from {kind.ge} to {kind.le}"
    if isinstance(kind, msgspec.inspect.BoolType):
        return "true or false"
    if isinstance(kind, msgspec.inspect.StrType):
        return "a text"
    return "an array of texts" if isinstance(kind, msgspec.inspect.VarTupleType) else None


def example() -> str:
    """The text of `config.example.toml`."""
    lines = [
        "# Every setting of `aiaas serve` with its default. Flags go over the environment",
        "# (AIAAS_PORT=9000 …), over this file, over the defaults.",
    ]
    defaults = Settings()
    for name, field in FIELDS.items():
        if name in TABLES:
            lines += ["", *TABLES[name]]
            continue
        lines += ["", f"# {_explanation(field.type)}", f"{name} = {_toml(getattr(defaults, name))}"]
    return "\n".join(lines) + "\n"


def _explanation(kind: Any) -> str:
    text: str = kind.__metadata__[0].description
    return text[0].upper() + text[1:] + "."


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
