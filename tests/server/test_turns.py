"""Who waits is served in turn, and who is in a hurry before the others."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from server.turns import Places, Turns


def test_each_client_in_turn_gets_its_oldest_item() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
        turns.put(item[0], item)
    assert (len(turns), turns.clients, turns.next) == (6, 3, "a")
    taken = [turns.take()[1] for _ in range(4)]
    turns.put("b", "b2")
    assert taken + [turns.take()[1] for _ in range(len(turns))] == ["a1", "b1", "c1", "a2", "c2", "a3", "b2"]


def served(*works: tuple[str, bool], places: int = 1) -> list[str]:
    """The order in which clients get a place, each to work a moment: the client and whether it is urgent."""
    order: list[str] = []

    async def work(places: Places, client: str, urgent: bool) -> None:
        number = await places.take(client, urgent=urgent)
        order.append(client)
        await asyncio.sleep(0.01)
        places.give_back(number, urgent=urgent)

    async def go() -> None:
        shared = Places(places)
        await asyncio.gather(*(work(shared, *one) for one in works))

    asyncio.run(go())
    return order


def test_eight_works_of_one_client_let_another_client_in() -> None:
    assert served(*[("a", True)] * 8, ("b", True)).index("b") <= 2


def test_what_is_urgent_goes_first() -> None:
    assert served(("a", False), ("b", False), ("c", False), ("d", True)) == ["a", "d", "b", "c"]


def test_a_place_stays_free_for_what_is_urgent() -> None:
    async def go() -> None:
        places = Places(2)
        await places.take("a", urgent=False)
        waiting = asyncio.create_task(places.take("a", urgent=False))
        await asyncio.sleep(0)
        assert not waiting.done()
        number = await places.take("b", urgent=True)
        places.give_back(number, urgent=True)
        assert not waiting.done()
        places.give_back(1 - number, urgent=False)
        await waiting

    run(go())


def test_who_gives_up_loses_no_place() -> None:
    async def go() -> None:
        places = Places(1)
        number = await places.take("a", urgent=True)
        gone = [asyncio.create_task(places.take("b", urgent=urgent)) for urgent in (True, False)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        places.give_back(number, urgent=True)
        await asyncio.gather(*gone, return_exceptions=True)
        assert await places.take("c", urgent=False) == number

    run(go())


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))
