"""What the browser brings along, ``EventSource`` and ``WebSocket``, resumes across restarts."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from channels.core import SyncPublisher
from kit import Port, RedisServer, wait_until
from tools.packages import ROOT

from .conftest import ACTION_TIMEOUT

pytestmark = pytest.mark.timeout(60)

HISTORY = 5

LISTEN = """() => {
    window.records = [];
    window.errors = 0;
    const source = new EventSource("/sse/news");
    const note = (event) => records.push({id: event.lastEventId, ...JSON.parse(event.data)});
    for (const kind of ["message", "joined", "gap"]) source.addEventListener(kind, note);
    source.onerror = () => { errors += 1; };
}"""

CONNECT = """(since) => {
    const own = window.records = [];
    window.socket = new WebSocket(`ws://${location.host}/ws/news` + since);
    socket.onmessage = (event) => own.push(JSON.parse(event.data));
}"""


class Site:
    """The application behind a page, which can be killed and started again on the same port."""

    def __init__(self, port: int, broker: str) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._command = [sys.executable, "-m", "uvicorn", "tests.browser.app:app"]
        self._command += ["--port", str(port), "--log-level", "warning"]
        self._environment = {**os.environ, "BROKER": broker}
        self._publisher = SyncPublisher(broker)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment)
        wait_until(self._answers, "the site to answer", 30)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._publisher.close()

    def publish(self, *numbers: int) -> None:
        for number in numbers:
            self._publisher.publish({"n": number}, "news")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=1):
                return True
        except OSError:
            return False


@pytest.fixture
def site() -> Iterator[Site]:
    port = Port.claim()
    with RedisServer() as redis:
        options = f"?history={HISTORY}&cap_streams_approximate=false"
        site = Site(port.number, redis.url.replace("redis://", "redis+stream://") + options)
        yield site
        site.close()
    port.release()


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(ACTION_TIMEOUT)
    page = context.new_page()
    page.goto(site.url)
    yield page
    context.close()


def records(page: Page, count: int) -> list[dict[str, Any]]:
    page.wait_for_function(f"() => records.length >= {count}")
    found: list[dict[str, Any]] = page.evaluate("() => records.splice(0)")
    return found


def numbers(records: list[dict[str, Any]]) -> list[int]:
    return [record["data"]["n"] for record in records if record["type"] == "event"]


def kinds(records: list[dict[str, Any]]) -> list[str]:
    return [record["type"] for record in records]


def test_an_event_source_resumes_after_a_restart(site: Site, page: Page) -> None:
    page.evaluate(LISTEN)
    assert records(page, 1)[0]["recovered"] is None
    site.publish(1, 2)
    assert numbers(records(page, 2)) == [1, 2]

    site.kill()
    site.publish(3, 4)
    site.start()
    joined, *missed = records(page, 3)
    assert (joined["type"], joined["recovered"]) == ("joined", True)
    assert numbers(missed) == [3, 4]
    site.publish(5)
    assert numbers(records(page, 1)) == [5]


def test_an_event_source_is_told_of_a_gap(site: Site, page: Page) -> None:
    page.evaluate(LISTEN)
    records(page, 1)
    site.publish(0)
    records(page, 1)

    site.kill()
    site.publish(*range(1, 10))  # more than is kept
    site.start()
    joined, *missed = records(page, 2 + HISTORY)
    assert (joined["recovered"], joined["unrecovered"]) == (False, ["news"])
    assert kinds(missed) == ["gap", *["event"] * HISTORY]
    assert numbers(missed) == [5, 6, 7, 8, 9]
    site.publish(10)
    assert numbers(records(page, 1)) == [10]


def test_an_event_source_comes_back_as_soon_as_it_is_told_to(site: Site, page: Page) -> None:
    page.evaluate(LISTEN)
    records(page, 1)
    site.kill()
    # By itself Chromium tries every 3 seconds.
    page.wait_for_function("() => errors >= 8", timeout=8000)


def test_a_web_socket_resumes_from_an_id(site: Site, page: Page) -> None:
    page.evaluate(CONNECT, "")
    assert kinds(records(page, 1)) == ["joined"]
    site.publish(1, 2)
    last = records(page, 2)[-1]["id"]

    site.kill()
    page.wait_for_function("() => socket.readyState === WebSocket.CLOSED")
    site.publish(3, 4)
    site.start()
    page.evaluate(CONNECT, f"?since={last}")
    joined, *missed = records(page, 3)
    assert (joined["type"], joined["recovered"]) == ("joined", True)
    assert numbers(missed) == [3, 4]

    site.publish(*range(5, 15))
    records(page, 10)
    page.evaluate("() => socket.close()")
    page.evaluate(CONNECT, f"?since={last}")
    joined, *missed = records(page, 2 + HISTORY)
    assert (joined["recovered"], kinds(missed)[0]) == (False, "gap")
    assert numbers(missed) == [10, 11, 12, 13, 14]
