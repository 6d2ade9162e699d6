import gzip
import io
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest

from bench.lib import pieces
from bench.lib.pieces import Piece
from bench.lib.sounds import TIMGM6MB, Sound
from engine.audio import SAMPLE_RATE, Samples
from engine.collection import Collection
from engine.score import read_score
from fake_encoder import FakeEncoder
from indexer.synthesis.perform import Performance
from media import write_page, write_recording
from small_symbols import musicxml


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
    made = tmp_path / "work" / "recordings" / "TimGM6mb" / "sonata.first.flac"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"made before")
    source = pieces.recording(pieces.pieces(data, "dev")[0], tmp_path / "work")
    assert source.path.read_bytes() == b"made before"
    assert (source.id, source.kind) == ("sonata.first", "recording")


class Tones(Sound):
    """Plays the pitches of a performance for a second each, whatever their rhythm."""

    def play(self, performance: Performance) -> Samples:
        time_s = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        hertz = 440 * 2 ** ((performance.pitch - 69) / 12)
        return np.concatenate([0.5 * np.sin(2 * np.pi * one * time_s) for one in hertz]).astype(np.float32)


LOW, HIGH = Tones(name="low", heard=True), Tones(name="high+hall", heard=False)


def midi(pitches: list[int]) -> bytes:
    track = mido.MidiTrack()
    for pitch in pitches:
        track.append(mido.Message("note_on", note=pitch, velocity=80, time=0))
        track.append(mido.Message("note_off", note=pitch, time=480))
    buffer = io.BytesIO()
    mido.MidiFile(tracks=[track]).save(file=buffer)
    return buffer.getvalue()


@pytest.fixture
def playable(data: Path) -> list[Piece]:
    """The two pieces with pages and performances that are really there."""
    for number, piece in enumerate(pieces.pieces(data, "dev")):
        for page in piece.pages:
            write_page(page, number)
        piece.notes.write_bytes(midi([60 + 3 * number + step for step in range(8)]))
    return pieces.pieces(data, "dev")


def test_recordings_are_kept_by_sound(playable: list[Piece], tmp_path: Path) -> None:
    low, high = (pieces.recording(playable[0], tmp_path / "work", sound) for sound in (LOW, HIGH))
    assert low.path != high.path
    assert low.path.exists()
    assert high.path.exists()
    assert low.id == high.id


def test_a_midi_file_is_played_as_it_is(playable: list[Piece]) -> None:
    played = pieces.performance(playable[1])
    assert played.pitch.tolist() == [63, 64, 65, 66, 67, 68, 69, 70]
    np.testing.assert_allclose(played.onset_s, np.arange(8) / 2)


