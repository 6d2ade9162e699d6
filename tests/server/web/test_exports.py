"""Standard files over HTTP: manifests, annotations and time maps, and who else may read them."""

import asyncio
import json
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from browser import filled
from engine.alignment import choose
from engine.collection import Collection
from engine.config import Alignment
from engine.export import FORMATS, exported, material
from engine.score.facsimile import picture_size
from fake_encoder import fake_loader
from http_client import Web, serving_web
from indexer import ingest
from indexer.sources import discover
from media import write_page
from running_server import serving_process
from server import exporting
from server.config import WebSettings
from server.errors import AddressError

MANIFEST = "/documents/sonata/manifest.json"
WITH_SOUND = f"{MANIFEST}?recording=sonata_played"
VIEWER = "https://viewer.example"


def run(test: Any) -> Any:
    return asyncio.run(test)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("library"))


def addresses(resource: Any) -> list[str]:
    """Every id that a manifest gives to what can be loaded: itself, images and sound."""
    if isinstance(resource, list):
        return [address for one in resource for address in addresses(one)]
    if not isinstance(resource, dict):
        return []
    own = [resource["id"].partition("#")[0]] if resource.get("type") in ("Manifest", "Image", "Sound") else []
    return own + [address for one in resource.values() for address in addresses(one)]


def test_a_manifest_is_served_and_all_that_it_names(library: Path) -> None:
    async def test() -> None:
        async with serving_web(library / "c") as web:
            root = f"http://{web.address}"
            reply = await web.get(WITH_SOUND)
            assert reply.status == 200
            assert reply.headers["content-type"].startswith("application/ld+json;profile=")
            found = reply.json
            assert found["id"] == root + WITH_SOUND
            assert len(found["items"]) == 2
            seconds = [one["body"]["id"] for one in found["items"][0]["annotations"][1]["items"]]
            assert len(seconds) == 3
            assert all("#t=" in one for one in seconds)
            named = set(addresses(found))
            assert len(named) == 6  # itself, two pages in two sizes, the sound
            for address in named:
                assert address.startswith(root)
                assert (await web.get(address.removeprefix(root))).status == 200, address

    run(test())


def test_a_picture_has_the_size_that_the_manifest_says(library: Path) -> None:
    async def test() -> None:
        async with serving_web(library / "c") as web:
            for image in (await web.get(MANIFEST)).json["items"]:
                picture = image["items"][0]["items"][0]["body"]
                shown = await web.get(picture["id"].removeprefix(f"http://{web.address}"))
                assert picture_size(shown.body) == (picture["width"], picture["height"])

    run(test())


def test_every_format_is_what_the_command_line_writes_of_a_collection_without_files(library: Path) -> None:
    """The systems alone: the server reads no pages, so its time maps have no measures."""

    async def test() -> None:
        async with serving_web(library / "c") as web:
            base = f"http://{web.address}"
            with Collection.open(library / "c") as collection:
                made_of = material(
                    collection, "sonata", "sonata_played", choose("cpu"), Alignment(), sized=True, base=base
                )
            assert made_of.pair is not None
            for format, needs in FORMATS.items():
                reply = await web.get(f"/documents/sonata/export/{format}?recording=sonata_played")
                assert (reply.status, reply.headers["content-type"]) == (200, needs.type)
                whole = exported(made_of, format)
                assert len(reply.body) < len(whole)  # the command line has measures, too
                if "json" in needs.type:
                    assert set(reply.json) == set(json.loads(whole))
                elif "xml" in needs.type:
                    assert ET.fromstring(reply.body).tag == ET.fromstring(whole).tag
                else:
                    assert b"system 6" in reply.body or reply.body.startswith(b"start_s,")

    run(test())


