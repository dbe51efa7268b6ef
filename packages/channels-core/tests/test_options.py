"""A wrong option is refused where it is given, with its name, its value and what it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from channels.core import (
    ChannelsPlugin,
    ConfigurationError,
    InvalidChannelNameError,
    MemoryChannelsBackend,
    UnknownChannelError,
)
from channels.core.asgi import Gateway, Limits
from channels.core.postgres import PostgresChannelsBackend


def plugin(**options: Any) -> ChannelsPlugin:
    return ChannelsPlugin("memory://?history=10", channels=["news"], **options)


def gateway(**options: Any) -> Gateway:
    return Gateway(options.pop("plugin", plugin()), **options)


def postgres(**options: Any) -> PostgresChannelsBackend:
    driver: Any = None
    return PostgresChannelsBackend(driver, **options)


@pytest.mark.parametrize(
    ("make", "option", "value", "takes"),
    [
        (plugin, "connect_timeout", None, "seconds above 0"),
        (plugin, "subscribe_timeout", "3", "seconds above 0"),
        (plugin, "shutdown_timeout", float("nan"), "seconds above 0"),
        (plugin, "max_pending", 1.5, "a whole number of at least 1"),
        (plugin, "max_backlog", "3", "at least 1, or None for no limit"),
        (plugin, "max_backlog", True, "at least 1, or None for no limit"),
        (plugin, "require_broker", "false", "True or False"),
        (plugin, "on_gap", "log", "a function, or None"),
        (gateway, "plugin", "memory://", "the ChannelsPlugin whose channels they are"),
        (gateway, "authorize", True, "a function, or None"),
        (gateway, "limits", {"max_connections": 5}, "Limits(...), or None"),
        (gateway, "heartbeat", None, "seconds above 0"),
        (gateway, "allowed_origins", None, "origins, or '*' for any"),
        (gateway, "drain_on_signal", "no", "True or False"),
        (Limits, "max_connections", None, "a whole number of at least 1"),
        (Limits, "max_backlog_bytes", 0, "a whole number of at least 1, or None"),
        (Limits, "max_messages_per_second", "20", "a number above 0"),
        (Limits, "name_pattern", None, "a regular expression"),
        (MemoryChannelsBackend, "history", None, "how many events to keep, 0 for none"),
        (MemoryChannelsBackend, "max_age", "60", "seconds above 0, or None"),
        (MemoryChannelsBackend, "max_payload", -1, "a whole number of at least 1"),
        (postgres, "history", "100", "how many events to keep, 0 for none"),
        (postgres, "heartbeat", 61, "seconds above 0, at most 60"),
        (postgres, "timeout", None, "seconds above 0"),
        (postgres, "notify", 0, "True or False"),
        (postgres, "schema", None, "a name of at most 63 letters, digits and underscores"),
    ],
)
def test_the_option_is_named(
    make: Callable[..., object], option: str, value: object, takes: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(**{option: value})
    assert str(caught.value) == f"{option}={value!r}: pass {takes}"


async def test_calls_are_as_clear_as_constructors() -> None:
    wrong: Any = "3"
    async with plugin() as channels:
        with pytest.raises(ConfigurationError, match=r"^history='3': pass how many"):
            await channels.subscribe("news", history=wrong)
        with pytest.raises(ConfigurationError, match=r"^max_backlog_bytes='3': pass at least 1"):
            await channels.subscribe("news", max_backlog_bytes=wrong)
        assert channels.subscriber_count("news") == 0


async def test_what_is_no_subscriber_is_named() -> None:
    wrong: Any = 5
    async with plugin() as channels:
        for call in (
            channels.subscribe("news", subscriber=wrong),
            channels.unsubscribe(wrong),
            channels.put_subscriber_history(wrong, "news"),
        ):
            with pytest.raises(ConfigurationError, match=r"^subscriber=5: pass what subscribe\(\)"):
                await call
        assert channels.subscriber_count("news") == 0


def test_what_is_no_origin_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^allowed_origins=\[5\]: an origin is a scheme"):
        gateway(allowed_origins=[5])


@pytest.mark.parametrize("kind", ["websocket_endpoint", "event_stream_endpoint"])
def test_an_endpoint_of_a_channel_that_nobody_can_use_is_refused(kind: str) -> None:
    make = getattr(gateway(), kind)
    with pytest.raises(UnknownChannelError, match="'undeclared'"):
        make(["news", "undeclared"])
    with pytest.raises(ConfigurationError, match="pass a name, several, or None"):
        make([])
    with pytest.raises(ConfigurationError, match=r"^history='5'"):
        make("news", history="5")
    assert make("news", history=5)
    assert make()


def test_an_endpoint_of_any_channel_is_made_where_any_may_be_used() -> None:
    open_to_all = Gateway(ChannelsPlugin("memory://", arbitrary_channels_allowed=True))
    assert open_to_all.websocket_endpoint("whatever")
    with pytest.raises(InvalidChannelNameError):
        open_to_all.websocket_endpoint("$whatever")
