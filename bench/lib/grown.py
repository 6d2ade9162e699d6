"""The pieces of the sets dev and joplin among made documents: one collection that grows, for all benches of scale."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.lib import growth, pieces, takes
from bench.lib.growth import Growth
from bench.lib.made_documents import DistractorSource
from bench.lib.pieces import Piece
from bench.lib.queries import AMONG
from engine.collection import Collection
from engine.embedding.encoder import Encoder
from engine.values import Kind
from indexer.ingest import LoadEncoder

SETS = ("dev", "joplin")
"""Sets whose pieces the collection holds. One set is searched for while the other is a part of the crowd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the data lie, and what is kept between runs."""

    data: Path
    """The unpacked data sets."""
    corpus: Path | None
    """Training corpus whose takes are the sources of made documents; None: the rags are."""
    retrieval: Path
    """Keeps the collections of the sets."""
    crowd: Path
    """Keeps the takes."""
    scale: Path
    """Keeps the collections that grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowingCollection:
    """A collection of the pieces of SETS and of made documents."""

    work: Path
    """Folder of this network and number of pieces: the collection, and what was measured in it."""
    found: Mapping[str, list[Piece]]
    """The pieces by set."""
    pieces: Collection
    """The scores and recordings of the pieces alone."""
    sources: Mapping[Kind, DistractorSource]
    load: LoadEncoder

    @property
    def path(self) -> Path:
        """The collection."""
        return self.work / "collection"

    def grow(self, snippets: int, *, jobs: int) -> Growth:
        """Adds made documents until there are `snippets` snippets of each kind.

        Raises ValueError if the collection is too large already: documents cannot be taken out again.
        """
        grown = growth.grow(self.path, self.pieces, self.sources, snippets, self.load, jobs=jobs)
        with Collection.open(self.path) as collection:
            longest = max(int(source.lengths.max()) for source in self.sources.values())
            for kind in self.sources:
                held = collection.manifest.kinds[kind].snippets
                if held >= snippets + longest:
                    raise ValueError(f"{self.path}: expected {snippets} {kind} snippets, got {held}: name a new folder")
        return grown


@contextlib.contextmanager
def growing(
    folders: Folders, encoder: Encoder, load: LoadEncoder, *, first: int | None, jobs: int
) -> Iterator[GrowingCollection]:
    """The growing collection of a network. first: number of pieces that are taken of each set; None: all."""
    network, found, sides = encoder.identity, {}, {}
    for name in SETS:
        found[name] = pieces.pieces(folders.data, name)[:first]
        sides[name], _ = pieces.collect(found[name], folders.retrieval / name, network, load, jobs, fresh=False)
    work = folders.scale / f"{network.hash[:12]}-{sum(map(len, found.values()))}"
    work.mkdir(parents=True, exist_ok=True)
    others = sides["joplin"]
    if folders.corpus:
        others = takes.collect(folders.corpus, "train", folders.crowd, encoder)
    with contextlib.ExitStack() as opened:
        parts = [opened.enter_context(Collection.open(side, network)) for side in sides.values()]
        both = opened.enter_context(Collection.open(takes.joined(work / "pieces", network, parts), network))
        real = opened.enter_context(Collection.open(others, network))
        sources = {
            kind: DistractorSource.of(real.packed(kind), kind, np.diff(both.packed(kind).offsets))
            for kind in AMONG.values()
        }
        yield GrowingCollection(work=work, found=found, pieces=both, sources=sources, load=load)
