"""What arrives at a listener that closes, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from channels.core import Event
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
