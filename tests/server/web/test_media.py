"""Pictures and sound of documents: their own, as long as they are there, and nothing else of this machine."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from collection_samples import document
from engine.collection import Collection, CollectionWriter
from engine.config import MediaLimits
from engine.embedding import documents
from engine.errors import PageError
from engine.export.material import sound_type
from engine.media import SOUND_TYPES
from engine.score import numbered_pages
from engine.score.facsimile import encoded, page_picture, page_sizes, picture_size
from engine.values import Document
from fake_encoder import FakeEncoder, fake_loader
from http_client import Web, serving_web
from indexer import ingest
from indexer.sources import discover
from media import draw_page, write_page, write_recording
from running_server import NETWORK, TOKEN, score
from server.browsing import ListDocuments, PlaySound
from server.catalogue import Catalogue
from server.config import Limits
from server.errors import DocumentMissing
from server.media import DocumentMedia


def run(test: Any) -> Any:
    return asyncio.run(test)


def added(collection: Path, *sources: Path, **fields: Any) -> Path:
    """A collection with these files, as `scorefind add` makes it."""
    encoder = FakeEncoder()
    with CollectionWriter(collection, NETWORK) as writer:
        for source in sources:
            kind = documents.kind_of(source)
            medium = documents.read(source, kind, encoder.identity.front_end)
            (sequence,) = documents.sequences([medium], encoder)
            made = Document(
                id=source.stem,
                kind=kind,
                source=documents.source_of(source),
                content_hash=documents.content_hash(source),
                **fields,
            )
            writer.put(documents.described(made, medium, sequence), sequence)
        writer.commit()
    return collection


async def picture(web: Web, path: str) -> Image.Image:
    reply = await web.get(path)
    assert (reply.status, reply.headers["content-type"]) == (200, "image/webp"), reply.body
    return Image.open(io.BytesIO(reply.body))


def test_a_page_is_shown_as_wide_as_is_wanted_and_turned(tmp_path: Path) -> None:
    async def test() -> None:
        collection = added(tmp_path / "c", write_page(tmp_path / "page.png", 1))
        async with serving_web(collection) as web:
            shown = await picture(web, "/documents/page/pages/1?width=600")
            assert shown.size == (600, 580)
            assert (await picture(web, "/documents/page/pages/1?width=600&turn=90")).size == (600, 621)
            for path, status in (("2", 404), ("0", 400), ("x", 400), ("1?turn=45", 400), ("1?width=99999", 400)):
                assert (await web.get(f"/documents/page/pages/{path}")).status == status, path

    run(test())


def test_the_sound_is_the_file_whole_or_in_parts(tmp_path: Path) -> None:
    async def test() -> None:
        take = write_recording(tmp_path / "take.wav", 1, 40)
        whole = take.read_bytes()
        assert len(whole) > 1 << 20  # more than one part
        async with serving_web(added(tmp_path / "c", take)) as web:
            reply = await web.get("/documents/take/sound")
            assert (reply.status, reply.headers["content-type"], reply.body) == (200, "audio/wav", whole)
            for asked, first, last in (
                ("bytes=10-19", 10, 19),
                ("Bytes=1000-", 1000, len(whole) - 1),
                ("bytes=-5", len(whole) - 5, len(whole) - 1),
            ):
                part = await web.get("/documents/take/sound", headers={"Range": asked})
                assert (part.status, part.body) == (206, whole[first : last + 1])
                assert part.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
            beyond = await web.get("/documents/take/sound", headers={"Range": f"bytes={len(whole)}-"})
            assert beyond.status == 416

    run(test())


@pytest.mark.parametrize("suffix", [*SOUND_TYPES, ".aiff"])
def test_the_sound_has_the_type_that_exports_name(tmp_path: Path, suffix: str) -> None:
    take = tmp_path / f"take{suffix.upper()}"
    take.write_bytes(b"sound")
    heard = Document(id="take", kind="recording", source=str(take), content_hash=documents.content_hash(take))
    media, wanted = DocumentMedia(Limits().query_media, 1 << 30), PlaySound(id="take", start=0, size=9)
    if suffix == ".aiff":
        with pytest.raises(DocumentMissing, match="a format that browsers play"):
            media.sound(heard, wanted, None)
    else:
        assert media.sound(heard, wanted, None).type == sound_type(heard) == SOUND_TYPES[suffix]
    assert media.sound(heard, wanted, b"kept").type == sound_type(replace(heard, media="kept"))


@pytest.mark.parametrize("header", ["bytes=abc", "items=0-5", "bytes=-", "bytes=0-1,4-5", ""])
def test_a_header_that_names_no_range_is_ignored(tmp_path: Path, header: str) -> None:
    async def test() -> None:
        take = write_recording(tmp_path / "take.wav", 1)
        async with serving_web(added(tmp_path / "c", take)) as web:
            reply = await web.get("/documents/take/sound", headers={"Range": header})
            assert (reply.status, reply.body) == (200, take.read_bytes())
            assert "content-range" not in reply.headers

    run(test())


def test_a_file_that_has_changed_or_gone_is_not_shown(tmp_path: Path) -> None:
    async def test() -> None:
        page, take = write_page(tmp_path / "page.png", 1), write_recording(tmp_path / "take.wav", 1)
        async with serving_web(added(tmp_path / "c", page, take)) as web:
            assert (await web.get("/documents/page")).json["media"]
            write_page(page, 2)
            take.unlink()
            for path in ("/documents/page/pages/1", "/documents/take/sound"):
                assert (await web.get(path)).status == 404, path
            assert not (await web.get("/documents/take")).json["media"]

    run(test())


def test_a_collection_that_names_other_files_shows_none_of_them(tmp_path: Path) -> None:
    """A stored path is not enough: the file has to have the content of the document."""

    async def test() -> None:
        secret = write_page(tmp_path / "secret.png", 9)
        with CollectionWriter(tmp_path / "c", NETWORK) as writer:
            for id, source in (("passwd", "/etc/passwd"), ("picture", str(secret)), ("relative", "secret.png")):
                stored = replace(document(id), source=source, content_hash="0" * 64, pages=1)
                writer.put(stored, score(1))
            writer.commit()
        async with serving_web(tmp_path / "c") as web:
            for id in ("passwd", "picture", "relative"):
                for path in ("pages/1", "sound"):
                    reply = await web.get(f"/documents/{id}/{path}")
                    assert (reply.status, reply.code) == (404, "not_found")
            uploaded = await web.form("/documents", {"document": "up"}, secret, token=TOKEN)
            assert uploaded.status == 200
            assert (await web.get("/documents/up/pages/1")).code == "not_found"

    run(test())


def test_a_document_is_a_query_of_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        collection = added(tmp_path / "c", *(write_page(tmp_path / f"p{n}.png", n) for n in range(3)))
        async with serving_web(collection) as web:
            reply = await web.post("/query", {"document": "p1", "kind": "score", "among": "score", "path": True})
            best = reply.json["matches"][0]
            assert (reply.json["query"], best["id"], best["query_systems"]) == ("p1", "p1", [1, 2, 3])
            assert "time_map" not in best  # two of a kind
            assert (await web.post("/query", {"document": "p9", "kind": "score"})).code == "not_found"
            assert (await web.post("/query", {"document": "p1", "kind": "recording"})).code == "bad_request"

    run(test())


def test_pages_are_those_that_detection_counts(tmp_path: Path) -> None:
    """In a folder with a PDF's worth of formats: each picture shows the page of that number."""
    folder = tmp_path / "scan"
    folder.mkdir()
    drawn = [Image.fromarray(draw_page(seed)) for seed in range(5)]
    drawn[0].save(folder / "1.png")
    drawn[1].save(folder / "2.tif", save_all=True, append_images=[drawn[2]])
    (folder / "3.png").write_bytes(b"no image")
    drawn[3].save(folder / "4.jpg")
    drawn[4].save(tmp_path / "book.pdf", save_all=True, append_images=drawn[:2])
    for path, missing in ((folder, 6), (tmp_path / "book.pdf", 4)):
        for number, page in numbered_pages(path):
            shown = np.asarray(Image.open(io.BytesIO(page_picture(path, number, width=4000))).convert("L"))
            assert shown.shape == page.shape
            assert np.abs(shown.astype(int) - page).mean() < 5
        with pytest.raises(PageError, match=f"no page {missing}"):
            page_picture(path, missing)
    with pytest.raises(PageError, match="not a PDF or an image"):
        page_picture(folder, 4)


