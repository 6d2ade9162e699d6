"""The page in a real Chromium while the server is slow or away: the last choice is shown, and can be tried again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser import Shown, browsing, filled, seek, until

if TYPE_CHECKING:
    from playwright.async_api import Page

VIEWS = ("/", "/#/document/sonata_played")
"""The answer to a recording, and the page of a recording: both offer its scores."""


def run(test: Any) -> Any:
    return asyncio.run(test)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("library"))


async def two_scores(shown: Shown) -> "Page":
    """A tab for which two scores belong to a recording: the sonata, all in system 1, and the waltz, all in system 6."""
    page = await shown.open("/#/browse")
    query = {"document": "sonata_played", "kind": "recording", "path": True}
    answer = await (await page.request.post(f"{shown.root}/query", data=query)).json()
    first = answer["matches"][0] | {"confidence": 0.99, "title": "Sonata", "time_map": [stretch(1, 1)]}
    other = first | {"id": "waltz", "title": "Waltz", "time_map": [stretch(2, 6)]}
    body = json.dumps(answer | {"matches": [first, other]})
    await page.route("**/query", lambda route: route.fulfill(body=body))
    return page


async def ask(page: "Page", shown: Shown, view: str) -> None:
    """Asks which scores belong to the recording."""
    await page.goto(shown.root + view)
    if view == "/":
        await page.set_input_files("#file", str(shown.take))


def stretch(page: int, system: int) -> dict[str, Any]:
    return {"page": page, "system": system, "jump": False, "s": [0, 60], "x": [0.2, 0.8]}


@asynccontextmanager
async def held(page: "Page", id: str) -> AsyncIterator[None]:
    """While inside, the server does not tell a document. Afterwards it has, and the page has read it."""
    told = asyncio.Event()
    path = f"**/documents/{id}"

    async def wait(route: Any) -> None:
        await told.wait()
        await route.continue_()

    await page.route(path, wait)
    async with page.expect_event("requestfinished", lambda request: request.url.endswith(f"/documents/{id}")):
        yield
        told.set()
    await page.unroute(path)
    await page.evaluate("fetch('/healthz').then((reply) => reply.text())")


async def choose(page: "Page", title: str) -> None:
    await page.locator(".works button, .others label", has_text=title).click()


async def shows(page: "Page", title: str) -> None:
    await until(page, f"document.querySelector('.stage')?.getAttribute('aria-label') === 'Score: {title}'")
    await until(page, "document.querySelector('audio')?.duration > 60")


@pytest.mark.parametrize("view", VIEWS)
def test_a_score_is_followed_by_its_own_map_when_one_chosen_before_it_comes_late(library: Path, view: str) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await two_scores(shown)
            async with page.expect_request("**/documents/sonata") as asking, held(page, "sonata"):
                await ask(page, shown, view)
                await asking.value
                await choose(page, "Waltz")
                await shows(page, "Waltz")
            await seek(page, 15)
            assert await page.get_attribute(".stage", "data-system") == "6"
            assert await page.get_attribute(".stage", "aria-label") == "Score: Waltz"
            assert shown.problems == []

    run(test())


@pytest.mark.parametrize("view", VIEWS)
def test_a_score_that_failed_is_asked_for_again(library: Path, view: str) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await two_scores(shown)
            await ask(page, shown, view)
            await until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
            await page.route("**/documents/waltz", lambda route: route.abort())
            await choose(page, "Waltz")
            assert await page.inner_text(".shown .error") == "the server cannot be reached"
            assert await page.locator(".stage").count() == 0  # no pages of the score before it
            await page.unroute("**/documents/waltz")
            await choose(page, "Waltz")
            await shows(page, "Waltz")
            await seek(page, 15)
            assert await page.get_attribute(".stage", "data-system") == "6"
            assert await page.locator(".error").count() == 0
            assert [fault for fault in shown.problems if "Failed to load resource" not in fault] == []

    run(test())


def test_a_waveform_is_that_of_the_last_file(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            first, last, seen = await page.evaluate(
                """async () => {
                  const { Waveform } = await import("/page/wave.js");
                  const sound = async (id) => (await fetch(`/documents/${id}/sound`)).blob();
                  const [slow, quick] = [await sound("sonata_played"), await sound("waltz_played")];
                  const wave = new Waveform({ seek: () => {} });
                  const peaks = async (blob) => (await wave.load(blob), [...wave.peaks]);
                  const alone = [await peaks(slow), await peaks(quick)];
                  const { promise, resolve } = Promise.withResolvers();
                  slow.arrayBuffer = () => promise.then(() => Blob.prototype.arrayBuffer.call(slow));
                  const late = wave.load(slow);
                  await wave.load(quick);
                  resolve();
                  await late;
                  return [...alone, [...wave.peaks]];
                }"""
            )
            assert first != last
            assert seen == last
            assert shown.problems == []

    run(test())
