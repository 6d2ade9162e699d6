"""What is given to the page in a real Chromium: a picture that is pasted or dropped, and a photo by a phone."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from browser import Shown, answering, browsing, filled, stored, until
from running_server import TOKEN

if TYPE_CHECKING:
    from playwright.async_api import Page


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("library"))


async def answer_to(page: "Page", give: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """The server's answer to what is given, when the page shows it."""
    async with page.expect_response("**/query") as answering:
        await give()
    reply = await answering.value
    assert reply.status == 200
    await page.wait_for_selector(".verdict h2, .notice h2")
    found: dict[str, Any] = await reply.json()
    return found


PICTURE = """const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
const file = new File([bytes], "scan.png", { type: "image/png" });"""
"""Makes a file of base64."""


async def paste(page: "Page", data: str) -> None:
    await page.evaluate(
        f"""async (data) => {{
          {PICTURE}
          await navigator.clipboard.write([new ClipboardItem({{ "image/png": file }})]);
        }}""",
        data,
    )
    await page.keyboard.press("Control+V")


async def drop(page: "Page", data: str) -> None:
    """Drops a file from the desktop on the head of the page."""
    await page.evaluate(
        f"""(data) => {{
          {PICTURE}
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(file);
          for (const type of ["dragover", "drop"]) {{
            const event = new DragEvent(type, {{ dataTransfer, bubbles: true, cancelable: true }});
            document.querySelector(".brand").dispatchEvent(event);
            if (!event.defaultPrevented) throw new Error("the browser would open the file");
          }}
        }}""",
        data,
    )


def test_a_recording_is_dropped_on_the_page_of_evenings(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open("/page/evening.html")
            await page.wait_for_selector("h1")
            async with page.expect_request("**/segment"):
                await drop(page, base64.b64encode(b"a recording").decode())
            await page.wait_for_selector(".failed")  # it is none

    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize(("give", "view"), [(paste, "/"), (drop, "/"), (paste, "/#/browse"), (drop, "/#/browse")])
def test_a_picture_is_pasted_or_dropped_anywhere(library: Path, give: Any, view: str) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            await shown.context.grant_permissions(["clipboard-read", "clipboard-write"])
            page = await shown.open(view)
            await page.wait_for_selector("h1")
            data = base64.b64encode(shown.page_file.read_bytes()).decode()
            answer = await answer_to(page, lambda: give(page, data))
            assert answer["query"] == ("scan.png" if give is drop else "image.png")
            assert answer["direction"] == "S2A"
            assert shown.problems == []

    asyncio.run(test())


def test_the_camera_of_a_phone_takes_a_photo_of_a_page(library: Path) -> None:
    async def test() -> None:
        async with browsing(library, phone=True) as shown:
            page = await shown.open()
            field = page.locator("#camera")
            assert await field.get_attribute("capture") == "environment"  # the camera that looks at the page
            assert await field.get_attribute("accept") == "image/*"
            answer = await answer_to(page, lambda: photographed(page, shown))
            assert answer["query"] == "1.png"
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert shown.problems == []

    asyncio.run(test())


async def photographed(page: "Page", shown: Shown) -> None:
    """Taps on the button; the phone's camera gives a photo."""
    async with page.expect_file_chooser() as choosing:
        await page.get_by_text("Take a photo").tap()
    await (await choosing.value).set_files(shown.page_file)


def test_a_screen_without_touch_offers_no_camera(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            assert await page.get_by_text("Take a photo").is_hidden()

    asyncio.run(test())


def test_a_scan_that_lies_on_its_side_or_on_its_head_is_shown_upright(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            with Image.open(shown.page_file) as scan:
                wide, high = scan.size
            assert wide != high
            for turn in (90, 180, 270):
                page = await shown.open()
                answer = await (await page.request.post(f"{shown.root}/query", data=stored("sonata"))).json()
                match = answer["matches"][0]
                boxes = [box | {"turn": turn} for box in match["query_boxes"]]
                await answering(page, answer | {"query": "1.png", "matches": [match | {"query_boxes": boxes}]})
                await page.set_input_files("#file", str(shown.page_file))
                await until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
                size = "(({ naturalWidth, naturalHeight }) => [naturalWidth, naturalHeight])"
                seen = await page.evaluate(f"{size}(document.querySelector('.sheet img'))")
                assert seen == ([wide, high] if turn == 180 else [high, wide])
                assert await page.locator(".note:visible").count() == 0
            assert shown.problems == []

    asyncio.run(test())


def test_where_reads_need_a_token_a_recording_still_has_its_waveform(library: Path) -> None:
    async def test() -> None:
        async with browsing(library, open_reads=False) as shown:
            page = await shown.open()
            await page.evaluate(
                """import("/page/wave.js").then(({ Waveform }) => {
                  const { load } = Waveform.prototype;
                  Waveform.prototype.load = function (source) { return load.call(window.wave = this, source); };
                })"""
            )
            await page.fill("#token input", TOKEN)
            await page.get_by_role("button", name="Continue").click()
            await page.goto(f"{shown.root}/#/document/sonata_played")
            await until(page, "Boolean(window.wave?.peaks)")
            assert [fault for fault in shown.problems if "Content Security Policy" in fault] == []

    asyncio.run(test())
