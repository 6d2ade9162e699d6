"""A score and a recording without a collection; the network is a stand-in."""

from pathlib import Path

import numpy as np
import pytest

from engine import alignment
from engine.config import Alignment, FrontEnd
from engine.embedding import documents
from engine.errors import MediaError
from engine.pairing import AlignedPair, EmbeddedDocument, FinerEncoder, align, align_files
from engine.values import RECORDING_PLACE, SCORE_PLACE, Box, Document, SnippetSequence, System
from fake_encoder import FakeEncoder
from media import write_page, write_recording

BACKEND = alignment.choose("cpu", threads=1)
COUNT = 60


def embedded(rng: np.random.Generator) -> tuple[EmbeddedDocument, EmbeddedDocument]:
    """A score of three systems and a recording with the same embeddings: an excerpt each half second."""
    embeddings = rng.standard_normal((COUNT, 32)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    box = Box(x0=0.1, y0=0.1, x1=0.9, y1=0.2)
    systems = tuple(
        System(page=1, number=n, box=box, staves=(box,), staff_space=0.01, confidence=1.0) for n in (1, 2, 3)
    )
    seen = np.zeros(COUNT, SCORE_PLACE)
    seen["system"] = seen["end_system"] = 1 + np.arange(COUNT) // 20
    seen["x"] = seen["end_x"] = 0.1 + np.arange(COUNT) % 20 / 20 * 0.8
    heard = np.zeros(COUNT, RECORDING_PLACE)
    heard["start_s"] = np.arange(COUNT) / 2
    heard["end_s"] = heard["start_s"] + 4
    bias = np.zeros(COUNT, np.float32)
    score = SnippetSequence(kind="score", embeddings=embeddings, places=seen, bias=bias)
    recording = SnippetSequence(kind="recording", embeddings=embeddings, places=heard, bias=bias)
    return (
        EmbeddedDocument(document=Document(id="etude", kind="score", systems=systems), sequence=score),
        EmbeddedDocument(document=Document(id="take", kind="recording", duration_s=34.0), sequence=recording),
    )


def test_a_recording_runs_through_its_score() -> None:
    score, recording = embedded(np.random.default_rng(0))
    pair = align(score, recording, BACKEND, Alignment())
    assert pair.cost == pytest.approx(0, abs=0.01)
    assert not pair.is_doubtful
    assert [stretch.system.number for stretch in pair.time_map.stretches] == [1, 2, 3]
    assert pair.table().splitlines()[0].startswith("0:00-0:1")
    assert pair.table().splitlines()[2].endswith("p. 1, system 3")
    assert pair.as_dict()["measures"] == []


def test_other_music_is_doubtful() -> None:
    score, _ = embedded(np.random.default_rng(0))
    _, recording = embedded(np.random.default_rng(1))
    assert align(score, recording, BACKEND, Alignment()).is_doubtful


def test_a_recording_that_no_path_leads_through_is_an_error() -> None:
    score, recording = embedded(np.random.default_rng(0))
    short = EmbeddedDocument(document=score.document, sequence=score.sequence.part(slice(1)))
    with pytest.raises(MediaError, match="cannot be aligned"):
        align(short, recording, BACKEND, Alignment(jump_penalty=np.inf))


def files_pair(folder: Path) -> AlignedPair:
    page, take = write_page(folder / "etude.png", seed=1), write_recording(folder / "take.flac", seed=1, seconds=20)
    return align_files(page, take, FakeEncoder(), BACKEND, Alignment())


def test_two_files_are_aligned_with_their_measures(tmp_path: Path) -> None:
    pair = files_pair(tmp_path)
    assert len(pair.measures) == 12
    facts = pair.as_dict()
    assert facts["score"].endswith("etude.png")
    assert facts["duration_s"] == pytest.approx(20, abs=0.1)
    assert {one["measure"] for one in facts["measures"]} <= set(range(1, 13))
    assert all(one["start_s"] < one["end_s"] for one in facts["measures"])


def test_snippets_of_files_lie_twice_as_close_as_in_a_collection(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    recording = documents.read(write_recording(tmp_path / "a.flac", seed=1), "recording", FrontEnd())
    coarse, fine = (
        documents.sequences([recording], encoder)[0],
        documents.sequences([recording], FinerEncoder(encoder))[0],
    )
    assert np.diff(coarse.places["start_s"][:2]) == pytest.approx(0.5)
    assert np.diff(fine.places["start_s"][:2]) == pytest.approx(0.25)
    assert np.array_equal(fine.embeddings[::2][: len(coarse)], coarse.embeddings)


def test_a_file_that_is_no_score_is_an_error(tmp_path: Path) -> None:
    take = write_recording(tmp_path / "take.flac", seed=1)
    with pytest.raises(MediaError, match=r"take\.flac"):
        align_files(take, take, FakeEncoder(), BACKEND, Alignment())
