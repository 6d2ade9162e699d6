"""Batches of work: all items that arrive while a batch runs form the next batch."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from server.errors import ServerError, Stopping
from server.turns import Turns

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Calls `work` with lists of items, outside the event loop. A batch starts at once; it does not wait to fill up.

    An item whose caller is cancelled before the batch starts is dropped, unless it `must` be worked on. If a batch
    fails, its items are tried one by one, so that one bad item does not fail the others.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result | ServerError]],
        executor: Executor,
        *,
        max_size: int,
        observe: Callable[[int], None] = lambda size: None,
        must: Callable[[Item], bool] = lambda item: False,
    ) -> None:
        """Starts with no items.

        work: returns one result per item, in order, or the item's error. It runs in `executor`.
        max_size: items in a batch.
        observe: is called with the size of each batch.
        must: whether an item is worked on though its caller is gone.
        """
        self._work = work
        self._executor = executor
        self._max_size = max_size
        self._observe = observe
        self._must = must
        self._waiting: Turns[tuple[Item, asyncio.Future[Result]]] = Turns()
        self._crowd = 1
        """Number of clients that had items lately."""
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def __call__(self, item: Item, client: object = None) -> Result:
        """Returns the result of this item. Raises what `work` raises for the item, or Stopping after `close`.

        client: whose item it is; clients get equal parts of a batch.
        """
        if self._closed:
            raise Stopping("the server is stopping")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.put(client, (item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def close(self) -> None:
        """Fails the waiting items with Stopping, and returns when the running batch is done."""
        self._closed = True
        while self._waiting:
            self._fail(self._waiting.take()[1][1], Stopping("the server is stopping"))
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
        """Takes the items of the next batch, an equal number of each client; none if nobody waits.

        Clients that send one request at a time are seldom here when a batch ends: they have just got their replies. So
        the parts are as small as the clients of the last batches demand. Otherwise one client with many requests would
        have every second batch for itself.
        """
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        taken: Counter[object] = Counter()
        part = max(1, self._max_size // max(1, self._waiting.clients, self._crowd))
        while self._waiting and len(batch) < self._max_size:
            if taken[self._waiting.next] == part:
                break  # it is this client's turn again, so all others have had as many
            client, (item, future) = self._waiting.take()
            if not future.done() or self._must(item):
                taken[client] += 1
                batch.append((item, future))
        self._crowd = max(len(taken), self._crowd - 1)
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
            if isinstance(result, ServerError):
                self._fail(future, result)
            elif not future.done():
                future.set_result(result)

    @staticmethod
    def _fail(future: "asyncio.Future[Result]", error: Exception) -> None:
        if not future.done():
            future.set_exception(error)
