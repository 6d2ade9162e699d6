"""The search of the collection in a real Chromium while the server is slow: the list is that of the last words."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser import browsing, filled, until

if TYPE_CHECKING:
    from playwright.async_api import Page

ROWS = "document.querySelectorAll('.documents li').length"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("library"))


class Held:
    """Requests of a tab that the server gets only when the test lets them go."""

    def __init__(self, page: "Page", part: str) -> None:
        """part: what is in their addresses."""
        self.part = part
        self.asked, self.released, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for event in ("requestfinished", "requestfailed"):
            page.on(event, lambda request: self.ended.set() if part in request.url else None)

    async def __call__(self, route: Any) -> None:
        if self.part in route.request.url:
            self.asked.set()
            await self.released.wait()
        with suppress(Exception):  # the page has given it up
            await route.continue_()


async def more(page: "Page") -> None:
    """Asks for more of a list that tells that it is longer."""
    script = """const button = [...document.querySelectorAll("button")].find((one) => one.textContent === "Show more");
    button.hidden = false;
    button.click();"""
    await page.evaluate(f"() => {{ {script} }}")


@pytest.mark.parametrize(
    ("part", "ask"), [("search=s&", lambda page: page.fill("#search", "s")), ("skip=4&", more)], ids=["words", "more"]
)
def test_a_late_answer_to_older_words_changes_nothing(library: Path, part: str, ask: Any) -> None:
    async def test() -> None:
        async with browsing(library) as shown, asyncio.timeout(60):
            page = await shown.open("/#/browse")
            await until(page, f"{ROWS} === 4")
            held = Held(page, part)
            await page.route("**/documents?*", held)
            await ask(page)
            await held.asked.wait()
            await page.fill("#search", "waltz")
            await until(page, f"{ROWS} === 2")
            held.released.set()
            await held.ended.wait()
            await page.evaluate("fetch('/healthz').then((reply) => reply.text())")  # the page has read what came before
            assert await page.evaluate(ROWS) == 2
            assert await page.inner_text(".browse .hint") == "2 documents"
            assert shown.problems == []

    asyncio.run(test())


def test_a_search_that_is_left_is_not_asked(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open("/#/browse")
            await until(page, f"{ROWS} === 4")
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.evaluate(
                """async () => {
                  const field = document.getElementById("search");
                  field.value = "waltz";
                  field.dispatchEvent(new Event("input"));
                  location.hash = "#/";
                  await new Promise((resolve) => setTimeout(resolve, 2000));
                }"""
            )
            assert [url for url in asked if "/documents?" in url] == []
            assert shown.problems == []

    asyncio.run(test())
