"""Memory for messages, in bytes, that connections share. When it is full, the largest unfinished frame has to go."""

from collections.abc import Callable
from dataclasses import dataclass

from server.errors import Overloaded, ServerError


class Budget:
    """Bytes that connections share."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._unfinished: set[Unfinished] = set()

    def take(self, amount: int) -> None:
        """Takes an amount. Raises Overloaded if less is left."""
        if amount > self._left:
            raise Overloaded(f"no memory left for {amount} more bytes; try again later")
        self._left -= amount

    def give_back(self, amount: int) -> None:
        """Returns an amount that was taken."""
        self._left += amount

    def enter(self, unfinished: "Unfinished") -> None:
        """Lets an unfinished frame count among those that may have to go."""
        self._unfinished.add(unfinished)

    def leave(self, unfinished: "Unfinished") -> None:
        """Returns the bytes of an unfinished frame and forgets the frame."""
        self._unfinished.discard(unfinished)
        self.give_back(unfinished.size)

    def make_room(self, amount: int, wanting: "Unfinished") -> None:
        """Cuts off the connections with the largest unfinished frames, as far as these are larger than `wanting`.

        Otherwise a few connections that announce large frames and stop sending would keep everybody else out.
        """
        while amount > self._left:
            largest = max(self._unfinished, key=lambda unfinished: unfinished.size)
            if largest.size <= wanting.size + amount:
                return
            self.give_back(largest.size)
            largest.size = 0
            largest.cut_off(Overloaded("no memory left, and this connection's unfinished frame takes most of it"))


class Unfinished:
    """Bytes of a frame that a connection has begun and not finished."""

    def __init__(self, budget: Budget, cut_off: Callable[[ServerError], None]) -> None:
        """Starts with no bytes. cut_off: ends the connection."""
        self.size = 0
        self.cut_off = cut_off
        self.budget = budget
        budget.enter(self)

    def add(self, amount: int) -> None:
        """Takes bytes that have arrived. Raises Overloaded if there is no room for them."""
        self.budget.make_room(amount, self)
        self.budget.take(amount)
        self.size += amount

    def finish(self, rest: int) -> "Taken":
        """Returns what the finished frame takes. rest: bytes of the next frame that have arrived already."""
        taken = Taken(budget=self.budget, size=self.size - rest)
        self.size = rest
        return taken

    def move(self, budget: Budget) -> None:
        """Takes the bytes from another budget from now on. Raises Overloaded if there is no room for them."""
        self.budget.leave(self)
        size, self.size, self.budget = self.size, 0, budget
        budget.enter(self)
        self.add(size)

    def close(self) -> None:
        """Returns the bytes."""
        self.budget.leave(self)
        self.size = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Bytes of a budget that a message takes."""

    budget: Budget
    size: int

    def give_back(self) -> None:
        """Returns the bytes to their budget. Call it once."""
        self.budget.give_back(self.size)
