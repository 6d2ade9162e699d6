"""The page of an evening in a real Chromium: a ribbon of pieces that are heard and seen at a click."""

import asyncio
import json
from pathlib import Path

import numpy as np
import soundfile

from browser import SECONDS, TITLE, browsing, filled, until

RATE = 22050


def evening(folder: Path) -> Path:
    """Ten seconds of noise, the sonata, ten seconds of noise, and the waltz."""
    rng = np.random.default_rng(0)
    parts = []
    for name in ("sonata", "waltz"):
        parts += [0.1 * rng.standard_normal(10 * RATE), soundfile.read(folder / f"{name}_played.wav")[0]]
    soundfile.write(folder / "evening.wav", np.concatenate(parts), RATE)
    return folder / "evening.wav"


def test_an_evening_is_a_ribbon_whose_pieces_are_heard_and_seen_at_a_click(tmp_path: Path) -> None:
    file = evening(filled(tmp_path))

    async def test() -> None:
        async with browsing(tmp_path) as shown:
            page = await shown.open("/page/evening.html")
            await page.set_input_files("#file", str(file))
            await page.wait_for_selector(".ribbon button")
            assert await page.locator(".ribbon button").all_inner_texts() == [TITLE, "Waltz"]  # markup in it is text
            assert await page.inner_text("h2") == "2 pieces in 2:28"
            gaps = await page.locator(".programme .gone").all_inner_texts()
            assert [gap.partition(" ")[0] for gap in gaps] == ["0:00", "1:14"]  # where the sound of music ends
            await page.click(".ribbon button:nth-of-type(2)")
            await until(page, f"document.querySelector('audio').currentTime >= {SECONDS + 15}")
            await until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
            assert await page.locator(".ribbon button[aria-pressed=true]").inner_text() == "Waltz"
            assert await page.locator(".system.matched").count() > 0
            await page.evaluate("document.querySelector('audio').currentTime = 20")
            await until(
                page, "document.querySelector('.ribbon button[aria-pressed=true]').innerText.includes('Sonata')"
            )
            assert shown.problems == []

    asyncio.run(asyncio.wait_for(test(), 90))


def test_what_was_not_searched_is_said(tmp_path: Path) -> None:
    file = evening(filled(tmp_path))
    lost = [{"name": "shard-001", "documents": {"score": 7, "recording": 1200}}]

    async def test() -> None:
        async with browsing(tmp_path) as shown:
            page = await shown.open("/page/evening.html")
            answer = {"passages": [], "duration_s": 148.0, "unseen": lost}
            await page.route("**/segment", lambda route: route.fulfill(body=json.dumps(answer)))
            await page.set_input_files("#file", str(file))
            await page.wait_for_selector(".ribbon")
            told = await page.inner_text("h2 + .hint")
            assert told == "1,207 documents were not searched, because shard-001 did not answer."
            assert shown.problems == []

    asyncio.run(asyncio.wait_for(test(), 90))
