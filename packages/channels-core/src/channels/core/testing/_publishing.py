"""What ``publish()`` promises."""

from __future__ import annotations

import asyncio

import pytest

from channels.core import (
    BackendException,
    ChannelsBackend,
    HistoryNotSupported,
    HistoryRequest,
    Message,
    PayloadTooLarge,
    Position,
)
from channels.core.testing._checks import (
    assert_same,
    check_outcomes,
    publish,
    publish_all,
)
from channels.core.testing._suite import Suite, contract_test

ODD_NAMES = (
    "a",
    "News",
    "rooms.1.messages",
    "user:1/inbox",
    "../../etc/passwd",
    "it's",
    '"quoted"',
    "x'; DROP TABLE events; --",
    "100%_%s%(a)s",
    "a\\b\\n\\0",
    "*",
    "ne?s",
    "[a-z]",
    "{a}b{c}",
    "{}",
    "}{",
    " ",
    "  padded  ",
    "first\r\nsecond\n",
    "\t\x01\x1b\x7f",
    "US$",
    "007",
    "NULL",
    "café",
    "новости-チャンネル-قناة",
    "👩‍👩‍👧 🎉",
    "\U0001f600\U00010348",
    "a\u2028b",
    "n" * 64,
    "n" * 200,
    "é" * 100,
)

TWINS = (
    ("News", "news", "NEWS"),
    ("caf\u00e9", "cafe\u0301", "cafe"),
    ("\ufb01le", "file"),
    ("ß", "ss", "ẞ"),
    ("room", "room ", " room", "room\n"),
    ("a.b", "a:b", "a/b", "a_b", "a-b"),
    ("n*", "nn", "n?"),
    ("{a}b", "{a}c", "ab"),
    ("it's", "it''s", "its"),
    ("a\\b", "a\\\\b", "ab"),
    ("1", "01", "1.0"),
    ("n" * 63, "n" * 64, "n" * 199 + "a", "n" * 199 + "b"),
)


