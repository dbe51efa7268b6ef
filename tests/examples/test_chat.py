"""The chat, as its page talks to it."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from channels.core import ChannelsPlugin, MemoryChannelsBackend
from examples.chat.app import STATIC, create_app
from examples.chat.conversation import BACKLOG_FULL, FLOOD, SLOW_BACKLOG
from examples.chat.frames import Person
from examples.chat.presence import CHANNEL, Presence
from tools.packages import ROOT

from .running import DEADLINE, Site, serving, until

Frame = dict[str, Any]


class Tab:
    """A browser tab in a room."""

    def __init__(self, socket: ClientConnection, who: Frame) -> None:
        self.socket = socket
        self.who = who
        self.frames: list[Frame] = []

    async def get(self, kind: str) -> Frame:
        """Return the next frame of a kind; others are kept in `frames`."""
        async with asyncio.timeout(DEADLINE):
            while True:
                frame: Frame = json.loads(await self.socket.recv())
                self.frames.append(frame)
                if frame["type"] == kind:
                    return frame

    async def hears(self) -> str:
        """Return the text of the next message."""
        while True:
            data = (await self.get("event"))["data"]
            if data["type"] == "said":
                return str(data["text"])

    async def people(self, *names: str) -> Frame:
        """Wait until exactly these are in the room."""
        while True:
            frame = await self.get("people")
            if [person["name"] for person in frame["here"]] == sorted(names):
                return frame

    async def send(self, **frame: object) -> Self:
        await self.socket.send(json.dumps(frame))
        return self

    async def say(self, text: str) -> Self:
        return await self.send(type="say", text=text)


@asynccontextmanager
async def tab(site: Site, name: str, room: str = "lobby", **join: object) -> AsyncIterator[Tab]:
    who = {"name": name, "id": name.ljust(8, "0")}
    async with site.connect(f"/rooms/{room}") as socket:
        yield await Tab(socket, who).send(type="join", who=who, **join)


async def test_two_talk_and_a_third_reads_what_was_said() -> None:
    async with serving(create_app()) as site, tab(site, "Ann") as ann:
        async with tab(site, "Bob") as bob:
            await ann.people("Ann", "Bob")
            await ann.say("Hello <b>Bob</b>")
            assert await ann.hears() == await bob.hears() == "Hello <b>Bob</b>"
            await bob.say("Hello")
            assert await ann.hears() == "Hello"
        await ann.people("Ann")
        async with tab(site, "Cat") as cat:
            assert (await cat.get("joined"))["replayed"] == 2
            assert [await cat.hears(), await cat.hears()] == ["Hello <b>Bob</b>", "Hello"]
        async with tab(site, "Dan", "kitchen") as dan:
            assert (await dan.get("joined"))["replayed"] == 0
            assert (await dan.people("Dan"))["counts"]["lobby"] == 1
    assert not site.channels.subscriber_count("lobby")


async def test_somebody_who_comes_back_misses_nothing_and_sees_nothing_twice() -> None:
    async with serving(create_app()) as site, tab(site, "Ann") as ann:
        async with tab(site, "Bob") as bob:
            since = (await bob.get("joined"))["positions"]
            await ann.say("one")
            event = await bob.get("event")
            since[event["channel"]] = event["id"]
        for text in ("two", "three"):
            await ann.say(text)
            assert await ann.hears() in ("one", "two")
        assert await ann.hears() == "three"
        async with tab(site, "Bob", since=since) as bob:
            joined = await bob.get("joined")
            assert (joined["recovered"], joined["replayed"]) == (True, 2)
            await ann.say("four")
            assert [await bob.hears() for _ in range(3)] == ["two", "three", "four"]


async def test_whoever_comes_back_to_another_record_is_told() -> None:
    async with (
        serving(create_app()) as site,
        tab(site, "Bob", since={"lobby": "another-7"}) as bob,
    ):
        assert (await bob.get("joined"))["recovered"] is False
        assert (await bob.get("missing"))["channel"] == "lobby"


@pytest.mark.parametrize("strategy", ["backoff", "dropleft"])
async def test_a_slow_client_drops_and_a_fast_one_does_not(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.chat.conversation.SLOW", 0.02)
    monkeypatch.setattr("examples.chat.conversation.FLOOD_PAUSE", 0.0)
    async with (
        serving(create_app()) as site,
        tab(site, "Ann") as ann,
        tab(site, "Bob", slow=strategy) as bob,
    ):
        await ann.people("Ann", "Bob")
        await ann.send(type="flood")
        fast = [(await ann.get("event"))["data"]["number"] for _ in range(FLOOD)]
        while (backlog := await bob.get("backlog"))["waiting"] or not backlog["handed"]:
            pass
    numbers = [frame["data"]["number"] for frame in bob.frames if "number" in frame.get("data", ())]
    assert fast == [*range(FLOOD)]
    assert SLOW_BACKLOG <= len(numbers) < FLOOD
    assert backlog["handed"] + backlog["dropped"] == FLOOD
    assert numbers == sorted(numbers)
    assert (numbers[:SLOW_BACKLOG] == [*range(SLOW_BACKLOG)]) == (strategy == "backoff")
    assert max(f["waiting"] for f in bob.frames if f["type"] == "backlog") >= SLOW_BACKLOG - 5


async def test_a_slow_client_that_is_disconnected_resumes_without_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("examples.chat.conversation.SLOW", 0.005)
    monkeypatch.setattr("examples.chat.conversation.FLOOD_PAUSE", 0.0)
    numbers: list[int] = []
    ends: list[tuple[int | None, str | None]] = []
    since: dict[str, str] = {}
    async with serving(create_app()) as site, tab(site, "Ann") as ann:
        await ann.get("people")
        while len(numbers) < FLOOD:
            async with tab(site, "Bob", slow="disconnect", since=since) as bob:
                since |= (await bob.get("joined"))["positions"]
                if not ends:
                    await ann.send(type="flood")
                with suppress(ConnectionClosed):
                    while len(numbers) < FLOOD:
                        event = await bob.get("event")
                        since[event["channel"]] = event["id"]
                        numbers.append(event["data"]["number"])
            ends.append((bob.socket.close_code, bob.socket.close_reason))
    assert numbers == [*range(FLOOD)]
    assert ends[0] == (BACKLOG_FULL, "backlog full")


@pytest.mark.parametrize(
    "first",
    [
        "",
        "no JSON",
        '{"type":"say","text":"x"}',
        '{"type":"join","who":{"name":"","id":"12345678"}}',
    ],
)
async def test_who_sends_nonsense_is_refused_and_leaves_nothing(first: str) -> None:
    async with serving(create_app()) as site:
        async with site.connect("/rooms/lobby") as socket:
            await socket.send(first)
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        async with tab(site, "Bob", since={"lobby": "no id"}) as bob:
            with pytest.raises(ConnectionClosed, match="is not an event id"):
                await bob.get("joined")
        await until(lambda: not site.channels.subscriber_count("lobby"))


@pytest.mark.parametrize(
    ("path", "origin"), [("/rooms/attic", None), ("/rooms/lobby", "http://elsewhere.example")]
)
async def test_other_rooms_and_other_sites_are_refused(path: str, origin: str | None) -> None:
    async with serving(create_app()) as site:
        with pytest.raises(InvalidStatus):
            async with site.connect(path, origin=origin):
                pass


async def test_the_page_loads_nothing_from_elsewhere() -> None:
    async with serving(create_app()) as site:
        for file in ["", *(path.name for path in STATIC.iterdir())]:
            answer = await site.request("GET", f"/{file}")
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert not re.search(r"(src|href|url|import)\W*(https?:)?//", answer.text)


async def test_processes_count_each_others_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.chat.presence.BEAT", 0.05)
    backend = MemoryChannelsBackend()
    ann, bob, cat = (Person(name, name.ljust(8, "0")) for name in ("Ann", "Bob", "Cat"))
    async with (
        ChannelsPlugin(backend, channels=[CHANNEL]) as one,
        ChannelsPlugin(backend, channels=[CHANNEL]) as other,
    ):
        here, there = Presence(one), Presence(other)
        async with here.running():
            with here.enter("lobby", ann):
                async with there.running():
                    with there.enter("lobby", bob):
                        await until(lambda: here.people("lobby") == [ann, bob])
                        await until(lambda: there.people("lobby") == [ann, bob])
                    await until(lambda: here.people("lobby") == [ann])
                    # Cat's process falls silent while she is there.
                    with there.enter("lobby", cat):
                        await until(lambda: here.people("lobby") == [ann, cat])
                        await other.stop()
                        await until(lambda: here.people("lobby") == [ann])


async def test_the_command_says_where_it_is_and_ends_when_told() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "examples.chat", "--port", "0"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert re.search(rb"http://127\.0\.0\.1:\d+/", line)
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


async def test_the_command_names_what_is_wrong_with_a_backend() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.chat", "--backend", "memry://"),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"memry" in errors
    assert b"Traceback" not in errors
