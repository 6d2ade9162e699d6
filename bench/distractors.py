"""Documents that behave in a search as real ones do, as many as one likes: what millions of snippets are made of.

    python -m bench.distractors --data DIR --corpus DIR [--quick] [--json FILE]

A made document is real music that nobody wrote. Passages of real documents, each at another tempo, stand one after the
other, and all of them are turned in the space of embeddings: x -> m + S^(1/2) R S^(-1/2) (x - m), scaled to unit
length, where m and S are mean and covariance of the real snippets and R is a rotation that this document alone has. So
the snippets of made documents are spread as those of real ones are, and go on as real ones go on, but are those of no
document that there is. Each is made from its number alone: collections grow by prefixes, in blocks, always the same.

Whether they are as hard to tell from the right one as real ones is measured here. Half of the takes of a training
corpus are what is made from (`made`), or an eighth of these (`made of few`: then most made documents share their
sources, as they do among tens of thousands); pieces of the dev set are sought among the other half (`real`) and among
as many made documents of the same lengths. The cost of the best wrong document and the MRR should be the same.
"""

import argparse
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench import crowd, pieces, queries, report
from bench.pieces import Piece
from bench.queries import AMONG, LabelledQuery
from bench.random_collection import document
from bench.retrieval import collect
from engine import alignment, process
from engine.alignment import Backend
from engine.collection import Collection
from engine.config import Alignment
from engine.documents import Encoder as AnyEncoder
from engine.encoder import Encoder
from engine.metrics import ranks_by_cost, summarise
from engine.values import DIMENSION, Document, Embeddings, Kind, Packed, SnippetSequence

PASSAGE = (40, 160)
"""SnippetSequence of a passage, before its tempo is changed."""
TEMPO = 1.4
"""A passage is played at most so many times as fast or slow."""
ANGLE = 0.35
"""Standard deviation of the angles, in radians, by which a document's planes are turned: with more, made documents
become easier to tell from the right one than real ones are; with less, those of few sources become alike."""
SEED = 0
PREFIX = "made"
"""What the ids of made documents begin with."""
FRAGMENTS = {"A2S": (10, 20), "S2A": (1, 2)}
"""Seconds, and systems: what is asked."""
FEW = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DistractorSource:
    """What documents of one kind are made from."""

    kind: Kind
    packed: Packed
    """Real documents."""
    lengths: NDArray[np.int64]
    """One of these, drawn at random, is the length of each made document, in snippets."""
    mean: NDArray[np.float32]
    """(32,)."""
    whiten: NDArray[np.float32]
    colour: NDArray[np.float32]
    """(32, 32): rows less their mean, times `whiten`, have the covariance 1; `colour` is its inverse."""

    @classmethod
    def of(cls, packed: Packed, kind: Kind, lengths: NDArray[np.int64]) -> "DistractorSource":
        """Raises ValueError if there are not enough snippets to tell how they are spread."""
        if len(packed.embeddings) < 10 * DIMENSION:
            raise ValueError(f"expected at least {10 * DIMENSION} {kind} snippets, got {len(packed.embeddings)}")
        rows = packed.embeddings.astype(np.float64)
        values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
        spread = np.sqrt(np.maximum(values, 1e-9))
        return cls(
            kind=kind,
            packed=packed,
            lengths=lengths,
            mean=rows.mean(axis=0).astype(np.float32),
            whiten=((vectors / spread) @ vectors.T).astype(np.float32),
            colour=((vectors * spread) @ vectors.T).astype(np.float32),
        )


def made(source: DistractorSource, number: int, encoder: AnyEncoder) -> tuple[Document, SnippetSequence]:
    """Made document `number`, always the same."""
    rows = embeddings(source, number)
    id = f"{PREFIX}-{source.kind}-{number:06d}"
    return document(id, source.kind, rows, encoder.bias(rows, source.kind), encoder.identity.front_end)


def embeddings(source: DistractorSource, number: int) -> Embeddings:
    """Those of made document `number`: float32 (n, 32)."""
    rng, wanted = _drawn(source, number)
    passages: list[NDArray[np.float32]] = []
    while (missing := wanted - sum(map(len, passages))) > 0:
        passages.append(_passage(source, rng)[:missing])
    rows = (np.concatenate(passages) - source.mean) @ (source.whiten @ _rotation(rng) @ source.colour) + source.mean
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def length(source: DistractorSource, number: int) -> int:
    """How many snippets made document `number` has."""
    return _drawn(source, number)[1]


def _drawn(source: DistractorSource, number: int) -> tuple[Generator, int]:
    """What the document is made by, and its length."""
    rng = np.random.default_rng([SEED, number, source.kind == "score"])
    return rng, max(2, int(rng.choice(source.lengths)))


def _passage(source: DistractorSource, rng: Generator) -> NDArray[np.float32]:
    """A passage of a real document at another tempo: between two snippets lies what lies between their embeddings."""
    number = int(rng.integers(len(source.packed)))
    first, last = source.packed.offsets[number : number + 2].tolist()
    length = min(int(rng.integers(*PASSAGE)), last - first)
    start = first + int(rng.integers(last - first - length + 1))
    rows = source.packed.embeddings[start : start + length].astype(np.float32)
    at = np.arange(0, max(1, length - 1), TEMPO ** rng.uniform(-1, 1), dtype=np.float32)
    before = at.astype(np.int64)
    share = (at - before)[:, None]
    return np.asarray(rows[before] * (1 - share) + rows[np.minimum(before + 1, length - 1)] * share)


