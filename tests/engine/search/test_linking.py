"""Documents of one work find each other; volumes and documents alike by chance do not link what is not."""

from pathlib import Path

import numpy as np
import pytest

from collection_samples import embeddings
from engine import alignment
from engine.collection import Collection, CollectionWriter
from engine.config import Alignment, SearchSettings
from engine.embedding.documents import recording_places
from engine.search.linking import DocumentLink, Linker, proposed
from engine.search.searcher import Searcher
from engine.values import Document, Embeddings, Kind, SnippetSequence
from paired_collection import NETWORK

BACKEND = alignment.choose("cpu", threads=1)


def like(music: Embeddings, cosine: float, seed: int) -> Embeddings:
    """Embeddings that have this cosine with those of some music, snippet by snippet."""
    noise = np.random.default_rng(seed).standard_normal(music.shape).astype(np.float32)
    noise -= np.sum(noise * music, axis=1, keepdims=True) * music
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return np.asarray(cosine * music + np.sqrt(1 - cosine**2) * noise, np.float32)


def links(path: Path, **recordings: Embeddings) -> list[DocumentLink]:
    with CollectionWriter(path, NETWORK) as writer:
        for id, music in recordings.items():
            places = recording_places(0.0, len(music), NETWORK.front_end)
            bias = np.zeros(len(music), np.float32)
            sequence = SnippetSequence(kind="recording", embeddings=music, places=places, bias=bias)
            writer.put(Document(id=id, kind="recording"), sequence)
        writer.commit()
    with Collection.open(path) as collection:
        searcher = Searcher(collection, SearchSettings(threads=1), BACKEND)
        return Linker(collection, searcher, BACKEND, Alignment()).links()


def test_two_performances_of_a_piece_are_linked_and_others_are_not(tmp_path: Path) -> None:
    music = embeddings(120, 1)
    (link,) = links(tmp_path / "c", a=music, b=like(music, 0.75, 2), c=embeddings(120, 3), d=like(music, 0.55, 4))
    assert link.ids == ("a", "b")
    assert link.confidence > 0.9


def test_a_recital_is_not_linked_to_a_piece_in_it(tmp_path: Path) -> None:
    one, other = embeddings(120, 1), embeddings(120, 2)
    assert links(tmp_path / "c", one=one, other=other, recital=np.concatenate([one, other])) == []


def test_what_is_too_short_to_be_sure_is_not_linked(tmp_path: Path) -> None:
    music = embeddings(120, 1)
    assert links(tmp_path / "c", whole=music[:23], part=music[:23]) == []


def document(id: str, kind: Kind = "score", title: str = "", work: str = "") -> Document:
    return Document(id=id, kind=kind, title=title, work=work)


def link(one: str, other: str, confidence: float) -> DocumentLink:
    return DocumentLink(ids=(one, other), confidence=confidence)


def test_links_make_works_of_scores_and_then_recordings() -> None:
    documents = [document("r", "recording"), document("s", title="Sonata"), document("t"), document("alone")]
    (work,) = proposed([link("r", "s", 0.9), link("s", "t", 0.7)], documents)
    assert (work.name, [member.document.id for member in work.members]) == ("Sonata", ["s", "t", "r"])
    assert [(member.confidence, member.linked) for member in work.members] == [(0.9, "r"), (0.7, "s"), (0.9, "s")]


@pytest.mark.parametrize(
    ("documents", "name"),
    [
        ([document("a", title="Menuet", work="K. 1"), document("b", title="Menuet")], "K. 1"),
        ([document("a", title="Menuet"), document("b"), document("c", work="menuet")], "Menuet (a)"),
        ([document("a"), document("b")], "a"),
    ],
)
def test_a_work_has_the_name_it_has_or_a_name_that_no_other_has(documents: list[Document], name: str) -> None:
    (work,) = proposed([link("a", "b", 0.9)], documents)
    assert work.name == name
