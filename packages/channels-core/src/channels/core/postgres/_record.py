"""The record: appending to channels, reading them, and keeping them short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from channels.core._backend import History, HistoryRequest, Message
from channels.core._event import BEGINNING, Event, Position
from channels.core.postgres._frame import Reference
from channels.core.postgres._lane import ask
from channels.core.postgres._port import Connection

SILENT_DAYS: Final = 7
"""A channel that nobody published to for so long is forgotten."""

SPILLED_MINUTES: Final = 10
"""How long a payload without history lies ready for the listeners; far beyond any heartbeat."""

_AT_ONCE: Final = 1_000

_APPEND = """\
SELECT nth, epoch, top FROM {schema}.append(
    CAST($1 AS bytea[]), CAST($2 AS bigint[]), CAST($3 AS bigint[]), CAST($4 AS bytea[]),
    CAST($5 AS boolean))
"""

# A position of an epoch that the record descends from stands at most where the next one began.
_HISTORY = """\
SELECT r.nth, c.epoch, c.top, s.start, e.seq, e.data
FROM unnest(CAST($1 AS bytea[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS bigint[]))
    WITH ORDINALITY AS r(name, epoch, seq, most, nth)
JOIN {schema}.channel c ON c.name = r.name
CROSS JOIN LATERAL (SELECT CASE
    WHEN r.epoch = '0' THEN 0
    WHEN r.epoch = c.epoch THEN r.seq
    WHEN r.epoch = ANY (c.past_epochs)
        THEN LEAST(r.seq, c.past_tops[array_position(c.past_epochs, r.epoch)])
    END AS start) s
LEFT JOIN LATERAL (
    SELECT o.seq, o.data FROM {schema}.event o
    WHERE o.channel = c.id AND o.seq > GREATEST(COALESCE(s.start, 0), c.top - CAST($5 AS bigint))
    ORDER BY o.seq DESC LIMIT r.most
) e ON true
"""

_TOPS = """\
SELECT c.name, c.epoch, c.top FROM {schema}.channel c WHERE c.name = ANY(CAST($1 AS bytea[]))
"""

_CHANGED = """\
SELECT c.name
FROM unnest(CAST($1 AS bytea[]), CAST($2 AS text[]), CAST($3 AS bigint[])) AS r(name, epoch, seq)
JOIN {schema}.channel c ON c.name = r.name
WHERE c.top <> r.seq OR c.epoch <> r.epoch
"""

_RECORDED = """\
SELECT r.nth, e.data
FROM unnest(CAST($1 AS bytea[]), CAST($2 AS text[]), CAST($3 AS bigint[]))
    WITH ORDINALITY AS r(name, epoch, seq, nth)
JOIN {schema}.channel c ON c.name = r.name AND c.epoch = r.epoch
JOIN {schema}.event e ON e.channel = c.id AND e.seq = r.seq
"""

_SPILLED = """\
SELECT r.nth, s.data FROM unnest(CAST($1 AS text[])) WITH ORDINALITY AS r(id, nth)
JOIN {schema}.spill s ON s.id = r.id
"""

_OLDEST = """\
SELECT c.name, o.seq
FROM {schema}.channel c
CROSS JOIN LATERAL (
    SELECT e.seq FROM {schema}.event e WHERE e.channel = c.id ORDER BY e.seq LIMIT 1
) o
WHERE c.name = ANY(CAST($1 AS bytea[]))
"""

# By range, so that no row is looked at twice, nor one that went before and is not vacuumed yet.
# One process at a time trims or sweeps: so none waits for another's locks. A record may have been
# forgotten and begun again, hence the look at its top.
_TRIM = """\
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('{schema}.sweep', 0)) AS ours
), excess AS MATERIALIZED (
    SELECT c.id, x.after, LEAST(x.upto, c.top - CAST($4 AS bigint)) AS upto
    FROM turn, unnest(CAST($1 AS bytea[]), CAST($2 AS bigint[]), CAST($3 AS bigint[]))
        AS x(name, after, upto)
    JOIN {schema}.channel c ON c.name = x.name
    WHERE turn.ours
), trimmed AS (
    DELETE FROM {schema}.event e USING excess x
    WHERE e.channel = x.id AND e.seq > x.after AND e.seq <= x.upto
)
SELECT ours FROM turn
"""

_SWEEP = f"""\
SELECT {{schema}}.sweep(
    CAST($1 AS bigint), interval '{SILENT_DAYS} days', interval '{SPILLED_MINUTES} minutes')
