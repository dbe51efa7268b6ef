"""What ``get_history()`` promises."""

from __future__ import annotations

import pytest

from channels.core import BEGINNING, HistoryRequest, Message, Position
from channels.core.testing._checks import (
    STRANGE,
    assert_contiguous,
    assert_history,
    position,
    publish,
    publish_all,
    read,
)
from channels.core.testing._suite import Suite, contract_test


class ReadContract(Suite):
    """What ``get_history()`` promises; part of ``HistoryContract``."""

    @contract_test
    async def test_history_of_a_channel_without_record(self) -> None:
        """An unknown channel has no events and no top, and is complete since the beginning."""
        async with self.backend() as backend:
            for since in (None, BEGINNING):
                history = await read(backend, "unknown", since=since)
                assert_history(history, [], complete=True, what=f"unknown channel, {since=}")
                assert history.position is None, f"no record, yet a top: {history.position}"
            history = await read(backend, "unknown", since=STRANGE)
            assert_history(history, [], complete=False, what="unknown channel, since an old epoch")

    @pytest.mark.parametrize("limit", [None, 0, 1, 3, 10, 11, 1000])
    @contract_test
    async def test_limit_gives_the_newest(self, limit: int | None) -> None:
        """``limit`` keeps the newest events, oldest first; 0 reads only the top."""
        async with self.backend() as backend:
            outcomes = await publish(backend, "channel", *[b"%d" % i for i in range(10)])
            history = await read(backend, "channel", limit=limit)
            newest = 10 if limit is None else min(limit, 10)
            expected = [b"%d" % i for i in range(10 - newest, 10)]
            assert_history(history, expected, complete=True, what=f"10 events, {limit=}")
            assert history.position == outcomes[-1], (
                f"the top is {outcomes[-1]} whatever the limit, not {history.position}"
            )

    @pytest.mark.parametrize("offset", [1, 5, 9, 10])
    @contract_test
    async def test_since_gives_what_came_after(self, offset: int) -> None:
        """``since`` leaves out that event and all before it, and nothing else."""
        async with self.backend() as backend:
            outcomes = await publish(backend, "channel", *[b"%d" % i for i in range(1, 11)])
            history = await read(backend, "channel", since=position(outcomes[offset - 1]))
            expected = [b"%d" % i for i in range(offset + 1, 11)]
            assert_history(
                history, expected, complete=True, what=f"10 events, since number {offset}"
            )
            assert history.position == outcomes[-1], (
                f"the top is {outcomes[-1]}: {history.position}"
            )

    @contract_test
    async def test_since_the_beginning_gives_all(self) -> None:
        """``BEGINNING`` stands before the first event, whatever epoch that got."""
        async with self.backend() as backend:
            await publish(backend, "channel", b"one", b"two")
            history = await read(backend, "channel", since=BEGINNING)
            assert_history(history, [b"one", b"two"], complete=True, what="since BEGINNING")

    @contract_test
    async def test_since_with_limit(self) -> None:
        """A ``limit`` that cuts off something after ``since`` makes it incomplete."""
        async with self.backend() as backend:
            outcomes = await publish(backend, "channel", *[b"%d" % i for i in range(1, 11)])
            since = position(outcomes[5])
            last_four = [b"7", b"8", b"9", b"10"]
            for limit, expected, complete in (
                (3, last_four[1:], False),
                (4, last_four, True),
                (5, last_four, True),
                (0, [], False),
            ):
                history = await read(backend, "channel", since=since, limit=limit)
                assert_history(
                    history, expected, complete=complete, what=f"4 events after since, {limit=}"
                )
            history = await read(backend, "channel", since=position(outcomes[-1]), limit=0)
            assert_history(history, [], complete=True, what="nothing after since, limit=0")

    @contract_test
    async def test_since_another_epoch_is_incomplete(self) -> None:
        """A ``since`` of an unknown epoch gives all that is kept, and says incomplete."""
        async with self.backend() as backend:
            await publish(backend, "channel", b"one", b"two")
            history = await read(backend, "channel", since=STRANGE)
            assert_history(
                history, [b"one", b"two"], complete=False, what="since a position of another epoch"
            )

    @contract_test
    async def test_since_beyond_the_top_is_incomplete(self) -> None:
        """A ``since`` that the record has not reached says incomplete."""
        async with self.backend() as backend:
            (last,) = await publish(backend, "channel", b"one")
            beyond = Position(position(last).epoch, position(last).offset + 5)
            history = await read(backend, "channel", since=beyond)
            assert not history.complete, (
                f"the top is {last}, and since={beyond} lies beyond it: the record has lost "
                f"events, so complete must be False"
            )

    @contract_test
    async def test_many_histories_in_one_call(self) -> None:
        """One history per request, in the order of the requests, repeated channels too."""
        async with self.backend() as backend:
            names = [f"channel {i}" for i in range(300)]
            messages = [Message(name, f"{name} {i}".encode()) for name in names for i in (1, 2)]
            outcomes = await publish_all(backend, messages)
            requests = [HistoryRequest(name, 1) for name in reversed(names)]
            requests += [
                HistoryRequest("channel 7", since=position(outcomes[14])),
                HistoryRequest("unknown"),
                HistoryRequest("channel 7", limit=0),
                HistoryRequest("channel 7"),
            ]
            histories = await backend.get_history(requests)
            assert len(histories) == len(requests), (
                f"{len(requests)} requests, {len(histories)} histories"
            )
            for request, history in zip(requests[:300], histories, strict=False):
                expected = [b"%s 2" % request.channel.encode()]
                assert_history(history, expected, complete=True, what=f"{request}, one of 300")
            two = [b"channel 7 2"]
            assert_history(histories[300], two, complete=True, what=str(requests[300]))
            assert_history(histories[301], [], complete=True, what=str(requests[301]))
            assert_history(histories[302], [], complete=True, what=str(requests[302]))
            both = [b"channel 7 1", b"channel 7 2"]
            assert_history(histories[303], both, complete=True, what=str(requests[303]))
            assert await backend.get_history([]) in ([], ()), "no request, no history"

    @contract_test
    async def test_similar_names_have_their_own_history(self) -> None:
        """Names that differ by case, form or pattern characters do not share a record."""
        names = ["News", "news", "caf\u00e9", "cafe\u0301", "n*", "n_ws", "n%", "{a}b", "a", "it's"]
        async with self.backend() as backend:
            await publish_all(backend, [Message(name, name.encode()) for name in names])
            histories = await backend.get_history([HistoryRequest(name) for name in names])
            for name, history in zip(names, histories, strict=True):
                assert_history(history, [name.encode()], complete=True, what=f"history of {name!r}")
                assert history.events[0].position == (history.position), f"top of {name!r}"
                assert history.events[0].channel == name, f"channel of an event of {name!r}"
                assert_contiguous([history.position], first=1, what=f"top of {name!r}")

    @contract_test
    async def test_history_shows_what_was_published(self) -> None:
        """As soon as ``publish()`` returned, every backend on the broker reads the event."""
        async with self.backend() as backend, self.backend() as other:
            for i in range(1, 21):
                (outcome,) = await publish(backend, "channel", b"%d" % i)
                history = await read(other, "channel", limit=1)
                assert_history(
                    history, [b"%d" % i], complete=True, what="read where the record is written"
                )
                assert history.position == outcome, f"{outcome} was published: {history.position}"
