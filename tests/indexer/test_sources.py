import os
import socket
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from indexer.errors import ManifestError
from indexer.sources import Discovery, Source, discover


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """takes/{b,a}.flac, scans/one/{p1,p2}.png, scans/two.pdf, and files that are neither."""
    for name in ("takes/b.flac", "takes/a.flac", "scans/one/p1.png", "scans/one/p2.png", "scans/two.pdf", "readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "scans" / ".thumbnails.pdf").touch()
    return tmp_path


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def names(found: Discovery) -> list[str]:
    return [source.path.name for source in found.sources]


def test_a_folder_is_walked_to_files_and_folders_of_pages(library: Path) -> None:
    found = discover([library])
    assert found.sources == (
        Source(path=library / "scans" / "one", kind="score"),
        Source(path=library / "scans" / "two.pdf", kind="score"),
        Source(path=library / "takes" / "a.flac", kind="recording"),
        Source(path=library / "takes" / "b.flac", kind="recording"),
    )
    assert found.failed == {}


def test_a_folder_of_pages_given_outright_is_one_score(library: Path) -> None:
    assert names(discover([library / "scans" / "one"])) == ["one"]


def test_a_kind_asked_for_picks_from_folders_and_is_believed_of_files(library: Path) -> None:
    found = discover([library, library / "readme.txt"], kind="recording")
    assert names(found) == ["a.flac", "b.flac", "readme.txt"]


def test_a_path_given_twice_is_one_source(library: Path) -> None:
    assert len(discover([library / "takes", library / "takes" / "a.flac"]).sources) == 2


def test_what_is_not_there_or_of_no_kind_fails_alone(library: Path) -> None:
    empty = library / "empty"
    empty.mkdir()
    gone, text = library / "gone.pdf", library / "readme.txt"
    found = discover([gone, text, empty, library / "takes"])
    assert len(found.sources) == 2
    assert found.failed[gone] == "no such file or folder"
    assert "neither a score nor a recording" in found.failed[text]
    assert found.failed[empty] == "a folder without scores and recordings"


def test_links_that_lead_in_circles_are_walked_once(library: Path) -> None:
    (library / "takes" / "again").symlink_to(library)
    assert len(discover([library]).sources) == 4


def test_a_manifest_names_what_it_lists_by_paths_relative_to_its_folder(library: Path) -> None:
    path = manifest(library, "path,id,title,composer,opus", "scans/one,k331,Sonata,Mozart,11", "takes/a.flac,,,Mozart,")
    sources = {source.path.name: source for source in discover([library], manifest=path).sources}
    assert sources["one"] == Source(
        path=library / "scans" / "one", id="k331", kind="score", title="Sonata", composer="Mozart"
    )
    assert sources["a.flac"] == Source(path=library / "takes" / "a.flac", kind="recording", composer="Mozart")
    assert sources["b.flac"].composer == ""


def test_a_manifest_without_paths_adds_all_it_lists(library: Path) -> None:
    path = manifest(library, "path,kind", "takes/b.flac,", "readme.txt,score", "gone.pdf,")
    found = discover([], manifest=path)
    assert [(source.path.name, source.kind) for source in found.sources] == [
        ("b.flac", "recording"),
        ("readme.txt", "score"),
    ]
    assert list(found.failed.values()) == ["no such file or folder"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,id", "a,b"], r"expected the columns path,id,.*got \['file', 'id'\]"),
        (["path,kind", "a.pdf,sheet"], "line 2: expected kind score, recording or auto, got 'sheet'"),
        (["path,id", ",b"], "line 2: no path"),
        (["path,title,work", "a.pdf,A,B", "b.pdf,Sonata, Op. 3,B"], "line 3: expected 3 fields, got 4; quote texts"),
        (["path,id", "a.pdf,one", "b.pdf,two", "./a.pdf,three"], r"line 4: \./a\.pdf is listed in line 2 already"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    path = manifest(tmp_path, *lines)
    with pytest.raises(ManifestError, match=message):
        discover([], manifest=path)


def test_rows_without_any_text_and_rows_listed_twice_refuse_nothing(library: Path) -> None:
    rows = ("takes/a.flac,first", ",", "", "  ,  ", "takes/b.flac,second", "takes/a.flac,first")
    path = manifest(library, "path,id", *rows)
    assert [source.id for source in discover([], manifest=path).sources] == ["first", "second"]


def test_ids_and_paths_of_a_manifest_may_compose_accents_otherwise(library: Path) -> None:
    (library / "takes" / "a.flac").rename(library / "takes" / unicodedata.normalize("NFD", "étude.flac"))
    path = manifest(library, "path,id", f"takes/étude.flac,{unicodedata.normalize('NFD', 'Étude')}")
    (source,) = discover([], manifest=path).sources
    assert source.path.exists()
    assert source.id == unicodedata.normalize("NFC", "Étude")


def test_pipes_sockets_and_links_that_lead_nowhere_are_passed_over_with_a_warning(
    library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    takes = library / "takes"
    os.mkfifo(takes / "pipe.wav")
    (takes / "self.mp3").symlink_to("self.mp3")
    (takes / "gone.mp3").symlink_to("nothing.mp3")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(takes / "socket.wav"))
        found = discover([takes])
    assert names(found) == ["a.flac", "b.flac"]
    assert found.failed == {}
    for told in (
        f"(a pipe, socket or device, which is never opened): {takes / 'pipe.wav'}, {takes / 'socket.wav'}",
        f"(a link that leads to itself): {takes / 'self.mp3'}",
        f"(a link that leads nowhere): {takes / 'gone.mp3'}",
    ):
        assert told in caplog.text


@pytest.mark.parametrize("name", ["pipe.wav", "pipe.pdf", "self.mp3", "/dev/zero"])
def test_what_is_no_file_fails_alone_if_it_is_named(library: Path, name: str) -> None:
    os.mkfifo(library / "pipe.wav")
    os.mkfifo(library / "pipe.pdf")
    (library / "self.mp3").symlink_to("self.mp3")
    found = discover([library / name, library / "takes"], kind="recording")
    assert len(found.sources) == 2
    (cause,) = found.failed.values()
    assert "never opened" in cause or "leads to itself" in cause


def test_a_file_that_links_lead_to_is_added_under_its_own_name(library: Path) -> None:
    (library / "0 alias").symlink_to(library / "takes")
    (library / "takes" / "0.flac").symlink_to(library / "takes" / "b.flac")
    assert {source.path for source in discover([library / "takes"]).sources} == {
        library / "takes" / "a.flac",
        library / "takes" / "b.flac",
    }
    assert all(source.path.parent.name != "0 alias" for source in discover([library]).sources)


@pytest.mark.parametrize(
    "name",
    [
        *("cover.jpg", "Folder.JPG", "AlbumArt_{B5020207-474E-4720-8B5E-5E0D8E5E8C1E}_Large.jpg", "AlbumArtSmall.jpg"),
        *("cover (2).png", "cover-front.webp", "Sonata - Cover.jpg", "x_thumb.jpg", "favicon.png"),
    ],
)
def test_covers_beside_recordings_are_counted_as_pictures(library: Path, name: str) -> None:
    Image.new("L", (500, 500), 99).save(library / "takes" / name)
    found = discover([library / "takes"])
    assert names(found) == ["a.flac", "b.flac"]
    assert found.ignored == {"picture": 1}


@pytest.mark.parametrize(
    "litter", ["@eaDir/p1.png", "__MACOSX/._p1.png", "._p1.png", ".DS_Store", "Thumbs.db", ".thumbnails/p1.png"]
)
def test_litter_of_systems_is_not_seen(library: Path, litter: str) -> None:
    path = library / "scans" / "one" / litter
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"litter")
    found = discover([library / "scans"])
    assert names(found) == ["one", "two.pdf"]
    assert (found.failed, found.ignored) == ({}, {})


def test_icons_and_thumbnails_do_not_keep_a_folder_from_being_a_score(library: Path) -> None:
    folder = library / "scans" / "one"
    for name, side in (("p1.png", 1200), ("p2.png", 1300), ("icon.png", 12), ("p1 small.png", 320)):
        Image.new("L", (side * 3 // 4, side), 255).save(folder / name)
    found = discover([folder])
    assert names(found) == ["one"]
    assert found.ignored == {"picture": 2}


def test_formats_that_are_not_read_are_named_and_other_files_counted(
    library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("scans/one/p3.djvu", "scans/one/notes.txt", "takes/a.gp5", "takes/a.nfo", "takes/b.nfo"):
        (library / name).touch()
    found = discover([library / "takes", library / "scans"], manifest=manifest(library / "takes", "path"))
    assert names(found) == ["a.flac", "b.flac", "one", "two.pdf"]
    assert found.ignored == {".nfo": 2, ".txt": 1}
    files = f"{library / 'takes' / 'a.gp5'}, {library / 'scans' / 'one' / 'p3.djvu'}"
    assert f"passed over (a format that is not read): {files}" in caplog.text


def test_symbols_beside_pages_are_documents_of_their_own_and_pages_stay_together(library: Path) -> None:
    for number in (1, 2):
        Image.new("L", (900, 1200), 255).save(library / "scans" / "one" / f"p{number}.png")
    (library / "scans" / "one" / "played.mid").touch()
    (library / "scans" / "one" / "letter.xml").write_text("<TEI/>")
    (library / "takes" / "a.mxl").touch()
    Image.new("L", (900, 1200), 255).save(library / "takes" / "page.png")
    found = {source.path.name: source for source in discover([library]).sources}
    assert {name: source.kind for name, source in found.items()} == {
        "one": "score",
        "played.mid": "recording",
        "two.pdf": "score",
        "a.flac": "recording",
        "b.flac": "recording",
        "a.mxl": "score",
        "page.png": "score",
    }
    assert [name for name, source in found.items() if source.presumed] == ["page.png"]


def test_a_picture_that_a_manifest_lists_is_a_score(library: Path) -> None:
    Image.new("L", (500, 500), 99).save(library / "takes" / "cover.jpg")
    found = discover([library / "takes"], manifest=manifest(library, "path,title", "takes/cover.jpg,Cover"))
    assert names(found) == ["a.flac", "b.flac", "cover.jpg"]
    assert found.ignored == {}
