"""What the benches call aligning all documents is the ranking of the search."""

from pathlib import Path

import numpy as np
import pytest

from bench import distractors, shortlist, symbols
from bench.lib import exhaustive
from bench.lib.queries import AMONG, LabelledQuery
from bench.scale import ScaleBench
from bench.symbols import Fragment
from engine import alignment
from engine.audio import SAMPLE_RATE
from engine.collection import Collection
from engine.config import SearchSettings
from engine.embedding import documents
from engine.search.searcher import Query, Searcher
from engine.values import RECORDING_PLACE, SnippetSequence
from fake_encoder import FakeEncoder, engine_of

BACKEND = alignment.choose("cpu", threads=1)
JUMPING = [*range(60, 72), *range(12), *range(90, 102), *range(30, 42)]
"""Snippets of piece 1 that a query holds: three jumps."""
STILL = 24
"""Snippets of a query, after these, in which nothing changes."""


@pytest.fixture
def query(collection: Collection) -> LabelledQuery:
    """A recording nearest to piece 1 if jumps are cheap, and to piece 2, which it holds in one run, if they are not."""
    jumping, straight = (collection.sequence(f"piece{number}.played").embeddings for number in (1, 2))
    rows = 0.7 * jumping[JUMPING] + 0.6 * straight[: len(JUMPING)]
    rows = np.concatenate([rows, np.repeat(straight[-1:], STILL, axis=0)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sequence = SnippetSequence(
        kind="recording",
        embeddings=rows.astype(np.float32),
        places=np.zeros(len(rows), RECORDING_PLACE),
        bias=np.zeros(len(rows), np.float32),
    )
    return LabelledQuery(direction="A2S", form="10 s", piece="piece1", truth="piece1", sequence=sequence)


@pytest.fixture
def keys(collection: Collection, query: LabelledQuery) -> list[float]:
    """The costs by which a search ranks the documents, in the order of their addition."""
    asked = Query(sequence=query.sequence, among="score", method="exhaustive")
    found = Searcher(collection, SearchSettings(threads=1)).ranking(asked)
    by_id = dict(zip(found.ids, found.keys.tolist(), strict=True))
    return [by_id[id] for id in collection.ids("score")]


def test_the_costs_are_those_that_rank_a_search(
    collection: Collection, query: LabelledQuery, keys: list[float]
) -> None:
    costs = exhaustive.costs([query.sequence.embeddings] * 2, collection.packed("score"), BACKEND)
    assert costs.tolist() == [keys, keys]


def test_all_documents_of_the_shortlist_are_ranked_as_by_a_search(
    collection: Collection, query: LabelledQuery, keys: list[float]
) -> None:
    ranking = shortlist.align_all(shortlist.gather(collection, "score"), query.sequence.embeddings)
    assert ranking.tolist() == np.argsort(keys).tolist()


def test_the_crowd_of_the_distractors_has_the_costs_of_a_search(
    collection: Collection, query: LabelledQuery, keys: list[float]
) -> None:
    (costs,) = distractors._costs([query], collection.packed("score"), BACKEND)
    assert costs.tolist() == keys


def test_the_fragments_beside_the_rival_have_the_costs_of_a_search(
    collection: Collection, query: LabelledQuery, keys: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "sequences", lambda *_: [query.sequence])
    noise = np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE).astype(np.float32)
    fragment = Fragment(piece=1, samples=noise, length_s=5, sound="")
    found = symbols.by_scorefind(fragment, collection.packed("score"), FakeEncoder(), BACKEND)  # type: ignore[arg-type]
    assert found.costs.tolist() == keys


def test_every_size_is_compared_with_the_costs_of_a_search(
    tmp_path: Path, collection: Collection, query: LabelledQuery, keys: list[float]
) -> None:
    """Costs that an earlier version kept in the folder, with another penalty of jumps, are not read."""
    digest = collection.manifest.digest[:12]
    np.save(tmp_path / f"costs-{digest}-A2S-10-s.npy", np.zeros((1, 4), np.float32))
    bench = ScaleBench(asked=[query], engine=engine_of(FakeEncoder()))
    measured = [{"kinds": {"score": {"documents": 4}}}]
    truth = bench.exhaustive(tmp_path, measured)["A2S", "10 s"]
    assert truth.winners == [[collection.ids(AMONG["A2S"])[int(np.argmin(keys))]]]
    kept = [np.load(path).tolist() for path in tmp_path.glob("costs-*-jump-*.npy")]
    assert kept == [[keys]]
