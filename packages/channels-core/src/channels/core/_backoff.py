"""How long to wait before the next attempt."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Capped exponential delays with full jitter.

    Args:
        first: The longest first delay in seconds. Default 0.1.
        cap: The longest delay in seconds. Default 5.
    """

    def __init__(self, first: float = 0.1, cap: float = 5.0) -> None:
        self._first = first
        self._cap = cap
        self._failures = 0

    def reset(self) -> None:
        """Begin again with the first delay: an attempt succeeded."""
        self._failures = 0

    def next_delay(self) -> float:
        """Return seconds to wait, drawn evenly from 0 to the present limit."""
        limit = min(self._cap, self._first * 2.0**self._failures)
        self._failures = min(self._failures + 1, 32)
        return random.uniform(0, limit)

    async def pause(self) -> None:
        """Wait for the next delay."""
        await asyncio.sleep(self.next_delay())
