"""What exists while a backend is entered."""

from __future__ import annotations

import asyncio

from channels.core.postgres._fold import Folder
from channels.core.postgres._keeper import Keeper
from channels.core.postgres._lane import Lane, ask


class Session:
    """The two connections for statements, and who uses them.

    Args:
        writer: To publish on.
        reader: To read and to clear up on.
        folder: Publishes on ``writer``.
        keeper: Clears up on ``reader``.
        seconds: How long a statement may take.
    """

    def __init__(
        self, writer: Lane, reader: Lane, folder: Folder, keeper: Keeper, seconds: float
    ) -> None:
        self.writer = writer
        self.reader = reader
        self.folder = folder
        self.keeper = keeper
        self._seconds = seconds

    async def notify(self, channel: str) -> None:
        """Send an empty notification."""
        async with self.reader.connection() as connection:
            await ask(connection, self._seconds, "SELECT pg_notify($1, '')", channel)

    async def close(self) -> None:
        """End everything; bounded, whatever the server does."""
        await self.folder.close()
        await self.keeper.close()
        await asyncio.gather(self.writer.close(), self.reader.close())
