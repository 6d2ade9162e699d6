"""A collection in shards answers as the same collection in one, to the last bit, and says what it did not see."""

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import sharded_collection
from collection_samples import NETWORK, packed
from engine import alignment
from engine.alignment import Backend
from engine.collection import Collection, CollectionWriter, ShardedCollection, open_collection
from engine.collection.manifest import KINDS
from engine.config import Alignment, SearchSettings
from engine.embedding.documents import recording_sequence
from engine.errors import ShardLostError
from engine.evening import LiveEvening
from engine.neighbours import AmendedIndex, Neighbours, cells
from engine.search import setlist, shard
from engine.search.answers import as_dict, table
from engine.search.confidence import Calibration, Scale
from engine.search.searcher import Query, Searcher
from engine.search.segmentation import Evening, Segmenter
from engine.search.shard import Aligner, CollectionShard, Positions
from engine.search.shards import Shards
from engine.values import Answer, Embeddings, Kind, Method, SnippetSequence, UnseenShard
from fake_encoder import FakeEncoder

METHODS = get_args(Method)
COUNTS = (1, 2, 4, 7)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sharded_collection.write(tmp_path_factory.mktemp("plain") / "music.sf")


@pytest.fixture(scope="module")
def backend() -> Backend:
    return alignment.choose("cpu", threads=1)


def calibration() -> Calibration:
    """Judges alone and with rests."""
    rng = np.random.default_rng(5)
    scale = Scale(
        background=packed(rng.standard_normal((200, 32)).astype(np.float32)),
        coefficients=np.array([4.0, -9.0, -7.0, 0.3, -0.1, 0.2, 0.02, 0.05]),
        rest_coefficients=np.array([-2.0, 0.8, -0.6, 0.9, 0.1, -0.1]),
    )
    background = replace(scale.background, offsets=np.arange(0, 201, 10, dtype=np.int64))
    scale = replace(scale, background=background)
    return Calibration(
        network=NETWORK, alignment=Alignment(), scales={"score": scale, "recording": scale}, rest_price=0.6
    )


def searcher(collection: Collection | ShardedCollection | Shards, backend: Backend, **settings: int) -> Searcher:
    return Searcher(collection, SearchSettings(threads=1, **settings), backend, calibration())  # type: ignore[arg-type]


def told(answer: Answer, query: Query, collection: Collection | ShardedCollection) -> str:
    """All that a user is told, but for the times and the generation."""
    found = as_dict(answer, query.sequence.kind, query.among, collection)
    del found["timings_ms"], found["collection"]["generation"]
    return json.dumps(found, default=float)


def asked(method: Method) -> Iterator[Query]:
    for number in range(0, 60, 7 if method == "refine" else 20):
        kind: Kind = "recording" if number % 2 else "score"
        among: Kind = "score" if kind == "recording" else "recording"
        sequence = sharded_collection.heard(number, 14 if number % 3 else 30, kind)
        yield Query(sequence=sequence, among=among, method=method, top=70, locate=False)
        if number < 8:
            yield Query(sequence=sequence, among=among, method=method, top=4, path=kind == "recording")


@pytest.fixture(scope="module")
def in_shards(plain: Path) -> dict[int, Path]:
    return {count: sharded_collection.split(plain, count) for count in COUNTS}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("method", METHODS)
def test_shards_answer_as_one_collection(
    plain: Path, in_shards: dict[int, Path], backend: Backend, method: Method, count: int
) -> None:
    with open_collection(plain) as one, open_collection(in_shards[count]) as many:
        for query in asked(method):
            expected = told(searcher(one, backend).answers([query])[0], query, one)
            assert told(searcher(many, backend).answers([query])[0], query, many) == expected


@pytest.mark.parametrize("shortlist", [0, 5])
@pytest.mark.parametrize("method", METHODS)
def test_a_kind_that_no_shard_has_is_searched_without_result(
    tmp_path: Path, backend: Backend, method: Method, shortlist: int
) -> None:
    with CollectionWriter(tmp_path / "scores.sf", NETWORK) as writer:
        writer.put(*sharded_collection.made("score", 0))
        writer.put(*sharded_collection.made("score", 1))
        writer.commit()
    query = Query(sequence=sharded_collection.heard(3, 14, "score"), among="recording", method=method, top=5)
    for path in (tmp_path / "scores.sf", sharded_collection.split(tmp_path / "scores.sf", 2)):
        with open_collection(path) as collection:
            (answer,) = searcher(collection, backend, shortlist=shortlist).answers([query])
            assert answer.matches == ()


