"""A collection opened in one call: asked by file, samples or images, and changed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

import engine
from engine import finder as finders
from engine.errors import (
    AudioError,
    CollectionMissingError,
    DocumentExistsError,
    DocumentMissingError,
    PageError,
    QueryError,
)
from engine.finder import Engine, Finder
from engine.values import Answer
from fake_encoder import FakeEncoder, engine_of
from media import write_page, write_recording


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("etude", "waltz", "march")):
        write_page(tmp_path / f"{name}.png", seed)
        write_recording(tmp_path / f"{name}_take.wav", seed)
    return tmp_path


@pytest.fixture
def finder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Finder]:
    """A new collection with two scores and two recordings; the encoder is a stand-in."""
    monkeypatch.setattr(Engine, "load", lambda *_, **__: engine_of(FakeEncoder()))
    with engine.open(folder / "music.sf", create=True) as finder:
        for name in ("etude.png", "waltz.png", "etude_take.wav", "waltz_take.wav"):
            assert finder.add(folder / name) == "added"
        yield finder


def ids(answer: Answer) -> list[str]:
    return [match.document.id for match in answer.matches]


def test_a_recording_is_transposed_and_brought_to_its_speed_before_it_is_searched_for(
    finder: Finder, folder: Path
) -> None:
    sound, rate = soundfile.read(folder / "etude_take.wav")
    soundfile.write(
        folder / "slow.wav", np.interp(np.arange(0, len(sound) - 1, 0.5), np.arange(len(sound)), sound), rate
    )
    slow = finder.query(folder / "slow.wav", among="recording", speed=0.5, path=True)
    plain = finder.query(folder / "etude_take.wav", among="recording")
    assert (ids(slow)[0], slow.transposed) == ("etude_take", 0.0)
    assert slow.matches[0].cost == pytest.approx(plain.matches[0].cost, abs=0.05)
    assert slow.matches[0].path[-1].query.s == pytest.approx(2 * slow.matches[0].path[-1].document.s, rel=0.1)
    higher = finder.query(folder / "etude_take.wav", among="recording", transpose=[2.0])
    assert higher.transposed == 2.0
    assert higher.matches[0].cost > plain.matches[0].cost + 0.05


def test_a_score_cannot_be_transposed(finder: Finder, folder: Path) -> None:
    with pytest.raises(QueryError, match="expected a recording to transpose, got a score"):
        finder.query(folder / "etude.png", transpose=[1.0])


def test_a_file_is_asked_among_the_other_kind_unless_another_is_said(finder: Finder, folder: Path) -> None:
    answer = finder.query(folder / "waltz_take.wav", start_s=2, end_s=8)
    assert sorted(ids(answer)) == ["etude", "waltz"]
    assert next(iter(answer.timings_ms)) == "embed"
    assert answer.timings_ms["total"] >= answer.timings_ms["embed"]
    alike = finder.query(str(folder / "waltz_take.wav"), start_s=2, end_s=8, among="recording", top=1)
    assert ids(alike) == ["waltz_take"]
    assert alike.matches[0].place.start_s == pytest.approx(2, abs=0.5)


def test_samples_are_found_as_their_file_is(finder: Finder, folder: Path) -> None:
    samples, rate = soundfile.read(folder / "waltz_take.wav")
    of_file = finder.query(folder / "waltz_take.wav", among="recording", path=True)
    for given in (samples, np.column_stack([samples, samples])):
        found = finder.query_samples(given, rate, among="recording", path=True)
        assert ids(found) == ids(of_file)
        assert found.matches[0].path == of_file.matches[0].path
        assert found.matches[0].cost == pytest.approx(of_file.matches[0].cost, abs=1e-4)


def test_page_images_are_found_as_their_file_is(finder: Finder, folder: Path) -> None:
    page = cv2.imread(str(folder / "etude.png"))
    of_file = finder.query(folder / "etude.png", among="score", path=True)
    for given in (page, page[:, :, 0], [page]):
        assert finder.query_pages(given, among="score", path=True).matches == of_file.matches
    assert ids(of_file)[0] == "etude"
    twice = finder.query_pages([page, page], among="score")
    assert ids(twice)[0] == "etude"


@pytest.mark.parametrize(
    ("samples", "rate", "cause"),
    [
        (np.zeros(200_000), 44100, "is silent"),
        (np.zeros(0), 44100, "holds no audio"),
        (np.zeros((0, 2)), 44100, "holds no audio"),
        (np.zeros((5, 0)), 44100, "holds no audio"),
        (np.ones(1000), 44100, "too short"),
        (np.ones(200_000), 44, "expected a sampling rate"),
        (np.ones(200_000, np.int16), 44100, "expected float"),
        (np.full(200_000, np.nan), 44100, "not finite"),
    ],
)
def test_samples_that_are_no_recording_are_refused(finder: Finder, samples: np.ndarray, rate: int, cause: str) -> None:
    with pytest.raises(AudioError, match=f"samples: .*{cause}"):
        finder.query_samples(samples, rate)


@pytest.mark.parametrize(
    "image", [np.zeros((500, 500)), np.zeros((500, 500, 4), np.uint8), np.zeros((500, 4), np.uint8)]
)
def test_arrays_that_are_no_pages_are_refused(finder: Finder, image: np.ndarray) -> None:
    with pytest.raises(PageError, match="expected uint8"):
        finder.query_pages(image)


def test_what_is_added_is_found_and_what_is_removed_is_not(finder: Finder, folder: Path) -> None:
    assert "march" not in ids(finder.query(folder / "march.png", among="score"))
    assert finder.add(folder / "march.png", id="op1", title="Marche", composer="Anon", work="Op. 1") == "added"
    (best,) = finder.query(folder / "march.png", among="score", top=1).matches
    said = best.document
    assert (said.id, said.title, said.composer, said.work, said.pages) == ("op1", "Marche", "Anon", "Op. 1", 1)
    finder.remove("op1", "etude")
    assert ids(finder.query(folder / "march.png", among="score")) == ["waltz"]


def test_adding_the_same_again_changes_nothing_and_other_content_needs_replace(finder: Finder, folder: Path) -> None:
    generation = finder.collection.generation
    assert finder.add(folder / "etude.png") == "unchanged"
    assert finder.collection.generation == generation
    assert finder.add(folder / "etude.png", title="Étude") == "changed"
    with pytest.raises(DocumentExistsError, match="'etude' is the score made from"):
        finder.add(folder / "march.png", id="etude")
    assert finder.add(folder / "march.png", id="etude", replace=True) == "changed"


def test_removing_what_is_not_there_removes_nothing(finder: Finder, folder: Path) -> None:
    with pytest.raises(DocumentMissingError):
        finder.remove("etude", "nobody")
    assert finder.collection.count == 4


def test_a_collection_that_is_not_there_is_made_only_if_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finders.Engine, "load", lambda *_, **__: engine_of(FakeEncoder()))
    with pytest.raises(CollectionMissingError):
        engine.open(tmp_path / "none.sf")
    with engine.open(tmp_path / "new.sf", create=True) as finder:
        assert finder.collection.count == 0


def test_every_public_name_is_there_and_an_unknown_one_is_not() -> None:
    for name in engine.__all__:
        assert getattr(engine, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        engine.nothing  # noqa: B018


def test_importing_the_engine_loads_no_library() -> None:
    program = (
        "import sys, engine; print([name for name in ('numpy', 'numba', 'torch', 'librosa') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
