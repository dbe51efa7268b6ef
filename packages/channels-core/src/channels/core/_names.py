"""Which texts are channel names."""

from __future__ import annotations

from collections.abc import Iterable

from channels.core._errors import InvalidChannelNameError

MAX_NAME_BYTES = 200
"""The longest channel name in bytes of UTF-8; every backend takes that much."""


def check_name(name: object) -> str:
    """Return ``name`` if it may name a channel.

    Raises:
        InvalidChannelNameError: It is not text, empty, longer than 200 bytes, not valid
            Unicode, has a NUL in it, or begins with ``$``.
    """
    if not isinstance(name, str):
        raise InvalidChannelNameError(name, f"is {type(name).__name__}, not str")
    if not name:
        raise InvalidChannelNameError(name, "is empty")
    if name[0] == "$":
        raise InvalidChannelNameError(name, "begins with '$', which is reserved")
    if "\0" in name:
        raise InvalidChannelNameError(name, "contains a NUL character")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidChannelNameError(name, "is not valid Unicode") from None
    if size > MAX_NAME_BYTES:
        raise InvalidChannelNameError(
            name, f"has {size} bytes; at most {MAX_NAME_BYTES} are allowed"
        )
    return name


def expand(channels: str | Iterable[str]) -> list[str]:
    """Return the names in ``channels`` once each, in order; one text is one name.

    Raises:
        InvalidChannelNameError: It is no iterable, or what it gives cannot be names.
    """
    if isinstance(channels, str):
        return [channels]
    if isinstance(channels, (bytes, bytearray, memoryview)):  # iterables, but of numbers
        return [check_name(channels)]
    try:
        names = list(channels)
    except TypeError:
        why = "is neither text nor an iterable of texts"
        raise InvalidChannelNameError(channels, why) from None
    if len(names) == 1 and isinstance(names[0], str):
        return names
    try:
        return list(dict.fromkeys(names))
    except TypeError:
        return [check_name(name) for name in names]
