"""Does one client with many requests leave the others their share?

    python -m bench.fairness [--collection DIR] [--quick] [--json FILE]

The server runs in its own process, the clients in this one, on the same cores. Nine polite clients send their next
query, 32 embeddings, when they have the reply to the last. Beside them is a tenth polite client, or a greedy one with
31 queries in flight on one connection. `share` is the polite clients' rate beside the greedy one, as a part of their
rate beside the tenth polite one. The two are measured in turns, because other programs may use the cores, too.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.lib import load, random_collection, report
from bench.lib.load import EMBEDDINGS, ClientQuery, Load, percentile
from engine import process
from engine.embedding.encoder import Encoder
from server.address import Address
from server.client import AsyncClient

POLITE = 9
GREEDY_REQUESTS = 31
SNIPPETS, QUICK_SNIPPETS = 200_000, 20_000


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    network = Encoder.load(None, threads=1).identity
    with tempfile.TemporaryDirectory() as folder:
        snippets = QUICK_SNIPPETS if options.quick else SNIPPETS
        path = options.collection or random_collection.made(Path(folder) / "collection", network, snippets)
        asked = load.material([], Path(folder), path, network)[EMBEDDINGS]
        with load.served(path, Path(folder) / "log") as server:
            rows = asyncio.run(measure(server.address, asked, options.seconds, options.rounds))
    environment = report.environment()
    print(report.heading(environment), "", "Nine polite clients", report.table(rows), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", type=Path, help="collection (default: random snippets)")
    parser.add_argument("--quick", action="store_true", help="two short rounds, a small collection")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(arguments)
    options.seconds, options.rounds = (1.0, 2) if options.quick else (6.0, 5)
    return options


async def measure(
    address: Address, examples: Sequence[ClientQuery], seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """The table rows: the polite clients beside another one, and beside a greedy one."""
    beside: dict[int, list[Load]] = {1: [], GREEDY_REQUESTS: []}
    for _ in range(rounds):
        for requests, loads in beside.items():
            other = asyncio.create_task(_keep_asking(address, examples, requests))
            loads.append(await load.closed_loop(address, examples, POLITE, seconds))
            other.cancel()
            with suppress(asyncio.CancelledError):
                await other
    return rows_of(beside)


def rows_of(beside: dict[int, list[Load]]) -> list[dict[str, Any]]:
    """The table rows of loads, by the number of requests that the other client has in flight."""
    merged = {
        requests: Load(
            samples=tuple(sample for one in loads for sample in one.samples), seconds=sum(one.seconds for one in loads)
        )
        for requests, loads in beside.items()
    }
    full = merged[1].per_s
    return [
        {
            "beside one with": f"{requests} in flight",
            "answered a second": found.per_s,
            "share": found.per_s / max(full, 1e-9),
            "p50 ms": percentile(found.took_ms("ok"), 0.5),
            "p99 ms": percentile(found.took_ms("ok"), 0.99),
        }
        for requests, found in merged.items()
    ]


async def _keep_asking(address: Address, examples: Sequence[ClientQuery], requests: int) -> None:
    """Keeps so many queries in flight on one connection."""
    async with AsyncClient(address) as client:

        async def ask() -> None:
            while True:
                await load.timed(client, examples[0])

        async with asyncio.TaskGroup() as group:
            for _ in range(requests):
                group.create_task(ask())


if __name__ == "__main__":
    main()
