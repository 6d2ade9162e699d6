"""Manifests as sources: a server on the loopback has the images."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from engine.collection import Collection
from engine.embedding import documents
from fake_encoder import FakeEncoder
from indexer.errors import IIIFError
from indexer.iiif import Fetcher, FetchLimits, fetched, is_manifest
from indexer.ingest import add
from media import draw_page
from web_host import Page, WebHost, web_host

FETCHER = Fetcher(limits=FetchLimits(silence_s=5, file_s=20))


def picture(seed: int) -> Page:
    return Page(body=cv2.imencode(".png", draw_page(seed, 1))[1].tobytes(), type="image/png")


def manifest(host: WebHost, *names: str) -> str:
    canvases = [
        {
            "type": "Canvas",
            "items": [{"items": [{"motivation": "painting", "body": {"id": host.at(f"/{name}"), "type": "Image"}}]}],
        }
        for name in names
    ]
    context = "http://iiif.io/api/presentation/3/context.json"
    fields = {"@context": context, "id": "https://x/m", "type": "Manifest", "label": {"none": ["Étude: op. 10/3"]}}
    return json.dumps(fields | {"items": canvases})


@pytest.fixture
def host() -> Iterator[WebHost]:
    with web_host() as running:
        for seed, name in enumerate(("one", "two", "three")):
            running.pages[f"/{name}"] = picture(seed)
        running.pages["/m"] = Page(body=manifest(running, "one", "two").encode())
        yield running


def test_a_manifest_becomes_a_folder_of_pages_that_is_added(host: WebHost, tmp_path: Path) -> None:
    source = fetched(host.at("/m"), tmp_path / "images", FETCHER)
    assert (source.kind, source.title) == ("score", "Étude: op. 10/3")
    assert len(documents.page_files(source.path)) == 2
    assert source.path.name.startswith("Étude-op-10-3-")
    add(tmp_path / "music.sf", (source,), FakeEncoder)
    with Collection.open(tmp_path / "music.sf") as collection:
        (document,) = collection.documents
    assert (document.pages, document.title, document.source) == (2, source.title, str(source.path))


def test_images_that_are_there_are_not_fetched_again(host: WebHost, tmp_path: Path) -> None:
    fetched(host.at("/m"), tmp_path, FETCHER)
    fetched(host.at("/m"), tmp_path, FETCHER)
    assert host.asked == ["/m", "/one", "/two", "/m"]


def test_a_run_that_failed_goes_on_where_it_ended(host: WebHost, tmp_path: Path) -> None:
    host.pages["/two"] = Page(status=404)
    with pytest.raises(IIIFError, match=r"/two: the server answers 404"):
        fetched(host.at("/m"), tmp_path, FETCHER)
    host.pages["/two"] = picture(1)
    assert len(documents.page_files(fetched(host.at("/m"), tmp_path, FETCHER).path)) == 2
    assert host.asked.count("/one") == 1


def test_pages_that_a_manifest_does_not_name_any_more_are_gone(host: WebHost, tmp_path: Path) -> None:
    first = fetched(host.at("/m"), tmp_path, FETCHER)
    host.pages["/m"] = Page(body=manifest(host, "one", "three").encode())
    again = fetched(host.at("/m"), tmp_path, FETCHER)
    assert again.path == first.path
    assert sorted(path.name[:5] for path in again.path.iterdir()) == ["0001-", "0002-"]
    assert host.asked[-1] == "/three"


def test_a_file_trusts_no_private_address_unless_the_user_says_so(host: WebHost, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text(manifest(host, "one"), encoding="utf-8")
    with pytest.raises(IIIFError, match="private network"):
        fetched(str(file), tmp_path / "images", FETCHER)
    assert host.asked == []
    allowed = dataclasses.replace(FETCHER, private=True)
    assert len(documents.page_files(fetched(str(file), tmp_path / "images", allowed).path)) == 1


def test_what_is_no_image_is_refused(host: WebHost, tmp_path: Path) -> None:
    host.pages["/one"] = Page(body=b"<html>", type="text/html")
    with pytest.raises(IIIFError, match="expected an image, got text/html"):
        fetched(host.at("/m"), tmp_path, FETCHER)


def test_more_images_or_bytes_than_the_limits_are_refused(host: WebHost, tmp_path: Path) -> None:
    with pytest.raises(IIIFError, match="has 2 images, more than 1"):
        fetched(host.at("/m"), tmp_path, Fetcher(limits=FetchLimits(pages=1)))
    size = len(host.pages["/one"].body)  # type: ignore[union-attr]
    with pytest.raises(IIIFError, match="the images have more than"):
        fetched(host.at("/m"), tmp_path, Fetcher(limits=FetchLimits(total_bytes=size + 10)))
    assert host.asked.count("/one") == 1


def test_an_address_or_a_file_of_json_may_be_a_manifest(host: WebHost, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(manifest(host), encoding="utf-8")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    assert is_manifest("HTTPS://x/m")
    assert is_manifest(str(tmp_path / "m.json"))
    assert not is_manifest(str(tmp_path / "other.json"))
    assert not is_manifest(str(tmp_path / "none.json"))
    assert not is_manifest(str(tmp_path))
