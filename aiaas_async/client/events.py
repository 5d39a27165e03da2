"""Server-sent events (WHATWG HTML, section 9.2.6): bytes in any pieces become events."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any

import msgspec

from aiaas_async.client.failures import UnexpectedAnswerError
from aiaas_async.jobs.events import Event
from aiaas_async.names import clip


class EventReader:
    """Give it what comes; it gives back the events that are whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line = ""
        self._fields: dict[str, list[str]] = {}
        self._after_return = False

    def feed(self, data: bytes) -> list[Event]:
        """Raises `UnexpectedAnswerError` for an event that is none of a job's."""
        text = self._decoder.decode(data)
        if self._after_return and text:
            text = text.removeprefix("\n")
        if text:
            self._after_return = text.endswith("\r")
        lines = (self._line + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._line = lines.pop()
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            if name:  # a line that starts with a colon is a comment
                self._fields.setdefault(name, []).append(value.removeprefix(" "))
            return None
        fields, self._fields = self._fields, {}
        return _event(fields) if "data" in fields else None


def _event(fields: Mapping[str, list[str]]) -> Event:
    try:
        data: Any = msgspec.json.decode("\n".join(fields["data"]))
        return Event(int(fields["id"][-1]), fields["event"][-1], dict(data))
    except (KeyError, ValueError, TypeError) as error:
        raise UnexpectedAnswerError(f"this is no event of a job: {clip(dict(fields))}") from error
