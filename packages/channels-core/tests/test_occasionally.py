"""What may happen ten thousand times a second is logged once in a while, and counted."""

from __future__ import annotations

import logging

import pytest

from channels.core._occasionally import Occasionally


def test_the_traceback_is_with_the_first_of_many_errors(caplog: pytest.LogCaptureFixture) -> None:
    log = Occasionally(logging.getLogger("channels"), 0.0)
    for n in range(3):
        log.error(ValueError(n), "%d times, the last on %d", n)
    assert [record.getMessage() for record in caplog.records] == [
        "1 times, the last on 0",
        "1 times, the last on 1",
        "1 times, the last on 2",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False]
