"""A box on a page of one edition is carried to another edition, and to a recording."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from collection_samples import embeddings
from engine import alignment
from engine.collection import Collection, CollectionWriter
from engine.config import Alignment
from engine.embedding.documents import recording_places
from engine.errors import QueryError
from engine.search.carrying import Carried, carry
from engine.values import Box, Document, SnippetSequence
from laid_out_scores import score, systems
from paired_collection import NETWORK

BACKEND = alignment.choose("cpu", threads=1)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    """An edition; one with five systems of other music before it; and a recording, half a second a snippet."""
    music = embeddings(30, 1)
    other = np.concatenate([embeddings(50, 2), music])
    played = SnippetSequence(
        kind="recording",
        embeddings=music,
        places=recording_places(0.0, len(music), NETWORK.front_end),
        bias=np.zeros(len(music), np.float32),
    )
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        writer.put(Document(id="old", kind="score", pages=1, systems=systems(4)), score(music))
        writer.put(Document(id="new", kind="score", pages=3, systems=systems(9)), score(other))
        writer.put(Document(id="played", kind="recording", duration_s=18.7), played)
        writer.commit()
    with Collection.open(tmp_path / "c") as opened:
        yield opened


def carried(collection: Collection, box: Box, to: str, page: int = 1) -> Carried:
    return carry(collection, "old", page, box, to, BACKEND, Alignment())


def test_a_box_in_a_system_is_carried_to_the_system_of_the_other_edition(collection: Collection) -> None:
    (part,) = carried(collection, Box(x0=0.3, y0=0.42, x1=0.5, y1=0.45), "new").parts
    assert part.system is not None
    assert (part.system.page, part.system.number) == (2, 7)  # the second system, five systems later
    assert (part.start, part.end) == (pytest.approx(0.3, abs=1e-3), pytest.approx(0.5, abs=1e-3))


def test_a_box_over_systems_is_carried_to_all_of_them(collection: Collection) -> None:
    found = carried(collection, Box(x0=0.0, y0=0.05, x1=1.0, y1=0.55), "new")
    assert [part.system.number for part in found.parts if part.system] == [6, 7]
    assert [(round(part.start, 2), round(part.end, 2)) for part in found.parts] == [(0.1, 0.9), (0.1, 0.9)]
    assert found.cost == pytest.approx(0, abs=1e-3)


def test_a_strain_that_is_printed_twice_is_carried_to_its_own_print(tmp_path: Path) -> None:
    """The second print of the strain is a little more like the first edition's than the first print is."""
    strain, middle = embeddings(10, 1), embeddings(10, 2)
    worn = 0.9 * strain + 0.1 * embeddings(10, 3)
    worn /= np.linalg.norm(worn, axis=1, keepdims=True)
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        for id, music in (("old", [strain, middle, strain]), ("new", [worn, middle, strain])):
            sequence = score(np.concatenate(music))
            writer.put(Document(id=id, kind="score", pages=1, systems=systems(4)), sequence)
        writer.commit()
    with Collection.open(tmp_path / "c") as collection:
        (part,) = carried(collection, Box(x0=0.4, y0=0.1, x1=0.6, y1=0.2), "new").parts
    assert part.system is not None
    assert (part.system.number, round(part.start, 2)) == (1, 0.4)


def test_a_narrow_box_is_carried_where_the_other_edition_is_printed_closer(tmp_path: Path) -> None:
    """Two snippets of the wide edition match one of the close one."""
    music = embeddings(20, 1)
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        writer.put(Document(id="old", kind="score", systems=systems(5)), score(music.repeat(2, axis=0)))
        writer.put(Document(id="new", kind="score", systems=systems(3)), score(music))
        writer.commit()
    with Collection.open(tmp_path / "c") as collection:
        for x in (0.3, 0.34, 0.38, 0.42):
            (part,) = carried(collection, Box(x0=x, y0=0.4, x1=x + 0.01, y1=0.5), "new").parts
            assert part.end - part.start == pytest.approx(0.005, abs=0.001)


def test_a_box_is_carried_to_the_seconds_of_a_recording(collection: Collection) -> None:
    (part,) = carried(collection, Box(x0=0.1, y0=0.42, x1=0.9, y1=0.45), "played").parts
    # Staff spaces 80 to 160 of the score are snippets 8 to 18 by their middles, which are heard 2.1 s after they start.
    assert (part.system, part.start, part.end) == (None, pytest.approx(6.1, abs=1e-3), pytest.approx(11.1, abs=1e-3))


def test_what_cannot_be_carried_is_refused_with_the_reason(collection: Collection) -> None:
    with pytest.raises(QueryError, match="no system on page 1 reaches into the box"):
        carried(collection, Box(x0=0.1, y0=0.22, x1=0.9, y1=0.3), "new")
    with pytest.raises(QueryError, match="no system on page 3"):
        carried(collection, Box(x0=0.1, y0=0.1, x1=0.9, y1=0.2), "new", page=3)
    with pytest.raises(QueryError, match="played: expected a score"):
        carry(collection, "played", 1, Box(x0=0, y0=0, x1=1, y1=1), "new", BACKEND, Alignment())


def test_documents_that_have_no_path_are_refused_with_both_names(tmp_path: Path) -> None:
    """Without jumps, 30 snippets of a score cannot be played in two of a recording."""
    music = embeddings(30, 1)
    places = recording_places(0.0, 2, NETWORK.front_end)
    tiny = SnippetSequence(kind="recording", embeddings=music[:2], places=places, bias=np.zeros(2, np.float32))
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        writer.put(Document(id="old", kind="score", pages=1, systems=systems(4)), score(music))
        writer.put(Document(id="tiny", kind="recording", duration_s=4.7), tiny)
        writer.commit()
    box = Box(x0=0.1, y0=0.1, x1=0.9, y1=0.2)
    with (
        Collection.open(tmp_path / "c") as collection,
        pytest.raises(QueryError, match="old and tiny cannot be aligned: one of both is too short"),
    ):
        carry(collection, "old", 1, box, "tiny", BACKEND, Alignment(jump_penalty=float("inf")))
