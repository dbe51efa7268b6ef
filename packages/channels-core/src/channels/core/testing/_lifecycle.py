"""What starting and stopping a backend promises."""

from __future__ import annotations

import asyncio

from channels.core import BackendException, ChannelsBackend, Message, NotRunningError
from channels.core.testing._checks import publish
from channels.core.testing._suite import Suite, contract_test


class LifecycleContract(Suite):
    """What starting and stopping a backend promises; part of ``BackendContract``."""

    @contract_test
    async def test_entries_are_counted(self) -> None:
        """Two users of one backend: the first to leave does not stop it for the other."""
        async with self.backend() as backend:
            async with backend:
                await self._assert_works(backend, "entered twice")
            await self._assert_works(backend, "entered twice and left once")

    @contract_test
    async def test_entries_at_once(self) -> None:
        """Users that enter and leave one backend at the same time do not trip each other."""
        backend = await self._stopped()

        async def use(number: int) -> None:
            async with backend:
                await publish(backend, f"channel {number}", b"event")

        await asyncio.gather(*[use(number) for number in range(5)])

    @contract_test
    async def test_start_again(self) -> None:
        """A backend that was stopped can be started again, time after time."""
        backend = await self._stopped()
        for times in range(2, 5):
            async with backend:
                await self._assert_works(backend, f"started {times} times")

    @contract_test
    async def test_start_again_on_another_loop(self) -> None:
        """A backend that was stopped works on another event loop."""
        backend = await self._stopped()

        async def work() -> None:
            async with asyncio.timeout(2 * self.patience), backend:
                await self._assert_works(backend, "started on another loop")

        await asyncio.to_thread(asyncio.run, work())
        async with backend:
            await self._assert_works(backend, "started on its first loop again")

    @contract_test
    async def test_publish_after_close_fails(self) -> None:
        """A backend that was stopped says so instead of publishing or hanging."""
        backend = await self._stopped()
        try:
            outcomes = await backend.publish([Message("channel", b"late")])
        except (NotRunningError, BackendException):
            return
        assert all(isinstance(outcome, BackendException) for outcome in outcomes), (
            f"publish() on a stopped backend must raise NotRunningError (or fail with a "
            f"BackendException), but it returned {outcomes!r}: a connection it opens now is "
            f"closed by nobody"
        )

    async def _assert_works(self, backend: ChannelsBackend, when: str) -> None:
        async with self.tap(backend, when) as tap:
            await publish(backend, when, b"event")
            await tap.until_event(when, b"event")

    async def _stopped(self) -> ChannelsBackend:
        async with self.backend() as backend:
            return backend
