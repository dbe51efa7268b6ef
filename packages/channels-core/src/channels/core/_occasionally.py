"""Logging what may happen ten thousand times a second."""

from __future__ import annotations

import logging
import time


class Occasionally:
    """Log the first time at once, and after that at most once per interval, with the count.

    Args:
        logger: Where to.
        interval: Seconds between two lines. Default 10.
    """

    def __init__(self, logger: logging.Logger, interval: float = 10.0) -> None:
        self._logger = logger
        self._interval = interval
        self._next = 0.0
        self._count = 0

    def warning(self, message: str, *args: object) -> None:
        """Log ``message``, which takes the count as its first argument."""
        self._log(logging.WARNING, message, args, None)

    def error(self, error: BaseException, message: str, *args: object) -> None:
        """Log ``message`` as that of an error, whose traceback is with the first."""
        self._log(logging.ERROR, message, args, None if self._next else error)

    def _log(
        self, level: int, message: str, args: tuple[object, ...], error: BaseException | None
    ) -> None:
        self._count += 1
        now = time.monotonic()
        if now >= self._next:
            self._logger.log(level, message, self._count, *args, exc_info=error)
            self._next = now + self._interval
            self._count = 0
