from pathlib import Path

import pytest

from indexer.errors import DuplicateIdError, ManifestError
from indexer.sources import Source, discover


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


def test_a_folder_is_walked_to_files_and_folders_of_pages(library: Path) -> None:
    found = discover([library])
    assert found.sources == (
        Source(path=library / "scans" / "one", id="one", kind="score"),
        Source(path=library / "scans" / "two.pdf", id="two", kind="score"),
        Source(path=library / "takes" / "a.flac", id="a", kind="recording"),
        Source(path=library / "takes" / "b.flac", id="b", kind="recording"),
    )
    assert found.failed == {}


def test_a_folder_of_pages_given_outright_is_one_score(library: Path) -> None:
    assert [source.id for source in discover([library / "scans" / "one"]).sources] == ["one"]


def test_a_kind_asked_for_picks_from_folders_and_is_believed_of_files(library: Path) -> None:
    found = discover([library, library / "readme.txt"], kind="recording")
    assert [source.id for source in found.sources] == ["a", "b", "readme"]


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
    assert sources["a.flac"] == Source(path=library / "takes" / "a.flac", id="a", kind="recording", composer="Mozart")
    assert sources["b.flac"].composer == ""


def test_a_manifest_without_paths_adds_all_it_lists(library: Path) -> None:
    path = manifest(library, "path,kind", "takes/b.flac,", "readme.txt,score", "gone.pdf,")
    found = discover([], manifest=path)
    assert [(source.id, source.kind) for source in found.sources] == [("b", "recording"), ("readme", "score")]
    assert list(found.failed.values()) == ["no such file or folder"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,id", "a,b"], r"expected the columns path,id,.*got \['file', 'id'\]"),
        (["path,kind", "a.pdf,sheet"], "line 2: expected kind score, recording or auto, got 'sheet'"),
        (["path,id", ",b"], "line 2: no path"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    path = manifest(tmp_path, *lines)
    with pytest.raises(ManifestError, match=message):
        discover([], manifest=path)


def test_two_files_of_one_id_are_refused_naming_both(library: Path) -> None:
    (library / "takes" / "two.wav").touch()
    with pytest.raises(DuplicateIdError, match=r"two\.pdf and .*two\.wav would both have the id 'two'"):
        discover([library])