"""


class Excess(NamedTuple):
    """Events of a channel: those after one offset, up to another."""

    channel: str
    after: int
    upto: int


class Record:
    """The statements of one schema.

    Args:
        schema: As SQL writes it.
        keep: How many events of a channel are history; 0 without history.
        notify: Whether appending notifies.
        seconds: How long a statement may take.
    """

    def __init__(self, schema: str, *, keep: int, notify: bool, seconds: float) -> None:
        self._schema = schema
        self._keep = keep
        self._notify = notify
        self._seconds = seconds

    def sql(self, template: str) -> str:
        """Return a statement with the schema's name in it."""
        return template.replace("{schema}", self._schema)

    async def append(
        self, connection: Connection, messages: Sequence[Message]
    ) -> Sequence[Position]:
        """Append in order, notify, commit."""
        members: dict[str, list[int]] = {}
        for index, message in enumerate(messages):
            members.setdefault(message.channel, []).append(index)
        groups = list(members.values())
        rows = await ask(
            connection,
            self._seconds,
            self.sql(_APPEND),
            [channel.encode() for channel in members],
            [len(group) for group in groups],
            [owner for owner, group in enumerate(groups, 1) for _ in group],
            [messages[index].data for group in groups for index in group],
            self._notify,
        )
        positions = [BEGINNING] * len(messages)
        for nth, epoch, top in rows:
            group = groups[nth - 1]
            for offset, index in enumerate(group, top - len(group) + 1):
                positions[index] = Position(epoch, offset)
        return positions

    async def read(
        self, connection: Connection, requests: Sequence[HistoryRequest], *, untrimmed: bool = False
    ) -> Sequence[History]:
        """Read many records, each as it was at one moment.

        Args:
            connection: Where.
            requests: What.
            untrimmed: Whether to read also what is beyond the history and not trimmed yet.
        """
        keep = None if untrimmed else self._keep
        read: list[History] = []
        for start in range(0, len(requests), _AT_ONCE):
            read += await self._read(connection, requests[start : start + _AT_ONCE], keep)
        return read

    async def _read(
        self, connection: Connection, requests: Sequence[HistoryRequest], keep: int | None
    ) -> Sequence[History]:
        rows = await ask(
            connection,
            self._seconds,
            self.sql(_HISTORY),
            [request.channel.encode() for request in requests],
            [request.since and request.since.epoch for request in requests],
            [request.since and request.since.offset for request in requests],
            [request.limit for request in requests],
            keep,
        )
        found: dict[int, tuple[Position, int | None, list[tuple[int, bytes]]]] = {}
        for nth, epoch, top, start, seq, data in rows:
            _, _, events = found.setdefault(nth - 1, (Position(epoch, top), start, []))
            if seq is not None:
                events.append((seq, data))
        return [
            _history(request, *found.get(index, (None, None, [])))
            for index, request in enumerate(requests)
        ]

    async def tops(
        self, connection: Connection, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        """Read where channels stand; None where one has no record."""
        names = [channel.encode() for channel in channels]
        rows = await ask(connection, self._seconds, self.sql(_TOPS), names)
        tops: dict[str, Position | None] = dict.fromkeys(channels)
        tops.update((bytes(name).decode(), Position(epoch, top)) for name, epoch, top in rows)
        return tops

    async def changed(
        self, connection: Connection, positions: Mapping[str, Position]
    ) -> Sequence[str]:
        """Return the channels that no longer stand where they did."""
        rows = await ask(
            connection,
            self._seconds,
            self.sql(_CHANGED),
            [channel.encode() for channel in positions],
            [position.epoch for position in positions.values()],
            [position.offset for position in positions.values()],
        )
        return [bytes(name).decode() for (name,) in rows]

    async def resolve(
        self, connection: Connection, references: Sequence[Reference]
    ) -> Sequence[Event | None]:
        """Read the payloads of events that came as references; None for one that is gone."""
        events: list[Event | None] = [None] * len(references)
        recorded = [(n, r, r.position) for n, r in enumerate(references) if r.position is not None]
        spilled = [(n, r) for n, r in enumerate(references) if r.position is None]
        if recorded:
            rows = await ask(
                connection,
                self._seconds,
                self.sql(_RECORDED),
                [reference.channel.encode() for _, reference, _ in recorded],
                [position.epoch for _, _, position in recorded],
                [position.offset for _, _, position in recorded],
            )
            for nth, data in rows:
                index, reference, position = recorded[nth - 1]
                events[index] = Event(data, reference.channel, position)
        if spilled:
            keys = [reference.key for _, reference in spilled]
            for nth, data in await ask(connection, self._seconds, self.sql(_SPILLED), keys):
                index, reference = spilled[nth - 1]
                events[index] = Event(data, reference.channel)
        return events

    async def oldest(self, connection: Connection, channels: Sequence[str]) -> Mapping[str, int]:
        """Read the offset of the first event that is there; channels without any are left out."""
        oldest: dict[str, int] = {}
        for start in range(0, len(channels), _AT_ONCE):
            names = [channel.encode() for channel in channels[start : start + _AT_ONCE]]
            rows = await ask(connection, self._seconds, self.sql(_OLDEST), names)
            oldest.update((bytes(name).decode(), seq) for name, seq in rows)
        return oldest

    async def trim(self, connection: Connection, portion: Sequence[Excess]) -> bool:
        """Delete events, but none of the history kept; False if another process is at it."""
        [(ours,)] = await ask(
            connection,
            self._seconds,
            self.sql(_TRIM),
            [excess.channel.encode() for excess in portion],
            [excess.after for excess in portion],
            [excess.upto for excess in portion],
            self._keep,
        )
        return bool(ours)

    async def sweep(self, connection: Connection) -> bool:
        """Delete a portion of what trimming does not see; tell whether there may be more."""
        [(rows,)] = await ask(connection, self._seconds, self.sql(_SWEEP), self._keep or None)
        return bool(rows)


def _history(
    request: HistoryRequest,
    top: Position | None,
    start: int | None,
    found: list[tuple[int, bytes]],
) -> History:
    since = request.since
    if top is None:
        return History((), None, since is None or since == BEGINNING)
    found.sort(key=lambda row: row[0])
    events = [Event(data, request.channel, Position(top.epoch, seq)) for seq, data in found]
    # A reader who is beyond what the record has of its epoch had events that the server has lost.
    complete = since is None or start == since.offset == top.offset - len(events)
    return History(events, top, complete)
