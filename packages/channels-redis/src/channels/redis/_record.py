"""The forms of a channel's record: meta, entries, doorbell frames."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from channels.core import BEGINNING, Event, History, HistoryRequest, Position
from channels.redis._errors import why_failed
from channels.redis._keys import Keys
from channels.redis._resp import argument, command
from channels.redis._wire import Answer, Pipeline

START: Final = BEGINNING

_META = re.compile(rb"1 (\w+) (\d+) ")
_FRAME_VERSION = b"\x01"
_SCANNED = 1000


def read_position(text: bytes) -> Position:
    """Read ``epoch-offset``."""
    epoch, _, offset = text.partition(b"-")
    return Position(epoch.decode(), int(offset))


def read_meta(meta: bytes) -> Position | None:
    """Read the top, None from a record of an unknown version."""
    match = _META.match(meta)
    return None if match is None else Position(match[1].decode(), int(match[2]))


def read_doorbell(channel: str, frame: bytes) -> Event | None:
    """Read an event as it is published, None from a frame of an unknown version or a broken one."""
    end = frame.find(b"\n")
    if end < 0 or not frame.startswith(_FRAME_VERSION):
        return None
    try:
        position = read_position(frame[1:end])
    except ValueError:
        return None
    return Event(frame[end + 1 :], channel, position)


def read_history(request: HistoryRequest, answer: Any) -> History:
    """Read what the history script replied."""
    since = request.since
    if not answer:
        return History((), None, since is None or since == BEGINNING)
    meta, known, after, entries = answer
    top = read_meta(meta)
    assert top is not None
    if request.limit is not None:
        entries.reverse()
    events = [
        Event(fields[1], request.channel, Position(top.epoch, int(entry[:-2])))
        for entry, fields in entries
    ]
    if since is None:
        return History(events, top)
    return History(events, top, known == 1 and after + len(events) == top.offset)


def is_behind(position: Position | None, top: Position | None) -> bool:
    """Tell whether a record holds events beyond a position, or is another record."""
    if top is None:
        return False
    return position is None or position.epoch != top.epoch or position.offset < top.offset


async def flush(pipeline: Pipeline, keys: Keys, timeout: float) -> int:
    """Remove a server's keys of one prefix and return how many."""
    removed, cursor = 0, b"0"
    while True:
        scan = command("SCAN", cursor, "MATCH", keys.pattern(), "COUNT", _SCANNED)
        cursor, found = await _one(pipeline, scan, timeout)
        own: Sequence[bytes] = [key for key in found if keys.owns(key)]
        unlink = b"*2\r\n" + argument("UNLINK")
        answers = await pipeline.run([unlink + argument(key) for key in own], timeout)
        for answer in answers:
            if (error := why_failed(answer)) is not None:
                raise error
            removed += answer if isinstance(answer, int) else 0
        if cursor == b"0":
            return removed


async def _one(pipeline: Pipeline, packed: bytes, timeout: float) -> Any:
    answer: Answer = (await pipeline.run([packed], timeout))[0]
    if (error := why_failed(answer)) is not None:
        raise error
    return answer
