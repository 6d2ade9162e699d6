"""An event loop whose clock can be stopped, so that a test reaches a deadline of minutes at once, and no other."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


class _Loop(asyncio.SelectorEventLoop):
    stands_at: float | None = None

    def time(self) -> float:
        return super().time() if self.stands_at is None else self.stands_at


class StillClock:
    """The clock of the running loop, which stands still."""

    def __init__(self, loop: _Loop) -> None:
        """Use `still_clock`."""
        self._loop = loop

    async def until(self, reached: Callable[[], bool]) -> None:
        """Lets everything happen that needs no time, until it has brought this about."""
        end = time.monotonic() + 20
        while not reached():
            assert time.monotonic() < end, "waited for 20 s"
            await self._settle(1)

    async def advance(self, seconds: float) -> None:
        """Moves the clock, and lets happen what then happens."""
        assert self._loop.stands_at is not None
        self._loop.stands_at += seconds
        await self._settle(50)

    async def _settle(self, rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
            time.sleep(0.001)  # other threads go on meanwhile


@contextmanager
def still_clock() -> Iterator[StillClock]:
    """Stops the clock during the `with` block; the loop is one of `run`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _Loop)
    loop.stands_at = loop.time()
    try:
        yield StillClock(loop)
    finally:
        loop.stands_at = None


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test in a loop whose clock can be stopped."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(work)
