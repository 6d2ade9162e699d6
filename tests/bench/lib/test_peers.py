import logging
from pathlib import Path

import numpy as np
import pytest

from bench.lib import peers
from bench.lib.peers import KNOWN, NEIGHBOURS, Peer
from bench.lib.random_collection import unit_rows
from engine.metrics import ranks_by_cost
from engine.search.voting import Votes, ranking
from engine.values import Embeddings, Packed

LENGTHS = (60, 0, 45, 80, 30, 5, 70, 0, 90, 40, 33, 77)
"""Snippets of the documents; two have none."""
EMPTY = [number for number, length in enumerate(LENGTHS) if length == 0]
MANY = 12 * LENGTHS
"""Lengths of more documents, so that each gets few votes by chance."""
OUTSIDE = 7
"""Rows before and after those of the documents."""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "BLOCK_ROWS", 400)


@pytest.fixture(params=[name for name, _, _ in KNOWN])
def peer(request: pytest.FixtureRequest) -> Peer:
    return installed(request.param)


def installed(name: str) -> Peer:
    found = {peer.name: peer for peer in peers.peers(threads=1)}
    if name not in found:
        pytest.skip(f"the package for {name} is not installed (extra `peers`)")
    return found[name]


def packed(lengths: tuple[int, ...] = LENGTHS, *, half: bool = False) -> Packed:
    offsets = np.cumsum([OUTSIDE, *lengths], dtype=np.int64)
    rows = unit_rows(np.random.default_rng(0), int(offsets[-1]) + OUTSIDE)
    bias = np.zeros(len(rows), np.float32)
    return Packed(embeddings=rows.astype(np.float16) if half else rows, bias=bias, offsets=offsets)


def noisy(documents: Packed, number: int, count: int = 10) -> Embeddings:
    """The first snippets of a document, a little off."""
    start = documents.offsets[number]
    rows = documents.embeddings[start : start + count].astype(np.float32)
    rows += 0.05 * unit_rows(np.random.default_rng(number), len(rows))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def far_copies() -> Packed:
    """Three documents of which the first has NEIGHBOURS copies of one snippet, the others of its opposite."""
    rows = np.zeros((3 * NEIGHBOURS, 32), np.float32)
    rows[:, 0] = -1
    rows[:NEIGHBOURS, 0] = 1
    offsets = NEIGHBOURS * np.arange(4, dtype=np.int64)
    return Packed(embeddings=rows, bias=np.zeros(len(rows), np.float32), offsets=offsets)


@pytest.mark.parametrize("half", [False, True])
def test_the_document_of_noisy_snippets_comes_first(peer: Peer, half: bool, tmp_path: Path) -> None:
    documents = packed(MANY, half=half)
    with peer.build(documents, tmp_path) as search:
        for number in (0, 75, len(MANY) - 1):
            costs = search(noisy(documents, number))
            assert costs.shape == (len(MANY),)
            assert costs.dtype == np.float64
            assert ranks_by_cost(costs[None], np.array([number])) == 1


def test_one_snippet_is_a_query(peer: Peer, tmp_path: Path) -> None:
    documents = packed()
    with peer.build(documents, tmp_path) as search:
        costs = search(noisy(documents, 8, count=1))
    assert np.round(-costs).sum() == NEIGHBOURS


def test_documents_without_a_vote_share_the_highest_cost(peer: Peer, tmp_path: Path) -> None:
    documents = far_copies()
    with peer.build(documents, tmp_path) as search:
        costs = search(documents.embeddings[:1].astype(np.float32))
    assert costs[1] == costs[2] == costs.max() == 0
    assert costs[0] <= -NEIGHBOURS


@pytest.mark.parametrize("name", ["faiss flat, majority vote", "LanceDB, grouped"])
def test_what_compares_every_snippet_ranks_as_defined(name: str, tmp_path: Path) -> None:
    documents = packed()
    query = noisy(documents, 6)
    similarities = query @ documents.embeddings[OUTSIDE:-OUTSIDE].T.astype(np.float32)
    nearest = np.argsort(-similarities, axis=1)[:, :NEIGHBOURS]
    owners = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[nearest].ravel()
    summed = np.zeros(len(LENGTHS))
    np.add.at(summed, owners, np.take_along_axis(similarities, nearest, axis=1).ravel())
    votes = Votes(counts=np.bincount(owners, minlength=len(LENGTHS)), similarity=summed)
    with installed(name).build(documents, tmp_path) as search:
        costs = search(query)
    assert np.round(-costs).tolist() == votes.counts.tolist()
    assert np.all(costs[EMPTY] == 0)
    assert np.argsort(costs, kind="stable").tolist() == ranking(votes).tolist()


def test_fewer_snippets_than_neighbours_all_vote(peer: Peer, tmp_path: Path) -> None:
    documents = packed().take(np.array([5]))
    with peer.build(documents, tmp_path) as search:
        assert np.round(search(documents.embeddings[:1].astype(np.float32))).tolist() == [-5]


def test_lancedb_finds_it_by_its_index_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LANCE_FLAT_ROWS", 0)
    documents = packed(MANY)
    with installed("LanceDB, grouped").build(documents, tmp_path) as search:
        assert list(tmp_path.glob("**/_indices/*"))
        assert np.argmin(search(noisy(documents, 75))) == 75


def test_only_what_is_on_disk_has_a_size(peer: Peer, tmp_path: Path) -> None:
    documents = packed()
    with peer.build(documents, tmp_path) as search:
        if peer.name.startswith("LanceDB"):
            assert search.disk_bytes is not None
            assert search.disk_bytes > sum(LENGTHS) * documents.embeddings[0].nbytes
        else:
            assert search.disk_bytes is None
            assert not list(tmp_path.iterdir())


def test_more_votes_beat_any_similarity() -> None:
    documents = np.array([0, 0, 1, 1, 1, 2, 2])
    similarities = np.array([1.0, 1.0, -1.0, -1.0, -1.0, 0.5, 0.6])
    assert np.argsort(peers.costs(documents, similarities, 4)).tolist() == [1, 0, 2, 3]


def test_a_closed_search_says_so(peer: Peer, tmp_path: Path) -> None:
    documents = packed()
    search = peer.build(documents, tmp_path)
    search.close()
    with pytest.raises(ValueError, match="closed"):
        search(noisy(documents, 0))


def test_documents_without_snippets_are_refused(peer: Peer, tmp_path: Path) -> None:
    documents = packed().take(np.array(EMPTY))
    with pytest.raises(ValueError, match="at least one snippet"):
        peer.build(documents, tmp_path)


def test_a_package_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peers, "KNOWN", (*KNOWN, ("nobody's", "package_that_nobody_has", KNOWN[0][2])))
    with caplog.at_level(logging.INFO, logger="bench.lib.peers"):
        names = {peer.name for peer in peers.peers()}
    assert "faiss flat, majority vote" in names
    assert "nobody's" not in names
    assert "package_that_nobody_has" in caplog.text
