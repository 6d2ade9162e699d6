"""The page in a real Chromium: what a librarian does with it, and what she sees."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import SECONDS, TITLE, answering, asked, browsing, cut, filled, now, seek, stored, system_at, until
from running_server import TOKEN
from server.web.static import assets


def run(test: Any) -> Any:
    return asyncio.run(test)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("library"))


def test_the_cursor_keeps_to_the_right_system_while_a_minute_is_played(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await asked(shown, shown.take)
            assert await page.inner_text(".verdict h2") == TITLE  # the markup in it is text
            assert await page.locator(".system.matched").count() == 3
            await page.evaluate("document.querySelector('audio').playbackRate = 3")
            await page.click(".play")
            right, seen, pages = 0, 0, set()
            while (found := await now(page))[0] < SECONDS - 4:
                second, system = found
                seen, right = seen + 1, right + (system == str(system_at(second)) or _near_border(second))
                pages.add(await page.inner_text(".page-number"))
                await asyncio.sleep(0.05)
            assert seen >= 12
            assert right / seen >= 0.95
            assert pages == {"1 / 2", "2 / 2"}  # it turned the page
            assert shown.problems == []

    run(test())


def _near_border(second: float) -> bool:
    """Whether a system ends or begins within half a second, which the browser may show a frame later."""
    return system_at(second - 0.5) != system_at(second + 0.5)


def test_a_click_in_the_score_is_heard_and_a_click_in_the_sound_is_seen(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await asked(shown, shown.take)
            await seek(page, 50)
            await until(page, "document.querySelector('.page-number').textContent === '2 / 2'")
            assert (await now(page))[1] == str(system_at(50))
            await page.click("[aria-label='Previous page']")
            drawn = "document.querySelector(\"rect[data-system='2']\")?.getBoundingClientRect().height > 0"
            await until(page, f"document.querySelectorAll('[data-system]').length === 4 && {drawn}")
            box = await page.locator("rect[data-system='2']").bounding_box()
            assert box
            await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            second, system = await now(page)
            assert system == "2"
            assert second == pytest.approx(2.1 + (SECONDS - 4.2) / 4, abs=1.5)
            await page.focus(".wave")
            await page.keyboard.press("ArrowRight")
            assert (await now(page))[0] == pytest.approx(second + 2, abs=0.1)
            assert shown.problems == []

    run(test())


def test_a_page_finds_its_recording_and_is_followed(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            answer = await (await page.request.post(f"{shown.root}/query", data=stored("sonata"))).json()
            await answering(page, answer | {"query": "1.png"})
            await page.set_input_files("#file", str(shown.page_file))
            await page.wait_for_selector(".verdict h2")
            await until(page, "document.querySelector('audio')?.duration > 60")
            assert await page.inner_text(".verdict a") == "Open this recording"
            await seek(page, 15)
            assert (await now(page))[1] == str(system_at(15))
            assert shown.problems == []

    run(test())


def test_pages_that_a_browser_cannot_show_are_drawn_with_their_systems(library: Path, tmp_path: Path) -> None:
    async def test() -> None:
        for name in ("scan.pdf", "scan.tif"):
            scans = [Image.open(library / "sonata" / f"{number}.png").convert("L") for number in (1, 2)]
            scans[0].save(tmp_path / name, save_all=True, append_images=scans[1:])
        async with browsing(library) as shown:
            for name in ("scan.pdf", "scan.tif"):
                page = await shown.open()
                answer = await (await page.request.post(f"{shown.root}/query", data=stored("sonata"))).json()
                await answering(page, answer | {"query": name})
                await page.set_input_files("#file", str(tmp_path / name))
                await until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
                assert await page.locator(".system.matched").count() == 3
                await page.click("[aria-label='Next page']")
                await until(page, "document.querySelector('.page-number').textContent === '2 / 2'")
                await until(page, "document.querySelectorAll('.system.matched').length === 3")
                assert await page.locator(".note:visible").count() == 0
            assert shown.problems == []

    run(test())


def test_what_is_not_there_is_said_plainly(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            answer = await (await page.request.post(f"{shown.root}/query", data=stored("sonata"))).json()
            matches = [match | {"confidence": 0.01} for match in answer["matches"]]
            absent = json.dumps(answer | {"in_collection": False, "matches": matches})
            await page.route("**/query", lambda route: route.fulfill(body=absent))
            await page.set_input_files("#file", str(shown.take))
            assert await page.inner_text(".notice h2") == "Not in this collection"
            assert await page.locator(".work").first.is_hidden()
            await page.click("summary")
            assert await page.locator(".work").first.is_visible()
            assert await page.inner_text("#status") == "This is not in this collection."
            assert shown.problems == []

    run(test())


@pytest.mark.parametrize("found", [True, False])
def test_what_was_not_searched_is_said(library: Path, found: bool) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            answer = await (await page.request.post(f"{shown.root}/query", data=stored("sonata"))).json()
            lost = [{"name": "shard-001", "documents": {"score": 7, "recording": 1200}}]
            patched = json.dumps(answer | {"unseen": lost, "in_collection": found, "partial": True, "transposed": 2})
            await page.route("**/query", lambda route: route.fulfill(body=patched))
            await page.set_input_files("#file", str(shown.take))
            told = await page.inner_text(".answer .found")
            assert "1,207 documents were not searched, because shard-001 did not answer." in told
            assert "Not in this collection" not in told
            assert ("Not found" in told) is not found
            assert ("holds more than one piece" in told) is ("2 semitones lower" in told) is found
            assert shown.problems == []

    run(test())


def test_a_microphone_is_heard_and_the_score_follows(library: Path, tmp_path: Path) -> None:
    async def test() -> None:
        microphone = cut(library / "sonata_played.wav", tmp_path / "microphone.wav", 20, 40)
        async with browsing(library, microphone=microphone) as shown:
            page = await shown.open()
            await page.get_by_role("button", name="Microphone").click()
            await until(page, "document.querySelector('.live h2').textContent.includes('Sonata')")
            await until(page, "document.querySelector('.stage')?.dataset.system !== ''")
            await page.get_by_role("button", name="Stop").click()
            await page.wait_for_selector(".player .play")
            assert await page.inner_text(".verdict h2") == TITLE
            assert shown.problems == []

    run(test())


def test_a_cursor_moves_on_from_the_end_of_a_system_to_the_next(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            systems = [
                {"page": number, "system": number, "x0": 0.1, "x1": 0.9, "y0": 0.1, "y1": 0.2} for number in (1, 2)
            ]
            places = await page.evaluate(
                """async ([systems, xs]) => {
                  const { onwards } = await import("/page/timemap.js");
                  return xs.map(([system, x]) => onwards({ page: system, system, x }, systems));
                }""",
                [systems, [[1, 0.5], [1, 0.95], [1, 3.0], [2, 0.95]]],
            )
            found = [(place["page"], place["system"], round(place["x"], 3)) for place in places]
            assert found == [(1, 1, 0.5), (2, 2, 0.2), (2, 2, 0.9), (2, 2, 0.9)]
            assert shown.problems == []

    run(test())


def test_the_collection_is_searched_and_a_passage_shared(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open("/#/browse")
            await until(page, "document.querySelectorAll('.documents a').length === 4")
            await page.fill("#search", "WALTZ")
            await until(page, "document.querySelectorAll('.documents a').length === 2")
            await page.get_by_label("Scores").check()
            await until(page, "document.querySelectorAll('.documents a').length === 1")
            await page.click(".documents a")
            await until(page, "document.querySelector('audio')?.duration > 60")
            await seek(page, 40)
            await until(page, "location.hash.includes('s=')")
            link = await page.evaluate("location.href")
            other = await shown.context.new_page()
            await other.goto(link)
            await until(other, "document.querySelector('audio')?.currentTime > 39")
            await until(other, f"document.querySelector('.stage')?.dataset.system === '{system_at(40)}'")
            assert shown.problems == []

    run(test())


def test_another_recording_goes_on_at_the_same_place_of_the_score(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open("/#/browse")
            asked = stored("sonata") | {"top": 10}
            answer = await (await page.request.post(f"{shown.root}/query", data=asked)).json()
            first = answer["matches"][0] | {"confidence": 0.99}
            later = [part | {"s": [second + 5 for second in part["s"]]} for part in first["time_map"]]
            other = first | {"id": "waltz_played", "title": "Another take", "time_map": later}
            await answering(page, answer | {"matches": [first, other]})
            await page.goto(f"{shown.root}/#/document/sonata")
            await until(page, "document.querySelector('audio')?.duration > 60")
            await seek(page, 20)
            second, system = await now(page)
            await page.get_by_label("Another take").check()
            await until(page, f"Math.abs(document.querySelector('audio').currentTime - {second + 5}) < 0.5")
            assert (await now(page))[1] == system
            assert shown.problems == []

    run(test())


@pytest.mark.parametrize("open_reads", [True, False])
def test_files_for_other_programs_are_saved(library: Path, open_reads: bool) -> None:
    async def test() -> None:
        async with browsing(library, open_reads=open_reads) as shown:
            page = await shown.open("/#/document/sonata_played")
            if not open_reads:
                await page.fill("#token input", TOKEN)
                await page.get_by_role("button", name="Continue").click()
            await page.get_by_text("For other programs").click()
            assert await page.locator(".exports a").count() == 6
            for label, name, start in (
                ("IIIF manifest", "sonata.json", b'{\n "@context": "http://iiif.io/api/presentation/3'),
                ("Table (CSV)", "sonata.csv", b"start_s,end_s,page,system"),
            ):
                async with page.expect_download() as saving:
                    await page.get_by_role("link", name=label).click()
                saved = await saving.value
                assert saved.suggested_filename == name
                assert Path(await saved.path()).read_bytes().startswith(start)

    run(test())


BEYOND = """[...document.querySelectorAll('.top a')]
.filter((link) => link.getBoundingClientRect().right > document.documentElement.clientWidth).length"""
"""The number of links of the page's head that are cut off."""
LINES = """[...document.querySelectorAll('.top a')].map((link) => {
  const text = document.createRange();
  text.selectNodeContents(link.lastChild);
  return text.getClientRects().length;
})"""
"""The number of lines of each link in the page's head."""


