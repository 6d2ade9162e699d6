"""The door of the server: who is let in, and who has to leave for a newcomer. Knows no sockets.

A *stranger* is a client that has not shown its token yet, on a server that needs one. Its handshake counts, too.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from server.config import Limits
from server.errors import ServerError, TooMany


@dataclass(slots=True, kw_only=True, eq=False)
class Guest:
    """A connection, from the moment that it is accepted."""

    host: str
    """The client's host, or `unix`."""
    name: str
    """The client's address, for the log."""
    since: float
    """When the connection was accepted or, of a known client, when its last request was finished; seconds."""
    evict: Callable[[ServerError], None]
    """Ends the connection at once, if possible with a word."""
    stranger: bool = True
    busy: bool = False
    """Whether the client is known, and sends a request or waits for a reply."""


class Door:
    """Counts the connections. When there are too many, one of them makes room for a newcomer, if that is fair."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._guests: set[Guest] = set()

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest) -> None:
        """Lets a connection in. Raises TooMany if there is no room for it and nobody can make room."""
        strangers = [other for other in self._guests if other.stranger]
        if guest.stranger and len(strangers) >= self._limits.strangers:
            self._evict(_superfluous(strangers), "it has not shown its token, and others wait to show theirs")
        elif len(self._guests) >= self._limits.connections and not self.make_room(guest.since):
            raise TooMany("no more connections are accepted for now; try again later")
        self._guests.add(guest)

    def leave(self, guest: Guest) -> None:
        """Forgets a connection that has ended."""
        self._guests.discard(guest)

    def make_room(self, now: float) -> bool:
        """Ends a stranger's connection, or the one that is idle the longest; returns whether there is such a one."""
        if strangers := [guest for guest in self._guests if guest.stranger]:
            self._evict(_superfluous(strangers), "there is no room for connections without a token")
            return True
        idle = [guest for guest in self._guests if not guest.busy and now - guest.since >= self._limits.spare_s]
        if idle:
            self._evict(min(idle, key=lambda guest: guest.since), "it was idle the longest, and others need the room")
        return bool(idle)

    def _evict(self, guest: Guest, why: str) -> None:
        self.leave(guest)
        guest.evict(TooMany(f"the connection is closed: {why}"))


def _superfluous(strangers: list[Guest]) -> Guest:
    """Returns the oldest stranger of the host that has the most of them, so a flood of one host ends its own."""
    crowds = Counter(guest.host for guest in strangers)
    return min(strangers, key=lambda guest: (-crowds[guest.host], guest.since))
