from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from channels.core import (
    AsyncPublisher,
    BackendUnavailable,
    ChannelsPlugin,
    ConfigurationError,
    EncodeError,
    InvalidChannelNameError,
    MemoryChannelsBackend,
    NotRunningError,
    PayloadTooLarge,
    PublishUnconfirmed,
    SyncPublisher,
)
from channels.core.testing import FaultyBackend, RecordingBackend


async def test_it_publishes_what_plugins_receive() -> None:
    backend = MemoryChannelsBackend(history=10)
    plugin = ChannelsPlugin(backend, channels=["news", "chat"])
    async with plugin, plugin.start_subscription(["news", "chat"]) as subscriber:
        async with AsyncPublisher(backend, type_encoders={complex: str}) as publisher:
            ids = await publisher.publish({"z": 1j}, ["news", "chat", "news"])
            assert await publisher.publish("x", []) == {}
        events = subscriber.iter_events()
        received = [await anext(events), await anext(events)]
        assert {event.channel: event.id for event in received} == ids
        assert received == [b'{"z":"1j"}'] * 2


async def test_concurrent_calls_share_round_trips() -> None:
    backend = RecordingBackend()
    async with AsyncPublisher(backend) as publisher:
        await asyncio.gather(*(publisher.publish(str(n), "news") for n in range(100)))
    assert backend.payloads("news") == [str(n).encode() for n in range(100)]


async def test_its_errors() -> None:
    backend = FaultyBackend(MemoryChannelsBackend(max_payload=10))
    publisher = AsyncPublisher(backend)
    with pytest.raises(NotRunningError):
        await publisher.publish("x", "news")
    for _ in range(2):
        async with publisher:
            with pytest.raises(NotRunningError):
                await publisher.__aenter__()
            with pytest.raises(InvalidChannelNameError):
                await publisher.publish("x", ["news", "$reserved"])
            with pytest.raises(EncodeError):
                await publisher.publish(object(), "news")
            with pytest.raises(PayloadTooLarge):
                await publisher.publish("x" * 11, "news")
            with backend.outage(), pytest.raises(BackendUnavailable):
                await publisher.publish("x", "news")
            await publisher.publish("x", "news")


def test_without_an_event_loop() -> None:
    backend = RecordingBackend(MemoryChannelsBackend(history=5))
    with SyncPublisher(backend) as publisher:
        assert publisher.publish({"n": 1}, "jobs")["jobs"]
        with pytest.raises(InvalidChannelNameError):
            publisher.publish("x", "")
    publisher.publish("again", "jobs")
    publisher.close()
    publisher.close()
    assert backend.payloads("jobs") == [b'{"n":1}', b"again"]
    assert "channels-sync-publisher" not in [thread.name for thread in threading.enumerate()]


def test_from_many_threads() -> None:
    backend = RecordingBackend()
    with SyncPublisher(backend) as publisher:
        threads = [
            threading.Thread(target=publisher.publish, args=(str(n), "jobs")) for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(backend.payloads("jobs")) == sorted(str(n).encode() for n in range(20))


async def test_inside_an_event_loop_it_only_blocks() -> None:
    with SyncPublisher("memory://?history=1") as publisher:
        assert publisher.publish("x", "jobs")


def test_an_unknown_backend_is_found_at_once() -> None:
    for kind in (AsyncPublisher, SyncPublisher):
        with pytest.raises(ConfigurationError, match="nowhere"):
            kind("nowhere://")


@pytest.mark.parametrize("backend", [3, None, MemoryChannelsBackend], ids=str)
def test_what_is_no_backend_is_said_so(backend: Any) -> None:
    for kind in (AsyncPublisher, SyncPublisher, ChannelsPlugin):
        with pytest.raises(ConfigurationError, match="backend="):
            kind(backend)


def test_a_script_need_not_close_it() -> None:
    script = """
from channels.core import SyncPublisher
publisher = SyncPublisher("memory://?history=1")
print(len(publisher.publish("x", "jobs")))
def lost():
    SyncPublisher("memory://").publish("x", "jobs")
lost()
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def in_child(publisher: SyncPublisher, results: multiprocessing.SimpleQueue[object]) -> None:
    try:
        results.put(len(publisher.publish("x", "jobs")))
    except Exception as exc:
        results.put(type(exc).__name__)
    publisher.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing to fork")
@pytest.mark.parametrize("with_url", [True, False])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_after_a_fork_it_connects_anew(with_url: bool) -> None:
    backend = "memory://?history=1" if with_url else MemoryChannelsBackend(history=1)
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[object] = context.SimpleQueue()
    with SyncPublisher(backend) as publisher:
        publisher.publish("x", "jobs")
        child = context.Process(target=in_child, args=(publisher, results))
        child.start()
        child.join(10)
        assert results.get() == (1 if with_url else "ConfigurationError")
        publisher.publish("the parent goes on", "jobs")
    child.close()
    results.close()


def test_closing_answers_other_threads_that_publish() -> None:
    backend = RecordingBackend()
    publisher = SyncPublisher(backend)
    errors: list[BaseException] = []
    begun = threading.Event()

    async def never(messages: object) -> Any:
        begun.set()
        await asyncio.Event().wait()

    backend.publish = never  # type: ignore[method-assign]

    def work() -> None:
        try:
            publisher.publish("x", "news")
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert begun.wait(10)
    publisher.close()
    thread.join(10)
    assert [type(error) for error in errors] == [PublishUnconfirmed]
