"""Nobody waits long for a hash, and whoever has an account goes first."""

from __future__ import annotations

import asyncio

import pytest

from home.accounts.hashing_queue import Busy, HashingQueue, Purpose

SIGN_IN, REGISTRATION = Purpose.SIGN_IN, Purpose.REGISTRATION


async def waiting(queue: HashingQueue, number: int) -> None:
    async with asyncio.timeout(5):
        while queue.waiting < number:
            await asyncio.sleep(0)


async def test_sign_ins_go_before_registrations() -> None:
    queue, order = HashingQueue(1, longest=10, seconds=5), list[str]()

    async def hash_for(purpose: Purpose, name: str) -> None:
        async with queue.slot(purpose):
            order.append(name)

    async with asyncio.TaskGroup() as tasks, queue.slot(SIGN_IN):
        for number, purpose in enumerate([REGISTRATION, SIGN_IN, REGISTRATION, SIGN_IN]):
            tasks.create_task(hash_for(purpose, f"{purpose.name} {number}"))
        await waiting(queue, 4)
    assert order == ["SIGN_IN 1", "SIGN_IN 3", "REGISTRATION 0", "REGISTRATION 2"]
    assert queue.free == 1


async def test_a_full_queue_refuses_at_once_and_a_long_wait_ends() -> None:
    queue = HashingQueue(1, longest=2, seconds=0.05)

    async def take(purpose: Purpose) -> None:
        async with queue.slot(purpose):
            raise AssertionError("nothing became free")

    async with queue.slot(SIGN_IN):
        tries = [asyncio.create_task(take(SIGN_IN)) for _ in range(2)]
        await waiting(queue, 2)
        one_more = asyncio.create_task(take(SIGN_IN))
        await asyncio.sleep(0)
        assert one_more.done(), "it did not wait"
        with pytest.raises(Busy):
            await one_more
        other = asyncio.create_task(take(REGISTRATION))  # registrations have a queue of their own
        ended = await asyncio.gather(*tries, other, return_exceptions=True)
        assert [type(each) for each in ended] == [Busy] * 3
    assert (queue.waiting, queue.free) == (0, 1)


async def test_who_gives_up_takes_no_place_away() -> None:
    queue = HashingQueue(2, longest=500, seconds=5)
    done = 0

    async def hash_once() -> None:
        nonlocal done
        async with queue.slot(Purpose(done % 2)):
            await asyncio.sleep(0)
            done += 1

    tasks = [asyncio.create_task(hash_once()) for _ in range(400)]
    for number in range(0, 400, 3):
        await asyncio.sleep(0)
        tasks[number].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done >= 266
    assert (queue.waiting, queue.free) == (0, 2)


async def test_the_answer_says_when_to_come_back() -> None:
    assert (Busy().status, Busy().code, Busy().retry_after) == (503, "busy", 5)