def test_sizes_of_pages_are_those_of_the_pages_that_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    drawn = [Image.fromarray(draw_page(seed)) for seed in range(3)]
    on_side = Image.Exif()
    on_side[ExifTags.Base.Orientation] = 6
    drawn[0].save(folder / "1.jpg", exif=on_side)
    drawn[1].resize((4000, 5000)).save(folder / "2.png")
    drawn[1].save(folder / "3.tif", save_all=True, append_images=[drawn[2]])
    (folder / "4.png").write_bytes(b"no image")
    drawn[2].save(folder / "5.webp")
    drawn[0].save(tmp_path / "book.pdf", save_all=True, append_images=drawn[1:], resolution=300)
    for path, count in ((folder, 5), (tmp_path / "book.pdf", 3)):
        read = {number: (page.shape[1], page.shape[0]) for number, page in numbered_pages(path)}
        assert page_sizes(path) == read
        assert len(read) == count
        with pytest.raises(PageError, match="more than 2 pages"):
            page_sizes(path, MediaLimits(pages=2))
    assert page_sizes(folder)[1] == draw_page(0).shape  # on its side


def test_the_size_of_a_picture_is_in_its_header() -> None:
    assert picture_size(encoded(draw_page(0), width=600)) == (600, 580)
    with pytest.raises(PageError, match="lossy WebP"):
        picture_size(b"RIFF" + bytes(40))