def test_scores_are_embedded_once_for_all_sounds(
    playable: list[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[str] = []
    add = pieces.ingest.add

    def counting(*arguments: object, **options: object) -> object:
        embedded.extend(source.kind for source in arguments[1])  # type: ignore[attr-defined]
        return add(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pieces.ingest, "add", counting)
    for fresh, sound in ((False, LOW), (False, HIGH), (False, LOW)):
        path, cost = pieces.collect(
            playable, tmp_path / "work", FakeEncoder.identity, FakeEncoder, 1, fresh=fresh, sound=sound
        )
        with Collection.open(path) as collection:
            ids = {(document.id, document.kind) for document in collection.documents}
        assert ids == {
            ("sonata", "score"),
            ("fugue", "score"),
            ("sonata.first", "recording"),
            ("fugue.first", "recording"),
        }
        assert (cost["scores_failed"], cost["recordings_failed"]) == ({}, {})
    assert embedded == 2 * ["score"] + 4 * ["recording"]
    pieces.collect(playable, tmp_path / "work", FakeEncoder.identity, FakeEncoder, 1, fresh=True, sound=LOW)
    assert embedded == 2 * ["score"] + 4 * ["recording"] + 2 * ["score"] + 2 * ["recording"]


@pytest.fixture
def symbols(playable: list[Piece], data: Path) -> Path:
    """The data folder with a set whose scores are symbols: one piece, and two performances of it."""
    folder = data / "val_asap"
    folder.mkdir()
    (folder / "arabeske.musicxml.gz").write_bytes(gzip.compress(musicxml([60, 62, 64, 65] * 12).encode()))
    (folder / "manifest.csv").write_text(
        "id,composer,title,opus,path\narabeske,Schumann,Arabeske,18,val_asap/arabeske.musicxml.gz\n"
    )
    (folder / "performances.csv").write_text("piece,path\narabeske,val_asap/one.mid\narabeske,val_asap/two.mid\n")
    (folder / "one.mid").write_bytes(midi([60, 62, 64, 65]))
    return data


def test_a_score_in_symbols_becomes_pages_with_systems(symbols: Path, tmp_path: Path) -> None:
    (piece,) = pieces.pieces(symbols, "asap")
    assert not piece.is_scanned
    assert piece.recording_id == "arabeske.one"
    source = pieces.score(piece, tmp_path / "work")
    assert pieces.first_page(piece, tmp_path / "work") == source.path / "p01.png"
    assert read_score(source.path).systems
    assert pieces.pieces(symbols, "dev")[0].is_scanned


def test_an_engraved_score_is_made_once_and_always_the_same(symbols: Path, tmp_path: Path) -> None:
    (piece,) = pieces.pieces(symbols, "asap")
    first, second = (pieces.first_page(piece, tmp_path / name) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    first.write_bytes(b"made before")
    assert pieces.first_page(piece, tmp_path / "one").read_bytes() == b"made before"


def test_the_crowd_of_a_set_in_symbols_is_the_rags(symbols: Path, data: Path) -> None:
    (data / "val_scans_joplin" / "pages").mkdir(parents=True)
    (data / "val_scans_joplin" / "manifest.csv").write_text("id,composer,title,opus\njoplin_rag,Joplin,Rag,\n")
    (data / "val_scans_joplin" / "pages" / "rag_p01.tif").write_bytes(b"page")
    (data / "val_scans_joplin" / "rag.krn").write_bytes(b"kern")
    found = pieces.pieces(symbols, "asap")
    assert [piece.id for piece in pieces.crowd(symbols, "asap", found)] == ["joplin_rag"]


def test_kern_is_the_performance_or_lies_beside_the_scans(data: Path) -> None:
    sonata = pieces.pieces(data, "dev")[0]
    assert pieces.kern(sonata) == data / "dev_scans_mozart" / "sonata.krn"
    assert pieces.kern(replace(sonata, notes=data / "rag.krn")) == data / "rag.krn"


@pytest.fixture
def real(playable: list[Piece], data: Path) -> Path:
    """The data folder with two recordings of a fugue that a dev scan shows, too, and one of another piece."""
    folder = data / "real_dev"
    (folder / "recordings").mkdir(parents=True)
    rows = ["composer,work,movement,recording_file,scan_dir"]
    for number, (scan, player) in enumerate((("fug", "ilic"), ("fug", "roll"), ("rag", "someone"))):
        (folder / "scans" / scan).mkdir(parents=True, exist_ok=True)
        write_page(folder / "scans" / scan / "p01.tif", 10 + number)
        write_recording(folder / "recordings" / f"{player}.wav", number, seconds=8)
        rows.append(f"Bach,WTC,{scan},recordings/{player}.wav,scans/{scan}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return data


def test_real_recordings_of_one_scan_share_its_score(real: Path, tmp_path: Path) -> None:
    found = pieces.pieces(real, "real")
    assert [(piece.id, piece.recording_id) for piece in found] == [
        ("fug", "fug.ilic"),
        ("fug", "fug.roll"),
        ("rag", "rag.someone"),
    ]
    assert pieces.recording(found[1], tmp_path / "work").path == real / "real_dev" / "recordings" / "roll.wav"


def test_the_crowd_of_real_recordings_is_other_music(real: Path) -> None:
    found = pieces.pieces(real, "real")
    assert [piece.id for piece in pieces.crowd(real, "real", found)] == ["sonata"]
    assert pieces.crowd(real, "dev", pieces.pieces(real, "dev")) == []


def test_real_recordings_are_searched_among_their_scans_and_the_crowd(real: Path, tmp_path: Path) -> None:
    found = pieces.pieces(real, "real")
    path, _ = pieces.collect(
        found,
        tmp_path / "work",
        FakeEncoder.identity,
        FakeEncoder,
        1,
        fresh=False,
        sound=TIMGM6MB,
        others=pieces.crowd(real, "real", found),
    )
    with Collection.open(path) as collection:
        assert {document.id for document in collection.of_kind("score")} == {"fug", "rag", "sonata"}
        assert {document.id for document in collection.of_kind("recording")} == {"fug.ilic", "fug.roll", "rag.someone"}
