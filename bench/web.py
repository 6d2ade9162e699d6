"""How soon does the web page answer, and what does it look like?

    python -m bench.web --collection DIR --clip FILE [--runs N] [--json FILE]
    python -m bench.web --collection DIR --clip FILE --draw docs/screenshots

A clip is dropped on the page in a real Chromium; the times are those until the best work is named and its page is seen.
The first run starts the process that draws pages, and is not in the median. The server runs in this process, with the
shipped network. `bench.cursor` says whether the page's cursor keeps to the music. With `--draw` the page is pictured
instead: how it starts, an answer that is played, and an answer on a phone.
"""

import argparse
import asyncio
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.lib import report
from engine import process
from engine.config import SearchSettings
from engine.finder import Engine
from server.address import Address
from server.config import ServerSettings
from server.server import serving

if TYPE_CHECKING:
    from playwright.async_api import Browser

NAMED = ".verdict h2"
PLAYED_S = 6.0
"""Time for which the clip is played before a picture is taken."""
SEEN = "document.querySelector('.sheet img')?.naturalWidth > 0"


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    if options.draw:
        asyncio.run(draw(options))
        return
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
    parser.add_argument("--draw", type=Path, metavar="DIR", help="write pictures of the page into this folder instead")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


@asynccontextmanager
async def browsing(collection: Path) -> AsyncIterator[tuple["Browser", str]]:
    """A browser, and the address of a server of the collection."""
    from playwright.async_api import async_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    engine = Engine.load(settings=SearchSettings())
    async with serving(collection, engine, ServerSettings()) as server, async_playwright() as driver:
        address = await server.web(Address(port=0))
        browser = await driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--mute-audio"])
        yield browser, f"http://{address}"
        await browser.close()


async def answers(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The times from a drop to the name of the best work, and to its page."""
    named, seen = [], []
    async with browsing(options.collection) as (browser, address):
        for _ in range(options.runs + 1):
            page = await browser.new_page()
            await page.goto(address)
            started = time.perf_counter()
            await page.set_input_files("#file", str(options.clip))
            await page.wait_for_selector(NAMED)
            named.append(time.perf_counter() - started)
            while not await page.evaluate(SEEN):
                await asyncio.sleep(0.01)
            seen.append(time.perf_counter() - started)
            await page.close()
    # The first run warms the browser and draws the page.
    found = {"work named": named, "page seen": seen}
    return [
        {"until": what, "n": len(times) - 1, "first s": times[0], "median s": statistics.median(times[1:])}
        | {"max s": max(times[1:])}
        for what, times in found.items()
    ]


async def draw(options: argparse.Namespace) -> None:
    """Writes pictures of the page: start.png, answer.png, and phone.png."""
    options.draw.mkdir(parents=True, exist_ok=True)
    async with browsing(options.collection) as (browser, address):
        for name, size in (("answer", (1280, 760)), ("phone", (390, 844))):
            is_phone = name == "phone"
            page = await browser.new_page(
                viewport={"width": size[0], "height": size[1]},
                is_mobile=is_phone,
                has_touch=is_phone,
                device_scale_factor=2 if is_phone else 1,
                reduced_motion="reduce",
            )
            await page.goto(address)
            if not is_phone:
                await page.wait_for_selector(".hint:has-text('holds')")
                await page.screenshot(path=options.draw / "start.png")
            await page.set_input_files("#file", str(options.clip))
            await page.wait_for_selector(NAMED)
            while not await page.evaluate(SEEN):
                await asyncio.sleep(0.1)
            await page.click(".play")
            await asyncio.sleep(PLAYED_S)
            await page.screenshot(path=options.draw / f"{name}.png")
            await page.close()


if __name__ == "__main__":
    main()
