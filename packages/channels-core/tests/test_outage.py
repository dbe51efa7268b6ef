"""The log of an outage has each thing once, and then seldom."""

from __future__ import annotations

import logging

import pytest

from channels.core import BackendRefused, BackendUnavailable
from channels.core._outage import OutageLog


class Scene:
    """An outage, whose clock is turned by hand."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now = 100.0
        self._caplog = caplog
        self.log = OutageLog(logging.getLogger("channels"), lambda: self.now)

    def fail_for(self, seconds: float, every: float, reason: str = "cable cut") -> list[str]:
        for _ in range(round(seconds / every)):
            self.log.failed(BackendUnavailable(reason))
            self.now += every
        return self.lines()

    def lines(self) -> list[str]:
        lines = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return lines


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


def test_a_long_outage_is_told_at_growing_intervals(scene: Scene) -> None:
    assert scene.fail_for(80, every=1) == [
        "no connection to the broker: cable cut; trying again",
        "no connection to the broker: cable cut; trying again (11 failures in 10 s)",
        "no connection to the broker: cable cut; trying again (31 failures in 30 s)",
        "no connection to the broker: cable cut; trying again (71 failures in 70 s)",
    ]
    assert len(scene.fail_for(24 * 3600, every=5)) in range(140, 160)


def test_the_end_is_told_once_and_the_next_outage_is_another(scene: Scene) -> None:
    scene.log.connected()
    assert scene.lines() == []
    scene.now += 60
    assert scene.fail_for(3, every=1) == ["connection to the broker lost: cable cut; trying again"]
    scene.log.connected()
    scene.log.connected()
    assert scene.lines() == ["connected to the broker again, after 3.0 s"]
    scene.now += 60
    assert scene.fail_for(3, every=1) == ["connection to the broker lost: cable cut; trying again"]


def test_another_reason_is_told_at_once(scene: Scene) -> None:
    scene.fail_for(3, every=1)
    assert scene.fail_for(3, every=1, reason="loading") == [
        "no connection to the broker: loading; trying again"
    ]
    assert scene.fail_for(3, every=1) == []
    scene.log.failed(BackendRefused("wrong password"))
    assert scene.lines() == ["the broker refuses the connection: wrong password; trying again"]


def test_reasons_that_always_differ_do_not_fill_the_log(scene: Scene) -> None:
    lines = [line for n in range(100) for line in scene.fail_for(0.01, every=0.01, reason=f"{n}")]
    assert len(lines) == 8


def test_a_connection_that_comes_and_goes_does_not_fill_the_log(scene: Scene) -> None:
    lines: list[str] = []
    for _ in range(60):
        scene.log.connected()
        scene.now += 0.5
        lines += scene.fail_for(0.5, every=0.5)
    lost = [line for line in lines if "lost" in line]
    again = [line for line in lines if "again, after" in line]
    assert len(lost) == 3
    assert len(again) in (2, 3)


def test_what_nobody_expects_has_its_traceback_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.log.failed(BackendUnavailable("cable cut"))
    scene.log.failed(ZeroDivisionError("division by zero"))
    scene.log.failed(ZeroDivisionError("division by zero"))
    assert [record.exc_info is not None for record in caplog.records] == [False, True]
