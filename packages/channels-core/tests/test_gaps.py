"""A marker in the stream says whether events were lost on the way or dropped here."""

import copy
import pickle

import pytest

from channels.core import BacklogStrategy, ChannelsPlugin, Event, Gap, Subscriber


def limited(strategy: BacklogStrategy) -> Subscriber:
    subscriber = Subscriber(2, strategy)
    subscriber.configure(tells_gaps=True)
    return subscriber


@pytest.mark.parametrize("strategy", ["backoff", "dropleft"])
async def test_a_full_backlog_marks_what_it_dropped(strategy: BacklogStrategy) -> None:
    subscriber = limited(strategy)
    for number in range(4):
        subscriber.put_nowait(Event(b"%d" % number, "news"))
    subscriber.end("unsubscribed")
    gaps = [event async for event in subscriber.iter_events() if isinstance(event, Gap)]
    assert [gap.dropped for gap in gaps] == [True]
    assert subscriber.dropped == 2


async def test_what_is_lost_on_the_way_is_no_drop() -> None:
    subscriber = limited("backoff")
    subscriber.tell_gap("news")
    [gap] = await anext(subscriber.iter_batches())
    assert isinstance(gap, Gap)
    assert not gap.dropped


def test_a_gap_is_pickled_whole() -> None:
    gap = pickle.loads(pickle.dumps(Gap(channel="news", dropped=True)))
    assert (type(gap), gap.channel, gap.dropped) == (Gap, "news", True)
    assert copy.copy(gap).dropped


async def test_a_subscription_can_be_limited_in_bytes() -> None:
    plugin = ChannelsPlugin("memory://", channels=["news"])
    async with plugin:
        subscriber = await plugin.subscribe("news", max_backlog_bytes=10)
        for _ in range(5):
            subscriber.put_nowait(Event(b"1234", "news"))
        assert (subscriber.qsize, subscriber.dropped) == (2, 3)
