"""A real Chromium that looks at the page of a server in this process, and what it shows: a score and its recording."""

import asyncio
import functools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from engine.collection import CollectionWriter
from engine.embedding import documents
from engine.values import SCORE_PLACE, Document, SnippetSequence
from fake_encoder import FakeEncoder
from http_client import Web, serving_web
from media import write_page, write_recording
from running_server import NETWORK

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

TITLE = "<img src=x onerror=alert(1)> Sonata"
"""A title that would run if it were ever taken for markup."""
SECONDS = 64.0
SYSTEMS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A browser beside a server, and the files that its collection was made from."""

    web: Web
    context: "BrowserContext"
    take: Path
    page_file: Path
    problems: list[str]
    """Errors on the console, exceptions, dialogs, and requests to other hosts."""

    @property
    def root(self) -> str:
        return f"http://{self.web.address}"

    async def open(self, path: str = "/", **size: int) -> "Page":
        """A tab that shows the page."""
        page = await self.context.new_page()
        if size:
            await page.set_viewport_size({"width": size["width"], "height": size["height"]})
        page.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self._note_foreign(request.url))
        await page.goto(self.root + path)
        return page

    def _note_foreign(self, url: str) -> None:
        if not url.startswith((self.root, self.root.replace("http", "ws"), "blob:", "data:")):
            self.problems.append(f"request to {url}")


def system_at(second: float) -> int:
    """The system in which the music is at a second: the six systems take equal times."""
    return min(SYSTEMS, 1 + int(SYSTEMS * (second - 2.1) / (SECONDS - 4.2)))


@asynccontextmanager
async def browsing(
    folder: Path, *, microphone: Path | None = None, phone: bool = False, **options: Any
) -> AsyncIterator[Shown]:
    """A browser that shows the collection of `filled`.

    microphone: what a fake microphone plays. phone: whether it is that of a phone, which is touched.
    """
    program = _chromium()
    playwright = pytest.importorskip("playwright.async_api", reason="the package playwright is not installed")
    take, page_file = folder / "sonata_played.wav", folder / "sonata" / "1.png"
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
    arguments += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    if microphone is not None:
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
    async with serving_web(folder / "c", **options) as web, playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=arguments)
        try:
            context = await browser.new_context(
                viewport={"width": 390, "height": 844} if phone else {"width": 1280, "height": 800},
                device_scale_factor=3 if phone else 1,
                is_mobile=phone,
                has_touch=phone,
            )
            context.set_default_timeout(30_000)
            yield Shown(web=web, context=context, take=take, page_file=page_file, problems=[])
        finally:
            await browser.close()


@functools.cache
def _chromium() -> str:
    """The path of Chromium; skips the test without one."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("Chromium is not installed")


def filled(folder: Path) -> Path:
    """Makes a collection of a score of two pages, its recording, and another pair; returns the folder.

    The stand-in for the network knows nothing of the other kind. So the snippets of a score are those of its recording,
    spread evenly over its systems.
    """
    encoder = FakeEncoder()
    with CollectionWriter(folder / "c", NETWORK) as writer:
        for name, seed, title in (("sonata", 1, TITLE), ("waltz", 20, "Waltz")):
            pages = folder / name
            pages.mkdir()
            for number in (1, 2):
                write_page(pages / f"{number}.png", seed + number)
            take = write_recording(folder / f"{name}_played.wav", seed, SECONDS)
            sequences = {}
            for source in (pages, take):
                kind = documents.kind_of(source)
                medium = documents.read(source, kind, encoder.identity.front_end)
                (sequence,) = documents.sequences([medium], encoder)
                made = Document(
                    id=source.stem,
                    kind=kind,
                    title=title,
                    composer="A. Composer",
                    source=documents.source_of(source),
                    content_hash=documents.content_hash(source),
                )
                sequences[kind] = documents.described(made, medium, sequence), sequence
            writer.put(*sequences["recording"])
            described, heard = sequences["score"][0], sequences["recording"][1]
            writer.put(replace(described, snippets=len(heard)), _seen(described, heard))
        writer.commit()
    return folder


def _seen(score: Document, heard: SnippetSequence) -> SnippetSequence:
    """The snippets of a score that are those of its recording."""
    count = len(heard)
    along = np.arange(count + 1) * SYSTEMS / count
    numbers = np.minimum(along.astype(int), SYSTEMS - 1)
    left, right = (np.array([getattr(system.box, side) for system in score.systems]) for side in ("x0", "x1"))
    xs = left[numbers] + (along - numbers) * (right - left)[numbers]
    places = np.zeros(count, SCORE_PLACE)
    places["system"], places["end_system"] = numbers[:-1] + 1, numbers[1:] + 1
    places["x"], places["end_x"] = xs[:-1], xs[1:]
    return SnippetSequence(kind="score", embeddings=heard.embeddings, places=places, bias=heard.bias)


def cut(take: Path, target: Path, start_s: float, end_s: float, rate: int = 48000) -> Path:
    """A part of a recording, as a file at another rate."""
    samples, old = soundfile.read(take)
    part = samples[int(start_s * old) : int(end_s * old)]
    times = np.arange(int(len(part) * rate / old)) * old / rate
    soundfile.write(target, np.interp(times, np.arange(len(part)), part), rate)
    return target


async def until(page: "Page", script: str) -> None:
    """Returns as soon as a script is true. Playwright itself would wait by `eval`, which the page's policy forbids."""
    async with asyncio.timeout(30):
        while not await page.evaluate(script):
            await asyncio.sleep(0.05)


async def asked(shown: Shown, file: Path, **size: Any) -> "Page":
    """A tab that shows the answer to a file."""
    page = await shown.open(**size)
    await page.set_input_files("#file", str(file))
    await page.wait_for_selector(".verdict h2")
    await until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
    return page


async def seek(page: "Page", second: float) -> None:
    """Goes to a second of the recording by a click on the waveform, and waits until the score shows a place."""
    box = await page.locator(".wave").bounding_box()
    duration = await page.evaluate("document.querySelector('audio')?.duration")
    assert box
    await page.mouse.click(box["x"] + box["width"] * second / duration, box["y"] + 20)
    await until(page, "Boolean(document.querySelector('.stage')?.dataset.system)")


async def now(page: "Page") -> tuple[float, str]:
    """The second that is heard, and the system in which the cursor is."""
    script = "[document.querySelector('audio').currentTime, document.querySelector('.stage')?.dataset.system]"
    second, system = await page.evaluate(script)
    return float(second), str(system)


async def answering(page: "Page", answer: dict[str, Any]) -> None:
    """Lets every query of a tab have this answer."""
    await page.route("**/query", lambda route: route.fulfill(body=json.dumps(answer)))


def stored(id: str) -> dict[str, Any]:
    """The fields of a query for what belongs to a score of the collection."""
    return {"document": id, "kind": "score", "path": True}
