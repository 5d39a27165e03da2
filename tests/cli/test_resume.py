"""Cancelling says what is left and how to go on; resuming follows the job to its end."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from aiaas_async.cli import training
from aiaas_async.client import Client
from aiaas_async.client.failures import DisconnectedError, UnreachableError
from aiaas_async.errors import AiaasError
from tests.cli.serving import Shell
from tests.http.conftest import serving
from tests.http.test_jobs import store
from tests.http.test_resume import cancelled, half_done


async def test_a_cancelled_training_goes_on_from_the_command_line(scratch: Path) -> None:
    async with serving(scratch) as served:
        shell = Shell(served)
        await store(served.api)
        job = await cancelled(served.api)
        told = (await shell(f"jobs {job} --cancel")).output
        assert f"job {job} has ended already: cancelled\ntraining stopped after step " in told
        assert f"`aiaas jobs {job} --resume` lets it go on" in told
        followed = (await shell(f"jobs {job} --follow", status=1)).stderr
        assert f"a checkpoint is kept; `aiaas jobs {job} --resume` lets it go on\n" in followed
        told = (await shell(f"jobs {job} --resume")).stdout
        assert told.startswith("m:1.0 committed after 300 epochs, ")
        refused = (await shell(f"jobs {job} --resume", status=1)).stderr
        assert refused == (
            f"error: job {job} is succeeded; only one that was cancelled or failed is resumed\n"
        )


async def test_a_resumed_job_may_be_left_alone(scratch: Path) -> None:
    async with serving(scratch) as served:
        shell = Shell(served)
        await store(served.api)
        job = await cancelled(served.api)
        assert (await shell(f"jobs {job} --resume --detach")).output == f"job {job} is queued\n"
        assert (await shell.json(f"jobs {job} --follow"))["state"] == "succeeded"


async def test_a_cancelled_batch_names_its_results_and_goes_on(scratch: Path) -> None:
    async with half_done(scratch) as (served, job):
        shell = Shell(served)
        told = (await shell(f"jobs {job} --cancel")).output
        assert f"job {job} has ended already: cancelled\nstopped after " in told
        assert "results are in data set twice: resume the job to have it filled" in told
        assert "500 items into twice" in (await shell(f"jobs {job} --resume")).stdout


@pytest.mark.parametrize("lost", [UnreachableError, DisconnectedError])
def test_who_follows_a_job_while_the_server_stops_is_told_where_to_find_it(
    lost: type[AiaasError],
) -> None:
    client = Mock(spec=Client)
    client.follow.side_effect = lost("nobody answers")
    again = "the job goes on with the server, and `aiaas jobs j --follow` shows it again"
    with pytest.raises(lost) as caught:
        training._followed(client, "j")
    assert caught.value.message == f"nobody answers; {again}"
