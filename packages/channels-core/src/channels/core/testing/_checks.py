"""Steps and checks that tests of the suites share; they explain themselves when they fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from channels.core import (
    BackendException,
    ChannelsBackend,
    History,
    HistoryRequest,
    Message,
    Outcome,
    Position,
)

STRANGE = Position("NeverAnEpoch", 1)
"""A position that no record descends from."""


async def publish(backend: ChannelsBackend, channel: str, *payloads: bytes) -> list[Outcome]:
    """Publish to one channel in one call; every message must have been taken."""
    return await publish_all(backend, [Message(channel, data) for data in payloads])


async def publish_all(backend: ChannelsBackend, messages: Sequence[Message]) -> list[Outcome]:
    """Publish in one call; every message must have been taken."""
    outcomes = check_outcomes(messages, await backend.publish(messages))
    for message, outcome in zip(messages, outcomes, strict=True):
        if isinstance(outcome, BackendException):
            raise AssertionError(
                f"publish() of {len(message.data)} bytes to {message.channel!r} failed though "
                f"nothing is wrong with broker or message: {outcome!r}"
            ) from outcome
    return outcomes


def check_outcomes(messages: Sequence[Message], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Check that ``publish()`` gave one outcome per message, each of a kind that there is."""
    assert len(outcomes) == len(messages), (
        f"publish() must return one outcome per message, in order: {len(messages)} messages, "
        f"{len(outcomes)} outcomes"
    )
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, (Position, BackendException)), (
            f"an outcome is a Position, None or a BackendException, not {outcome!r}"
        )
    return list(outcomes)


def assert_same(came: Iterable[bytes], expected: Iterable[bytes], what: str) -> None:
    """Compare two lists of payloads and tell the first difference, not thousands of lines."""
    got, want = [bytes(data) for data in came], [bytes(data) for data in expected]
    if got == want:
        return
    counted, wanted = Counter(got), Counter(want)
    missing, surplus = list((wanted - counted).elements()), list((counted - wanted).elements())
    if missing or surplus:
        why = f"missing: {_shown(missing)}; too much or repeated: {_shown(surplus)}"
    else:
        at = next(i for i, pair in enumerate(zip(got, want, strict=True)) if pair[0] != pair[1])
        why = f"all there, but number {at} is {got[at]!r:.60} instead of {want[at]!r:.60}"
    raise AssertionError(f"{what}: {len(want)} events expected, {len(got)} came; {why}")


def _shown(payloads: list[bytes]) -> str:
    if not payloads:
        return "none"
    shown = ", ".join(f"{data!r:.60}" for data in payloads[:5])
    return f"{len(payloads)} ({shown}{', ...' if len(payloads) > 5 else ''})"


async def read(
    backend: ChannelsBackend,
    channel: str,
    *,
    limit: int | None = None,
    since: Position | None = None,
) -> History:
    """Read one channel's history."""
    histories = await backend.get_history([HistoryRequest(channel, limit, since)])
    assert len(histories) == 1, f"one request, {len(histories)} histories"
    return histories[0]


def position(outcome: Outcome) -> Position:
    """Return an outcome that must be a position."""
    assert isinstance(outcome, Position), f"a Position is expected, not {outcome!r}"
    return outcome


def assert_contiguous(positions: Sequence[Outcome], *, first: int, what: str) -> None:
    """Check that positions are of one epoch and count on from ``first``."""
    places = [position(outcome) for outcome in positions]
    epochs = {place.epoch for place in places}
    assert len(epochs) <= 1, f"{what}: one epoch is expected, not {sorted(epochs)}"
    for expected, place in enumerate(places, first):
        assert place.offset == expected, (
            f"{what}: offset {expected} is expected, {place.offset} came "
            f"({len(places)} in all; offsets are contiguous and each comes once)"
        )


def assert_history(
    history: History, payloads: Sequence[bytes], *, complete: bool, what: str
) -> None:
    """Check a history's events, and whether it says the right thing about being complete."""
    assert_same(history.events, payloads, what)
    assert history.complete is complete, (
        f"{what}: complete must be {complete}, it is {history.complete!r}"
    )
