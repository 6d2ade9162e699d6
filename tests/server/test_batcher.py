"""What waits together is done together, and fails alone."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from server.batcher import Batcher
from server.errors import QueryRefused, ServerError, Stopping


class Doubling:
    """Doubles numbers, a batch at a time, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        assert self.go.wait(10)
        if 13 in items:
            raise ValueError("13 is not liked")
        return [2 * item for item in items]


def run(test: Callable[[Batcher[int, int], Doubling], Coroutine[Any, Any, None]], most: int = 3) -> None:
    async def within() -> None:
        work = Doubling()
        with ThreadPoolExecutor(1) as executor:
            await test(Batcher(work, executor, max_size=most), work)

    asyncio.run(within())


async def first_begun(batcher: Batcher[int, int], work: Doubling) -> "asyncio.Task[int]":
    """A batch of one, which has begun and waits to be let go."""
    task = asyncio.create_task(batcher(1))
    while not work.batches:
        await asyncio.sleep(0.001)
    return task


def test_what_comes_in_while_a_batch_runs_is_the_next_one() -> None:
    async def test(batcher: Batcher[int, int], work: Doubling) -> None:
        first = await first_begun(batcher, work)
        others = [asyncio.create_task(batcher(item)) for item in (2, 3, 4, 5)]
        await asyncio.sleep(0)
        work.go.set()
        assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10]
        assert work.batches == [[1], [2, 3, 4], [5]]

    run(test)


def test_an_item_whose_caller_is_gone_is_not_worked_on() -> None:
    async def test(batcher: Batcher[int, int], work: Doubling) -> None:
        first = await first_begun(batcher, work)
        gone, stays = asyncio.create_task(batcher(2)), asyncio.create_task(batcher(3))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        work.go.set()
        assert await asyncio.gather(first, stays) == [2, 6]
        assert work.batches == [[1], [3]]

    run(test)


def test_an_item_that_must_be_worked_on_is_though_its_caller_is_gone() -> None:
    async def test() -> None:
        work = Doubling()
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(work, executor, max_size=3, must=lambda item: item == 2)
            first = await first_begun(batcher, work)
            gone = [asyncio.create_task(batcher(item)) for item in (2, 3)]
            await asyncio.sleep(0)
            for one in gone:
                one.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            last = asyncio.create_task(batcher(4))
            await asyncio.sleep(0)
            work.go.set()
            assert await asyncio.gather(first, last) == [2, 8]
            assert work.batches == [[1], [2, 4]]

    asyncio.run(test())


def test_a_caller_that_goes_while_its_batch_runs_changes_nothing_for_the_others() -> None:
    async def test(batcher: Batcher[int, int], work: Doubling) -> None:
        first = await first_begun(batcher, work)
        first.cancel()
        second = asyncio.create_task(batcher(2))
        work.go.set()
        assert await second == 4

    run(test)


def test_of_a_batch_that_fails_only_the_culprit_does() -> None:
    async def test(batcher: Batcher[int, int], work: Doubling) -> None:
        first = await first_begun(batcher, work)
        others = [asyncio.create_task(batcher(item)) for item in (2, 13, 4)]
        await asyncio.sleep(0)
        work.go.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert results[:2] == [2, 4]
        assert isinstance(results[2], ValueError)
        assert results[3] == 8
        assert await batcher(6) == 12

    run(test)


def test_closing_fails_what_waits_and_ends_what_runs() -> None:
    async def test(batcher: Batcher[int, int], work: Doubling) -> None:
        first = await first_begun(batcher, work)
        waiting = asyncio.create_task(batcher(2))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        work.go.set()
        await closing
        assert await first == 2
        for refused in (waiting, batcher(3)):
            with pytest.raises(Stopping):
                await refused
        assert work.batches == [[1]]

    run(test)


def test_the_size_of_each_batch_is_told() -> None:
    sizes: list[int] = []

    async def within() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(list, executor, max_size=2, observe=sizes.append)
            await asyncio.gather(*(batcher(item) for item in range(5)))

    asyncio.run(within())
    assert sizes == [2, 2, 1]


def test_an_error_among_the_results_is_that_of_its_item() -> None:
    def work(items: list[int]) -> list[int | ServerError]:
        return [QueryRefused("13 is not liked") if item == 13 else item for item in items]

    async def within() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(work, executor, max_size=3)
            results = await asyncio.gather(batcher(1), batcher(13), batcher(2), return_exceptions=True)
        assert results[::2] == [1, 2]
        assert isinstance(results[1], QueryRefused)

    asyncio.run(within())


def test_clients_get_equal_parts_of_a_batch() -> None:
    """Client 0 has many items; clients 1 to 3 have one each, and send the next one as soon as they have the result."""
    batches: list[Counter[int]] = []

    def work(items: list[int]) -> list[int]:
        batches.append(Counter(items))
        return items

    async def within() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(work, executor, max_size=8)

            async def polite(client: int) -> None:
                for _ in range(20):
                    await batcher(client, client)
                    await asyncio.sleep(0)

            greedy = [asyncio.create_task(batcher(0, 0)) for _ in range(300)]
            await asyncio.gather(*(polite(client) for client in (1, 2, 3)))
            for task in greedy:
                task.cancel()
            await asyncio.gather(*greedy, return_exceptions=True)

    asyncio.run(within())
    together = batches[2:40]  # in the first ones not all clients are there yet
    assert max(batch[0] for batch in together) <= 2
    for client in (1, 2, 3):
        assert sum(batch[client] for batch in together) >= len(together) / 3


def test_a_client_alone_fills_its_batches() -> None:
    sizes: list[int] = []

    async def within() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(list, executor, max_size=4, observe=sizes.append)
            await asyncio.gather(*(batcher(item, "a") for item in range(8)))

    asyncio.run(within())
    assert sizes == [4, 4]
