"""How long a run still takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import mean, median

GUESS = 2.5
"""Seconds for a case of which nothing is known."""


class Forecast:
    """What the cases that are left will take, judged by what they took before.

    Args:
        left: How often each case will run.
        earlier: Seconds that cases took in an earlier run.
    """

    def __init__(self, left: Mapping[str, int], earlier: Mapping[str, float]) -> None:
        self._left = Counter(left)
        self._earlier = dict(earlier)
        self._took: dict[str, list[float]] = {}

    def ended(self, case: str, seconds: float) -> None:
        """Note that a case ended, after so many seconds."""
        self._left[case] -= 1
        self._took.setdefault(case, []).append(seconds)

    def expected(self, case: str) -> float:
        """Return how many seconds a case will take."""
        if case in self._took:
            return mean(self._took[case])
        return self._earlier.get(case, GUESS)

    def seconds_left(self) -> float:
        """Return how many seconds all that is left will take."""
        return sum(count * self.expected(case) for case, count in self._left.items())

    def typical(self) -> dict[str, float]:
        """Return the median of what each case took in this run."""
        return {case: round(median(took), 2) for case, took in self._took.items()}


def remaining(seconds: float) -> str:
    """Say how long something takes yet."""
    if seconds < 1:
        return ""
    if seconds < 100:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left"
