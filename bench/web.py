"""How soon does the page answer, and does its cursor keep to the music?

    python -m bench.web answer --collection DIR --clip FILE [--runs N] [--json FILE]
    python -m bench.web cursor --data DIR [--set mozart|joplin] [--quick] [--json FILE]

`answer` drops a clip on the page in a real Chromium, and takes the time until the best work is named and its page is
seen. The server runs in this process, with the shipped network.

`cursor` aligns each recording of a set with its score, the whole with the whole, and asks the time map every tenth of a
second where the music is. The truth (`bench.lib.truth`) is joined from verified systems and measures; seconds whose
place is not known do not count. `near`: also right if the cursor changes the system less than 0.5 s too early or late.
"""

import argparse
import asyncio
import functools
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.lib import pieces, report, truth
from bench.lib.truth import Truth
from bench.localisation import SEARCHED, printed
from engine import alignment, process
from engine.collection import Collection
from engine.config import SearchSettings
from engine.embedding.encoder import Encoder
from engine.finder import Engine
from engine.search.location import Ruler
from engine.timemap import TimeMap, time_map
from server.address import Address
from server.config import ServerSettings
from server.server import serving

STEP_S = 0.1
NEAR_S = 0.5
NAMED = ".verdict h2"
SEEN = "document.querySelector('.sheet img')?.naturalWidth > 0"


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    environment = report.environment()
    print(report.heading(environment))
    rows = asyncio.run(answers(options)) if options.what == "answer" else cursors(options)
    print("", report.table(rows), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, what=options.what, rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    answer = kinds.add_parser("answer", help="time until the page has an answer")
    answer.add_argument("--collection", type=Path, required=True, help="collection, such as that of the demo")
    answer.add_argument("--clip", type=Path, required=True, help="recording that is dropped on the page")
    answer.add_argument("--runs", type=int, default=10)
    cursor = kinds.add_parser("cursor", help="share of the time in the right system")
    cursor.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    cursor.add_argument("--set", choices=sorted(SEARCHED), default="mozart")
    cursor.add_argument("--quick", action="store_true", help="four pieces of twelve")
    cursor.add_argument("--jobs", type=int, default=2, help="processes that embed")
    cursor.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps collections")
    for part in (answer, cursor):
        part.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


async def answers(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The times from a drop to the name of the best work, and to its page."""
    from playwright.async_api import async_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    engine = Engine.load(settings=SearchSettings())
    named, seen = [], []
    async with serving(options.collection, engine, ServerSettings()) as server, async_playwright() as driver:
        address = await server.web(Address(port=0))
        browser = await driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(options.runs + 1):
            page = await browser.new_page()
            await page.goto(f"http://{address}")
            started = time.perf_counter()
            await page.set_input_files("#file", str(options.clip))
            await page.wait_for_selector(NAMED)
            named.append(time.perf_counter() - started)
            while not await page.evaluate(SEEN):
                await asyncio.sleep(0.01)
            seen.append(time.perf_counter() - started)
            await page.close()
        await browser.close()
    # The first run warms the browser and draws the page.
    found = {"work named": named, "page seen": seen}
    return [
        {"until": what, "n": len(times) - 1, "first s": times[0], "median s": statistics.median(times[1:])}
        | {"max s": max(times[1:])}
        for what, times in found.items()
    ]


def cursors(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The share of the time in which the cursor is in the right system, of each piece and of all."""
    load = functools.partial(Encoder.load, threads=1)
    searched = SEARCHED[options.set]
    found = pieces.pieces(options.data, searched)[: 12 if options.quick else None]
    identity = load().identity
    folder, _ = pieces.collect(found, options.work / searched, identity, load, options.jobs, fresh=False)
    rows: list[dict[str, Any]] = []
    with Collection.open(folder, identity) as collection:
        documents = {document.id: document for document in collection.documents}
        known = truth.truths(options.data, options.set, documents, 4 if options.quick else None)
        recordings = {piece.id: piece.recording_id for piece in found}
        backend = alignment.choose("cpu", threads=1)
        for one in tqdm(known, unit="piece", disable=None, dynamic_ncols=True):
            heard, seen = collection.sequence(recordings[one.piece]), collection.sequence(one.piece)
            path = backend.path(heard.embeddings, seen.embeddings, seen.bias, SearchSettings().alignment)
            mapped = time_map(path, Ruler.of(heard), Ruler.of(seen, documents[one.piece].systems))
            rows.append({"piece": one.piece} | figures(one, mapped, float(heard.places["end_s"][-1])))
    weights = [row["n"] for row in rows]
    every = {name: float(np.average([row[name] for row in rows], weights=weights)) for name in ("right", "near")}
    return [*rows, {"piece": "all", "n": sum(weights)} | every]


def figures(known: Truth, mapped: TimeMap, end_s: float) -> dict[str, Any]:
    """The number of moments whose place is known, and the shares of them in which the cursor is right."""
    outcomes = list(_outcomes(known, mapped, end_s))
    return {
        "n": len(outcomes),
        "right": float(np.mean([right for right, _ in outcomes])),
        "near": float(np.mean([near for _, near in outcomes])),
    }


def _outcomes(known: Truth, mapped: TimeMap, end_s: float) -> Iterator[tuple[bool, bool]]:
    """Whether the cursor is in the right system at each moment, and whether it is within half a second."""
    for second in np.arange(0.0, end_s, STEP_S).tolist():
        place = printed(known, second)
        if place is None:
            continue
        shown = [mapped.at(second + shift) for shift in (0.0, -NEAR_S, NEAR_S)]
        hits = [position is not None and position.system == place.system for position in shown]
        yield hits[0], any(hits)


if __name__ == "__main__":
    main()
