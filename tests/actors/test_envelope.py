"""An envelope gets exactly one answer, by its deadline at the latest."""

from __future__ import annotations

import asyncio

import pytest

from aiaas_async.actors.envelope import Envelope
from aiaas_async.errors import DeadlineError, InvalidError


def envelope(deadline: float | None = None) -> Envelope[str, int]:
    return Envelope("work", 10, deadline, asyncio.get_running_loop())


async def test_an_answer_reaches_the_one_who_waits() -> None:
    mail = envelope()
    mail.answer(7)
    assert await mail.reply == 7


async def test_only_the_first_answer_counts() -> None:
    mail = envelope()
    mail.answer(7)
    mail.fail(InvalidError("late"))
    mail.answer(8)
    assert await mail.reply == 7


async def test_an_envelope_that_expires_says_what_to_do() -> None:
    mail = envelope()
    mail.expire()
    with pytest.raises(DeadlineError, match="timeout_ms"):
        await mail.reply
    assert mail.abandoned


async def test_one_that_is_answered_does_not_expire() -> None:
    mail = envelope(deadline=asyncio.get_running_loop().time() + 60)
    mail.answer(1)
    mail.expire()
    assert await mail.reply == 1


async def test_a_caller_who_goes_away_leaves_the_envelope_abandoned() -> None:
    mail = envelope()
    mail.reply.cancel()
    assert mail.abandoned
    mail.answer(1)
