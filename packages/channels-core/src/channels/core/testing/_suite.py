"""What every suite is made of: a backend of the author's, a bound, and words for what failed."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import ClassVar, Concatenate, ParamSpec, TypeVar

import pytest

from channels.core import BackendException, ChannelsBackend, Message, Outcome, Position
from channels.core.testing._tap import Tap

_Params = ParamSpec("_Params")
_Suite = TypeVar("_Suite", bound="Suite")


class Suite:
    """A set of tests that asks one thing of its author: a backend to try.

    pytest makes a new instance for every test, so what belongs to one test (a folder, a key
    prefix, a schema) can be an attribute that an ``autouse`` fixture of the subclass sets.
    """

    patience: ClassVar[float] = 5.0
    """Seconds that one thing may take, such as an event's way through the broker. A test may
    take four times as much."""

    def backend(self) -> AbstractAsyncContextManager[ChannelsBackend]:
        """Give a started backend on an empty broker, and stop it on leaving.

        The broker is empty when a test begins and lives until it ends. Further calls in the
        same test give another backend on the same broker, as another process would have; they
        neither empty it nor, on leaving, take it away.
        """
        raise NotImplementedError(f"{type(self).__name__} must override backend()")

    @asynccontextmanager
    async def tap(self, backend: ChannelsBackend, *channels: str) -> AsyncGenerator[Tap]:
        """Listen to ``channels`` and collect what comes, as the plugin does."""
        async with backend.listen() as listener, Tap(listener, patience=self.patience) as tap:
            await tap.subscribe(*channels)
            yield tap


def contract_test(
    test: Callable[Concatenate[_Suite, _Params], Awaitable[None]],
) -> Callable[Concatenate[_Suite, _Params], Awaitable[None]]:
    """Mark a coroutine as a test of a suite: bounded in time, and it leaves no task behind."""

    @pytest.mark.asyncio
    @wraps(test)
    async def bounded(self: _Suite, /, *args: _Params.args, **kwargs: _Params.kwargs) -> None:
        promise = inspect.getdoc(test)
        before = asyncio.all_tasks()
        limit = 4 * self.patience
        timer = asyncio.timeout(limit)
        try:
            async with timer:
                await test(self, *args, **kwargs)
        except TimeoutError as exc:
            if not timer.expired():
                raise
            raise AssertionError(
                f"not done within {limit:g} s, a call of the backend hangs or is far too slow "
                f"(the traceback below ends in it). Promise: {promise}"
            ) from exc
        left = asyncio.all_tasks() - before
        if left:
            _, left = await asyncio.wait(left, timeout=self.patience)
        assert not left, (
            f"tasks are left although every listener and backend was left: "
            f"{', '.join(str(task.get_coro()) for task in left)}. Await what you start, at the "
            f"latest in close() or when the context of listen() is left"
        )

    return bounded


async def publish(backend: ChannelsBackend, channel: str, *payloads: bytes) -> list[Outcome]:
    """Publish to one channel in one call; every message must have been taken."""
    return await publish_all(backend, [Message(channel, data) for data in payloads])


async def publish_all(backend: ChannelsBackend, messages: Sequence[Message]) -> list[Outcome]:
    """Publish in one call; every message must have been taken."""
    outcomes = check_outcomes(messages, await backend.publish(messages))
    for message, outcome in zip(messages, outcomes, strict=True):
        if isinstance(outcome, BackendException):
            raise AssertionError(
                f"publish() of {len(message.data)} bytes to {message.channel!r} failed though "
                f"nothing is wrong with broker or message: {outcome!r}"
            ) from outcome
    return outcomes


def check_outcomes(messages: Sequence[Message], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Check that ``publish()`` gave one outcome per message, each of a kind that there is."""
    assert len(outcomes) == len(messages), (
        f"publish() must return one outcome per message, in order: {len(messages)} messages, "
        f"{len(outcomes)} outcomes"
    )
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, (Position, BackendException)), (
            f"an outcome is a Position, None or a BackendException, not {outcome!r}"
        )
    return list(outcomes)


def assert_same(came: Iterable[bytes], expected: Iterable[bytes], what: str) -> None:
    """Compare two lists of payloads and tell the first difference, not thousands of lines."""
    got, want = [bytes(data) for data in came], [bytes(data) for data in expected]
    if got == want:
        return
    counted, wanted = Counter(got), Counter(want)
    missing, surplus = list((wanted - counted).elements()), list((counted - wanted).elements())
    if missing or surplus:
        why = f"missing: {_shown(missing)}; too much or repeated: {_shown(surplus)}"
    else:
        at = next(i for i, pair in enumerate(zip(got, want, strict=True)) if pair[0] != pair[1])
        why = f"all there, but number {at} is {got[at]!r:.60} instead of {want[at]!r:.60}"
    raise AssertionError(f"{what}: {len(want)} events expected, {len(got)} came; {why}")


def _shown(payloads: list[bytes]) -> str:
    if not payloads:
        return "none"
    shown = ", ".join(f"{data!r:.60}" for data in payloads[:5])
    return f"{len(payloads)} ({shown}{', ...' if len(payloads) > 5 else ''})"
