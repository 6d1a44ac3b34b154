"""A queue for places."""

from __future__ import annotations

import asyncio

import pytest

from home.database.connection_queue import ConnectionQueue


async def soon() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    slots, order = ConnectionQueue(2, 60), list[int]()

    async def come(number: int) -> None:
        await slots.take()
        order.append(number)

    tasks = [asyncio.create_task(come(number)) for number in range(5)]
    await soon()
    assert (order, slots.free, slots.waiting) == ([0, 1], 0, 3)
    for expected in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
        slots.give()
        await soon()
        assert order == expected
    await asyncio.gather(*tasks)
    for _ in range(5):
        slots.give()
    assert (slots.free, slots.waiting) == (2, 0)


async def test_nobody_waits_for_ever_and_later_ones_wait_as_long() -> None:
    slots = ConnectionQueue(1, 0.1)
    await slots.take()
    first = asyncio.create_task(slots.take())
    await asyncio.sleep(0.05)
    second = asyncio.create_task(slots.take())
    with pytest.raises(TimeoutError):
        await first
    assert not second.done()
    with pytest.raises(TimeoutError):
        await second
    assert slots.waiting == 0
    slots.give()
    await asyncio.wait_for(slots.take(), 1)


@pytest.mark.parametrize("its_turn_has_come", [False, True])
async def test_who_is_cancelled_keeps_no_slot(its_turn_has_come: bool) -> None:
    slots = ConnectionQueue(1, 60)
    await slots.take()
    cancelled = asyncio.create_task(slots.take())
    following = asyncio.create_task(slots.take())
    await soon()
    if its_turn_has_come:
        slots.give()
        cancelled.cancel()
    else:
        cancelled.cancel()
        await soon()
        slots.give()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await asyncio.wait_for(following, 1)
    slots.give()
    assert slots.free == 1
