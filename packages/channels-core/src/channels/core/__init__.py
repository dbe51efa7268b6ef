"""Route event streams from a broker to the subscribers of this process."""

from channels.core._backend import (
    ChannelsBackend,
    History,
    HistoryRequest,
    Listener,
    Lost,
    Message,
    Outcome,
)
from channels.core._backlog import BacklogStrategy
from channels.core._encode import Encoder
from channels.core._errors import (
    BackendException,
    BackendRefused,
    BackendUnavailable,
    ChannelsException,
    ConfigurationError,
    EncodeError,
    HistoryNotSupported,
    InvalidChannelNameError,
    InvalidPositionError,
    NotRunningError,
    PayloadTooLarge,
    PublishQueueFull,
    PublishUnconfirmed,
    SubscriberStateError,
    UnknownChannelError,
)
from channels.core._event import BEGINNING, Event, Gap, Position
from channels.core._lookup import available_backends, load_backend
from channels.core._outside import AsyncPublisher, SyncPublisher
from channels.core._plugin import ChannelsPlugin
from channels.core._subscriber import EndReason, Sink, Subscriber
from channels.core.memory import MemoryChannelsBackend

__all__ = (
    "AsyncPublisher",
    "BEGINNING",
    "BackendException",
    "BackendRefused",
    "BackendUnavailable",
    "BacklogStrategy",
    "ChannelsBackend",
    "ChannelsException",
    "ChannelsPlugin",
    "ConfigurationError",
    "EncodeError",
    "Encoder",
    "EndReason",
    "Event",
    "Gap",
    "History",
    "HistoryNotSupported",
    "HistoryRequest",
    "InvalidChannelNameError",
    "InvalidPositionError",
    "Listener",
    "Lost",
    "MemoryChannelsBackend",
    "Message",
    "NotRunningError",
    "Outcome",
    "PayloadTooLarge",
    "Position",
    "PublishQueueFull",
    "PublishUnconfirmed",
    "Sink",
    "Subscriber",
    "SubscriberStateError",
    "SyncPublisher",
    "UnknownChannelError",
    "available_backends",
    "load_backend",
)
