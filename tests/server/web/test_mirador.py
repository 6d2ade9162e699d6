"""A served manifest in a real Mirador, which is another web site: its pages, and the systems drawn on them.

`npm install mirador@4` in the root of the repository brings Mirador. `MIRADOR=FILE` names its mirador.min.js elsewhere.
"""

import asyncio
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from browser import TITLE, browsing, filled, until
from server.config import WebSettings
from web_host import Page, web_host

SCRIPT = Path(os.environ.get("MIRADOR", Path(__file__).parents[3] / "node_modules/mirador/dist/mirador.min.js"))
MARKUP = b"""<!doctype html><meta charset="utf-8"><title>Mirador</title>
<style>html, body, #viewer { margin: 0; height: 100%; }</style><div id="viewer"></div>
<script src="/mirador.js"></script><script>
Mirador.viewer({
  id: "viewer",
  windows: [{ manifestId: new URLSearchParams(location.search).get("manifest") }],
  window: { sideBarOpen: true, defaultSideBarPanel: "annotations", highlightAllAnnotations: true },
  workspaceControlPanel: { enabled: false },
});
</script>"""
PAINTED = """[...document.querySelectorAll("canvas")].map((canvas) => {
  try {
    const levels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return levels.reduce((sum, level, i) => sum + (i % 4 === 3 && level > 0), 0);
  } catch {
    return 0;  // the canvas of a picture, which this web site may show and not read
  }
}).reduce((sum, painted) => sum + painted, 0)"""
"""The number of pixels that Mirador has painted over the picture."""


def run(test: Any) -> Any:
    return asyncio.run(test)


def test_mirador_shows_the_pages_with_their_systems(tmp_path: Path) -> None:
    async def test() -> None:
        if not SCRIPT.is_file():
            pytest.skip("Mirador is not installed")
        with web_host() as host:
            settings = WebSettings(viewers=(host.at(""),))
            async with browsing(filled(tmp_path), settings=settings) as shown:
                manifest = f"{shown.root}/documents/sonata/manifest.json?recording=sonata_played"
                path = f"/?manifest={quote(manifest, safe='')}"
                host.pages |= {path: Page(body=MARKUP, type="text/html")}
                host.pages |= {"/mirador.js": Page(body=SCRIPT.read_bytes(), type="text/javascript")}
                page = await shown.context.new_page()
                failed: list[str] = []
                page.on("requestfailed", lambda request: failed.append(request.url))
                await page.goto(host.at(path))
                await until(page, "document.body.innerText.includes('Showing 3 annotations')")
                await until(page, f"{PAINTED} > 1000")
                text = await page.inner_text("body")
                assert TITLE in text
                assert all(f"system {number}" in text for number in (1, 2, 3))
                assert failed == []

    run(test())
