"""Publishing without history: one NOTIFY per event, a row for what that cannot carry."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from typing import Final

from channels.core._backend import Message, Outcome
from channels.core._errors import BackendException, BackendRefused
from channels.core.postgres._frame import INLINE, notify_name, write
from channels.core.postgres._lane import ask
from channels.core.postgres._port import Connection

Statement = tuple[str, tuple[object, ...]]
"""SQL with ``$1``, and its parameters."""

# Counted, so that one row comes back, whatever is sent.
_NOTIFY: Final = """\
SELECT count(pg_notify(m.channel, m.frame))
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS m(channel, frame)
"""

# Listeners read the rows when they get the frames, which is after the commit.
_SPILL: Final = f"""\
WITH spilled AS (
    INSERT INTO {{schema}}.spill (id, data)
    SELECT s.id, s.data FROM unnest(CAST($3 AS text[]), CAST($4 AS bytea[])) AS s(id, data)
)
{_NOTIFY}"""


class Live:
    """Make and send the statements.

    Args:
        schema: The schema of the tables, as SQL writes it.
        seconds: How long a statement may take.
    """

    def __init__(self, schema: str, seconds: float) -> None:
        self._schema = schema
        self._spill = _SPILL.replace("{schema}", schema)
        self._seconds = seconds
        self._tags = map("{}.{}".format, itertools.repeat(secrets.token_hex(6)), itertools.count())

    def statement(self, messages: Sequence[Message], utf8: bool) -> Statement:
        """Return the statement that publishes messages in their order.

        Args:
            messages: One at least.
            utf8: Whether that is the database's encoding.
        """
        names: list[str] = []
        frames: list[str] = []
        keys: list[str] = []
        spilled: list[bytes] = []
        for channel, data in messages:
            listened, tag = notify_name(channel, utf8), next(self._tags)
            if len(data) > INLINE:
                keys.append(tag)
                spilled.append(data)
                frames.append(write(channel, listened, tag, None))
            else:
                frames.append(write(channel, listened, tag, data))
            names.append(listened)
        if keys:
            return self._spill, (names, frames, keys, spilled)
        return _NOTIFY, (names, frames)

    async def send(
        self, connection: Connection, messages: Sequence[Message], utf8: bool
    ) -> Sequence[Outcome]:
        """Publish; where there are no tables, what needs them is refused alone.

        Raises:
            BackendException: Nothing was published.
        """
        query, args = self.statement(messages, utf8)
        large = [len(message.data) > INLINE for message in messages]
        refused: BackendException | None = None
        try:
            await ask(connection, self._seconds, query, *args)
        except BackendRefused as exc:
            if not any(large):
                raise
            refused = BackendRefused(
                f"an event too large for NOTIFY goes through a table of schema {self._schema}: "
                f"{exc}; pass create_schema=True, or see `python -m channels.core.postgres`"
            )
            refused.__cause__ = exc
            rest = [m for m, is_large in zip(messages, large, strict=True) if not is_large]
            if rest:
                query, args = self.statement(rest, utf8)
                await ask(connection, self._seconds, query, *args)
        return [refused if is_large else None for is_large in large]
