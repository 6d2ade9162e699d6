"""Queues that serve their clients in turn, so that a client with many requests does not make the others wait."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Items that wait, by client. Each client in turn gets one item served, its oldest."""

    def __init__(self) -> None:
        self._waiting: dict[object, deque[Item]] = {}
        """By client, in the order of their turns; no client has an empty queue."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def clients(self) -> int:
        """Number of clients that have items here."""
        return len(self._waiting)

    @property
    def next(self) -> object:
        """The client whose turn it is."""
        return next(iter(self._waiting))

    def put(self, client: object, item: Item) -> None:
        """Adds an item of a client."""
        self._waiting.setdefault(client, deque()).append(item)

    def take(self) -> tuple[object, Item]:
        """Removes and returns the next client and its oldest item; the client's next turn is after all others."""
        client = self.next
        items = self._waiting.pop(client)
        item = items.popleft()
        if items:
            self._waiting[client] = items
        return client, item


class Places:
    """Numbered places to work. Clients get free ones in turn, those whose work is urgent before all others."""

    def __init__(self, count: int) -> None:
        """Starts with all places free. All but one of them, where there are several, may do work that is not urgent."""
        self._free = list(range(count))
        self._most_patient = max(1, count - 1)
        self._patient = 0
        """Number of places that do work that is not urgent."""
        self._urgent_waiting: Turns[asyncio.Future[int]] = Turns()
        self._patient_waiting: Turns[asyncio.Future[int]] = Turns()

    async def take(self, client: object, *, urgent: bool) -> int:
        """Returns the number of a place as soon as one is free and it is this client's turn."""
        place: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        (self._urgent_waiting if urgent else self._patient_waiting).put(client, place)
        self._hand_out()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give_back(place.result(), urgent=urgent)
            raise

    def give_back(self, number: int, *, urgent: bool) -> None:
        """Makes a place free again."""
        self._free.append(number)
        self._patient -= not urgent
        self._hand_out()

    def _hand_out(self) -> None:
        """Gives free places to those who wait."""
        while self._free:
            if self._urgent_waiting:
                _, place = self._urgent_waiting.take()
            elif self._patient_waiting and self._patient < self._most_patient:
                _, place = self._patient_waiting.take()
                self._patient += not place.done()
            else:
                return
            if not place.done():
                place.set_result(self._free.pop())
