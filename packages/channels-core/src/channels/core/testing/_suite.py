"""What every suite is made of: a backend of the author's, a bound, and words for what failed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import ClassVar, Concatenate, ParamSpec, TypeVar

import pytest

from channels.core import ChannelsBackend
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
