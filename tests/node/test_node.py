"""A node makes batches of what waits, and gives each request exactly one answer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from aiaas_async.compute.base import Answer
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Load, Texts, Unload
from aiaas_async.errors import (
    DeadlineError,
    InputError,
    InternalError,
    MemoryBudgetError,
    OverloadedError,
    QuarantinedError,
    StoppingError,
    WorkerDiedError,
)
from aiaas_async.node.cores import Cores
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.node import Node
from aiaas_async.node.quarantine import Quarantine
from aiaas_async.node.residency import Residency
from aiaas_async.node.watchdog import Watchdog
from aiaas_async.node.work import Call, Hold, Release, Result, Servable, WorkItem
from aiaas_async.requestid import WithRequestId, request_id
from aiaas_async.schedule.origin import BATCH, Origin
from aiaas_async.wire.unread import Unread, UnreadError
from tests.node.fakes import FakeSource, FakeWorker, call, inferences, servable

Make = Callable[..., Coroutine[Any, Any, Node]]


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
async def make(source: FakeSource) -> AsyncIterator[Make]:
    nodes = []

    async def started(cores: Cores | None = None, **limits: Any) -> Node:
        node = Node("n0", source, NodeLimits(**limits), Quarantine(), cores or Cores())
        await node.start()
        nodes.append(node)
        return node

    yield started
    for node in nodes:
        await node.stop(0.0)


def ask(node: Node, of: Servable, value: float = 1.0, rows: int = 1) -> WorkItem:
    return node.submit(call(of, value, rows), 100, asyncio.get_running_loop().time() + 60)


async def test_a_node_knows_when_the_last_call_came_and_counts_no_batch_task(make: Make) -> None:
    node = await make()
    assert node.called_at == -math.inf
    now = asyncio.get_running_loop().time()
    node.submit(call(servable(), 1.0, 1), 100, now + 60, Origin(BATCH))
    assert node.called_at == -math.inf
    assert ask(node, servable()).enqueued_at == node.called_at >= now


async def test_only_calls_are_waited_for_before_a_batch_leaves(
    make: Make, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await make()
    gathered = []

    async def gather() -> None:
        gathered.append(True)

    monkeypatch.setattr(node._company, "gather", gather)
    now = asyncio.get_running_loop().time()
    task = node.submit(call(servable(), 1.0, 1), 100, now + 60, Origin(BATCH))
    await finish_all(source.workers[0], 1)
    await task.reply
    assert not gathered
    asked = ask(node, servable())
    await finish_all(source.workers[0], 1)
    await asked.reply
    assert gathered


async def test_each_call_is_answered_from_the_files_of_its_own_version(
    make: Make, source: FakeSource
) -> None:
    """One that is deleted and made anew has the name of the old one, of which calls may be left."""
    node = await make()
    old = servable()
    new, again = (
        dataclasses.replace(old, artifact=ArtifactFiles("numpy", {"w": "new"})) for _ in range(2)
    )
    for of in (old, new, again, old):
        item = ask(node, of)
        await finish_all(source.workers[0], 1)
        await item.reply
    loaded = [job.artifact for job in source.workers[0].log if isinstance(job, Load)]
    assert loaded == [old.artifact, new.artifact, old.artifact]


async def test_who_waits_for_an_answer_does_not_wait_for_the_books(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    item, seen = ask(node, servable()), list[int]()
    item.reply.add_done_callback(lambda _: seen.extend([node.statistics.batches, node.load]))
    await finish_all(source.workers[0], 1)
    await item.reply
    await asyncio.sleep(0)
    assert [*seen, node.statistics.batches, node.load] == [0, 0, 1, 0]


async def test_the_callers_are_the_first_to_hear_that_a_job_is_done(
    make: Make, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, told = await make(), list[str]()

    def tell(owner: type, name: str) -> None:
        done = getattr(owner, name)

        def telling(*given: Any) -> None:
            told.append(owner.__name__)
            done(*given)

        monkeypatch.setattr(owner, name, telling)

    tell(WorkItem, "answer")
    tell(Watchdog, "_finished")
    tell(Residency, "end")
    item = ask(node, servable())
    await source.workers[0].next()
    told.clear()  # what loading told
    source.workers[0].finish()
    await item.reply
    assert told == ["WorkItem", "Watchdog", "Residency"]


async def threads_of_next(node: Node, worker: FakeWorker, compute_us: int) -> int:
    """Ask once; how many threads the batch was given, which takes so long."""
    item = ask(node, servable())
    job = (await worker.next()).job
    assert isinstance(job, Infer)
    worker.finish(compute_us)
    await item.reply
    await asyncio.sleep(0)  # the books are kept behind it
    return job.threads


async def test_a_node_that_works_alone_borrows_the_cores_of_the_others(
    make: Make, source: FakeSource
) -> None:
    cores = Cores(4)
    node = await make(cores)
    (worker,) = source.workers
    assert [await threads_of_next(node, worker, 20_000) for _ in range(4)] == [0, 0, 0, 4]
    cores.begin("another")
    assert await threads_of_next(node, worker, 20_000) == 2
    cores.forget("another")
    assert await threads_of_next(node, worker, 6_000) == 4
    assert node.statistics.lent == 3


async def test_what_gains_nothing_by_more_threads_borrows_none(
    make: Make, source: FakeSource
) -> None:
    node = await make(Cores(4))
    (worker,) = source.workers
    found = [await threads_of_next(node, worker, 20_000) for _ in range(10)]
    assert found == [0, 0, 0, 4, 4, 4, 0, 0, 0, 4]
    await node.submit(Release(servable().id), 0, None).reply
    assert await threads_of_next(node, worker, 20_000) == 0


async def test_a_node_that_is_gone_uses_no_cores(make: Make, source: FakeSource) -> None:
    cores = Cores(4)
    node = await make(cores)
    ask(node, servable())
    await source.workers[0].next()
    assert cores.share("another", 0.0) == 2
    await node.stop(0.0)
    assert cores.share("another", 0.0) == 4


async def finish_all(worker: FakeWorker, count: int) -> None:
    for _ in range(count):
        await worker.next()
        worker.finish()


async def test_a_call_loads_its_version_and_is_answered(make: Make, source: FakeSource) -> None:
    node = await make()
    item = ask(node, servable(), 3.0)
    await finish_all(source.workers[0], 1)
    result = await item.reply
    assert result.arrays["y"].tolist() == [[6.0, 6.0]]
    assert (result.node, result.batch_size, result.compute_s) == ("n0", 1, 0.001)
    assert isinstance(source.workers[0].log[0], Load)


async def test_calls_that_wait_together_run_as_one_batch_and_each_gets_its_rows(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    model = servable()
    items = [ask(node, model, float(i), rows) for i, rows in enumerate((1, 2, 3))]
    await finish_all(source.workers[0], 1)
    results = [await item.reply for item in items]
    assert [r.arrays["y"][:, 0].tolist() for r in results] == [[0], [2, 2], [4, 4, 4]]
    assert {r.batch_size for r in results} == {6}


async def test_calls_that_arrive_in_following_turns_of_the_loop_join_the_batch(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    model = servable()
    items = []
    for value in range(4):
        items.append(ask(node, model, float(value)))
        await asyncio.sleep(0)
    await finish_all(source.workers[0], 1)
    assert [(await item.reply).batch_size for item in items] == [4, 4, 4, 4]


async def test_the_callers_of_a_long_batch_come_back_into_one_batch(
    make: Make, source: FakeSource
) -> None:
    node, model = await make(), servable()
    node.rates.record(model.id, 1, 5.0)
    items = [ask(node, model) for _ in range(3)]
    worker = source.workers[0]
    await worker.next()
    worker.finish(compute_us=15_000_000)
    for item in items:
        await item.reply
        again = ask(node, model)
        for _ in range(20):
            await asyncio.sleep(0)
    await finish_all(worker, 1)
    assert (await again.reply).batch_size == 3


async def test_nothing_is_sent_behind_a_long_batch_so_that_what_waits_leaves_together(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    model = servable()
    node.rates.record(model.id, 1, 0.05)
    first = ask(node, model)
    await source.workers[0].next()
    others = [ask(node, model) for _ in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(source.workers[0].waiting) == 1
    others += [ask(node, model) for _ in range(2)]
    await finish_all(source.workers[0], 2)
    await asyncio.gather(first.reply, *(item.reply for item in others))
    assert [job.rows for job in inferences(source.workers[0])] == [1, 4]


async def test_a_short_batch_is_sent_behind_another(make: Make, source: FakeSource) -> None:
    node = await make()
    model = servable()
    node.rates.record(model.id, 1, 0.001)
    items = [ask(node, model)]
    await source.workers[0].next()
    items.append(ask(node, model))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(source.workers[0].waiting) == 2
    await finish_all(source.workers[0], 2)
    await asyncio.gather(*(item.reply for item in items))


async def test_a_node_refuses_calls_that_would_wait_too_long_but_not_the_tasks_of_jobs(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    model = servable()
    node.rates.record(model.id, 100, 100.0)
    waiting = [ask(node, model, rows=4) for _ in range(5)]
    with pytest.raises(OverloadedError, match="of work wait already"):
        ask(node, model, rows=1)
    task = node.submit(call(model, 1.0, 1), 100, None, Origin(BATCH))
    finishing = asyncio.create_task(finish_all(source.workers[0], 100))
    await asyncio.gather(task.reply, *(item.reply for item in waiting))
    finishing.cancel()


async def test_a_call_that_is_a_batch_by_itself_is_reckoned_as_one(make: Make) -> None:
    node = await make()
    model = servable(max_batch_size=32)
    for rows in (1, 32, 1, 32, 8):
        node.rates.record(model.id, rows, 0.05)  # a row more costs next to nothing
    joins, whole = ask(node, model, rows=8), ask(node, model, rows=32)
    assert joins.work_s < joins.expected_s / 2
    assert whole.work_s == whole.expected_s


async def test_a_batch_never_exceeds_the_versions_maximum(make: Make, source: FakeSource) -> None:
    node = await make()
    model = servable(max_batch_size=2)
    items = [ask(node, model) for _ in range(5)]
    await finish_all(source.workers[0], 3)
    await asyncio.gather(*(item.reply for item in items))
    assert [job.rows for job in inferences(source.workers[0])] == [2, 2, 1]


async def test_calls_of_different_versions_never_share_a_batch(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    a, b = servable("a"), servable("b")
    items = [ask(node, m) for m in (a, b, a)]
    await finish_all(source.workers[0], 2)
    await asyncio.gather(*(item.reply for item in items))
    assert [(job.model, job.rows) for job in inferences(source.workers[0])] == [
        ("a:1", 2),
        ("b:1", 1),
    ]


async def test_a_killed_worker_costs_nobody_an_answer(make: Make, source: FakeSource) -> None:
    node = await make()
    model = servable()
    items = [ask(node, model, float(i)) for i in range(3)]
    await source.workers[0].next()
    source.workers[0].kill()
    await finish_all(await source.worker(1), 3)
    results = [await item.reply for item in items]
    assert [r.arrays["y"][0, 0] for r in results] == [0, 2, 4]
    assert [r.batch_size for r in results] == [1, 1, 1], "what met a death runs alone"


async def test_the_log_of_a_death_names_the_requests_that_were_running(
    make: Make, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    node, model = await make(), servable()
    for name in ("order-1", "order-2"):
        with request_id(name):
            ask(node, model)
    await source.workers[0].next()
    with caplog.at_level(logging.WARNING, "aiaas_async.node.node"):
        source.workers[0].kill()
        await finish_all(await source.worker(1), 2)
    (said,) = [record.getMessage() for record in caplog.records if "running" in record.message]
    assert said == "node n0: worker died running m:1; requests: order-1, order-2"


async def test_a_worker_that_dies_idle_is_replaced_at_once(make: Make, source: FakeSource) -> None:
    node = await make()
    source.workers[0].kill()
    await source.worker(1)
    assert node.status()["state"] == "serving"


async def test_a_call_whose_worker_dies_twice_is_told_so(make: Make, source: FakeSource) -> None:
    node = await make()
    item = ask(node, servable())
    for number in range(2):
        worker = await source.worker(number)
        await worker.next()
        worker.kill()
    with pytest.raises(WorkerDiedError):
        await item.reply


async def test_a_version_that_kills_three_workers_is_quarantined_and_others_serve(
    make: Make, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    source.kill_on_load = {"bad:1"}
    caplog.set_level(logging.ERROR)
    node = await make()
    bad, good = servable("bad"), servable("good")
    for _ in range(2):
        with pytest.raises((WorkerDiedError, QuarantinedError)):
            await ask(node, bad).reply
    with pytest.raises(QuarantinedError, match="bad:1"):
        ask(node, bad)
    item = ask(node, good, 1.0)
    await finish_all(await source.worker(3), 1)
    assert (await item.reply).arrays["y"][0, 0] == 2


async def test_one_bad_call_in_a_batch_fails_alone(make: Make, source: FakeSource) -> None:
    node = await make()
    model = servable()
    items = [ask(node, model, float(i)) for i in range(3)]
    worker = source.workers[0]
    await worker.next()
    worker.fail(InputError("row 1 is out of range"))
    for number in range(3):
        await worker.next()
        if number == 1:
            worker.fail(InputError("row 1 is out of range"))
        else:
            worker.finish()
    outcomes = await asyncio.gather(*(i.reply for i in items), return_exceptions=True)
    assert [isinstance(o, InputError) for o in outcomes] == [False, True, False]


async def test_an_expired_call_never_reaches_the_worker(make: Make, source: FakeSource) -> None:
    node = await make()
    model = servable(max_batch_size=1)
    blocking = [ask(node, model) for _ in range(2)]
    await source.workers[0].next()
    late = node.submit(call(model), 100, asyncio.get_running_loop().time())
    with pytest.raises(DeadlineError):
        await late.reply
    await finish_all(source.workers[0], 2)
    await asyncio.gather(*(item.reply for item in blocking))
    assert len(inferences(source.workers[0])) == 2


async def test_a_hung_worker_is_ended_when_the_patience_and_the_deadline_are_over(
    make: Make, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    node = await make(patience_s=0.01)
    item = node.submit(call(servable()), 100, asyncio.get_running_loop().time() + 0.01)
    with pytest.raises(DeadlineError):
        await item.reply
    await source.worker(1)
    assert node.statistics.deaths == 1
    said = [record.getMessage() for record in caplog.records]
    assert "node n0: its worker outlived its time; another takes its seat" in said
    assert any(s.startswith("node n0: ended: a job of m:1 outlived its time; req") for s in said)
    assert not any("died running" in each for each in said)


async def test_callers_in_a_hurry_end_no_worker_and_quarantine_nothing(
    make: Make, source: FakeSource
) -> None:
    node, model = await make(), servable()
    for _ in range(4):
        item = node.submit(call(model), 100, asyncio.get_running_loop().time() + 0.01)
        with pytest.raises(DeadlineError):
            await item.reply
        await finish_all(source.workers[0], 1)
    patient = ask(node, model, 1.0)
    await finish_all(source.workers[0], 1)
    assert (await patient.reply).arrays["y"][0, 0] == 2
    assert (len(source.workers), node.statistics.deaths) == (1, 0)


async def test_what_a_node_logs_later_does_not_carry_the_request_by_which_it_joined(
    make: Make, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(WithRequestId())
    with request_id("join-1"):
        node = await make()
    ask(node, servable())
    await source.workers[0].next()
    source.workers[0].kill()
    await finish_all(await source.worker(1), 1)
    found = {(record.getMessage(), record.__dict__["request_id"]) for record in caplog.records}
    assert {of for _, of in found} == {"-"}
    assert len(found) == 2


async def test_a_full_mailbox_refuses_with_a_time_to_retry(make: Make) -> None:
    node = await make(mailbox_items=1)
    model = servable(max_batch_size=1)
    ask(node, model)
    with pytest.raises(OverloadedError) as caught:
        ask(node, model)
    assert caught.value.retry_after


async def test_the_least_recently_used_version_makes_room(make: Make, source: FakeSource) -> None:
    node = await make(memory=250)
    a, b, c = (servable(name) for name in "abc")
    for model in (a, b, a, c):
        item = ask(node, model)
        await finish_all(source.workers[0], 1)
        await item.reply
    loads = [j.model for j in source.workers[0].log if isinstance(j, Load)]
    unloads = [j.model for j in source.workers[0].log if isinstance(j, Unload)]
    assert (loads, unloads) == (["a:1", "b:1", "c:1"], ["b:1"])


async def test_a_pinned_version_stays_and_what_cannot_fit_is_refused(make: Make) -> None:
    node = await make(memory=150)
    deadline = asyncio.get_running_loop().time() + 60
    await node.submit(Hold(servable("a"), pin=True), 1, deadline).reply
    with pytest.raises(MemoryBudgetError, match="pinned"):
        await node.submit(Hold(servable("b")), 1, deadline).reply
    await node.submit(Release("a:1"), 1, deadline).reply
    result = await node.submit(Hold(servable("b")), 1, deadline).reply
    assert result.facts["nbytes"] == 100


async def test_a_new_worker_gets_what_is_pinned_before_anybody_asks(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    deadline = asyncio.get_running_loop().time() + 60
    for name in "ab":
        await node.submit(Hold(servable(name), pin=True), 1, deadline).reply
    await node.submit(Release(servable("b").id), 1, deadline).reply
    source.workers[0].kill()
    second = await source.worker(1)
    await node.submit(Release("none:1"), 1, deadline).reply  # its turn comes after what waits
    assert second.log == [Load("a:1", servable("a").artifact)]
    assert node.status()["loaded"] == node.status()["pinned"] == ["a:1"]


async def test_stopping_finishes_what_waits(make: Make, source: FakeSource) -> None:
    node = await make()
    item = ask(node, servable(), 5.0)
    stopping = asyncio.ensure_future(node.stop(30.0))
    await finish_all(source.workers[0], 1)
    await stopping
    assert np.all(item.reply.result().arrays["y"] == 10)
    with pytest.raises(StoppingError):
        ask(node, servable())


async def test_what_does_not_finish_within_the_grace_is_answered_all_the_same(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    model = servable(max_batch_size=1)
    items = [ask(node, model) for _ in range(4)]
    await source.workers[0].next()
    await node.stop(0.0)
    outcomes = await asyncio.gather(*(i.reply for i in items), return_exceptions=True)
    assert all(isinstance(o, StoppingError | WorkerDiedError) for o in outcomes)


async def test_the_status_tells_what_is_loaded_and_how_much_fits(
    make: Make, source: FakeSource
) -> None:
    node = await make(memory=1000)
    item = ask(node, servable())
    await finish_all(source.workers[0], 1)
    await item.reply
    await asyncio.sleep(0)  # the books are kept behind it
    status = node.status()
    assert status["loaded"] == ["m:1"]
    assert status["memory"] == {"budget": 1000, "used": 100}
    assert status["statistics"]["rows"] == 1
    assert status["load"] == 0


async def lone(node: Node, source: FakeSource, model: Servable) -> None:
    """One call of `model`, long enough for the next to be sent without waiting for others."""
    item = ask(node, model)
    await source.workers[-1].next()
    source.workers[-1].finish(compute_us=5000)
    await item.reply
    await asyncio.sleep(0)


async def after_a_lone_call(make: Make, source: FakeSource) -> tuple[Node, Servable, FakeWorker]:
    """A node that had one, the version called, and the worker."""
    node, model = await make(), servable()
    await lone(node, source, model)
    return node, model, source.workers[0]


async def test_a_call_after_a_lone_long_one_is_with_the_worker_when_it_is_submitted(
    make: Make, source: FakeSource
) -> None:
    node, model, worker = await after_a_lone_call(make, source)
    item = ask(node, model, 3.0)
    assert len(worker.waiting) == 1
    assert (node.load, node.status()["mailbox"]["accepted"]) == (1, 2)
    second = ask(node, model)  # it waits as it would have
    assert len(worker.waiting) == 1
    await finish_all(worker, 2)
    assert (await item.reply).arrays["y"].tolist() == [[6.0, 6.0]]
    await second.reply
    await asyncio.sleep(0)
    assert node.load == 0


async def test_no_call_leaves_at_once_whose_version_is_not_loaded_or_waits_for_company(
    make: Make, source: FakeSource
) -> None:
    node, model, worker = await after_a_lone_call(make, source)
    items = [ask(node, servable("other"))]
    assert not worker.waiting
    await finish_all(worker, 1)
    await items[0].reply
    await lone(node, source, model)
    patient = dataclasses.replace(model, max_delay_s=0.001)
    items.append(ask(node, patient))
    assert not worker.waiting
    await finish_all(worker, 1)
    await items[1].reply


async def test_a_call_that_leaves_at_once_ends_at_its_deadline_and_with_the_node(
    make: Make, source: FakeSource
) -> None:
    node, model, worker = await after_a_lone_call(make, source)
    soon = node.submit(call(model, 1.0, 1), 100, asyncio.get_running_loop().time() + 0.001)
    assert len(worker.waiting) == 1
    with pytest.raises(DeadlineError):
        await soon.reply
    await finish_all(worker, 1)
    await lone(node, source, model)
    node._mailbox.refuse_new()
    with pytest.raises(StoppingError):
        ask(node, model)
    assert not worker.waiting
    assert node.load == 0


async def test_a_defect_while_a_call_leaves_at_once_is_told_as_such(
    make: Make, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, model, worker = await after_a_lone_call(make, source)
    monkeypatch.setattr(worker, "submit", lambda *_: 1 / 0)
    with pytest.raises(InternalError):
        await ask(node, model).reply
    await asyncio.sleep(0)
    assert node.load == 0


async def test_calls_of_which_none_was_computed_say_nothing_of_how_long_one_takes(
    make: Make, source: FakeSource
) -> None:
    node, model, worker = await after_a_lone_call(make, source)
    expected, batches = node.rates.expected_s(model.id, 1), node.statistics.batches
    item = node.submit(Call(model, {}, 1, ("y",), {"x": unread(b"[1, 2")}), 1, None)
    await worker.next()
    worker.waiting.pop(0).future.set_result(Answer({"unread": [0]}, {}, 1))
    with pytest.raises(UnreadError):
        await item.reply
    await asyncio.sleep(0)
    assert (node.rates.expected_s(model.id, 1), node.statistics.batches) == (expected, batches)
    assert node.load == 0


async def test_a_call_that_leaves_at_once_to_a_dying_worker_goes_to_the_next(
    make: Make, source: FakeSource
) -> None:
    node, model, first = await after_a_lone_call(make, source)
    item = ask(node, model, 2.0)
    first.kill()
    worker = await source.worker(1)
    await finish_all(worker, 1)
    assert (await item.reply).arrays["y"].tolist() == [[4.0, 4.0]]
    await lone(node, source, model)

    def refuse(*_: Any) -> None:
        raise WorkerDiedError("died before it was sent", {"started": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "submit", refuse)
        again = ask(node, model, 5.0)
    await finish_all(worker, 1)
    assert (await again.reply).arrays["y"].tolist() == [[10.0, 10.0]]
    await asyncio.sleep(0)
    assert node.load == 0


async def test_an_answer_that_cannot_be_taken_apart_leaves_no_node_busy(
    make: Make, source: FakeSource
) -> None:
    node, seen = await make(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: seen.append(facts))
    item = ask(node, servable())
    await source.workers[0].next()
    answer = Answer({"unread": [5]}, {"y": np.zeros((1, 2), np.float32)}, 1000)
    source.workers[0].waiting.pop(0).future.set_result(answer)
    for _ in range(3):
        await asyncio.sleep(0)
    assert (node.load, len(seen)) == (0, 1)
    item.reply.cancel()


def unread(text: bytes, rows: int = 1) -> Unread:
    return Unread((memoryview(text),), (rows, 2), lambda: np.zeros((rows, 2), np.float32))


async def test_a_call_whose_text_no_worker_can_read_fails_alone_and_at_once(
    make: Make, source: FakeSource
) -> None:
    node = await make()
    model = servable()
    texts = [b"[[1, 2], [3, 4]]", b"[[5, 6]", b"[7, 8]"]
    calls = [
        Call(model, {}, rows, ("y",), {"x": unread(text, rows)})
        for text, rows in zip(texts, (2, 1, 1), strict=True)
    ]
    read = ask(node, model, 3.0)
    items = [node.submit(each, each.cost, None) for each in calls]
    worker = source.workers[0]
    await finish_all(worker, 1)  # what is read already keeps no company with what is not
    assert (await read.reply).batch_size == 1
    sent = await worker.next()
    assert isinstance(sent.job, Infer)
    assert (sent.job.rows, sent.job.texts) == (4, (Texts("x", (2,), ((2, 16), (1, 7), (1, 6))),))
    assert b"".join(part.tobytes() for part in sent.arrays[0].parts) == b"".join(texts)
    worker.waiting.pop(0).future.set_result(
        Answer({"unread": [1]}, {"y": np.arange(8, dtype=np.float32).reshape(4, 2)}, 1000)
    )
    outcomes = await asyncio.gather(*(i.reply for i in items), return_exceptions=True)
    assert isinstance(outcomes[1], UnreadError)
    assert [o.arrays["y"].tolist() for o in outcomes if isinstance(o, Result)] == [
        [[0, 1], [2, 3]],
        [[6, 7]],
    ]
    assert not node.load
