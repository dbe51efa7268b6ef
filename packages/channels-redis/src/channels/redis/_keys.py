"""How channels are named on the server."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from functools import lru_cache

_CACHED = 10_000


class Keys:
    """Map channel names to keys and topics, injectively and together with the prefix.

    A key is ``prefix:{name}:kind``. Braces and percent signs are escaped in both, so the first
    brace ends the prefix and the next one the name: two prefixes never meet, and on a cluster
    the name alone is the hash tag, so that all of a channel is in one slot.

    Pub/Sub knows no databases, so a topic names the database it belongs to.
    """

    def __init__(self, prefix: str, database: int) -> None:
        self._prefix = tag(prefix) + b":"
        self._open = self._prefix + b"{"
        self._plain = b"}:p%d" % database
        self._doorbell = b"}:d%d" % database
        self.tag = lru_cache(_CACHED)(tag)

    def plain(self, channel: str) -> bytes:
        """The topic of a channel without a record."""
        return self._open + tag(channel) + self._plain

    def doorbell(self, channel: str) -> bytes:
        """The topic that carries the new entries of a channel's record."""
        return self._open + tag(channel) + self._doorbell

    def stream(self, channel: str) -> bytes:
        """The key of the record's events."""
        return self._open + self.tag(channel) + b"}:s"

    def meta(self, channel: str) -> bytes:
        """The key of the record's top and lineage; outlives the events."""
        return self._open + self.tag(channel) + b"}:m"

    def metas(self, doorbells: Iterable[bytes]) -> list[bytes]:
        """The same of many channels, made of their doorbells."""
        end = -len(self._doorbell)
        return [doorbell[:end] + b"}:m" for doorbell in doorbells]

    def pattern(self) -> bytes:
        """A glob pattern that matches all keys of this prefix and hardly any other."""
        literal = b"".join(b"\\%c" % c if c in rb"*?[]^-\\" else b"%c" % c for c in self._prefix)
        return literal + b"{*}:[sm]"

    def owns(self, key: bytes) -> bool:
        """Tell whether a key is of this prefix."""
        return key.startswith(self._open) and key.endswith((b"}:s", b"}:m"))


def tag(channel: str) -> bytes:
    """The part of a channel's keys and topics that is its name."""
    return channel.replace("%", "%25").replace("{", "%7B").replace("}", "%7D").encode()


def slot(hash_tag: bytes) -> int:
    """The slot of a cluster that a hash tag belongs to."""
    return crc_hqx(hash_tag, 0) % 16384