def test_what_cannot_be_exported_is_refused(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving_web(library / "c") as web:
            for path, status in (
                ("/documents/nobody/manifest.json", 404),
                (f"{MANIFEST}?recording=nobody", 404),
                (f"{MANIFEST}?recording=waltz", 400),
                ("/documents/sonata_played/manifest.json", 400),
                ("/documents/sonata/export/jams", 400),
                ("/documents/sonata/export/midi", 400),
                (f"{MANIFEST}?base=http://evil.example", 400),
                (f"{MANIFEST}?format=jams", 400),
            ):
                assert (await web.get(path)).status == status, path
            monkeypatch.setattr(exporting, "MAX_CELLS", 100)
            assert "too long" in (await web.get(WITH_SOUND)).json["error"]["message"]
            assert (await web.get(MANIFEST)).status == 200

    run(test())


def test_a_manifest_needs_the_token_like_any_question(library: Path) -> None:
    async def test() -> None:
        settings = WebSettings(viewers=("*",))
        async with serving_web(library / "c", open_reads=False, settings=settings) as web:
            reply = await web.get(MANIFEST, headers={"Origin": VIEWER})
            assert (reply.status, reply.code) == (401, "unauthorised")
            asked = {"Origin": VIEWER, "Access-Control-Request-Headers": "authorization"}
            assert "access-control-allow-headers" not in (await web.ask("OPTIONS", MANIFEST, headers=asked)).headers

    run(test())


def test_the_addresses_are_those_of_the_proxy(library: Path) -> None:
    async def test() -> None:
        settings = WebSettings(public_url="https://music.example/scores/")
        async with serving_web(library / "c", settings=settings) as web:
            proxied = {"Host": "music.example", "Origin": "https://music.example"}
            found = await web.get(MANIFEST, headers=proxied)
            assert found.json["id"] == f"https://music.example/scores{MANIFEST}"
            inner = {"Origin": "https://music.example"}  # a proxy that names the server by its inner address
            assert (await web.get("/documents", headers=inner)).status == 200
            assert (await web.get(MANIFEST, headers={"Origin": "https://other.example"})).status == 403

    run(test())


def test_the_command_line_names_the_proxy(library: Path) -> None:
    options = ["--http-port", 0, "--public-url", "https://music.example/scores"]
    with serving_process(library / "c", *options) as process, urllib.request.urlopen(process.page + MANIFEST) as reply:
        assert json.load(reply)["id"] == f"https://music.example/scores{MANIFEST}"


@pytest.mark.parametrize(
    "settings",
    [
        WebSettings(public_url="music.example"),
        WebSettings(public_url="ftp://music.example"),
        WebSettings(public_url="https://music.example:70000"),
        WebSettings(public_url="https://[music.example"),
        WebSettings(viewers=("viewer.example",)),
        WebSettings(viewers=("https://viewer.example/mirador",)),
    ],
)
def test_settings_that_name_no_site_are_refused(tmp_path: Path, settings: WebSettings) -> None:
    async def test() -> None:
        with pytest.raises(AddressError, match=r"public_url|viewers"):
            async with serving_web(filled(tmp_path) / "c", settings=settings):
                pass

    run(test())


CROSS = {"Origin": VIEWER, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
EMBEDDED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
READ = (MANIFEST, "/documents/sonata/export/annotations?recording=sonata_played", "/documents/sonata/pages/1")
UNREAD = ("/documents", "/documents/sonata", "/info", "/", "/stats")


def test_a_viewer_that_the_settings_name_reads_manifests_and_what_they_lead_to(library: Path) -> None:
    async def test() -> None:
        async with serving_web(library / "c", settings=WebSettings(viewers=(VIEWER,))) as web:
            for path in READ:
                reply = await web.get(path, headers=CROSS)
                assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, VIEWER), path
                assert reply.headers["vary"] == "Origin"
                assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
            assert (await web.get(READ[2], headers=EMBEDDED)).status == 200
            for path in UNREAD:
                assert (await web.get(path, headers=CROSS)).status == 403, path
                assert (await web.get(path, headers=EMBEDDED)).status == 403, path
            assert (await web.ask("DELETE", "/documents/sonata", headers=CROSS)).status == 403
            other = CROSS | {"Origin": "https://evil.example"}
            assert (await web.get(MANIFEST, headers=other)).status == 403
            assert "access-control-allow-credentials" not in (await web.get(MANIFEST, headers=CROSS)).headers

    run(test())


def test_no_other_site_reads_a_manifest_unless_the_settings_say_so(library: Path) -> None:
    async def test() -> None:
        async with serving_web(library / "c") as web:
            for path in READ:
                for headers in (CROSS, EMBEDDED):
                    assert (await web.get(path, headers=headers)).status == 403, path
                assert "access-control-allow-origin" not in (await web.get(path)).headers
                assert (await web.get(path)).headers["cross-origin-resource-policy"] == "same-origin"

    run(test())


def test_what_is_kept_is_in_the_manifest_without_the_file(tmp_path: Path) -> None:
    async def test() -> None:
        page, other = write_page(tmp_path / "page.png", 1), write_page(tmp_path / "other.png", 2)
        ingest.add(tmp_path / "c", discover([page]).sources, fake_loader(), keep_media=True)
        ingest.add(tmp_path / "c", discover([other]).sources, fake_loader())
        async with serving_web(tmp_path / "c") as web:
            before = await _canvas(web, "page")
            page.unlink()
            other.unlink()
            after = await _canvas(web, "page")
            assert (after["width"], after["height"]) == (1200, 1160)
            assert before["annotations"][0]["items"] == after["annotations"][0]["items"]
            assert (await web.get("/documents/other/manifest.json")).status == 404

    run(test())


async def _canvas(web: Web, id: str) -> dict[str, Any]:
    (canvas,) = (await web.get(f"/documents/{id}/manifest.json")).json["items"]
    assert isinstance(canvas, dict)
    return canvas