def test_shards_find_the_neighbours_that_cells_of_one_collection_find(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One collection searches 64 of its cells, and so do its shards; other cells, or all rows, give other votes.

    No two documents are the same here: which of equal rows is the last neighbour is left to FAISS.
    """
    monkeypatch.setattr(cells, "EXACT_ROWS", 1000)
    monkeypatch.setattr(cells, "CELL_ROWS", 4)
    copy, numbers = tmp_path / "music.sf", [n for n in range(sharded_collection.DOCUMENTS) if n % 7 != 6]
    with CollectionWriter(copy, NETWORK) as writer:
        for part in (numbers[:40], numbers[40:]):  # the index has the first forty of each kind
            for number, kind in itertools.product(part, KINDS):
                writer.put(*sharded_collection.made(kind, number))
            writer.commit()
    into = sharded_collection.split(copy, 4)
    with open_collection(copy) as one, open_collection(into) as many:
        for method in ("vote", "fingerprint", "refine"):
            for query in asked(method):
                expected, found = (searcher(each, backend, shortlist=5).answers([query])[0] for each in (one, many))
                assert expected.plan is not None
                assert expected.plan.probes > 0
                assert told(found, query, many) == told(expected, query, one)
        assert isinstance(one, Collection)
        assert one.index("score").cells > 250
        assert isinstance(one.index("score"), AmendedIndex)


def test_a_shortlist_is_that_of_all_shards_together(plain: Path, in_shards: dict[int, Path], backend: Backend) -> None:
    with open_collection(plain) as one, open_collection(in_shards[4]) as many:
        for query in asked("refine"):
            answers = [searcher(each, backend, shortlist=5).answers([query])[0] for each in (one, many)]
            assert answers[0].plan is not None
            assert answers[0].plan.aligned == 5
            assert told(answers[1], query, many) == told(answers[0], query, one)


def test_queries_together_have_the_answers_of_each_alone(in_shards: dict[int, Path], backend: Backend) -> None:
    queries = [query for method in METHODS for query in asked(method)][::5]
    with open_collection(in_shards[4]) as many:
        asking = searcher(many, backend)
        alone = [told(asking.answers([query])[0], query, many) for query in queries]
        together = asking.answers(queries)
        assert [told(*pair, many) for pair in zip(together, queries, strict=True)] == alone


class Failing(CollectionShard):
    """A shard that answers some calls and no more."""

    def __init__(self, shard: CollectionShard, name: str, calls: int) -> None:
        self.__dict__.update(shard.__dict__)
        self.name = name
        self.calls = calls

    def nearest(self, kind: Kind, query: Embeddings, neighbours: int, probes: int, cells: int) -> Neighbours:
        self._count()
        return super().nearest(kind, query, neighbours, probes, cells)

    def aligner(self, kind: Kind, documents: Positions | None) -> Aligner:
        self._count()
        return super().aligner(kind, documents)

    def sequences(self, kind: Kind, chosen: Sequence[int]) -> list[SnippetSequence]:
        self._count()
        return super().sequences(kind, chosen)

    def _count(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise ShardLostError(frozenset({self.name}), "it was switched off")


@pytest.mark.parametrize("calls", range(4))
@pytest.mark.parametrize("method", ["refine", "exhaustive", "fingerprint"])
def test_without_a_shard_the_answer_is_that_of_the_others_and_says_so(
    in_shards: dict[int, Path], backend: Backend, method: Method, calls: int
) -> None:
    with open_collection(in_shards[4]) as many:
        assert isinstance(many, ShardedCollection)
        shards = {name: CollectionShard(part, backend, 1) for name, part in many.parts.items()}
        lost = "shard-002"
        others = searcher(Shards({name: one for name, one in shards.items() if name != lost}), backend, shortlist=9)
        for query in asked(method):
            failing = Shards(shards | {lost: Failing(shards[lost], lost, calls)})
            answer = searcher(failing, backend, shortlist=9).answers([query])[0]
            if not answer.unseen:  # it was not asked so often
                assert calls > 0
                continue
            counts = {kind: part.documents for kind, part in many.parts[lost].kinds.items()}
            assert answer.unseen == (UnseenShard(name=lost, documents=counts),)
            expected = others.answers([query])[0]
            assert answer.plan is not None
            assert answer.plan.documents == len(many.ids(query.among)) - counts[query.among]
            assert told(replace(answer, unseen=()), query, many) == told(expected, query, many)
            table_of = table(as_dict(answer, query.sequence.kind, query.among, many))
            assert f"incomplete: {sum(counts.values())} documents were not searched, because {lost}" in table_of


@pytest.mark.parametrize("calls", [0, 1, 9, 12, 13])
def test_an_evening_is_searched_again_without_a_shard_that_is_lost(
    in_shards: dict[int, Path], backend: Backend, calls: int
) -> None:
    """The shard is asked 14 times: to rank, for the documents of chains, and for that of a passage."""
    parts = [sharded_collection.made("score", number)[1].embeddings for number in (3, 10, 20)]
    evening = Evening(sequence=recording_sequence(np.concatenate(parts), 0.0, NETWORK.front_end), among="score")
    with open_collection(in_shards[4]) as many:
        assert isinstance(many, ShardedCollection)
        shards = {name: CollectionShard(part, backend, 1) for name, part in many.parts.items()}
        lost = "shard-001"
        others = Shards({name: one for name, one in shards.items() if name != lost})
        failing = Shards(shards | {lost: Failing(shards[lost], lost, calls)})
        expected, found, whole = (
            Segmenter(searcher(parts, backend), backend, None, Alignment()).found(evening)
            for parts in (others, failing, Shards(shards))
        )
        counts = {kind: part.documents for kind, part in many.parts[lost].kinds.items()}
        assert len(whole.passages) > len(expected.passages) > 0
        assert found.passages == expected.passages
        assert found.unseen == (UnseenShard(name=lost, documents=counts),)
        set_list = setlist.as_dict(found, "recording", "score", 60.0, many)
    line = f"incomplete: {sum(counts.values())} documents were not searched, because {lost} did not answer"
    assert setlist.table(set_list).splitlines()[-1] == line
    assert setlist.table(set_list | {"passages": []}).splitlines()[-1] == line


def test_an_evening_that_goes_on_names_the_shards_that_are_not_searched(
    in_shards: dict[int, Path], backend: Backend
) -> None:
    """A step fails while a shard is lost. The next one goes on with all that was heard, when the loss is known."""
    going_on = LiveEvening(22050, NETWORK.front_end, "score")
    with open_collection(in_shards[4]) as many:
        assert isinstance(many, ShardedCollection)
        shards = {name: CollectionShard(part, backend, 1) for name, part in many.parts.items()}
        failing = Shards(shards | {"shard-001": Failing(shards["shard-001"], "shard-001", 0)})
        without = failing.without(frozenset({"shard-001"}))
        lost, rest = (Segmenter(searcher(one, backend), backend, None, Alignment()) for one in (failing, without))
        going_on.hear(np.random.default_rng(0).standard_normal(15 * 22050).astype(np.float32) / 10)
        with pytest.raises(ShardLostError, match="switched off"):
            going_on.find(FakeEncoder(), lost)
        assert going_on.as_dict(many)["unseen"] == []
        going_on.find(FakeEncoder(), rest, all=True)
        found = going_on.as_dict(many)
    assert [one["name"] for one in found["unseen"]] == ["shard-001"]


def test_an_evening_has_an_error_without_any_shard(in_shards: dict[int, Path], backend: Backend) -> None:
    music = sharded_collection.made("score", 3)[1].embeddings
    evening = Evening(sequence=recording_sequence(music, 0.0, NETWORK.front_end), among="score")
    with open_collection(in_shards[2]) as many:
        assert isinstance(many, ShardedCollection)
        shards = Shards(
            {name: Failing(CollectionShard(part, backend, 1), name, 0) for name, part in many.parts.items()}
        )
        with pytest.raises(ShardLostError, match="no shard answers"):
            Segmenter(searcher(shards, backend), backend, None, Alignment()).found(evening)


def test_without_any_shard_there_is_an_error(in_shards: dict[int, Path], backend: Backend) -> None:
    with open_collection(in_shards[2]) as many:
        assert isinstance(many, ShardedCollection)
        shards = Shards(
            {name: Failing(CollectionShard(part, backend, 1), name, 0) for name, part in many.parts.items()}
        )
        with pytest.raises(ShardLostError, match="no shard answers"):
            searcher(shards, backend).answers([next(asked("refine"))])


def test_the_times_tell_how_long_each_shard_took(in_shards: dict[int, Path], backend: Backend) -> None:
    with open_collection(in_shards[2]) as many:
        times_ms = searcher(many, backend, shortlist=5).answers([next(asked("refine"))])[0].timings_ms
    stages = ("neighbours", "read", "align", "fetch")
    assert {f"{stage} shard-00{number}" for stage in stages for number in (0, 1)} <= times_ms.keys()
    assert times_ms["align shard-000"] + times_ms["align shard-001"] <= times_ms["total"]


def test_the_first_of_equal_documents_votes_at_the_last_place(plain: Path, backend: Backend) -> None:
    """Documents 5 and 6 are the same, and one vote a snippet is given."""
    with open_collection(plain) as one:
        answer = Searcher(one, SearchSettings(threads=1, neighbours=1), backend).query(
            sharded_collection.made("score", 6)[1], "score", "vote"
        )
    assert [match.document.id for match in answer.matches[:1]] == [sharded_collection.made("score", 5)[0].id]


def test_a_shard_with_fewer_cells_searches_fewer(
    plain: Path, tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for 64 of 1,000 cells, a shard with some 64 searches MIN_PROBES, with 500 half, with as many all."""
    monkeypatch.setattr(cells, "EXACT_ROWS", 0)
    monkeypatch.setattr(cells, "CELL_ROWS", 50)
    copy = Path(shutil.copytree(plain, tmp_path / "music.sf"))
    with CollectionWriter(copy, NETWORK) as writer:
        writer.build()
    asked: list[int] = []
    with Collection.open(copy, NETWORK) as collection:
        own = collection.index("score").cells
        monkeypatch.setattr(shard, "nearest", lambda *_, probes, threads: asked.append(probes))
        part = CollectionShard(collection, backend, threads=1)
        for of in (1000, 2 * own, own, own - 1):
            part.nearest("score", sharded_collection.heard(0, 14, "recording").embeddings, 25, 64, of)
    assert asked == [max(16, -(-64 * own // 1000)), 32, 64, 64]
    assert own > 20
