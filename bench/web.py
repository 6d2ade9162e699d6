"""How soon does the web page answer?

    python -m bench.web --collection DIR --clip FILE [--runs N] [--json FILE]

A clip is dropped on the page in a real Chromium; the times are those until the best work is named and its page is seen.
The server runs in this process, with the shipped network. `bench.cursor` says whether the page's cursor keeps to the
music.
"""

import argparse
import asyncio
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.lib import report
from engine import process
from engine.config import SearchSettings
from engine.finder import Engine
from server.address import Address
from server.config import ServerSettings
from server.server import serving

NAMED = ".verdict h2"
SEEN = "document.querySelector('.sheet img')?.naturalWidth > 0"


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    environment = report.environment()
    print(report.heading(environment))
    rows = asyncio.run(answers(options))
    print("", report.table(rows), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", type=Path, required=True, help="collection, such as that of the demo")
    parser.add_argument("--clip", type=Path, required=True, help="recording that is dropped on the page")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
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


if __name__ == "__main__":
    main()
