import builtins
import copy
import inspect
import pickle
import re

import pytest

from channels.core import (
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
    _errors,
)

ERRORS: list[ChannelsException] = [
    ChannelsException("why"),
    ConfigurationError("why"),
    NotRunningError("why"),
    SubscriberStateError("why"),
    UnknownChannelError("news"),
    InvalidChannelNameError("", "is empty"),
    InvalidPositionError("x"),
    EncodeError("why"),
    PublishQueueFull(10_000),
    BackendException("why"),
    BackendUnavailable("why"),
    BackendRefused("why"),
    PublishUnconfirmed("why"),
    PayloadTooLarge("news", 2_000_000, 1_048_576),
    HistoryNotSupported("why"),
]


def test_this_is_all_of_them() -> None:
    defined = {kind for kind in vars(_errors).values() if inspect.isclass(kind)}
    assert {type(error) for error in ERRORS} == defined


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_each_is_where_the_module_shows_it(error: ChannelsException) -> None:
    kind = type(error)
    parent = next(
        base
        for base in kind.__mro__[1:]
        if base.__module__ == _errors.__name__ or base is Exception
    )
    indent = {Exception: "    ", ChannelsException: "    |__", BackendException: "       |__"}[
        parent
    ]
    [told] = re.findall(
        rf"^{re.escape(indent)}{kind.__name__}\b(.*)$", str(_errors.__doc__), re.MULTILINE
    )
    for builtin in re.findall(r"also (\w+)", told):
        assert issubclass(kind, getattr(builtins, builtin))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_each_survives_pickle_and_copy(error: ChannelsException) -> None:
    error.add_note("seen in a worker")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert (str(twin), vars(twin)) == (str(error), vars(error))


def test_errors_name_the_thing_and_the_way_out() -> None:
    assert str(UnknownChannelError("news")) == (
        "unknown channel 'news': name it in channels=[...] or set arbitrary_channels_allowed=True"
    )
    assert "2,000,000 bytes for channel 'news' exceeds max_payload=1,048,576" in str(
        PayloadTooLarge("news", 2_000_000, 1_048_576)
    )
    assert "10000 events wait to be published (max_pending)" in str(PublishQueueFull(10_000))
