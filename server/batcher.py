"""Batches of work: all items that arrive while a batch runs form the next batch."""

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
    """Calls `work` with lists of items, outside the event loop. A batch starts at once; it does not wait to fill up.

    An item whose caller is cancelled before the batch starts is dropped. If a batch fails, its items are tried one by
    one, so that one bad item does not fail the others.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        executor: Executor,
        *,
        max_size: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Starts with no items.

        work: returns one result per item, in order. It runs in `executor`.
        max_size: items in a batch.
        observe: is called with the size of each batch.
        """
        self._work = work
        self._executor = executor
        self._max_size = max_size
        self._observe = observe
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def __call__(self, item: Item) -> Result:
        """Returns the result of this item. Raises what `work` raises for the item, or Stopping after `close`."""
        if self._closed:
            raise Stopping("the server is stopping")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def close(self) -> None:
        """Fails the waiting items with Stopping, and returns when the running batch is done."""
        self._closed = True
        while self._waiting:
            self._fail(self._waiting.popleft()[1], Stopping("the server is stopping"))
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        """Runs batches until no item waits."""
        try:
            while batch := self._next():
                self._observe(len(batch))
                await self._do(batch)
        finally:
            self._running = None

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """Takes the items of the next batch; none if nobody waits."""
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._max_size:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _do(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        """Runs one batch and hands out its results; after a failure, runs each item as a batch of one."""
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._work, [item for item, _ in batch])
        except Exception as exc:
            if len(batch) == 1:
                self._fail(batch[0][1], exc)
                return
            logger.warning("a batch of %d failed; its items are tried one by one: %s", len(batch), exc)
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
