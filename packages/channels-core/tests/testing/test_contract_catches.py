"""The suites can fail: each test here runs one test of a suite against a backend that breaks it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from channels.core import ChannelsBackend, ChannelsException, MemoryChannelsBackend
from channels.core.testing import FaultyBackend, HistoryContract, ResumeContract
from kit import mutants, virtual_clock

pytestmark = pytest.mark.extended

LARGE = b"x" * 100_000
CAUGHT: list[tuple[type[mutants.Mutant], str, tuple[Any, ...], str]] = [
    (mutants.DropsEmptyEvents, "test_bytes_arrive_unchanged", (b"",), r"missing: 1 \(b''\)"),
    (mutants.CutsAtNul, "test_bytes_arrive_unchanged", (b"\0",), r"must not be changed"),
    (mutants.TakesBytesForText, "test_bytes_arrive_unchanged", (b"\xff",), r"must not be changed"),
    (mutants.StripsPayloads, "test_bytes_arrive_unchanged", (b" \r\n",), r"must not be changed"),
    (mutants.CutsLargePayloads, "test_bytes_arrive_unchanged", (LARGE,), r"must not be changed"),
    (
        mutants.RefusesTheLargest,
        "test_largest_payload_arrives",
        (),
        r"failed though nothing is wrong",
    ),
    (mutants.TakesTooLarge, "test_one_byte_too_many_fails_alone", (), r"must be PayloadTooLarge"),
    (mutants.FailsTheWholeBatch, "test_one_byte_too_many_fails_alone", (), r"a neighbour"),
    (
        mutants.LowersNames,
        "test_similar_names_are_different_channels",
        (),
        r"names map",
    ),
    (
        mutants.LowersNames,
        "test_similar_names_have_their_own_history",
        (),
        r"repeated: 1 \(b'news'\)",
    ),
    (
        mutants.NormalisesNames,
        "test_similar_names_are_different_channels",
        (),
        r"names map",
    ),
    (
        mutants.StripsNames,
        "test_similar_names_are_different_channels",
        (),
        r"names map",
    ),
    (
        mutants.TakesNamesForPatterns,
        "test_similar_names_are_different_channels",
        (),
        r"are not patterns",
    ),
    (
        mutants.HashTags,
        "test_similar_names_are_different_channels",
        (),
        r"names map",
    ),
    (
        mutants.CutsNames,
        "test_similar_names_are_different_channels",
        (),
        r"names map",
    ),
    (mutants.RefusesQuotes, "test_any_name_is_a_channel", (), r"syntax error"),
    (
        mutants.ReversesBatches,
        "test_order_is_kept_over_many_batches",
        (),
        r"number 0 is b'\d+' instead of b'0'",
    ),
    (mutants.DeliversTwice, "test_publisher_hears_itself", (), r"repeated: 1"),
    (mutants.MergesEqualEvents, "test_equal_events_all_arrive", (), r"missing: 5"),
    (mutants.SendsLater, "test_64_publishers_at_once", (), r"each event after the one before"),
    (
        mutants.LosesAnOutcome,
        "test_order_is_kept_over_many_batches",
        (),
        r"one outcome per message",
    ),
    (mutants.ReturnsNothing, "test_publisher_hears_itself", (), r"not True"),
    (
        mutants.ClaimsHistory,
        "test_outcomes_tell_positions_where_history_is_kept",
        (),
        r"keeps_history is true",
    ),
    (mutants.DeniesHistory, "test_backend_says_that_it_keeps_history", (), r"set keeps_history"),
    (mutants.DoesNotHearItself, "test_publisher_hears_itself", (), r"in vain for the event b'two'"),
    (mutants.HearsOnlyItself, "test_another_backend_hears", (), r"in vain for the event b'from"),
    (mutants.FeedsOneListener, "test_every_listener_hears", (), r"in vain"),
    (
        mutants.ConfirmsTooEarly,
        "test_nothing_is_missed_once_subscribe_returned",
        (),
        r"in vain for 40 events",
    ),
    (mutants.ForgetsAllButTheFirst, "test_1000_channels_in_one_call", (), r"500 events came"),
    (mutants.SwallowsWhenSubscribing, "test_subscribe_while_flooded", (), r"of channel 'flood'"),
    (
        mutants.NeverUnsubscribes,
        "test_unsubscribe_stops_and_subscribing_again_works",
        (),
        r"keep coming",
    ),
    (mutants.UnsubscribesAll, "test_unsubscribe_of_what_is_not_subscribed", (), r"in vain"),
    (mutants.UnsubscribesAll, "test_1000_channels_in_one_call", (), r"in vain"),
    (
        mutants.SubscribesOnlyOnce,
        "test_unsubscribe_stops_and_subscribing_again_works",
        (),
        r"in vain for the event b'three'",
    ),
    (mutants.SubscribesTwice, "test_subscribe_twice_delivers_once", (), r"repeated: 2"),
    (mutants.ForgetsATop, "test_publisher_hears_itself", (), r"a top \(or None\) for each"),
    (
        mutants.ReplaysOldEvents,
        "test_publish_without_listeners",
        (),
        r"only what is published after",
    ),
    (mutants.YieldsEmptyBatches, "test_bytes_arrive_unchanged", (b"",), r"empty batch"),
    (mutants.EndsByItself, "test_publisher_hears_itself", (), r"came to an end by itself"),
    (mutants.LeavesATask, "test_publisher_hears_itself", (), r"tasks are left"),
    (mutants.SharesSubscriptions, "test_leaving_releases_everything", (), r"no old subscriptions"),
    (mutants.SharesSubscriptions, "test_channels_do_not_mix", (), r"subscribed to"),
    (mutants.IgnoresACancellation, "test_leaving_while_flooded", (), r"after it was cancelled"),
    (mutants.LosesWhatCameMeanwhile, "test_iteration_can_be_cancelled", (), r"loses nothing"),
    (mutants.DeafAfterCancellation, "test_subscribe_can_be_cancelled", (0,), r"in vain"),
    (mutants.SubscribesForEver, "test_subscribe_can_be_cancelled", (0,), r"after it was cancelled"),
    (mutants.ClosesForEverybody, "test_entries_are_counted", (), r"closed"),
    (mutants.OpensForEverybody, "test_entries_at_once", (), r"opened twice"),
    (mutants.WorksOnlyOnce, "test_start_again", (), r"cannot be started twice"),
    (mutants.KeepsItsLoop, "test_start_again_on_another_loop", (), r"attached to a different loop"),
    (mutants.PublishesWhenClosed, "test_publish_after_close_fails", (), r"on a stopped backend"),
    (
        mutants.CountsAllChannelsTogether,
        "test_positions_count_from_one",
        (),
        r"offset . is expected",
    ),
    (
        mutants.CountsAllChannelsTogether,
        "test_positions_of_one_batch_are_per_channel",
        (),
        r"offset . is expected",
    ),
    (
        mutants.CountsTooLargeEvents,
        "test_too_large_event_takes_no_position",
        (),
        r"offset 2 is expected, 3 came",
    ),
    (
        mutants.EachProcessItsEpoch,
        "test_64_publishers_share_one_numbering",
        (),
        r"one epoch is expected",
    ),
    (mutants.EachProcessItsEpoch, "test_positions_count_from_one", (), r"one epoch is expected"),
    (
        mutants.LiveWithoutPosition,
        "test_outcomes_tell_positions_where_history_is_kept",
        (),
        r"arrived with None",
    ),
    (mutants.LiveOneBehind, "test_live_positions_are_those_of_history", (), r"differ from what"),
    (mutants.EpochWithADash, "test_ids_are_texts_of_positions", (), r"is not an event id"),
    (mutants.NoTops, "test_top_at_subscribe_is_the_last_position", (), r"returned None"),
    (mutants.TopForEveryChannel, "test_top_at_subscribe_is_the_last_position", (), r"has no top"),
    (
        mutants.TopBeforeSubscribing,
        "test_top_joins_live_without_a_hole",
        (),
        r"offset .* is expected",
    ),
    (
        mutants.ReadsAReplica,
        "test_history_shows_what_was_published",
        (),
        r"where the record is written",
    ),
    (
        mutants.SwallowsBatches,
        "test_history_joins_live_without_a_hole",
        (),
        r"offset .* is expected",
    ),
    (mutants.SinceIncludesItself, "test_since_gives_what_came_after", (5,), r"repeated: 1"),
    (mutants.SinceSkipsOne, "test_since_gives_what_came_after", (5,), r"missing: 1"),
    (mutants.SinceSkipsOne, "test_since_the_beginning_gives_all", (), r"missing: 1"),
    (
        mutants.AlwaysComplete,
        "test_since_another_epoch_is_incomplete",
        (),
        r"complete must be False",
    ),
    (
        mutants.AlwaysComplete,
        "test_history_of_a_channel_without_record",
        (),
        r"complete must be False",
    ),
    (mutants.NeverComplete, "test_since_gives_what_came_after", (5,), r"complete must be True"),
    (mutants.CompleteIfAnything, "test_since_beyond_the_top_is_incomplete", (), r"lies beyond"),
    (
        mutants.CompleteIfAnything,
        "test_since_the_trimmed_part_is_incomplete",
        (),
        r"is the oldest event kept",
    ),
    (
        mutants.IncompleteAtTheEdge,
        "test_since_the_trimmed_part_is_incomplete",
        (),
        r"complete must be True",
    ),
    (
        mutants.BeginningIsNoEpoch,
        "test_since_the_beginning_gives_all",
        (),
        r"complete must be True",
    ),
    (mutants.LimitGivesTheOldest, "test_limit_gives_the_newest", (3,), r"missing: 3"),
    (
        mutants.LimitZeroIsNoLimit,
        "test_limit_gives_the_newest",
        (0,),
        r"0 events expected, 10 came",
    ),
    (mutants.LimitIsNeverIncomplete, "test_since_with_limit", (), r"complete must be False"),
    (mutants.NewestFirst, "test_limit_gives_the_newest", (None,), r"instead of b'0'"),
    (mutants.AnswersInOrderOfNames, "test_many_histories_in_one_call", (), r"one of 300"),
    (mutants.AnswersEachChannelOnce, "test_many_histories_in_one_call", (), r"repeated: 1"),
    (
        mutants.HistoryWithoutChannel,
        "test_live_positions_are_those_of_history",
        (),
        r"must carry their channel",
    ),
    (mutants.ForgetsWhenClosed, "test_history_stays_while_nobody_listens", (), r"one epoch"),
    (mutants.NeverTrims, "test_record_is_bounded", (), r"still holds 200"),
    (mutants.TrimsTooMuch, "test_record_is_bounded", (), r"99 are"),
    (mutants.KeepsTheEpoch, "test_lost_record_starts_a_new_epoch", (), r"the record was lost"),
]


BUSY = {
    "test_subscribe_while_flooded",
    "test_leaving_while_flooded",
    "test_top_joins_live_without_a_hole",
    "test_history_joins_live_without_a_hole",
    "test_start_again_on_another_loop",
}
"""Tests with a loop that is never idle, or with two: a clock that jumps is not for them."""


class Proof(HistoryContract):
    """A suite over one mutant and one memory."""

    patience = 1.0
    history_at_most = 100

    def __init__(self, mutant: type[mutants.Mutant]) -> None:
        self.mutant = mutant
        self.memory = MemoryChannelsBackend(mutant.history)

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.mutant(self.memory) as backend:
            yield backend

    async def lose_record(self, channel: str) -> None:
        del self.memory._records[channel]


class PatientProof(Proof):
    """For a test that is busy by a real clock, on a machine that is busy too."""

    patience = 3.0


OUTAGES: list[tuple[type[FaultyBackend], type[mutants.Mutant], str, str]] = [
    (mutants.DeafAfterACut, mutants.Mutant, "test_everything_is_subscribed_again", "nothing comes"),
    (mutants.DeafAfterACut, mutants.Mutant, "test_what_was_missed_is_read_from_history", "in vain"),
    (
        mutants.SendsAndDenies,
        mutants.Mutant,
        "test_what_is_published_meanwhile_is_sent_once",
        "repeated",
    ),
    (
        mutants.HangsWithoutABroker,
        mutants.Mutant,
        "test_waiting_for_a_publish_is_bounded",
        "did not come back",
    ),
    (
        mutants.ConfirmsWithoutABroker,
        mutants.Mutant,
        "test_waiting_for_a_publish_is_bounded",
        "without a broker",
    ),
    (
        mutants.ConfirmsWithoutABroker,
        mutants.Mutant,
        "test_what_is_published_meanwhile_is_sent_once",
        "missing",
    ),
    (FaultyBackend, mutants.NoTops, "test_what_was_missed_is_read_from_history", "in vain"),
    (FaultyBackend, mutants.SinceSkipsOne, "test_what_was_missed_is_read_from_history", "in vain"),
    (
        FaultyBackend,
        mutants.NeverComplete,
        "test_a_publisher_that_never_stops_is_followed",
        "on_gap",
    ),
    (
        FaultyBackend,
        mutants.NeverComplete,
        "test_a_client_resumes_after_the_id_it_has",
        "recovered",
    ),
    (
        FaultyBackend,
        mutants.CompleteIfAnything,
        "test_what_history_no_longer_has_is_told",
        "on_gap",
    ),
    (
        FaultyBackend,
        mutants.CompleteIfAnything,
        "test_a_client_that_was_away_too_long_is_told",
        "says complete",
    ),
    (FaultyBackend, mutants.AlwaysComplete, "test_a_lost_record_is_told", "on_gap"),
    (FaultyBackend, mutants.AlwaysComplete, "test_a_client_of_a_lost_record_is_told", "recovered"),
]


class OutageProof(ResumeContract):
    """A suite over one mutant behind a network that fails on command."""

    history_at_most = 100

    def __init__(self, network: type[FaultyBackend], mutant: type[mutants.Mutant]) -> None:
        self.memory = MemoryChannelsBackend(self.history)
        self.faults = network(mutant(self.memory))

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.faults as backend:
            yield backend

    @asynccontextmanager
    async def bystander(self) -> AsyncIterator[ChannelsBackend]:
        async with self.memory as backend:
            yield backend

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.faults.outage():
            yield

    async def lose_history(self) -> None:
        self.memory._records.clear()


@pytest.mark.parametrize(
    ("network", "mutant", "test", "words"),
    OUTAGES,
    ids=[f"{row[0].__name__}-{row[1].__name__}-{row[2]}" for row in OUTAGES],
)
def test_the_mutant_is_caught_in_an_outage(
    network: type[FaultyBackend], mutant: type[mutants.Mutant], test: str, words: str
) -> None:
    async def proof() -> None:
        await getattr(OutageProof(network, mutant), test)()

    with pytest.raises(AssertionError, match=words):
        virtual_clock.run(proof())


@pytest.mark.parametrize(
    ("mutant", "test", "arguments", "words"),
    CAUGHT,
    ids=[f"{row[0].__name__}-{row[1]}" for row in CAUGHT],
)
def test_the_mutant_is_caught(
    mutant: type[mutants.Mutant], test: str, arguments: tuple[Any, ...], words: str
) -> None:
    async def proof() -> None:
        before = asyncio.all_tasks()
        try:
            await getattr(suite(mutant), test)(*arguments)
        finally:
            while left := asyncio.all_tasks() - before:
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=0.01)

    suite = PatientProof if test in BUSY else Proof
    run = asyncio.run if test in BUSY else virtual_clock.run
    with pytest.raises((AssertionError, ChannelsException, RuntimeError), match=words):
        run(proof())


@pytest.mark.parametrize(
    ("test", "arguments"),
    list(dict.fromkeys(row[1:3] for row in CAUGHT)),
    ids=str,
)
async def test_the_same_test_passes_on_what_is_not_broken(
    test: str, arguments: tuple[Any, ...]
) -> None:
    await getattr(Proof(mutants.Mutant), test)(*arguments)


def test_every_mutant_is_in_the_table() -> None:
    known = {
        value
        for value in vars(mutants).values()
        if inspect.isclass(value) and issubclass(value, mutants.Mutant)
    }
    assert known - {mutants.Mutant} == {row[0] for row in CAUGHT}
