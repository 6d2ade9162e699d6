"""A score that is looked at and followed in a real Chromium: zoom, pan, and music that is repeated."""

import asyncio
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser import answering, asked, browsing, filled, now, until

if TYPE_CHECKING:
    from playwright.async_api import Page


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("library"))


async def middle_of(page: "Page", selector: str) -> tuple[float, float]:
    box = await page.locator(selector).bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_score_is_enlarged_where_the_wheel_turns_and_dragged(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await asked(shown, shown.take)
            small = await page.evaluate("document.querySelector('.sheet').clientWidth")
            second, _ = await now(page)
            x, y = await middle_of(page, "rect[data-system='2']")
            await page.mouse.move(x, y)
            await page.keyboard.down("Control")
            for _ in range(3):
                await page.mouse.wheel(0, -100)
            await page.keyboard.up("Control")
            await until(page, "document.querySelector('.sheet').dataset.zoom === '2'")
            assert await page.evaluate("document.querySelector('.sheet').clientWidth") == pytest.approx(
                2 * small, rel=0.01
            )
            assert await middle_of(page, "rect[data-system='2']") == pytest.approx((x, y), abs=4)
            await page.mouse.down()
            await page.mouse.move(x - 60, y - 40, steps=4)
            await page.mouse.up()
            assert await middle_of(page, "rect[data-system='2']") == pytest.approx((x - 60, y - 40), abs=4)
            assert (await now(page))[0] == second  # nobody clicked
            await page.mouse.click(x - 60, y - 40)
            await until(page, "document.querySelector('.stage').dataset.system === '2'")
            assert (await now(page))[0] > second
            assert shown.problems == []

    asyncio.run(test())


def test_keys_and_buttons_enlarge_and_turn_the_page(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await asked(shown, shown.take)
            assert await page.get_by_role("button", name="Smaller").is_disabled()
            await page.focus(".stage")
            await page.keyboard.press("+")
            await page.get_by_role("button", name="Larger").click()
            assert await page.get_attribute(".sheet", "data-zoom") == "1.5"
            await page.focus(".stage")
            await page.keyboard.press("PageDown")
            await until(page, "document.querySelector('.page-number').textContent === '2 / 2'")
            for _ in range(2):
                await page.get_by_role("button", name="Smaller").click()
            assert await page.get_attribute(".sheet", "data-zoom") == "1"
            assert shown.problems == []

    asyncio.run(test())


ORDER = (1, 2, 1, 2, 3)
"""The systems in the order in which they are played, four seconds each: the first two are repeated."""


def repeated(systems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The map of a recording that plays the systems in that order."""
    return [
        {
            "page": 1,
            "system": system,
            "jump": i > 0 and system < ORDER[i - 1],
            "s": [4 * i, 4 * i + 4],
            "x": [systems[system - 1]["x0"], systems[system - 1]["x1"]],
        }
        for i, system in enumerate(ORDER)
    ]


def test_the_cursor_goes_back_where_the_music_is_repeated(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            asking = {"document": "sonata_played", "kind": "recording", "path": True}
            answer = await (await page.request.post(f"{shown.root}/query", data=asking)).json()
            facts = await (await page.request.get(f"{shown.root}/documents/sonata")).json()
            match = answer["matches"][0] | {"id": "sonata", "time_map": repeated(facts["systems"])}
            await page.emulate_media(reduced_motion="reduce")
            await answering(page, answer | {"matches": [match | {"query_start_s": 0.0}]})
            await page.set_input_files("#file", str(shown.take))
            await until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
            await page.evaluate("document.querySelector('audio').playbackRate = 2")
            await page.click(".play")
            seen = []
            while (found := await now(page))[0] < 4 * len(ORDER) - 1:
                seen.append(found[1])
                await asyncio.sleep(0.05)
            await page.click(".play")
            assert [int(system) for system, _ in itertools.groupby(seen)] == list(ORDER)
            await page.locator("rect[data-system='1']").scroll_into_view_if_needed()
            await page.mouse.click(*await middle_of(page, "rect[data-system='1']"))
            assert (await now(page))[0] == pytest.approx(10, abs=0.5)  # the pass that is nearest to what is heard
            assert shown.problems == []

    asyncio.run(test())
