"""Logging an outage: what is new about it, not each attempt to end it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

from channels.core._errors import BackendException, BackendRefused, ConfigurationError

FIRST_INTERVAL: Final = 10.0
LONGEST_INTERVAL: Final = 600.0
"""Seconds between two lines that say nothing new, at first and at last."""

CALM: Final = 10.0
"""Seconds that a connection must last for its loss to be another outage."""

MAX_REASONS: Final = 8
"""Reasons per outage that are logged at once; some have a number in them that changes."""


class OutageLog:
    """Log that the connection is gone, each new reason why, and once that it is there again.

    An outage that goes on is logged at growing intervals. One that begins again after a moment goes
    on, so a connection that is made and lost every second does not fill the log.

    Args:
        logger: Where to.
        clock: Tells the time in seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._connected_at: float | None = None
        self._is_told = False  # so that its end is told too
        self._begin(-math.inf)

    def _begin(self, now: float) -> None:
        self._began = now
        self._attempts = 0
        self._next = -math.inf
        self._interval = FIRST_INTERVAL
        self._told: set[str] = set()
        self._is_loss_told = False

    def failed(self, error: Exception) -> None:
        """Note that the connection was lost, or could not be made, and why."""
        now = self._clock()
        is_loss = self._connected_at is not None
        if self._connected_at is not None and now - self._connected_at > CALM:
            self._begin(now)
        self._connected_at = None
        if self._attempts == 0:
            self._began = now
        self._attempts += 1
        reason = str(error)
        is_new = reason not in self._told and len(self._told) < MAX_REASONS
        is_new = is_new or (is_loss and not self._is_loss_told)
        is_due = now >= self._next
        if is_due:
            self._next = now + self._interval
            self._interval = min(2 * self._interval, LONGEST_INTERVAL)
        if is_new or is_due:
            self._told.add(reason)
            self._is_loss_told = self._is_loss_told or is_loss
            self._is_told = True
            self._log(error, is_loss, "" if is_new else self._so_far(now))

    def _log(self, error: Exception, is_loss: bool, so_far: str) -> None:
        level, what, traceback = logging.WARNING, "no connection to the broker", None
        if isinstance(error, BackendRefused | ConfigurationError):
            level, what = logging.ERROR, "the broker refuses the connection"
        elif not isinstance(error, BackendException):
            level, what = logging.ERROR, "the listener failed"
            traceback = None if so_far else error
        elif is_loss:
            what = "connection to the broker lost"
        self._logger.log(level, "%s: %s; trying again%s", what, error, so_far, exc_info=traceback)

    def _so_far(self, now: float) -> str:
        return f" ({self._attempts} failures in {now - self._began:.0f} s)"

    def connected(self) -> None:
        """Note that the connection is there."""
        self._connected_at = now = self._clock()
        if self._is_told:
            self._logger.warning("connected to the broker again, after %.1f s", now - self._began)
            self._is_told = False
