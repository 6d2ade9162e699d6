from pathlib import Path

import pytest

from bench.lib import pieces


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two sets with a piece each; the first has two performances."""
    for folder, piece in (("dev_scans_mozart", "sonata"), ("dev_scans_bach_haydn", "fugue")):
        (tmp_path / folder / "pages").mkdir(parents=True)
        (tmp_path / folder / "manifest.csv").write_text(f"id,composer,title,opus\n{piece},Someone,A piece,1\n")
        for page in (2, 1):
            (tmp_path / folder / "pages" / f"{piece}_p0{page}.tif").write_bytes(b"page")
        lines = [f"{piece},{folder}/{player}.mid" for player in ("first", "second")]
        (tmp_path / folder / "performances.csv").write_text("\n".join(["piece,path", *lines]))
        (tmp_path / folder / "first.mid").write_bytes(b"midi")
    return tmp_path


def test_a_piece_has_its_pages_in_order_and_its_first_performance(data: Path) -> None:
    sonata, fugue = pieces.pieces(data, "dev")
    assert [path.name for path in sonata.pages] == ["sonata_p01.tif", "sonata_p02.tif"]
    assert sonata.recording_id == "sonata.first"
    assert fugue.recording_id == "fugue.first"


def test_a_piece_without_pages_is_refused_by_name(data: Path) -> None:
    for page in (data / "dev_scans_mozart" / "pages").iterdir():
        page.unlink()
    with pytest.raises(FileNotFoundError, match="sonata"):
        pieces.pieces(data, "dev")


def test_a_score_is_a_folder_of_its_pages(data: Path, tmp_path: Path) -> None:
    source = pieces.score(pieces.pieces(data, "dev")[0], tmp_path / "work")
    assert sorted(page.name for page in source.path.iterdir()) == ["sonata_p01.tif", "sonata_p02.tif"]
    assert (source.id, source.kind, source.composer) == ("sonata", "score", "Someone")


def test_a_recording_that_is_there_is_not_made_again(data: Path, tmp_path: Path) -> None:
    made = tmp_path / "work" / "recordings" / "sonata.first.flac"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"made before")
    source = pieces.recording(pieces.pieces(data, "dev")[0], tmp_path / "work")
    assert source.path.read_bytes() == b"made before"
    assert (source.id, source.kind) == ("sonata.first", "recording")
