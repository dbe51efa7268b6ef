"""A parked task behaves as one that waits on a future, in all that it can notice."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref

import pytest

from channels.core._parking import FEW, ROUNDS, Parking

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def park(parking: Parking, log: list[object], name: str) -> None:
    variable.set(name)
    await parking
    task = asyncio.current_task()
    assert task is not None
    log.append((task.get_name(), variable.get()))


async def test_each_goes_on_as_itself_in_its_own_context() -> None:
    log: list[object] = []
    parkings = [Parking() for _ in range(3)]
    tasks = [
        asyncio.create_task(park(parking, log, f"{n}"), name=f"{n}")
        for n, parking in enumerate(parkings)
    ]
    await asyncio.sleep(0)
    assert all(parking.is_taken for parking in parkings)
    for parking in parkings:
        parking.wake()
        parking.wake()  # once is enough
    assert log == []
    await asyncio.gather(*tasks)
    assert log == [("0", "0"), ("1", "1"), ("2", "2")]
    assert not any(parking.is_taken for parking in parkings)


async def test_a_parked_task_can_be_cancelled() -> None:
    parking = Parking()
    task = asyncio.create_task(park(parking, [], "x"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not parking.is_taken


async def test_a_task_that_is_woken_and_cancelled_in_one_turn_is_cancelled() -> None:
    for first in ("wake", "cancel"):
        parking = Parking()
        task = asyncio.create_task(park(parking, [], "x"))
        await asyncio.sleep(0)
        if first == "wake":
            parking.wake()
            task.cancel()
        else:
            task.cancel()
            parking.wake()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_timeout_inside_ends_only_the_one_who_waits() -> None:
    async def impatient(parking: Parking) -> str:
        try:
            async with asyncio.timeout(0.01):
                await parking
        except TimeoutError:
            return "timeout"
        return "woken"

    one, two = Parking(), Parking()
    impatience = asyncio.create_task(impatient(one)), asyncio.create_task(impatient(two))
    await asyncio.sleep(0)
    two.wake()
    assert await asyncio.gather(*impatience) == ["timeout", "woken"]


async def test_an_error_stays_with_its_task() -> None:
    async def fail(parking: Parking) -> None:
        await parking
        raise ValueError("mine")

    log: list[object] = []
    one, two = Parking(), Parking()
    failing = asyncio.create_task(fail(one))
    fine = asyncio.create_task(park(two, log, "fine"), name="fine")
    await asyncio.sleep(0)
    one.wake()
    two.wake()
    await fine
    with pytest.raises(ValueError, match="mine"):
        await failing
    assert log == [("fine", "fine")]


async def test_who_is_woken_with_an_error_raises_it_and_is_not_followed_by_it() -> None:
    parking, log = Parking(), []
    parking.throw(ValueError("nobody waits"))
    for error in (ValueError("mine"), None):
        task = asyncio.create_task(park(parking, log, "x"), name="x")
        await asyncio.sleep(0)
        parking.throw(error)
        parking.throw(ValueError("too late"))
        await asyncio.wait([task])
        assert task.exception() is error
    assert log == [("x", "x")]


async def test_it_can_be_used_again_and_again() -> None:
    parking = Parking()
    count = 0

    async def loop() -> None:
        nonlocal count
        while count < 100:
            await parking
            count += 1

    task = asyncio.create_task(loop())
    for _ in range(100):
        await asyncio.sleep(0)
        parking.wake()
    await task


async def turns_until(woken: asyncio.Task[None], parking: Parking) -> int:
    """Return how many turns of the loop it takes from waking a task's parking to its end."""
    turns = 0
    await asyncio.sleep(0)
    parking.wake()
    while not woken.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def wake_all(first: Parking, others: list[Parking]) -> None:
    await first
    for other in others:
        other.wake()


async def test_those_who_are_woken_in_turn_go_on_in_the_same_turn() -> None:
    one, two, three = Parking(), Parking(), Parking()
    links = [asyncio.create_task(wake_all(one, [two])), asyncio.create_task(wake_all(two, [three]))]
    last = asyncio.create_task(park(three, [], "last"))
    assert await turns_until(last, one) == 1
    await asyncio.gather(*links)


async def test_many_who_are_woken_in_turn_wait_for_the_next_turn() -> None:
    one = Parking()
    many = [Parking() for _ in range(FEW + 1)]
    tasks = [asyncio.create_task(park(parking, [], "one of many")) for parking in many]
    link = asyncio.create_task(wake_all(one, many))
    assert await turns_until(tasks[0], one) == 2
    await asyncio.gather(link, *tasks)


async def test_two_who_wake_each_other_let_the_loop_run() -> None:
    one, two = Parking(), Parking()
    steps = 0

    async def wake_for_ever(mine: Parking, other: Parking) -> None:
        nonlocal steps
        while True:
            await mine
            steps += 1
            other.wake()

    tasks = [asyncio.create_task(wake_for_ever(one, two)) for one, two in ((one, two), (two, one))]
    await asyncio.sleep(0)
    one.wake()
    for turn in range(1, 4):
        await asyncio.sleep(0)
        assert steps == turn * ROUNDS
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_an_exit_in_one_task_leaves_the_others_to_go_on() -> None:
    log: list[object] = []

    async def leave(parking: Parking) -> None:
        await parking
        raise SystemExit(3)

    async def main() -> None:
        one, two = Parking(), Parking()
        leaving = asyncio.create_task(leave(one))
        staying = asyncio.create_task(park(two, log, "stays"), name="stays")
        await asyncio.sleep(0)
        one.wake()
        two.wake()
        await asyncio.gather(leaving, staying, return_exceptions=True)

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        main_task = loop.create_task(main())
        with pytest.raises(SystemExit):
            loop.run_until_complete(main_task)
        loop.run_until_complete(asyncio.sleep(0))
        assert log == [("stays", "stays")]


def test_a_loop_is_not_kept_alive() -> None:
    async def main() -> weakref.ref[asyncio.AbstractEventLoop]:
        parking = Parking()
        task = asyncio.create_task(park(parking, [], "x"))
        await asyncio.sleep(0)
        parking.wake()
        await task
        return weakref.ref(asyncio.get_running_loop())

    gone = asyncio.run(main())
    gc.collect()
    assert gone() is None


async def test_a_closed_coroutine_leaves_its_place() -> None:
    parking = Parking()
    coroutine = park(parking, [], "x")
    coroutine.send(None)
    assert parking.is_taken
    parking.wake()
    coroutine.close()
    assert not parking.is_taken
    await asyncio.sleep(0)  # the wake-up that is under way finds nobody