class PublishContract(Suite):
    """What ``publish()`` promises; part of ``BackendContract``."""

    @pytest.mark.parametrize(
        "data",
        [b"", b"\x00", bytes(range(256)), "naïve ☃".encode(), b" \r\n", b"x" * 100_000],
        ids=["empty", "NUL", "every byte", "UTF-8", "white space", "100 kB"],
    )
    @contract_test
    async def test_bytes_arrive_unchanged(self, data: bytes) -> None:
        """Any bytes arrive as they were published, empty ones too."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            await publish(backend, "channel", data)
            await publish(backend, "channel", b"next")
            await tap.until_event("channel", b"next")
            assert_same(tap.of("channel"), [data, b"next"], "payloads must not be changed or lost")

    @contract_test
    async def test_largest_payload_arrives(self) -> None:
        """An event of exactly ``max_payload`` bytes is taken."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            largest = bytes(range(251)) * (backend.max_payload // 251 + 1)
            largest = largest[: backend.max_payload]
            await publish(backend, "channel", largest)
            await tap.until_count(1)
            came = tap.events[0]
            assert len(came) == len(largest), (
                f"an event of max_payload={backend.max_payload} bytes came with {len(came)}"
            )
            assert came == largest, "the largest event came with other bytes in it"

    @contract_test
    async def test_one_byte_too_many_fails_alone(self) -> None:
        """An event over ``max_payload`` is ``PayloadTooLarge``; its neighbours are sent."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            size = backend.max_payload + 1
            messages = [
                Message("channel", b"before"),
                Message("channel", b"x" * size),
                Message("channel", b"after"),
            ]
            before, oversized, after = check_outcomes(messages, await backend.publish(messages))
            assert isinstance(oversized, PayloadTooLarge), (
                f"the outcome of {size} bytes with max_payload={backend.max_payload} must be "
                f"PayloadTooLarge, not {oversized!r}"
            )
            assert (oversized.channel, oversized.size, oversized.limit) == (
                "channel",
                size,
                backend.max_payload,
            ), f"PayloadTooLarge tells a wrong channel, size or limit: {oversized}"
            for outcome in (before, after):
                assert not isinstance(outcome, BackendException), (
                    f"a neighbour of the event that is too large failed with it: {outcome!r}"
                )
            await tap.until_event("channel", b"after")
            assert_same(tap.events, [b"before", b"after"], "the neighbours, in order")

    @contract_test
    async def test_any_name_is_a_channel(self) -> None:
        """Every text of up to 200 bytes names a channel, and events carry it exactly."""
        async with self.backend() as backend, self.tap(backend, *ODD_NAMES) as tap:
            for count, name in enumerate(ODD_NAMES, 1):
                await publish(backend, name, b"event")

                def has_come(count: int = count) -> bool:
                    return len(tap.events) >= count

                await tap.until(has_come, f"an event of {name!r}")
                came = tap.events[count - 1]
                assert came.channel == name, f"published to {name!r}, arrived from {came.channel!r}"
            assert_same(tap.events, [b"event"] * len(ODD_NAMES), "one event of each channel")

    @contract_test
    async def test_similar_names_are_different_channels(self) -> None:
        """Case, normal form, spaces and pattern characters tell channels apart."""
        async with self.backend() as backend, self.tap(backend, "anything") as tap:
            for names in TWINS:
                for subscribed in names:
                    tap.events.clear()
                    await tap.subscribe(subscribed)
                    others = [name for name in names if name != subscribed]
                    messages = [Message(name, name.encode()) for name in [*others, subscribed]]
                    await publish_all(backend, messages)
                    await tap.until_event(subscribed, subscribed.encode())
                    strangers = {event.channel for event in tap.events} - {subscribed}
                    assert len(tap.events) == 1, (
                        f"subscribed to {subscribed!r} only, but events for {others!r} came as "
                        f"well ({len(tap.events)}, from {strangers or subscribed!r}): names map "
                        f"to the broker's without loss, and are not patterns"
                    )
                    await tap.unsubscribe(subscribed)

    @contract_test
    async def test_order_is_kept_over_many_batches(self) -> None:
        """Each channel's events arrive once and in the order they were published."""
        async with self.backend() as backend, self.tap(backend, "a", "b") as tap:
            payloads = [b"%d" % i for i in range(1000)]
            for start in range(0, 1000, 40):
                batch = payloads[start : start + 40]
                messages = [Message(name, data) for data in batch for name in ("a", "b")]
                await publish_all(backend, messages)
            await tap.until_count(2000)
            for name in ("a", "b"):
                assert_same(tap.of(name), payloads, f"order of channel {name!r}")

    @contract_test
    async def test_equal_events_all_arrive(self) -> None:
        """Events with equal payloads are different events, in one batch too."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            await publish(backend, "channel", *[b"same"] * 5)
            await publish(backend, "channel", b"same")
            await publish(backend, "channel", b"last")
            await tap.until_event("channel", b"last")
            assert_same(tap.events, [*[b"same"] * 6, b"last"], "equal payloads")

    @contract_test
    async def test_empty_batch_has_no_outcome(self) -> None:
        """Publishing nothing does nothing."""
        async with self.backend() as backend:
            check_outcomes([], await backend.publish([]))

    @contract_test
    async def test_64_publishers_at_once(self) -> None:
        """``publish()`` may run many times at once; each caller's own order is kept."""
        async with self.backend() as backend, self.tap(backend, "shared") as tap:

            async def publisher(number: int) -> None:
                for i in range(10):
                    await publish(backend, "shared", b"%d:%d" % (number, 2 * i))
                    await publish(backend, "elsewhere", b"noise")
                    await publish(backend, "shared", b"%d:%d" % (number, 2 * i + 1))

            await asyncio.gather(*[publisher(number) for number in range(64)])
            await tap.until_count(64 * 20)
            for number in range(64):
                prefix = b"%d:" % number
                assert_same(
                    [event for event in tap.events if event.startswith(prefix)],
                    [b"%d:%d" % (number, i) for i in range(20)],
                    f"what publisher {number} of 64 published, each event after the one before",
                )

    @contract_test
    async def test_outcomes_tell_positions_where_history_is_kept(self) -> None:
        """Outcomes and events have positions if, and only if, ``keeps_history`` is true."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            (outcome,) = await publish(backend, "channel", b"event")
            await tap.until_count(1)
            position = tap.events[0].position
            if backend.keeps_history:
                assert isinstance(outcome, Position), (
                    f"keeps_history is true, so the outcome must be a Position, not {outcome!r}"
                )
                assert position == outcome, (
                    f"publish() told {outcome} and the event arrived with {position}"
                )
            else:
                assert outcome is None, (
                    f"keeps_history is false, so the outcome must be None, not {outcome!r}"
                )
                assert position is None, f"an event without history has position {position}"
                await _assert_keeps_none(backend)

    @contract_test
    async def test_publish_without_listeners(self) -> None:
        """Publishing where nobody listens succeeds and is not delivered later."""
        async with self.backend() as backend:
            await publish(backend, "channel", b"unheard")
            async with self.tap(backend, "channel") as tap:
                await publish(backend, "channel", b"heard")
                await tap.until_event("channel", b"heard")
                assert_same(
                    tap.events,
                    [b"heard"],
                    "the listener yields only what is published after subscribe() returned; "
                    "what was before is get_history()'s",
                )


async def _assert_keeps_none(backend: ChannelsBackend) -> None:
    try:
        histories = await backend.get_history([HistoryRequest("channel")])
    except HistoryNotSupported:
        return
    raise AssertionError(
        f"keeps_history is false, so get_history() must raise HistoryNotSupported (as it does "
        f"when not overridden), but it returned {histories!r:.120}"
    )
