"""`/v2/logging`: what the server logs, switched while it runs. Where it logs to stays the
operator's business."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from aiaas_async.errors import InvalidError
from aiaas_async.http.v2exchange import control_object, reply, unsupported
from aiaas_async.names import clip

PACKAGE: Final = "aiaas_async"  # verbose lines are ours alone, not those of libraries
_FORMATS: Final = {"default": None, "ISO8601": "%Y-%m-%dT%H:%M:%S%z"}


class LogSettings(msgspec.Struct, frozen=True):
    """In the protocol's words. A verbose level above 0 logs what is for finding faults."""

    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose_level: int = 0
    log_format: str = "default"


_KINDS: Final = {
    "log_info": bool,
    "log_warning": bool,
    "log_error": bool,
    "log_verbose_level": int,
    "log_format": str,
}
_NAMES: Final = {bool: "boolean", int: "unsigned-integer", str: "string"}


def updated(settings: LogSettings, wanted: Mapping[str, Any]) -> LogSettings:
    """`settings` with what is `wanted`; null leaves a setting as it is. Raises `InvalidError`."""
    given = {name: value for name, value in wanted.items() if value is not None}
    for name, value in given.items():
        if name not in _KINDS:
            raise InvalidError(f"no log setting is called {clip(name)}; known: {', '.join(_KINDS)}")
        kind = _KINDS[name]
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**31):
            said = _NAMES[kind]
            raise InvalidError(
                f"Unable to parse '{name}': attempt to access JSON non-{said} as {said}"
            )
    found = msgspec.structs.replace(settings, **given)
    if found.log_format not in _FORMATS:
        raise InvalidError(f"invalid argument for --log_format, got: {clip(found.log_format)}")
    return found


class Levels(logging.Filter):
    """Lets through what the settings let through; put on the handlers of the root logger."""

    settings = LogSettings()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return self.settings.log_verbose_level > 0
        if record.levelno < logging.WARNING:
            return self.settings.log_info
        if record.levelno < logging.ERROR:
            return self.settings.log_warning
        return self.settings.log_error


class Logs:
    """The process's logging as this protocol sees it. Untouched until it is first changed."""

    def __init__(self) -> None:
        self._levels = Levels()
        self._changed = False

    @property
    def settings(self) -> LogSettings:
        if self._changed:
            return self._levels.settings
        level = logging.getLogger(PACKAGE).getEffectiveLevel()
        return LogSettings(
            log_info=level <= logging.INFO,
            log_warning=level <= logging.WARNING,
            log_verbose_level=int(level < logging.INFO),
        )

    def change(self, settings: LogSettings) -> None:
        """From now on log as `settings` say."""
        self._changed = True
        self._levels.settings = settings
        root, verbose = logging.getLogger(), settings.log_verbose_level > 0
        root.setLevel(logging.INFO)
        logging.getLogger(PACKAGE).setLevel(logging.DEBUG if verbose else logging.NOTSET)
        for handler in root.handlers:
            handler.addFilter(self._levels)  # once, however often it is added
            if handler.formatter is not None:
                handler.formatter.datefmt = _FORMATS[settings.log_format]


LOGS: web.AppKey[Logs] = web.AppKey("v2_logs", Logs)


async def log_settings(request: web.Request) -> web.StreamResponse:
    return _told(request.app[LOGS].settings)


async def change_log_settings(request: web.Request) -> web.StreamResponse:
    wanted = await control_object(request)
    if wanted.pop("log_file", None) is not None:
        return unsupported("log file location can not be updated through network protocol")
    logs = request.app[LOGS]
    logs.change(updated(logs.settings, wanted))
    return _told(logs.settings)


def _told(settings: LogSettings) -> web.Response:
    return reply({"log_file": "", **msgspec.structs.asdict(settings)})
