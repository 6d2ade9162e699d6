"""Evenings that are still going on: what is told when, and what is kept."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection, CollectionWriter
from engine.search import live_segmentation, nomination
from engine.search.live_segmentation import LAG, REMEMBERED, STEP, LivePassage, LiveSegmentation
from engine.search.passages import Searched
from engine.values import Embeddings
from tests import laid_out_scores, paired_collection
from tests.evening_samples import evening_of, music_of, noise, segmenter_of, shipped_calibration
from tests.paired_collection import NETWORK, SNIPPETS


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    paired_collection.write(tmp_path / "music.sf")
    with Collection.open(tmp_path / "music.sf") as opened:
        yield opened


def _searched(collection: Collection) -> Searched:
    return segmenter_of(collection, shipped_calibration()).searched("recording", "score")


def _played(live: LiveSegmentation, rows: Embeddings, searched: Searched) -> list[tuple[LivePassage, ...]]:
    """What is told after each step of the rows."""
    told = []
    for at in range(0, len(rows), STEP):
        _hear(live, rows[at : at + STEP], searched)
        told.append(live.passages)
    return told


def _hear(live: LiveSegmentation, rows: Embeddings, searched: Searched, *, all: bool = False) -> None:
    """Goes on with rows. The middle of a row is tonal if it is a snippet of the collection."""
    known = searched.documents.take(np.arange(len(searched.ids))).embeddings
    tonal = (rows @ known.T).max(axis=1, initial=0) > 0.9
    tones = np.repeat(np.where(tonal, 2, 0), 10).astype(np.float32)
    live.note(rows, tones if live.begun else np.concatenate([np.zeros(37, np.float32), tones]), 0.0)
    live.find(searched, all=all)


def _rows(passage: LivePassage) -> tuple[str, int, int]:
    """Document, first and last row: the middle of row i is heard at i / 2 + 2.1 s."""
    stretch = passage.passage.stretch
    ends = ((stretch.start_s or 0) - 2.1, (stretch.end_s or 0) - 2.1)
    return passage.passage.document.id, round(2 * ends[0]), round(2 * ends[1])


def _concert(collection: Collection) -> Embeddings:
    """Noise to row 70, piece 2, noise from row 190 on, piece 0 from row 240 on, and noise from row 360 on."""
    return np.concatenate([noise(70), music_of(collection, 2), noise(50, 3), music_of(collection, 0), noise(120, 4)])


def test_a_live_evening_has_the_passages_of_the_whole(collection: Collection) -> None:
    rows, live = _concert(collection), LiveSegmentation(NETWORK.front_end)
    _played(live, rows, _searched(collection))
    whole = segmenter_of(collection, shipped_calibration()).passages(evening_of(rows))
    assert [_rows(one) for one in live.passages] == [("piece2", 70, 189), ("piece0", 240, 359)]
    assert [one.passage.place for one in live.passages] == [one.place for one in whole]
    assert [(one.ended, one.settled) for one in live.passages] == [(True, True), (True, True)]


def test_a_passage_is_told_soon_after_it_begins_and_ends(collection: Collection) -> None:
    told = _played(LiveSegmentation(NETWORK.front_end), _concert(collection), _searched(collection))
    begun = next(number for number, passages in enumerate(told, start=1) if passages)
    ended = next(number for number, passages in enumerate(told, start=1) if passages and passages[0].ended)
    assert 70 < begun * STEP <= 70 + 60
    assert 190 < ended * STEP <= 190 + 24
    assert all(passages and not passages[0].ended for passages in told[begun - 1 : ended - 1])
    assert _rows(told[ended - 1][0]) == ("piece2", 70, 189)


def test_a_piece_is_told_from_its_start_though_it_was_likely_later(collection: Collection) -> None:
    rows = np.concatenate([noise(30), music_of(collection, 1)])
    told = _played(LiveSegmentation(NETWORK.front_end), rows, _searched(collection))
    first = next(passages[0] for passages in told if passages)
    assert _rows(first)[:2] == ("piece1", 30)


def test_rows_are_kept_for_a_passage_and_no_longer(collection: Collection) -> None:
    live, searched = LiveSegmentation(NETWORK.front_end), _searched(collection)
    _played(live, _concert(collection), searched)
    sizes = []
    for seed in range(4):
        _played(live, noise(300, 10 + seed), searched)
        tracemalloc.start()
        _hear(live, noise(STEP, 50), searched)
        sizes.append((len(live._rows), len(live._all.cells), tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
    assert sizes[-1][0] <= REMEMBERED + LAG + 2 * STEP
    assert sizes[-1][1] == 0
    assert sizes[-1][2] < 1.2 * sizes[1][2]


def test_a_passage_longer_than_what_is_kept_keeps_its_start(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_segmentation, "REMEMBERED", 60)
    monkeypatch.setattr(live_segmentation, "MAX_ROWS", 150)
    live, searched = LiveSegmentation(NETWORK.front_end), _searched(collection)
    again = [music_of(collection, 1)] * 4
    _played(live, np.concatenate([noise(30), *again]), searched)
    assert len(live._rows) <= 150
    (passage,) = live.passages
    assert _rows(passage)[:2] == ("piece1", pytest.approx(30, abs=STEP))
    assert _rows(passage)[2] == pytest.approx(30 + 4 * SNIPPETS - 1, abs=STEP)


def test_a_passage_goes_on_while_the_collection_changes(collection: Collection, tmp_path: Path) -> None:
    """It changes after 180 rows, of which the first 100 are settled: the start is in the way that was kept."""
    rows, live = _concert(collection), LiveSegmentation(NETWORK.front_end)
    _played(live, rows[:180], _searched(collection))
    with CollectionWriter(tmp_path / "music.sf", NETWORK) as writer:
        writer.remove("piece0")
        writer.commit()
    with Collection.open(tmp_path / "music.sf") as newer:
        _played(live, rows[180:], _searched(newer))
    assert [_rows(one) for one in live.passages] == [("piece2", 70, 189)]


def test_a_step_that_fails_is_made_again(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, live, searched = _concert(collection), LiveSegmentation(NETWORK.front_end), _searched(collection)
    _played(live, rows[:96], searched)
    confidence = Searched.confidence
    with monkeypatch.context() as broken:
        broken.setattr(Searched, "confidence", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _hear(live, rows[96:300], searched)
    assert Searched.confidence is confidence
    _played(live, rows[300:], searched)
    assert [_rows(one) for one in live.passages] == [("piece2", 70, 189), ("piece0", 240, 359)]


def test_few_rows_wait_unless_somebody_asks(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    best = nomination.best
    monkeypatch.setattr(nomination, "best", lambda by, rows: asked.append(len(rows)) or best(by, rows))
    live, searched = LiveSegmentation(NETWORK.front_end), _searched(collection)
    _hear(live, noise(STEP - 1), searched)
    assert asked == []
    _hear(live, noise(0), searched, all=True)
    assert asked == [STEP - 1, STEP - 1]


def test_passages_that_ended_long_ago_are_counted_and_told_no_longer(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_segmentation, "SHOWN_ROWS", 200)
    live = LiveSegmentation(NETWORK.front_end)
    _played(live, _concert(collection), _searched(collection))
    assert (live.forgotten, [_rows(one)[0] for one in live.passages]) == (1, ["piece0"])


def test_a_passage_goes_on_after_its_last_snippet_until_the_music_stops(collection: Collection) -> None:
    live, searched = LiveSegmentation(NETWORK.front_end), _searched(collection)
    _played(live, np.concatenate([noise(30), music_of(collection, 1)]), searched)
    varied = 2 + 0.2 * np.sin(np.arange(120)).astype(np.float32)
    live._tones[-120:] = varied
    for _ in range(10):
        live.note(noise(STEP, 7), np.tile(varied, 1)[: 10 * STEP] + 0.1, 0.0)
        live.find(searched)
        assert not live.passages[0].ended
    for _ in range(10):
        live.note(noise(STEP, 8), np.zeros(10 * STEP, np.float32), 0.0)
        live.find(searched)
    assert _rows(live.passages[0]) == ("piece1", 30, pytest.approx(150 + 10 * STEP, abs=STEP))
    assert live.passages[0].ended


def test_pieces_without_a_pause_share_no_second(tmp_path: Path) -> None:
    """Both passages reach beyond their links by two rows. The first one is settled before the evening ends."""
    one, two = noise(60, 5), noise(60, 6)
    with Collection.open(laid_out_scores.pair(tmp_path / "c", one, two)) as collection:
        searched = segmenter_of(collection).searched("recording", "score")
        told = _played(LiveSegmentation(NETWORK.front_end), np.concatenate([one, two, noise(90, 3)]), searched)
    pairs = [passages for passages in told if len(passages) == 2]
    assert [passage.settled for passage in pairs[0]] == [False, False]
    assert [passage.settled for passage in pairs[-1]] == [True, False]
    for first, second in pairs:
        assert (first.passage.stretch.end_s or 0) <= (second.passage.stretch.start_s or 0)
    assert pairs[-1][1].passage.stretch.start_s == pytest.approx(59.5 / 2 + 2.1)


def test_a_piece_that_is_recognised_late_keeps_what_an_ending_before_it_was_prolonged_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second piece follows the first one at row 60, without a pause, and is nominated from row 190 on."""
    one, two = noise(60, 5), noise(110, 6)
    live, best = LiveSegmentation(NETWORK.front_end), nomination.best
    with Collection.open(laid_out_scores.pair(tmp_path / "c", one, two)) as collection:
        searched = segmenter_of(collection).searched("recording", "score")
        heard = 0

        def nominated(searched: Searched, rows: Embeddings) -> tuple[str, ...]:
            return tuple(id for id in best(searched, rows) if id != "two" or heard >= 190)

        monkeypatch.setattr(nomination, "best", nominated)
        music = np.concatenate([one, two, noise(120, 3)])
        for start in range(0, len(music), STEP):
            heard = start + STEP
            _hear(live, music[start : start + STEP], searched)
    first, second_one = (passage.passage.stretch for passage in live.passages)
    settled_s = (190 - LAG) / 2
    assert (first.end_s or 0) <= (second_one.start_s or 0) <= settled_s + 2.1 + STEP / 2
    assert (second_one.end_s or 0) - (second_one.start_s or 0) > 25


def test_in_an_empty_collection_nothing_is_told(tmp_path: Path) -> None:
    CollectionWriter(tmp_path / "empty.sf", NETWORK).close()
    with Collection.open(tmp_path / "empty.sf") as empty:
        live = LiveSegmentation(NETWORK.front_end)
        _played(live, noise(120), segmenter_of(empty).searched("recording", "score"))
        assert live.passages == ()