def test_the_page_fits_every_screen(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            for width, height in ((320, 568), (390, 844), (1024, 768), (1920, 1080), (3840, 2160)):
                page = await asked(shown, shown.take, width=width, height=height)
                for path in ("", "#/browse", "#/document/sonata", "page/evening.html"):
                    if path:
                        await page.goto(f"{shown.root}/{path}")
                        await page.wait_for_selector("h1")
                    wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    assert wide <= 0, (width, path)
                    assert await page.evaluate(LINES) == [1, 1, 1, 1], (width, path)
                    assert await page.evaluate(BEYOND) == 0, (width, path)
                if width >= 3840:
                    await page.goto(f"{shown.root}/#/document/sonata")
                    await until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
                    seen = await page.evaluate(
                        "document.querySelector('.stage').clientHeight / document.querySelector('.sheet').clientHeight"
                    )
                    assert seen > 0.6  # most of a page is seen at once
                await page.close()
            assert shown.problems == []

    run(test())


def test_everything_has_a_name_and_is_reached_by_keys(library: Path) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await asked(shown, shown.take)
            unnamed = await page.evaluate(
                """[...document.querySelectorAll('button, a, input, [role=slider], [role=group], section')]
                .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length
                || e.querySelector?.('img[alt]'))).map(e => e.outerHTML)"""
            )
            assert unnamed == []
            assert await page.evaluate("[...document.images].every(image => image.hasAttribute('alt'))")
            assert await page.locator("h1, h2").count() >= 1
            reached = set()
            for _ in range(25):
                await page.keyboard.press("Tab")
                reached.add(await page.evaluate("document.activeElement.className || document.activeElement.id"))
            assert {"stage", "wave", "play primary", "file"} <= {
                name.replace("visually-hidden", "file") for name in reached
            }
            await page.evaluate("document.activeElement.blur()")
            await page.keyboard.press(" ")
            await until(page, "!document.querySelector('audio').paused")
            assert shown.problems == []

    run(test())


def test_a_token_is_asked_for_once(library: Path) -> None:
    async def test() -> None:
        async with browsing(library, open_reads=False) as shown:
            page = await shown.open()
            await page.fill("#token input", TOKEN)
            await page.get_by_role("button", name="Continue").click()
            await page.set_input_files("#file", str(shown.take))
            await page.wait_for_selector(".verdict h2")
            await until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
            other = await shown.open("/page/evening.html")
            await other.set_input_files("#file", str(shown.take))
            await other.fill("#token input", TOKEN)
            await other.get_by_role("button", name="Continue").click()
            await other.wait_for_selector(".ribbon button")
            assert await other.locator("dialog").count() == 0

    run(test())


@pytest.mark.parametrize("scheme", [0, 1])
def test_texts_stand_out_from_what_is_behind_them(scheme: int) -> None:
    """Contrasts of WCAG AA, 4.5 for texts and 3 for signs, of the colours for light (0) and for dark screens (1)."""
    blocks = re.findall(r":root \{([^}]*--paper[^}]*)\}", assets()["/page/style.css"].content.decode())
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))
    texts = [(text, ground) for text in ("ink", "quiet", "accent") for ground in ("paper", "raised")]
    texts += [("ink", "mark-soft"), ("ink", "accent-soft"), ("accent", "accent-soft"), ("on-accent", "accent")]
    texts += [("quiet", "accent-soft"), ("bad", "paper")]
    assert {
        pair: contrast(*(colours[name] for name in pair))
        for pair in texts
        if contrast(*(colours[name] for name in pair)) < 4.5
    } == {}
    for sign in ("cursor", "mark", "accent"):
        assert contrast(colours[sign], colours["raised"]) >= 3


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
