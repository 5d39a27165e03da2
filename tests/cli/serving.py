"""A server in the test's own loop, and the command line beside it in a thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from click.testing import CliRunner, Result

from aiaas_async.cli.main import main
from tests.http.conftest import Served


class Shell:
    """Commands against `served`; each must end with the status that is expected."""

    def __init__(self, served: Served) -> None:
        self._url = served.url

    async def __call__(self, line: str, status: int = 0) -> Result:
        words = [*line.split(), "--url", self._url]
        invoke: Callable[..., Result] = CliRunner().invoke
        result = await asyncio.to_thread(invoke, main, words)
        assert result.exit_code == status, result.output
        return result

    async def json(self, line: str, status: int = 0) -> Any:
        return json.loads((await self(f"{line} --json", status)).stdout)