def test_summaries_are_the_documents_without_their_systems(tmp_path: Path) -> None:
    collection = added(tmp_path / "c", write_page(tmp_path / "a.png", 1), composer="Dvořák", title="T", work="Op. 1")
    with Collection.open(collection) as opened:
        assert opened.summaries() == tuple(replace(document, systems=()) for document in opened.documents)


def test_documents_are_found_by_any_words_in_any_case_and_without_accents(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        for number, (composer, title) in enumerate((("Dvořák", "Waltz"), ("Brahms", "Walzer"), ("Brahms", "Ballade"))):
            stored = replace(document(f"s{number}", content_hash=str(number)), composer=composer, title=title)
            writer.put(stored, score(number))
        writer.commit()
    with Collection.open(tmp_path / "c") as opened:
        catalogue = Catalogue(opened)

    def found(search: str, skip: int = 0, most: int = 10, kind: Any = None) -> tuple[int, list[str]]:
        listed = catalogue.listed(ListDocuments(search=search, kind=kind, skip=skip, most=most))
        return listed["total"], [one["id"] for one in listed["documents"]]

    assert found("") == (3, ["s2", "s1", "s0"])  # by composer and title
    assert found("dvorak WAL") == (1, ["s0"])
    assert found("brahms") == (2, ["s2", "s1"])
    assert found("", skip=1, most=1) == (3, ["s1"])
    assert found("", kind="recording") == (0, [])
    assert found("verdi") == (0, [])


def test_an_upload_is_kept_where_the_collection_keeps_media(tmp_path: Path) -> None:
    async def test() -> None:
        page, take = write_page(tmp_path / "page.png", 1), write_recording(tmp_path / "take.wav", 1, 20)
        ingest.add(tmp_path / "c", discover([page]).sources, fake_loader(), keep_media=True)
        async with serving_web(tmp_path / "c") as web:
            for id, file in (("heard", take), ("seen", write_page(tmp_path / "other.png", 2))):
                assert (await web.form("/documents", {"document": id}, file, token=TOKEN)).status == 200
                assert (await web.get(f"/documents/{id}")).json["media"]
            assert (await picture(web, "/documents/seen/pages/1")).size == (1200, 1160)
            part = await web.get("/documents/heard/sound", headers={"Range": "bytes=0-99"})
            assert (part.status, part.headers["content-type"], len(part.body)) == (206, "audio/mpeg", 100)
            again = await web.form("/documents", {"document": "heard"}, take, token=TOKEN)
            assert again.json["status"] == "unchanged"

    run(test())


def test_a_page_that_is_sent_is_drawn(tmp_path: Path) -> None:
    async def test() -> None:
        drawn = [Image.fromarray(draw_page(seed)) for seed in range(2)]
        book, take = tmp_path / "book.tif", write_recording(tmp_path / "take.wav", 1)
        drawn[0].save(book, save_all=True, append_images=drawn[1:])
        async with serving_web(added(tmp_path / "c", write_page(tmp_path / "page.png", 1))) as web:
            reply = await web.form("/pages", {"page": "2", "width": "600", "turn": "270"}, book)
            assert (reply.status, reply.headers["content-type"]) == (200, "image/webp")
            shown = np.asarray(Image.open(io.BytesIO(reply.body)).convert("L").rotate(-90, expand=True))
            wanted = np.asarray(drawn[1].resize(shown.shape[::-1]))
            assert np.abs(shown.astype(int) - wanted).mean() < 8
            for fields, file, code in (
                ({"page": "3"}, book, "media"),
                ({"page": "1"}, take, "bad_request"),
                ({"page": "0"}, book, "bad_request"),
                ({}, book, "bad_request"),
            ):
                assert (await web.form("/pages", fields, file)).code == code, fields

    run(test())


def test_what_is_kept_is_shown_without_the_files(tmp_path: Path) -> None:
    async def test() -> None:
        page, take = write_page(tmp_path / "page.png", 1), write_recording(tmp_path / "take.wav", 1, 20)
        ingest.add(tmp_path / "c", discover([page, take]).sources, fake_loader(), keep_media=True)
        page.unlink()
        take.unlink()
        async with serving_web(tmp_path / "c") as web:
            assert (await picture(web, "/documents/page/pages/1?width=1800")).size == (1200, 1160)
            assert (await picture(web, "/documents/page/pages/1?width=600&turn=90")).size == (600, 621)
            part = await web.get("/documents/take/sound", headers={"Range": "bytes=0-99"})
            assert (part.status, part.headers["content-type"], len(part.body)) == (206, "audio/mpeg", 100)
            assert (await web.get("/documents/take")).json["media"]

    run(test())
