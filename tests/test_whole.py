"""The whole, as it is shipped: real weights, calibration and default settings find real pieces across modalities.

Other tests stand in for the network or set small numbers; only these notice a picture inverted before the network, a
front end that is not the one trained with, or a default that switches confidence off.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import soxr

import engine
from engine.audio import SAMPLE_RATE, read_audio
from engine.config import Alignment
from engine.embedding.encoder import Encoder
from engine.finder import Finder
from engine.score import read_pages
from indexer import ingest
from indexer.demo import files
from indexer.demo.pieces import PIECES, corpus
from indexer.sources import discover

NAMES = ("chopin_mazurka", "joplin_maple_leaf", "bach_prelude", "haydn_1_1_1", "mozart_k545", "verdi_donna")
"""Pieces of the demo: four of keyboard music, a quartet and a song."""
FRAGMENT_S = 15.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[files.Files]:
    """Scans and recordings of the pieces."""
    out = tmp_path_factory.mktemp("whole")
    pieces = [piece for piece in PIECES if piece.id in NAMES]
    assert len(pieces) == len(NAMES)
    made = files.make(pieces, corpus(), out, jobs=2)
    files.write_manifest(out / "manifest.csv", made)
    return made


@pytest.fixture(scope="module")
def finder(made: list[files.Files]) -> Iterator[Finder]:
    out = made[0].score.parents[1]
    sources = discover((), None, out / "manifest.csv").sources
    summary = ingest.add(out / "collection", sources, Encoder.load, jobs=2)
    assert not summary.failed
    with engine.open(out / "collection") as finder:
        yield finder


def fragments(made: list[files.Files]) -> list[tuple[str, Path, float]]:
    """Score id, recording and start of two fragments of each piece."""
    return [
        (files.score_id(one.piece), one.recording, start_s)
        for one in made
        for start_s in (0.1 * duration_s(one.recording), 0.55 * duration_s(one.recording))
    ]


def duration_s(recording: Path) -> float:
    return len(read_audio(recording)) / SAMPLE_RATE


def test_every_recording_finds_its_scan(finder: Finder, made: list[files.Files]) -> None:
    for name, recording, start_s in fragments(made):
        answer = finder.query(recording, start_s=start_s, end_s=start_s + FRAGMENT_S)
        best = answer.matches[0]
        assert best.document.id == name
        assert best.confidence is not None
        assert best.confidence > 0.5, f"{name} from {start_s:.0f} s"
        assert answer.in_collection


def test_every_scan_finds_its_recording(finder: Finder, made: list[files.Files]) -> None:
    for one in made:
        answer = finder.query(one.score)
        best = answer.matches[0]
        assert best.document.id == files.recording_id(one.piece)
        assert best.confidence is not None
        assert best.confidence > 0.5
        assert answer.in_collection


def test_page_images_find_what_their_file_finds(finder: Finder, made: list[files.Files]) -> None:
    answer = finder.query_pages(list(read_pages(made[0].score)))
    assert answer.matches[0].document.id == files.recording_id(made[0].piece)


def test_samples_at_other_rates_find_the_same_place(finder: Finder, made: list[files.Files], tmp_path: Path) -> None:
    """A fragment is cut in seconds of the file, whatever the file's sampling rate."""
    samples = read_audio(made[0].recording)
    start_s = 0.4 * len(samples) / SAMPLE_RATE
    expected = finder.query(made[0].recording, start_s=start_s, end_s=start_s + FRAGMENT_S).matches[0]
    for rate in (44_100, 48_000):
        path = tmp_path / f"{rate}.flac"
        soundfile.write(path, soxr.resample(samples, SAMPLE_RATE, rate).clip(-1, 1), rate)
        found = finder.query(path, start_s=start_s, end_s=start_s + FRAGMENT_S).matches[0]
        assert found.document.id == expected.document.id
        assert found.cost == pytest.approx(expected.cost, abs=0.02)
        assert found.place == expected.place


def test_what_was_removed_is_said_not_to_be_there(made: list[files.Files], finder: Finder) -> None:
    removed = made[0]
    with engine.open(finder.collection.path) as other:
        other.remove(files.score_id(removed.piece), files.recording_id(removed.piece))
        start_s = 0.3 * duration_s(removed.recording)
        heard = other.query(removed.recording, start_s=start_s, end_s=start_s + FRAGMENT_S)
        seen = other.query(removed.score)
    for answer in (heard, seen):
        assert answer.matches[0].confidence is not None
        assert answer.in_collection is False


def test_the_shipped_settings_are_those_that_the_shipped_calibration_was_made_for() -> None:
    assert engine.Engine.load().calibration is not None
    for other in (Alignment(jump_penalty=0.2), Alignment(bias_weight=0.75)):
        settings = engine.SearchSettings(alignment=other)
        assert engine.Engine.load(settings=settings).calibration is None
