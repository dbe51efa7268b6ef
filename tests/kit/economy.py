"""A pytest plugin: a run does not pay for what nobody asked of it.

* The test processes measure coverage, the first of them also what is run by importing. Who hands
  out the tests does not, nor do the programs that tests start, unless a test gives them
  `measured`. A test marked ``untraced`` is not measured: on Python 3.11 all that runs while it is
  takes twice as long, and what is repeated by the thousand shows nothing new.
* What was collected stays until the end, so the garbage collector need not go through it again
  and again.
* Tests that wait for a server of their own are not left until the end, when nobody else would use
  the cores meanwhile.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from coverage import Coverage

_START = "COVERAGE_PROCESS_START"
"""Where coverage's documentation has the configuration's name for a process to be measured."""
_configuration = os.environ.get(_START, "")


def _measure() -> Coverage | None:
    """Begin if that was asked for, and ask it of nobody that is started from here."""
    if not _configuration:
        return None
    import coverage  # here, so that a package's tests alone can do without

    started = coverage.process_startup()
    del os.environ[_START]
    return started


_coverage = _measure()

_OWN_SERVERS = {"make_postgres", "make_redis", "private_cluster", "private_sentinel"}


def measured() -> dict[str, str]:
    """Return an environment for a program that is to be measured if its test is."""
    return {**os.environ, **({_START: _configuration} if _configuration else {})}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while thousands of things are made that stay, nor among them later."""
    gc.disable()
    first = os.environ.get("PYTEST_XDIST_WORKER") in (None, "gw0")
    if _coverage is not None and not first:
        _coverage.stop()
    try:
        return (yield)
    finally:
        if _coverage is not None and not first:
            _coverage.start()
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests with servers of their own over the first two thirds of each process's share.

    The shares are those that ``--dist=worksteal`` begins with.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    shares: list[pytest.Item] = []
    for left in range(count, 0, -1):
        start = len(shares)
        shares += _spread(items[start : start + (len(items) - start) // left])
    items[:] = shares


def _spread(items: list[pytest.Item]) -> list[pytest.Item]:
    waiting = [item for item in items if _OWN_SERVERS & set(getattr(item, "fixturenames", ()))]
    others = [item for item in items if item not in waiting]
    every = max(1, len(others) * 2 // 3 // max(1, len(waiting)))
    spread: list[pytest.Item] = []
    for index, item in enumerate(others):
        spread.append(item)
        if waiting and index % every == 0:
            spread.append(waiting.pop())
    return spread + waiting


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Measure nothing while a test runs that is marked ``untraced``."""
    if _coverage is None or pyfuncitem.get_closest_marker("untraced") is None:
        return (yield)
    _coverage.stop()
    try:
        return (yield)
    finally:
        _coverage.start()
