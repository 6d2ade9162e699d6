"""Evenings: passages of documents, gaps between them, and the set list that is made of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import alignment
from engine.collection import Collection, CollectionWriter
from engine.config import Alignment, SearchSettings
from engine.embedding.documents import recording_sequence
from engine.errors import QueryError
from engine.search import nomination, setlist
from engine.search.confidence import DEFAULT_CALIBRATION, FORMAT, FORMAT_VERSION, Calibration, Scale
from engine.search.passages import Passage
from engine.search.searcher import Searcher
from engine.search.segmentation import Evening, Segmenter
from engine.tensors import read
from engine.values import Document, Embeddings, Packed, SnippetSequence
from tests import laid_out_scores, paired_collection
from tests.paired_collection import NETWORK, SNIPPETS, SYSTEMS

BACKEND = alignment.choose("cpu", threads=1)
ALIGNMENT = Alignment()


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    paired_collection.write(tmp_path / "music.sf")
    with Collection.open(tmp_path / "music.sf") as opened:
        yield opened


def _noise(count: int, seed: int = 1) -> Embeddings:
    embeddings = np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def _calibration() -> Calibration:
    """The shipped functions, with a background of random documents."""
    given = read(DEFAULT_CALIBRATION, FORMAT, FORMAT_VERSION)[0]
    offsets = np.arange(0, 641, 80, dtype=np.int64)
    background = Packed(embeddings=_noise(640, seed=2), bias=np.zeros(640, np.float32), offsets=offsets)
    scale = Scale(
        background=background,
        coefficients=np.array(given["coefficients"]["score"]),
        rest_coefficients=np.array(given["rests"]["coefficients"]["score"]),
    )
    return Calibration(network=NETWORK, alignment=ALIGNMENT, scales={"score": scale}, rest_price=0.5)


def _segmenter(collection: Collection, calibration: Calibration | None = None) -> Segmenter:
    searcher = Searcher(collection, SearchSettings(threads=1), BACKEND, calibration)
    return Segmenter(collection, searcher, BACKEND, calibration, ALIGNMENT)


def _evening(*parts: Embeddings) -> Evening:
    return Evening(sequence=recording_sequence(np.concatenate(parts), 0.0, NETWORK.front_end), among="score")


def _music(collection: Collection, number: int, first: int = 0, last: int = SNIPPETS) -> Embeddings:
    return collection.sequence(f"piece{number}").embeddings[first:last]


def _told(passages: tuple[Passage, ...]) -> list[tuple[str, int, int]]:
    """Document, first and last row of each passage: the middle of row i is heard at i / 2 + 2.1 s."""
    return [
        (one.document.id, round(2 * ((one.stretch.start_s or 0) - 2.1)), round(2 * ((one.stretch.end_s or 0) - 2.1)))
        for one in passages
    ]


def test_an_evening_is_cut_into_passages_and_gaps(collection: Collection) -> None:
    evening = _evening(_noise(70), _music(collection, 2), _noise(50, 3), _music(collection, 0, 20, 90), _noise(30, 4))
    passages = _segmenter(collection, _calibration()).passages(evening)
    assert _told(passages) == [("piece2", 70, 189), ("piece0", 240, 309)]
    assert [len(passage.place.systems) for passage in passages] == pytest.approx([12, 7], abs=1)
    assert all((passage.confidence or 0) > 0.9 for passage in passages)


def test_music_that_the_collection_lacks_is_a_gap(collection: Collection) -> None:
    evening = _evening(_noise(900, seed=9))
    assert _segmenter(collection, _calibration()).passages(evening) == ()


def test_a_link_that_is_not_likely_right_is_a_gap(collection: Collection) -> None:
    calibration = _calibration()
    never = replace(calibration.scales["score"], rest_coefficients=np.array([-9.0, 0, 0, 0, 0, 0]))
    evening = _evening(_noise(40), _music(collection, 2), _noise(40, 3))
    assert _segmenter(collection, replace(calibration, scales={"score": never})).passages(evening) == ()


def test_pieces_follow_each_other_without_a_pause(collection: Collection) -> None:
    evening = _evening(_music(collection, 1), _music(collection, 3), _music(collection, 2))
    told = [id for id, _, _ in _told(_segmenter(collection).passages(evening))]
    assert told == ["piece1", "piece3", "piece2"]


def test_a_piece_that_is_broken_off_and_begun_again_is_one_passage(collection: Collection) -> None:
    tries = [_music(collection, 1, 0, 40), _noise(10), _music(collection, 1, 0, 60), _music(collection, 1, 30, 90)]
    evening = _evening(_noise(30, 3), *tries, _noise(30, 4))
    assert _told(_segmenter(collection).passages(evening)) == [("piece1", 30, 199)]


def test_an_encore_after_a_long_gap_is_a_passage_of_its_own(collection: Collection) -> None:
    evening = _evening(_music(collection, 1), _noise(60), _music(collection, 1))
    assert [id for id, _, _ in _told(_segmenter(collection).passages(evening))] == ["piece1", "piece1"]


def test_a_piece_that_lies_across_stages_is_found_whole(collection: Collection) -> None:
    evening = _evening(_noise(nomination.STAGE - 60), _music(collection, 0), _noise(40, 3))
    assert _told(_segmenter(collection).passages(evening)) == [("piece0", nomination.STAGE - 60, nomination.STAGE + 59)]


def test_a_passage_reaches_to_where_the_first_and_the_last_snippet_are_played(tmp_path: Path) -> None:
    """Half a snippet of this score is two rows of the evening."""
    music = _noise(60, seed=5)
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        writer.put(Document(id="whole", kind="score", systems=laid_out_scores.systems(7)), laid_out_scores.score(music))
        writer.commit()
    with Collection.open(tmp_path / "c") as collection:
        segmenter = _segmenter(collection)
        (whole,) = segmenter.passages(_evening(_noise(70), music, _noise(40, 3)))
        (part,) = segmenter.passages(_evening(_noise(70), music[9:51], _noise(40, 3)))
    assert (whole.stretch.start_s, whole.stretch.end_s) == (
        pytest.approx(70 / 2 + 2.1 - 1, abs=0.01),
        pytest.approx(129 / 2 + 2.1 + 1, abs=0.01),
    )
    assert (part.stretch.start_s, part.stretch.end_s) == (
        pytest.approx(70 / 2 + 2.1, abs=0.01),
        pytest.approx(111 / 2 + 2.1, abs=0.01),
    )


def test_a_volume_is_cut_by_pages_and_systems(collection: Collection) -> None:
    score = collection.sequence("piece1")
    volume = SnippetSequence(
        kind="score", embeddings=score.embeddings[20:100], places=score.places[20:100], bias=score.bias[20:100]
    )
    evening = Evening(sequence=volume, among="recording", systems=SYSTEMS)
    (passage,) = _segmenter(collection).passages(evening)
    assert passage.document.id == "piece1.played"
    numbers = {system.number for system in passage.stretch.systems}
    assert {*range(3, 10)} <= numbers <= {*range(2, 12)}


def test_an_evening_without_snippets_is_refused_and_a_collection_without_scores_has_none(tmp_path: Path) -> None:
    CollectionWriter(tmp_path / "empty.sf", NETWORK).close()
    with Collection.open(tmp_path / "empty.sf") as empty:
        with pytest.raises(QueryError, match="no snippets"):
            _segmenter(empty).passages(_evening(_noise(0)))
        assert _segmenter(empty).passages(_evening(_noise(50))) == ()


def test_whoever_waits_can_end_the_work_between_its_parts(collection: Collection) -> None:
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise TimeoutError

    evening = _evening(_noise(2000))
    with pytest.raises(TimeoutError):
        _segmenter(collection).passages(Evening(sequence=evening.sequence, among="score", between=between))
    assert calls == 4


def test_a_stage_holds_the_most_nominated_documents_that_fit(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nomination, "MAX_SNIPPETS", 2 * SNIPPETS)
    searched = _segmenter(collection).searched("recording", "score")
    evening = _evening(_music(collection, 3), _music(collection, 1))
    (stage,) = nomination.stages(searched, evening.sequence.embeddings, lambda: None)
    assert stage.documents.tolist() == [1, 3]


def _setlist(collection: Collection) -> dict[str, object]:
    evening = _evening(_noise(70), _music(collection, 2), _noise(50, 3), _music(collection, 0), _noise(30, 4))
    passages = _segmenter(collection, _calibration()).passages(evening)
    return setlist.as_dict(passages, "recording", "score", 196.7, collection)


def test_the_set_list_is_a_table_with_a_line_for_each_gap(collection: Collection) -> None:
    lines = setlist.table(_setlist(collection)).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["0:00-0:37", "-"],
        ["1", "0:37-1:37", "piece2"],
        ["1:37-2:02", "-"],
        ["2", "2:02-3:02", "piece0"],
        ["3:02-3:17", "-"],
    ]
    assert setlist.table({"passages": [], "pages": None, "duration_s": 5.0}) == "nothing of this collection was found"


def test_a_cue_sheet_counts_75_frames_a_second_and_quotes_no_quotation_marks() -> None:
    passage = {
        "number": 1,
        "id": "a",
        "title": 'The "Ghost"',
        "composer": "L. v. B.",
        "start_s": 3661.48,
        "end_s": 4000.0,
    }
    assert setlist.cue({"passages": [passage]}, "evening.flac").splitlines() == [
        'FILE "evening.flac" WAVE',
        "  TRACK 01 AUDIO",
        "    TITLE \"The 'Ghost'\"",
        '    SONGWRITER "L. v. B."',
        "    INDEX 01 61:01:36",
    ]


def test_labels_are_lines_of_start_end_and_title(collection: Collection) -> None:
    text = setlist.labels(_setlist(collection))
    assert text.splitlines()[0].split("\t")[2] == "piece2"
    assert [round(float(cell)) for cell in text.splitlines()[1].split("\t")[:2]] == [122, 182]
