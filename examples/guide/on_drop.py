from collections import Counter

from channels.core import ChannelsPlugin, Event, MemoryChannelsBackend, Subscriber

dropped: Counter[str] = Counter()


def count(subscriber: Subscriber, event: Event) -> None:
    dropped[event.channel] += 1


channels = ChannelsPlugin(
    MemoryChannelsBackend(),
    channels=["news"],
    max_backlog=1000,
    on_drop=count,
)
