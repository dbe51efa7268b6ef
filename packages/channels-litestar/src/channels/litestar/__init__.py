"""Channels for Litestar: a plugin that is injected, and generates route handlers."""

from channels.core import ChannelsException, Subscriber
from channels.litestar._plugin import ChannelsPlugin

__all__ = ("ChannelsException", "ChannelsPlugin", "Subscriber")
