"""Evenings: passages of documents, gaps between them, and the set list that is made of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection, CollectionWriter
from engine.errors import QueryError
from engine.search import nomination, setlist
from engine.search.passages import Passage, apart
from engine.search.segmentation import Evening
from engine.values import Document, Place, SnippetSequence
from tests import laid_out_scores, paired_collection
from tests.evening_samples import evening_of, music_of, noise, segmenter_of, shipped_calibration
from tests.paired_collection import NETWORK, SNIPPETS, SYSTEMS


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    paired_collection.write(tmp_path / "music.sf")
    with Collection.open(tmp_path / "music.sf") as opened:
        yield opened


def _told(passages: tuple[Passage, ...]) -> list[tuple[str, int, int]]:
    """Document, first and last row of each passage: the middle of row i is heard at i / 2 + 2.1 s."""
    return [
        (one.document.id, round(2 * ((one.stretch.start_s or 0) - 2.1)), round(2 * ((one.stretch.end_s or 0) - 2.1)))
        for one in passages
    ]


def test_an_evening_is_cut_into_passages_and_gaps(collection: Collection) -> None:
    evening = evening_of(
        noise(70), music_of(collection, 2), noise(50, 3), music_of(collection, 0, 20, 90), noise(30, 4)
    )
    passages = segmenter_of(collection, shipped_calibration()).passages(evening)
    assert _told(passages) == [("piece2", 70, 189), ("piece0", 240, 309)]
    assert [len(passage.place.systems) for passage in passages] == pytest.approx([12, 7], abs=1)
    assert all((passage.confidence or 0) > 0.9 for passage in passages)


def test_music_that_the_collection_lacks_is_a_gap(collection: Collection) -> None:
    evening = evening_of(noise(900, seed=9))
    assert segmenter_of(collection, shipped_calibration()).passages(evening) == ()


def test_a_link_that_is_not_likely_right_is_a_gap(collection: Collection) -> None:
    calibration = shipped_calibration()
    never = replace(calibration.scales["score"], rest_coefficients=np.array([-9.0, 0, 0, 0, 0, 0]))
    evening = evening_of(noise(40), music_of(collection, 2), noise(40, 3))
    assert segmenter_of(collection, replace(calibration, scales={"score": never})).passages(evening) == ()


def test_pieces_follow_each_other_without_a_pause(collection: Collection) -> None:
    evening = evening_of(music_of(collection, 1), music_of(collection, 3), music_of(collection, 2))
    told = [id for id, _, _ in _told(segmenter_of(collection).passages(evening))]
    assert told == ["piece1", "piece3", "piece2"]


def test_a_piece_that_is_broken_off_and_begun_again_is_one_passage(collection: Collection) -> None:
    tries = [music_of(collection, 1, 0, 40), noise(10), music_of(collection, 1, 0, 60), music_of(collection, 1, 30, 90)]
    evening = evening_of(noise(30, 3), *tries, noise(30, 4))
    assert _told(segmenter_of(collection).passages(evening)) == [("piece1", 30, 199)]


def test_an_encore_after_a_long_gap_is_a_passage_of_its_own(collection: Collection) -> None:
    evening = evening_of(music_of(collection, 1), noise(60), music_of(collection, 1))
    assert [id for id, _, _ in _told(segmenter_of(collection).passages(evening))] == ["piece1", "piece1"]


def test_a_piece_that_lies_across_stages_is_found_whole(collection: Collection) -> None:
    evening = evening_of(noise(nomination.STAGE - 60), music_of(collection, 0), noise(40, 3))
    assert _told(segmenter_of(collection).passages(evening)) == [
        ("piece0", nomination.STAGE - 60, nomination.STAGE + 59)
    ]


def test_a_passage_reaches_to_where_the_first_and_the_last_snippet_are_played(tmp_path: Path) -> None:
    """Half a snippet of this score is two rows of the evening."""
    music = noise(60, seed=5)
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        writer.put(Document(id="whole", kind="score", systems=laid_out_scores.systems(7)), laid_out_scores.score(music))
        writer.commit()
    with Collection.open(tmp_path / "c") as collection:
        segmenter = segmenter_of(collection)
        (whole,) = segmenter.passages(evening_of(noise(70), music, noise(40, 3)))
        (part,) = segmenter.passages(evening_of(noise(70), music[9:51], noise(40, 3)))
    assert (whole.stretch.start_s, whole.stretch.end_s) == (
        pytest.approx(70 / 2 + 2.1 - 1, abs=0.01),
        pytest.approx(129 / 2 + 2.1 + 1, abs=0.01),
    )
    assert (part.stretch.start_s, part.stretch.end_s) == (
        pytest.approx(70 / 2 + 2.1, abs=0.01),
        pytest.approx(111 / 2 + 2.1, abs=0.01),
    )


def test_pieces_without_a_pause_share_no_second(tmp_path: Path) -> None:
    """Each is widened by two rows, a second, so the border is the middle between row 59 and row 60."""
    with Collection.open(laid_out_scores.pair(tmp_path / "c", noise(60, seed=5), noise(60, seed=6))) as collection:
        evening = evening_of(noise(60, seed=5), noise(60, seed=6), noise(40, 3))
        first, second = segmenter_of(collection).passages(evening)
    assert first.stretch.end_s == second.stretch.start_s == pytest.approx(59.5 / 2 + 2.1)


def _passage(start_s: float, first_s: float, last_s: float, end_s: float) -> Passage:
    """A passage that is followed from `first_s` to `last_s`."""
    stretch, followed = Place(start_s=start_s, end_s=end_s), Place(start_s=first_s, end_s=last_s)
    document = Document(id="", kind="score")
    return Passage(document=document, confidence=None, stretch=stretch, followed=followed, place=Place())


@pytest.mark.parametrize(
    ("claimed", "after_s", "expected"),
    [
        ([(0, 1, 9, 10), (12, 13, 19, 20)], 0, [(0, 10), (12, 20)]),
        ([(0, 1, 8, 10), (8, 10, 18, 20), (19, 21, 29, 30)], 0, [(0, 9), (9, 19.5), (19.5, 30)]),
        # A short one within what the others claim keeps what is followed of it, and what nobody else follows.
        ([(0, 1, 17, 20), (16, 18, 19, 21), (17, 20, 29, 30)], 0, [(0, 18), (18, 19), (19, 30)]),
        ([(0, 1, 17, 20), (17, 17.5, 17.5, 18), (15, 18, 29, 30)], 0, [(0, 17.5), (17.5, 17.5), (17.5, 30)]),
        ([(4, 7, 9, 10), (12, 13, 19, 20)], 6, [(6, 10), (12, 20)]),
    ],
)
def test_passages_are_cut_in_the_middle_of_what_two_claim(
    claimed: list[tuple[float, float, float, float]], after_s: float, expected: list[tuple[float, float]]
) -> None:
    found = apart([_passage(*one) for one in claimed], after_s)
    assert [(one.stretch.start_s, one.stretch.end_s) for one in found] == expected


def test_a_volume_is_cut_by_pages_and_systems(collection: Collection) -> None:
    score = collection.sequence("piece1")
    volume = SnippetSequence(
        kind="score", embeddings=score.embeddings[20:100], places=score.places[20:100], bias=score.bias[20:100]
    )
    evening = Evening(sequence=volume, among="recording", systems=SYSTEMS)
    (passage,) = segmenter_of(collection).passages(evening)
    assert passage.document.id == "piece1.played"
    numbers = {system.number for system in passage.stretch.systems}
    assert {*range(3, 10)} <= numbers <= {*range(2, 12)}


def test_an_evening_without_snippets_is_refused_and_a_collection_without_scores_has_none(tmp_path: Path) -> None:
    CollectionWriter(tmp_path / "empty.sf", NETWORK).close()
    with Collection.open(tmp_path / "empty.sf") as empty:
        with pytest.raises(QueryError, match="no snippets"):
            segmenter_of(empty).passages(evening_of(noise(0)))
        assert segmenter_of(empty).passages(evening_of(noise(50))) == ()


def test_whoever_waits_can_end_the_work_between_its_parts(collection: Collection) -> None:
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise TimeoutError

    evening = evening_of(noise(2000))
    with pytest.raises(TimeoutError):
        segmenter_of(collection).passages(Evening(sequence=evening.sequence, among="score", between=between))
    assert calls == 4


def test_a_stage_holds_the_most_nominated_documents_that_fit(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nomination, "MAX_SNIPPETS", 2 * SNIPPETS)
    searched = segmenter_of(collection).searched("recording", "score")
    evening = evening_of(music_of(collection, 3), music_of(collection, 1))
    (stage,) = nomination.stages(searched, evening.sequence.embeddings, lambda: None)
    assert stage.documents.tolist() == [1, 3]


def _setlist(collection: Collection) -> dict[str, object]:
    evening = evening_of(noise(70), music_of(collection, 2), noise(50, 3), music_of(collection, 0), noise(30, 4))
    found = segmenter_of(collection, shipped_calibration()).found(evening)
    return setlist.as_dict(found, "recording", "score", 196.7, collection)


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


def test_gaps_lie_within_the_part_that_was_searched(collection: Collection) -> None:
    part = _setlist(collection) | {"start_s": 30.0, "duration_s": 155.0}
    lines = setlist.table(part).splitlines()
    assert [lines[1].split()[0], lines[-1].split()[0]] == ["0:30-0:37", "3:02-3:05"]


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
