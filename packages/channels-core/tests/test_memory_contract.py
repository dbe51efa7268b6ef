from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from channels.core import ChannelsBackend, MemoryChannelsBackend
from channels.core.testing import (
    BackendContract,
    FaultyBackend,
    HistoryContract,
    OutageContract,
    ResumeContract,
)


class TestMemoryBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def broker(self) -> None:
        self.memory = MemoryChannelsBackend()

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.memory as backend:
            yield backend


class TestMemoryBackendWithHistory(HistoryContract):
    history_at_most = 100

    @pytest.fixture(autouse=True)
    def broker(self) -> None:
        self.memory = MemoryChannelsBackend(history=self.history)

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.memory as backend:
            yield backend

    async def lose_record(self, channel: str) -> None:
        del self.memory._records[channel]


class TestOutagesOfMemory(OutageContract):
    @pytest.fixture(autouse=True)
    def broker(self) -> None:
        self.faults = FaultyBackend(MemoryChannelsBackend())

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.faults as backend:
            yield backend

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.faults.outage():
            yield


class TestOutagesOfMemoryWithHistory(ResumeContract):
    history_at_most = 100

    @pytest.fixture(autouse=True)
    def broker(self) -> None:
        self.memory = MemoryChannelsBackend(history=self.history)
        self.faults = FaultyBackend(self.memory)

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.faults as backend:
            yield backend

    @asynccontextmanager
    async def bystander(self) -> AsyncIterator[ChannelsBackend]:
        async with self.memory as backend:
            yield backend

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.faults.outage():
            yield

    async def lose_history(self) -> None:
        self.memory._records.clear()
