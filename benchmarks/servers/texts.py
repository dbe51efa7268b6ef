"""What is published: numbered texts, so that whoever gets them can tell if one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

DIGITS = 8
PROSE = (
    "The harbour master closed the eastern quay at nine because of fog; two ferries wait outside, "
    "a third turned back, and whoever wants to cross tonight should ask again after half past ten. "
)


def text(number: int, size: int) -> str:
    """Return the text of an event: its number, then prose, ``size`` characters of ASCII in all."""
    head = f"{number:0{DIGITS}d} "
    return (head + PROSE * (size // len(PROSE) + 1))[:size]


class Texts:
    """The texts of one run, one after the other, numbered from 0.

    Args:
        size: How long each of them is; at least the digits of the number.
    """

    def __init__(self, size: int) -> None:
        if size < DIGITS:
            raise ValueError(f"{size} characters cannot hold a number of {DIGITS} digits")
        self._texts = (text(number, size) for number in count())

    def take(self, events: int) -> Iterator[str]:
        """Give the next texts."""
        return islice(self._texts, events)
