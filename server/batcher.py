"""Work that waits together is done together: whatever came in while the last batch ran is the next one."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from server.errors import Stopping

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Calls `work` with lists of items, off the event loop; nothing waits for others to come.

    An item whose caller has been cancelled before its batch begins is dropped. If a batch fails, its items are tried
    one by one, so that only those fail that have to.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        executor: Executor,
        *,
        max_size: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """work: gives one result an item, in order; runs in `executor`.

        max_size: items of a batch. observe: is told the size of each batch.
        """
        self._work = work
        self._executor = executor
        self._max_size = max_size
        self._observe = observe
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def __call__(self, item: Item) -> Result:
        """The result of this item. Raises what `work` raises of it, or Stopping after `close`."""
        if self._closed:
            raise Stopping("the server is stopping")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def close(self) -> None:
        """Fails what waits, and returns when the batch that runs is done."""
        self._closed = True
        while self._waiting:
            self._fail(self._waiting.popleft()[1], Stopping("the server is stopping"))
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        """Works until nothing waits."""
        try:
            while batch := self._next():
                self._observe(len(batch))
                await self._do(batch)
        finally:
            self._running = None

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._max_size:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _do(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._work, [item for item, _ in batch])
        except Exception as exc:
            if len(batch) == 1:
                self._fail(batch[0][1], exc)
                return
            logger.warning("a batch of %d failed and is tried one by one: %s", len(batch), exc)
            for one in batch:
                await self._do([one])
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    @staticmethod
    def _fail(future: "asyncio.Future[Result]", error: Exception) -> None:
        if not future.done():
            future.set_exception(error)
