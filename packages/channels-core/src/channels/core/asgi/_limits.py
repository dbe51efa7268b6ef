"""How much a client may take and send."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from channels.core._errors import ConfigurationError
from channels.core.options import check_count, check_number, check_type


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one client, and all of them, may use of a process.

    The number of events that wait for a client is the plugin's ``max_backlog``.

    Args:
        max_connections: Clients at a time; others are refused with 503 (1013). Default 20,000.
        max_backlog_bytes: Bytes of payload that wait for a client, under the plugin's
            ``backlog_strategy``. None: no limit. Default 4 MiB.
        max_message_bytes: The largest message from a client; a larger one closes with 1009. The
            server has a limit of its own, which should not be far above. Default 64 KiB.
        max_messages_per_second: What a client may send in the long run; more closes with 4429.
            Default 20.
        message_burst: What it may send at once. Default 60.
        max_name_length: Characters in the name of a channel that was not declared; a longer one
            is refused with 404 (4404). Default 100.
        name_pattern: A regular expression that such a name must match as a whole. Default:
            letters and digits of any script and ``_ - . : ~ @ /``.

    Raises:
        ConfigurationError: A limit makes no sense; the message names it.
    """

    max_connections: int = 20_000
    max_backlog_bytes: int | None = 4 * 1024 * 1024
    max_message_bytes: int = 64 * 1024
    max_messages_per_second: float = 20.0
    message_burst: int = 60
    max_name_length: int = 100
    name_pattern: str = r"[\w\-.:~@/]+"

    def __post_init__(self) -> None:
        check_count(
            1,
            max_connections=self.max_connections,
            max_message_bytes=self.max_message_bytes,
            message_burst=self.message_burst,
            max_name_length=self.max_name_length,
        )
        check_count(1, or_none=True, max_backlog_bytes=self.max_backlog_bytes)
        check_number("a number above 0", max_messages_per_second=self.max_messages_per_second)
        check_type(str, "a regular expression", name_pattern=self.name_pattern)
        try:
            re.compile(self.name_pattern)
        except re.error as exc:
            raise ConfigurationError(f"name_pattern={self.name_pattern!r}: {exc}") from exc

    @cached_property
    def _names(self) -> re.Pattern[str]:
        return re.compile(self.name_pattern)

    def allows_name(self, name: str) -> bool:
        """Tell whether a channel that was not declared may be called that."""
        return len(name) <= self.max_name_length and self._names.fullmatch(name) is not None


class Allowance:
    """How many messages a client may still send; it grows back with time."""

    __slots__ = ("_left", "_limits", "_since")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._left = float(limits.message_burst)
        self._since = now

    def spend(self, now: float) -> bool:
        """Take one message; False when there is none left."""
        grown = (now - self._since) * self._limits.max_messages_per_second
        self._left = min(self._limits.message_burst, self._left + grown) - 1
        self._since = now
        return self._left >= 0