def _rotation(rng: Generator) -> NDArray[np.float32]:
    """(32, 32): turns 16 planes, drawn at random, each by an angle of its own."""
    basis = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0]
    angles = rng.normal(0.0, ANGLE, DIMENSION // 2)
    turned = np.zeros((DIMENSION, DIMENSION))
    even, odd = np.arange(0, DIMENSION, 2), np.arange(1, DIMENSION, 2)
    turned[even, even] = turned[odd, odd] = np.cos(angles)
    turned[even, odd], turned[odd, even] = -np.sin(angles), np.sin(angles)
    return np.asarray(basis @ turned @ basis.T, np.float32)


# --- are they as hard as real ones? -----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare(embeds=True)
    options = _options(arguments)
    found = pieces.pieces(options.data, "dev")[: 12 if options.quick else None]
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder = load()
    path, _ = collect(found, options.retrieval / "dev", encoder.identity, load, options.jobs, fresh=False)
    others = crowd.collect(options.corpus, "train", options.crowd, encoder)
    environment = report.environment()
    print(report.heading(environment))
    backend = alignment.choose("cpu", threads=options.jobs)
    rows: list[dict[str, Any]] = []
    with Collection.open(path) as ours, Collection.open(others) as theirs:
        asked = list(ask(ours, found, 1 if options.quick else options.fragments))
        for direction, kind in AMONG.items():
            members = [query for query in asked if query.direction == direction]
            rows += compare(members, ours, theirs.packed(kind), kind, encoder, backend)
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, network=report.label(encoder.identity), rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="training corpus, whose takes are real")
    parser.add_argument("--quick", action="store_true", help="12 pieces, one fragment of each length")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--weights", type=Path, help="another network than the shipped one")
    parser.add_argument("--fragments", type=int, default=3, help="of each length, from each document")
    parser.add_argument("--jobs", type=int, default=2, help="processes that embed, threads that align")
    parser.add_argument("--retrieval", type=Path, default=Path("runs/retrieval"), help="collections of the sets")
    parser.add_argument("--crowd", type=Path, default=Path("runs/crowd"), help="takes are kept there")
    return parser.parse_args(arguments)


def ask(collection: Collection, found: Sequence[Piece], per_piece: int) -> Iterator[LabelledQuery]:
    """Fragments of each length of each piece."""
    rng = np.random.default_rng(SEED)
    for query in queries.whole(collection, found):
        for size in FRAGMENTS[query.direction] * per_piece:
            yield queries.fragment(query, size, collection.network.front_end, rng)


def compare(
    asked: Sequence[LabelledQuery], ours: Collection, takes: Packed, kind: Kind, encoder: AnyEncoder, backend: Backend
) -> list[dict[str, Any]]:
    """A row for each kind of query and each crowd.

    asked: of one direction; ours: holds their right documents; takes: real documents of other music.
    """
    sources, others = np.arange(0, len(takes), 2), np.arange(1, len(takes), 2)
    real = takes.take(others)
    lengths = np.diff(real.offsets)
    crowds = {"real": real, "real, the other half": takes.take(sources)}
    for name, some in (("made", sources), ("made of few", sources[::FEW])):
        source = DistractorSource.of(takes.take(some), kind, lengths)
        crowds[name] = pack([made(source, number, encoder)[1] for number in range(len(others))])
    ids = ours.ids(kind)
    truths = np.array([ids.index(query.truth) for query in asked])
    right = _costs(asked, ours.packed(kind), backend)[np.arange(len(asked)), truths]
    rows = []
    for form in dict.fromkeys(query.form for query in asked):
        members = np.array([query.form == form for query in asked])
        groups = [query.piece for query in asked if query.form == form]
        for name, packed in crowds.items():
            costs = _costs([query for query in asked if query.form == form], packed, backend)
            ranks = ranks_by_cost(np.column_stack([right[members], costs]), np.zeros(len(costs), np.int64))
            row = {"direction": asked[0].direction, "query": form, "among": name, "documents": len(packed)}
            best = costs.min(axis=1)
            row |= {"best wrong cost": float(best.mean()), "its sd": float(best.std())}
            quality = summarise(ranks, groups=groups).row()
            rows.append(row | {name: quality[name] for name in ("n", "R@1", "R@1 95%", "MRR", "MRR 95%")})
    return rows


def pack(sequences: Sequence[SnippetSequence]) -> Packed:
    """The sequences in memory, embeddings as a collection stores them."""
    return Packed(
        embeddings=np.concatenate([sequence.embeddings for sequence in sequences]).astype(np.float16),
        bias=np.concatenate([sequence.bias for sequence in sequences]),
        offsets=np.cumsum([0, *map(len, sequences)], dtype=np.int64),
    )


def _costs(asked: Sequence[LabelledQuery], packed: Packed, backend: Backend) -> NDArray[np.float32]:
    """(queries, documents)."""
    found = backend.align_many([query.sequence.embeddings for query in asked], packed, Alignment())
    return np.stack([one.costs for one in found])


if __name__ == "__main__":
    main()
