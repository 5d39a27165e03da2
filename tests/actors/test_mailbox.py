"""A mailbox is bounded in items and bytes, and whoever it took or refused gets an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.actors.envelope import Envelope
from aiaas_async.actors.mailbox import MAX_RETRY_S, MIN_RETRY_S, Mailbox
from aiaas_async.errors import DeadlineError, OverloadedError, QuotaError, StoppingError

Mail = Envelope[str, str]


def mail(text: str, cost: int = 1, deadline: float | None = None) -> Mail:
    return Envelope(text, cost, deadline, asyncio.get_running_loop())


def mailbox(items: int = 8, size: int = 100) -> Mailbox[Mail]:
    return Mailbox(items, size)


async def test_envelopes_are_taken_in_the_order_they_came() -> None:
    box = mailbox()
    for text in "abc":
        box.put_nowait(mail(text))
    taken = [box.take_nowait(0.0) for _ in range(4)]
    assert [e and e.message for e in taken] == ["a", "b", "c", None]


async def test_a_mailbox_full_by_items_refuses_and_says_when_to_come_back() -> None:
    box = mailbox(items=2)
    box.put_nowait(mail("a"))
    box.put_nowait(mail("b"))
    with pytest.raises(OverloadedError) as caught:
        box.put_nowait(mail("c"))
    assert caught.value.retry_after is not None
    assert MIN_RETRY_S <= caught.value.retry_after <= MAX_RETRY_S
    assert box.statistics().refused == 1


async def test_a_mailbox_full_by_bytes_refuses() -> None:
    box = mailbox(size=10)
    box.put_nowait(mail("a", cost=6))
    with pytest.raises(OverloadedError):
        box.put_nowait(mail("b", cost=5))


async def test_what_passes_through_is_counted_and_ends_at_its_deadline() -> None:
    box, now = mailbox(size=10), asyncio.get_running_loop().time()
    item = mail("a", cost=1000, deadline=now + 0.001)
    box.pass_through(item)
    assert (item.taken, len(box), box.statistics().accepted) == (True, 0, 1)
    with pytest.raises(DeadlineError):
        await item.reply
    box.refuse_new()
    with pytest.raises(StoppingError):
        box.pass_through(mail("b"))


async def test_an_empty_mailbox_takes_one_envelope_of_any_size() -> None:
    box = mailbox(size=10)
    box.put_nowait(mail("a", cost=1000))
    assert len(box) == 1


async def test_what_is_not_bounded_is_taken_however_full_the_mailbox_is() -> None:
    box = mailbox(items=1, size=10)
    box.put_nowait(mail("a", cost=10))
    order = mail("order", cost=10)
    order.bounded = False
    box.put_nowait(order)
    assert [e.message for e in box] == ["a", "order"]
    box.refuse_new()
    with pytest.raises(StoppingError):
        box.put_nowait(order)


async def test_what_is_owed_is_come_to_though_nobody_waits_any_more() -> None:
    box = mailbox()
    for owed in (False, True):
        order = mail("owed" if owed else "not owed")
        order.owed = owed
        box.put_nowait(order)
        order.reply.cancel()
    taken = box.take_nowait(0.0)
    assert taken is not None
    assert taken.message == "owed"
    taken.answer("done")
    assert taken.reply.cancelled()


async def test_the_retry_time_follows_the_measured_drain_rate() -> None:
    box = mailbox(items=4)
    for text in "abcd":
        box.put_nowait(mail(text))
    for step in range(3):
        box.take_nowait(step * 2.0)
    for text in "efg":
        box.put_nowait(mail(text))
    with pytest.raises(OverloadedError) as caught:
        box.put_nowait(mail("h"))
    assert caught.value.retry_after == pytest.approx(8.0)


async def test_a_mailbox_refuses_what_would_wait_too_long_and_says_how_long_that_is() -> None:
    box = mailbox(items=1000, size=1000)
    for text in "abc":
        item = mail(text)
        item.work_s = item.expected_s = 1.5
        box.put_nowait(item)
    late = mail("d")
    late.work_s = 0.01
    assert not box.is_crowded()
    with pytest.raises(OverloadedError, match=r"4\.50 s of work wait already") as caught:
        box.put_nowait(late)
    assert caught.value.retry_after == pytest.approx(4.5)
    assert box.statistics().refused == 1
    assert box.is_crowded()
    while box.take_nowait(0.0):
        pass
    box.put_nowait(late)


async def test_what_takes_an_unknown_time_is_not_bounded_by_it() -> None:
    box = mailbox()
    slow = mail("a")
    slow.work_s = 60.0
    box.put_nowait(slow)
    box.put_nowait(mail("b"))
    assert len(box) == 2


async def test_a_refused_envelope_is_let_go_long_before_its_deadline() -> None:
    box = mailbox(items=1)
    box.put_nowait(mail("a"))
    refused = mail("b", deadline=asyncio.get_running_loop().time())
    with pytest.raises(OverloadedError):
        box.put_nowait(refused)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not refused.reply.done(), "its timer still holds it"


async def test_what_is_dropped_is_held_by_nobody() -> None:
    box = mailbox()
    far = asyncio.get_running_loop().time() + 600
    gone = [mail("a", deadline=far), mail("b", deadline=far), mail("c", deadline=far)]
    for each in gone:
        box.put_nowait(each)
    gone[0].reply.cancel()
    gone[2].reply.cancel()
    assert box.take_nowait(0.0) is gone[1]
    assert box.take_like(lambda _: True, 5, 0.0) == []
    assert [each.watched_in and each in each.watched_in for each in gone] == [False, True, False]


async def test_an_abandoned_envelope_is_dropped_when_taken() -> None:
    box = mailbox()
    first, second = mail("a"), mail("b")
    box.put_nowait(first)
    box.put_nowait(second)
    first.reply.cancel()
    assert box.take_nowait(0.0) is second
    assert box.statistics().dropped == 1


async def test_like_envelopes_are_taken_together_and_the_others_keep_their_order() -> None:
    box = mailbox()
    for text in ("a1", "b1", "a2", "b2", "a3"):
        box.put_nowait(mail(text))
    like = box.take_like(lambda e: e.message.startswith("a"), 2, 0.0)
    rest = [box.take_nowait(0.0) for _ in range(3)]
    assert [e.message for e in like] == ["a1", "a2"]
    assert [e and e.message for e in rest] == ["b1", "b2", "a3"]


async def test_closing_answers_everyone_who_waits_and_takes_nothing_more() -> None:
    box = mailbox()
    waiting = mail("a")
    box.put_nowait(waiting)
    box.close(StoppingError("going down"))
    with pytest.raises(StoppingError):
        await waiting.reply
    with pytest.raises(StoppingError):
        box.put_nowait(mail("b"))


async def test_a_waiter_wakes_when_the_first_envelope_comes() -> None:
    box = mailbox()
    waiter = asyncio.ensure_future(box.wait_nonempty())
    await asyncio.sleep(0)
    assert not waiter.done()
    box.put_nowait(mail("a"))
    await waiter


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "like", "cancel"]), st.integers(1, 40))))
def test_the_counted_bytes_are_always_those_of_the_envelopes_that_wait(
    steps: list[tuple[str, int]],
) -> None:
    async def run() -> None:
        box = mailbox(items=5, size=60)
        put: list[Mail] = []
        for action, number in steps:
            if action == "put":
                try:
                    item = mail(str(number), cost=number)
                    box.put_nowait(item)
                    put.append(item)
                except OverloadedError:
                    assert len(box) == 5 or box.statistics().size + number > 60
            elif action == "take":
                box.take_nowait(0.0)
            elif action == "like":
                box.take_like(lambda e, n=number: e.cost % 2 == n % 2, 3, 0.0)  # type: ignore[misc]
            elif put:
                put[number % len(put)].reply.cancel()
            statistics = box.statistics()
            assert statistics.items <= 5
            assert statistics.size <= 60
            assert (statistics.size == 0) == (statistics.items == 0)

    asyncio.run(run())


@dataclass
class Seat:
    """A discipline of one tenant's letters, the newest of which gives way to what costs less."""

    held: list[Mail] = field(default_factory=list)

    def push(self, item: Mail) -> None:
        self.held.append(item)

    def pop(self) -> Mail:
        return self.held.pop(0)

    def take_like(self, fits: Callable[[Mail], bool], limit: int) -> list[Mail]:
        raise NotImplementedError

    def give_way(self, item: Mail) -> Mail | None:
        return self.held.pop() if self.held and item.cost < self.held[-1].cost else None

    def __len__(self) -> int:
        return len(self.held)

    def __iter__(self) -> Iterator[Mail]:
        return iter(self.held)


async def test_what_gives_way_in_a_full_mailbox_is_answered_and_its_place_taken() -> None:
    box: Mailbox[Mail] = Mailbox(8, 10, Seat())
    large, larger, small = mail("large", 4), mail("larger", 6), mail("small", 3)
    for each in (large, larger, small):
        box.put_nowait(each)
    with pytest.raises(QuotaError) as caught:
        await larger.reply
    assert caught.value.retry_after is not None
    assert (box.statistics().size, box.statistics().refused) == (7, 1)
    with pytest.raises(OverloadedError):
        box.put_nowait(mail("no better", 8))
    assert [e and e.message for e in (box.take_nowait(0.0), box.take_nowait(0.0))] == [
        "large",
        "small",
    ]
