"""What arrives at a listener that closes, or that nobody iterates, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from channels.core import Event, Lost
from channels.core.postgres import _arrivals
from channels.core.postgres._arrivals import Arrivals
from channels.core.postgres._frame import Reference


async def test_what_comes_after_closing_is_not_read() -> None:
    """The connection is closed after the arrivals, and may bring a reference in between."""
    asked: list[Reference] = []

    async def resolve(references: Sequence[Reference]) -> Sequence[Event | None]:
        asked.extend(references)
        await asyncio.Event().wait()
        raise AssertionError

    arrivals = Arrivals(resolve)
    first, second = Reference("a", None, "1"), Reference("b", None, "2")
    arrivals.add(first)
    await asyncio.sleep(0)
    await arrivals.close()
    arrivals.add(second)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert asked == [first]


async def test_what_nobody_takes_in_is_told_as_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_arrivals, "MAX_WAITING", 13_000)

    async def resolve(references: Sequence[Reference]) -> Sequence[Event | None]:
        return [None] * len(references)

    arrivals = Arrivals(resolve)
    arrivals.add(Reference("gone", None, "1"))
    await asyncio.sleep(0)
    for n in range(4):
        arrivals.add(Event(b"x" * 3_000, "ab"[n % 2]))
    last = Event(b"after", "a")
    arrivals.add(last)
    runs = aiter(arrivals)
    assert await anext(runs) == [Lost(("gone", "a", "b")), last]
    assert "1 times: the events of 3 channels" in caplog.text
    arrivals.add(last)
    assert await anext(runs) == [last]
    await arrivals.close()
