"""What a ``send`` may do in a task that others share: it is its own affair, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, ContextVar
from itertools import pairwise
from typing import Any

import anyio
import pytest

from channels.core import Event, Subscriber
from channels.core.asgi import _pump
from channels.core.asgi._messages import Messages, websocket_message
from channels.core.asgi._outlet import FAIR_SHARE, SendingOutlet
from channels.core.asgi._pump import CALM
from kit import eventually

current: ContextVar[str] = ContextVar("current", default="nobody's")


def translate(events: Sequence[Event]) -> Messages[dict[str, Any]]:
    return Messages([websocket_message(event.text) for event in events], None)


async def nothing() -> None:
    """Return at once, as a ``send`` does whose client takes what it is sent."""


class Client:
    """A connection; ``act`` is what its ``send`` does before the message has gone."""

    def __init__(self, act: Callable[[], Awaitable[object]] = nothing) -> None:
        self.act = act
        self.texts: list[str] = []
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.ends: list[BaseException | None] = []
        self.subscriber = Subscriber()
        self.outlet = SendingOutlet(self.subscriber, self.send, translate, self)
        self.outlet.start()

    async def send(self, message: dict[str, Any]) -> None:
        task = asyncio.current_task()
        await self.act()
        assert asyncio.current_task() is task
        self.tasks.append(task)
        self.texts.append(message.pop("text"))

    def delivered(self, error: BaseException | None) -> None:
        self.ends.append(error)

    def give(self, *texts: str) -> None:
        for text in texts:
            self.subscriber.put_nowait(text.encode())

    async def gets(self, *texts: str) -> None:
        await eventually(lambda: self.texts == [*texts], f"{texts}")
        await eventually(lambda: self.outlet.is_idle, "it to be free again")


class Clients:
    """Some that only take what they are sent."""

    def __init__(self, count: int = 3) -> None:
        self.each = [Client() for _ in range(count)]
        self.sent: list[str] = []

    def give(self, *texts: str) -> None:
        self.sent += texts
        for client in self.each:
            client.give(*texts)

    async def have_all(self) -> None:
        for client in self.each:
            await client.gets(*self.sent)
            assert not client.ends

    async def go_on(self) -> None:
        """See that all have what they were sent, in order, and get more."""
        await self.have_all()
        self.give("more")
        await self.have_all()

    async def stop(self) -> None:
        for client in self.each:
            await client.outlet.stop()


async def test_all_are_sent_to_from_one_task() -> None:
    others = Clients(100)
    for text in "abc":
        others.give(text)
        await others.have_all()
    assert len({task for client in others.each for task in client.tasks}) == 1
    await others.stop()


async def test_one_that_is_in_line_takes_one_more_run_and_keeps_the_order() -> None:
    taking = asyncio.Event()
    client = Client(taking.wait)
    client.give("a", "b")
    assert not client.subscriber.qsize
    client.give("c")
    assert client.subscriber.qsize == 1
    await eventually(lambda: client.outlet.own, "it to wait")
    client.give("d")
    taking.set()
    await client.gets("a", "b", "c", "d")
    await client.outlet.stop()


async def test_what_is_sent_is_nobody_elses() -> None:
    prototype = websocket_message("a")
    first, second = Client(), Client()  # they take the text out of what they are given
    for client in first, second:
        client.outlet._translate = lambda events: Messages([prototype], None)
        client.give("a")
        await client.gets("a")
        await client.outlet.stop()


async def test_one_that_blocks_for_ever_holds_up_nobody() -> None:
    never = asyncio.Event()
    stuck, others = Client(never.wait), Clients(1_000)
    for text in "abc":
        stuck.give(text)
        others.give(text)
        await others.have_all()
    assert not stuck.texts
    assert stuck.subscriber.qsize == 2
    assert len({task for client in others.each for task in client.tasks}) <= 2
    await stuck.outlet.stop()
    assert isinstance(stuck.ends[0], asyncio.CancelledError)
    await others.go_on()
    await others.stop()


async def test_one_that_waited_gets_all_in_order_and_shares_a_task_again() -> None:
    taking = asyncio.Event()
    slow, others = Client(taking.wait), Clients()
    others.give("a")
    slow.give("a", "b")
    await eventually(lambda: slow.outlet.own, "it to have a task of its own")
    others.give("b")
    await others.have_all()
    taking.set()
    await slow.gets("a", "b")
    expected = ["a", "b"]
    for number in range(CALM):
        slow.give(str(number))
        expected.append(str(number))
        await slow.gets(*expected)
    await eventually(lambda: slow.outlet.own is None, "it to share a task again")
    slow.give("c")
    others.give("c")
    await slow.gets(*expected, "c")
    await others.have_all()
    assert slow.tasks[-1] is others.each[0].tasks[-1]
    await slow.outlet.stop()
    await others.stop()


async def test_where_all_have_to_wait_each_keeps_a_task() -> None:
    clients = [Client(lambda: asyncio.sleep(0)) for _ in range(20)]
    for text in "abc":
        for client in clients:
            client.give(text)
        for client in clients:
            await client.gets(*"abc"[: "abc".index(text) + 1])
    assert all(len(set(client.tasks)) == 1 for client in clients)
    assert len({client.tasks[0] for client in clients}) == len(clients)
    for client in clients:
        await client.outlet.stop()


async def test_a_timeout_inside_is_its_own() -> None:
    timed_out = []

    async def try_in_time() -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            timed_out.append(True)

    trying, others = Client(try_in_time), Clients()
    others.give("a")
    trying.give("a", "b")
    others.give("b")
    await trying.gets("a", "b")
    assert len(timed_out) == 2
    await others.go_on()
    await trying.outlet.stop()
    await others.stop()


async def test_a_cancel_scope_inside_is_its_own() -> None:
    left = []

    async def leave() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        with anyio.move_on_after(0.001):
            await anyio.sleep_forever()
        left.append(scope.cancelled_caught)

    leaving, others = Client(leave), Clients()
    others.give("a")
    leaving.give("a", "b")
    others.give("b")
    await leaving.gets("a", "b")
    assert left == [True, True]
    await others.go_on()
    await leaving.outlet.stop()
    await others.stop()


class Unlike(Exception):
    """What a failing ``send`` raises."""


async def fail() -> None:
    raise Unlike


async def fail_late() -> None:
    await asyncio.sleep(0)
    raise Unlike


async def raise_cancelled() -> None:
    raise asyncio.CancelledError


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def cancel_itself_and_wait() -> None:
    await cancel_itself()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (fail, Unlike),
        (fail_late, Unlike),
        (raise_cancelled, asyncio.CancelledError),
        (cancel_itself, asyncio.CancelledError),
        (cancel_itself_and_wait, asyncio.CancelledError),
    ],
)
async def test_an_error_ends_its_own_connection_only(
    act: Callable[[], Awaitable[object]], error: type[BaseException]
) -> None:
    before, failing, after = Clients(), Client(act), Clients()
    for text in "ab":
        for clients in before, failing, after:
            clients.give(text)
    await before.go_on()
    await after.go_on()
    assert [type(end) for end in failing.ends] == [error]
    await failing.outlet.stop()
    await before.stop()
    await after.stop()


async def test_a_cancellation_that_is_taken_back_strikes_nobody_else() -> None:
    """Before Python 3.13 it strikes where the task waits next, taken back or not."""

    async def cancel_and_take_back() -> None:
        await cancel_itself()
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()

    changing_its_mind, waiting = Client(cancel_and_take_back), Client(lambda: asyncio.sleep(0))
    others = Clients()
    for text in "ab":
        changing_its_mind.give(text)
        waiting.give(text)
        others.give(text)
    await changing_its_mind.gets("a", "b")
    await waiting.gets("a", "b")
    await others.go_on()
    for client in changing_its_mind, waiting:
        assert not client.ends
        await client.outlet.stop()
    await others.stop()


async def test_aborting_one_does_not_cut_what_is_sent_to_another() -> None:
    taking = asyncio.Event()
    sending, waiting, idle = Client(taking.wait), Client(), Client()
    others = Clients()
    sending.give("a")
    waiting.give("a")
    others.give("a")
    await asyncio.sleep(0)  # it is inside of send, and the next ones are in line
    assert not waiting.texts
    waiting.outlet.abort()
    idle.outlet.abort()
    taking.set()
    await sending.gets("a")
    await others.go_on()
    assert not waiting.texts
    assert not sending.ends
    for client in waiting, idle:
        assert [type(end) for end in client.ends] == [asyncio.CancelledError]
        client.give("b")
        assert client.subscriber.qsize == 1
    for client in sending, waiting, idle:
        await client.outlet.stop()
    await others.stop()


@pytest.mark.parametrize("turns", [1, 5], ids=["at once", "later"])
async def test_aborting_one_that_waits_cancels_only_that(turns: int) -> None:
    stuck, others = Client(asyncio.Event().wait), Clients()
    stuck.give("a", "b")
    others.give("a")
    for _ in range(turns):
        await asyncio.sleep(0)
    stuck.outlet.abort()
    await others.go_on()
    await eventually(lambda: stuck.ends, "it to be cancelled")
    assert isinstance(stuck.ends[0], asyncio.CancelledError)
    await stuck.outlet.stop()
    assert len(stuck.ends) == 1
    await others.stop()


async def test_one_may_be_aborted_from_within_its_own_send() -> None:
    clients: list[Client] = []

    async def abort() -> None:
        clients[0].outlet.abort()

    clients.append(Client(abort))
    others = Clients()
    clients[0].give("a")
    others.give("a")
    await others.go_on()
    assert [type(end) for end in clients[0].ends] == [asyncio.CancelledError]
    await clients[0].outlet.stop()
    await others.stop()


@pytest.mark.parametrize("turns", [1, 5], ids=["at once", "later"])
async def test_stopping_waits_until_nothing_is_being_sent(turns: int) -> None:
    cleaned_up = []

    async def clean_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned_up.append(True)

    slow, others = Client(clean_up), Clients()
    slow.give("a")
    others.give("a")
    for _ in range(turns):
        await asyncio.sleep(0)
    await slow.outlet.stop()
    assert cleaned_up
    await others.go_on()
    await others.stop()


async def test_one_that_does_not_let_itself_be_cancelled_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pump, "CUT_INTERVAL", 0.01)
    asked = []

    async def ignore() -> None:
        while len(asked) < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asked.append(True)

    stubborn, others = Client(ignore), Clients()
    stubborn.give("a")
    others.give("a")
    await others.have_all()
    await stubborn.outlet.stop()
    assert len(asked) == 3
    await others.go_on()
    await others.stop()


# -- context ---------------------------------------------------------------------------------


async def test_each_sends_in_the_context_it_was_made_in() -> None:
    seen: dict[str, set[str]] = {"x": set(), "y": set()}

    def make(name: str) -> Client:
        current.set(name)

        async def look() -> None:
            seen[name].add(current.get())

        return Client(look)

    clients = [Context().run(make, name) for name in "xyxy"]
    for client in clients:
        client.give("a")
        await client.gets("a")
    assert seen == {"x": {"x"}, "y": {"y"}}
    assert clients[0].tasks == clients[2].tasks != clients[1].tasks == clients[3].tasks
    for client in clients:
        await client.outlet.stop()


async def test_what_one_sets_in_its_context_stays_with_it() -> None:
    seen: dict[str, list[str]] = {"x": [], "y": []}

    def make(name: str) -> Client:
        async def look_and_set() -> None:
            seen[name].append(current.get())
            current.set(name)

        return Client(look_and_set)

    clients = make("x"), make("y")
    others = Clients()
    expected = []
    for number in range(2 * CALM):
        expected.append(str(number))
        for client in clients:
            client.give(str(number))
        others.give(str(number))
        for client in clients:
            await client.gets(*expected)
    for name, values in seen.items():
        assert values == ["nobody's", *[name] * (2 * CALM - 1)]
    await others.go_on()
    for client in clients:
        await client.outlet.stop()
    await others.stop()


# -- the task --------------------------------------------------------------------------------


async def test_a_task_that_is_cancelled_is_replaced() -> None:
    others = Clients()
    others.give("a")
    await others.have_all()
    (task,) = {client.tasks[0] for client in others.each}
    assert task is not None
    task.cancel()  # while it sleeps
    await asyncio.wait([task])
    await others.go_on()
    others.give("b")
    task = others.each[0].tasks[-1]
    assert task is not None
    task.cancel()  # while they are in line
    await others.go_on()
    await others.stop()


def test_whoever_interrupts_the_program_does_so() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    with asyncio.Runner() as runner:
        clients: list[Client] = []

        async def begin() -> None:
            clients.extend([Client(interrupt), Client()])
            for client in clients:
                client.give("a")
            await asyncio.Event().wait()

        beginning = runner.get_loop().create_task(begin())
        with pytest.raises(KeyboardInterrupt):
            runner.get_loop().run_until_complete(beginning)

        async def go_on() -> None:
            await clients[1].gets("a")
            assert [type(end) for end in clients[0].ends] == [KeyboardInterrupt]
            for client in clients:
                await client.outlet.stop()

        runner.run(go_on())


async def test_an_owner_that_fails_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    failing, others = Client(fail), Clients()

    def delivered(error: BaseException | None) -> None:
        raise LookupError("a defect")

    failing.delivered = delivered  # type: ignore[method-assign]
    failing.give("a")
    others.give("a")
    await others.go_on()
    assert "a defect" in caplog.text
    await failing.outlet.stop()
    await others.stop()


async def test_nothing_is_left_when_the_last_one_has_gone() -> None:
    before = asyncio.all_tasks()
    others = Clients()
    others.give("a")
    await others.have_all()
    for client in others.each[:-1]:
        await client.outlet.stop()
    assert asyncio.all_tasks() > before
    others.each[-1].subscriber.end("unsubscribed")  # all is sent; nobody stops it
    await eventually(lambda: others.each[-1].ends, "its end")
    assert others.each[-1].ends == [None]
    await eventually(lambda: asyncio.all_tasks() == before, "the task to end")


async def test_nothing_is_left_of_those_who_were_aborted() -> None:
    before = asyncio.all_tasks()
    slow, other = Client(lambda: asyncio.sleep(0)), Client()
    for client in slow, other:
        client.give("a")
        await client.gets("a")
    assert slow.outlet.own
    slow.outlet.abort()  # both of them sleep; nobody waits until they have ended
    await eventually(lambda: not slow.outlet.own, "its own task to end")
    other.outlet.abort()
    await eventually(lambda: asyncio.all_tasks() == before, "the other task to end")


async def test_the_loop_has_its_turn_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    elapsed = 0.0
    turns = 0
    since_turn: list[float] = []

    async def take_time() -> None:
        nonlocal elapsed
        elapsed += _pump.MAX_HOLD / 4

    def turn() -> None:
        nonlocal turns
        turns += 1
        since_turn.append(elapsed)
        if turns < 100:
            asyncio.get_running_loop().call_soon(turn)

    monkeypatch.setattr(_pump, "perf_counter", lambda: elapsed)
    clients = [Client(take_time) for _ in range(40)]
    for client in clients:
        client.give("a")
    turn()
    for client in clients:
        await client.gets("a")
    longest = max(after - before for before, after in pairwise(since_turn))
    assert 0 < longest <= _pump.MAX_HOLD * 1.001
    for client in clients:
        await client.outlet.stop()


async def test_a_long_run_lets_the_others_have_their_turn() -> None:
    texts = [str(number) for number in range(10 * FAIR_SHARE)]
    had: list[int] = []

    async def note() -> None:
        had.append(len(long.texts))

    async def give_to_other() -> None:
        if len(long.texts) == 2:  # the first one, and one of the run of all that waited behind it
            other.give("a")

    long, other = Client(give_to_other), Client(note)
    long.give(*texts)
    await long.gets(*texts)
    await other.gets("a")
    assert had[0] <= 2 * FAIR_SHARE
    await long.outlet.stop()
    await other.outlet.stop()


async def test_one_is_stuck_only_if_it_sent_nothing_from_one_look_to_the_next() -> None:
    taking = asyncio.Event()
    slow = Client(taking.wait)
    assert not slow.outlet.is_stuck()
    slow.give("a")
    await eventually(lambda: slow.outlet.own, "it to wait")
    assert not slow.outlet.is_stuck()  # it had nothing to send when this was asked last
    assert slow.outlet.is_stuck()
    taking.set()
    await slow.gets("a")
    assert not slow.outlet.is_stuck()
    await slow.outlet.stop()
