"""The suite that every backend passes."""

from __future__ import annotations

from channels.core.testing._lifecycle import LifecycleContract
from channels.core.testing._listening import ListenContract
from channels.core.testing._publishing import PublishContract


class BackendContract(PublishContract, ListenContract, LifecycleContract):
    """Prove a backend: subclass it in a test module and override :meth:`backend`.

    ::

        class TestMyBackend(BackendContract):
            @pytest.fixture(autouse=True)
            def server(self, tmp_path: Path) -> None:
                self.path = tmp_path / "events"  # an empty broker for each test

            @asynccontextmanager
            async def backend(self) -> AsyncIterator[ChannelsBackend]:
                async with MyBackend(self.path) as backend:
                    yield backend

    Needs pytest and pytest-asyncio and no configuration. Where history is kept, subclass
    ``HistoryContract`` instead, which includes this.
    """
