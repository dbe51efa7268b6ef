"""Exceptions raised by every ``channels`` distribution.

    ChannelsException
    |__ConfigurationError        also ValueError: the program must be changed
    |__NotRunningError           also RuntimeError: used before start or after stop
    |__SubscriberStateError      also RuntimeError: a second consumer, an ended subscriber
    |__UnknownChannelError       also LookupError: has .channel
    |__InvalidChannelNameError   also ValueError: has .channel
    |__InvalidPositionError      also ValueError: a ``since`` that is no event id
    |__EncodeError               also TypeError: data that cannot become bytes
    |__PublishQueueFull          has .limit
    |__BackendException
       |__BackendUnavailable     transient: the broker cannot be reached, surely nothing was sent
       |__BackendRefused         the broker answered no: password, permission, version
       |__PublishUnconfirmed     sent, but the reply was lost: the event may or may not exist
       |__PayloadTooLarge        has .size and .limit
       |__HistoryNotSupported    also NotImplementedError: the backend keeps no history

A driver's own exception never leaves its backend; it is chained.
"""

from __future__ import annotations


class ChannelsException(Exception):
    """Base of everything this library raises on purpose. Can be pickled, for worker processes."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own calls __init__ with the message, which not every __init__ here takes.
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[ChannelsException], args: tuple[object, ...]) -> ChannelsException:
    return kind.__new__(kind, *args)


class ConfigurationError(ChannelsException, ValueError):
    """Options contradict each other, a backend is unknown, or a package is missing."""


class NotRunningError(ChannelsException, RuntimeError):
    """The plugin, publisher or backend was used before it started or after it stopped."""


class SubscriberStateError(ChannelsException, RuntimeError):
    """A subscriber has a consumer already, or has ended."""


class UnknownChannelError(ChannelsException, LookupError):
    """A channel was neither declared nor are arbitrary channels allowed."""

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"unknown channel {channel!r}: name it in channels=[...] "
            f"or set arbitrary_channels_allowed=True"
        )
        self.channel = channel


class InvalidChannelNameError(ChannelsException, ValueError):
    """A channel name is empty, not text, too long, reserved, or not valid UTF-8."""

    def __init__(self, channel: object, why: str) -> None:
        shown = repr(channel)
        super().__init__(f"channel name {shown if len(shown) <= 80 else shown[:77] + '...'} {why}")
        self.channel = channel


class InvalidPositionError(ChannelsException, ValueError):
    """A text given as ``since`` is not the id of an event."""

    def __init__(self, text: object) -> None:
        super().__init__(f"{text!r:.120} is not an event id; pass the .id of an event you received")


class EncodeError(ChannelsException, TypeError):
    """Published data can be turned into bytes neither directly nor as JSON."""


class PublishQueueFull(ChannelsException):
    """``publish()`` was called while ``max_pending`` events wait for the broker.

    Nothing of the call was enqueued. Wait and try again, shed load, or use
    ``wait_published()``, which slows the publisher down to the broker's pace.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} events wait to be published (max_pending); the broker is unreachable "
            f"or slower than the publishers"
        )
        self.limit = limit


class BackendException(ChannelsException):
    """A backend or its broker failed."""


class BackendUnavailable(BackendException):
    """The broker cannot be reached. Surely nothing was sent; trying again is safe."""


class BackendRefused(BackendException):
    """The broker answered, and its answer was no: a password, a permission, a version.

    Trying again without a change on either side will not help.
    """


class PublishUnconfirmed(BackendException):
    """An event was sent and the broker's reply lost: it may or may not have been published."""


class PayloadTooLarge(BackendException):
    """An event is larger than the backend takes. It was not sent."""

    def __init__(self, channel: str, size: int, limit: int) -> None:
        super().__init__(
            f"an event of {size:,} bytes for channel {channel!r} exceeds max_payload={limit:,}"
        )
        self.channel = channel
        self.size = size
        self.limit = limit


class HistoryNotSupported(BackendException, NotImplementedError):
    """History or resuming was asked of a backend that keeps none."""
