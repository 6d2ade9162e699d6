"""What do scores in symbols find, and what finds them: engraved like a scan, or played like a recording?

    python -m bench.symbols_in --data DIR [--set joplin|asap|dev] [--pieces N] [--sound NAME] [--json FILE]

Each set has pieces as scanned pages or as recordings or both, and the same pieces in symbols. `joplin` and `asap` are
for validation: `joplin` has scans and kern, its recordings are played from that kern; `asap` has MusicXML, recordings
of real performances, and other pianists' performances as MIDI. `dev` has scans, real performances, kern of its Mozart,
and for MIDI the performance itself, or another one where recordings are searched.

Symbols become documents as `scorefind add` makes them. Notation is engraved, and it is played; MIDI is played. Each
form asks among the scans and the recordings of the set, whole and by an eighth and a 32nd from random places, which are
the same for both forms. And the recordings (10 s, 20 s, whole) and the scans (1 and 2 systems, whole) ask among each
form, of the pieces that were chosen. Intervals come from resampling pieces.
"""

import argparse
import csv
import functools
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from bench.lib import pieces, queries, report, sounds
from bench.lib.pieces import Piece, collect
from bench.lib.sounds import Sound
from engine import process
from engine.arguments import positive
from engine.collection import Collection
from engine.config import FrontEnd, SearchSettings
from engine.embedding.encoder import Encoder
from engine.metrics import ranks_of, summarise
from engine.search.searcher import Searcher
from engine.values import Kind, SnippetSequence
from indexer import ingest
from indexer.sources import Source

SETS = ("joplin", "asap", "dev")
SEED = 0
FRAGMENTS = 3
"""Fragments of each length of a document."""
SHARES = {"an eighth": 1 / 8, "a 32nd": 1 / 32}
"""Shares of a score in symbols that fragments have: some 20 s and 5 s of three minutes."""
FORMS: dict[str, Kind] = {"engraved": "score", "played": "recording", "midi": "recording"}
"""What symbols become, by the name of the form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InSymbols:
    """A piece with its forms in symbols."""

    piece: Piece
    """Its scanned pages, if it has any, and its performance."""
    notation: Path | None
    midi: Path | None
    others_midi: bool
    """Whether the MIDI file is of another performance than that of the recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolResult:
    """The rank of the right document, and of what."""

    asked: str
    among: str
    form: str
    piece: str
    rank: float


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder, sound = load(), sounds.sound(options.sound, options.data)
    rows = []
    print(report.heading(report.environment()), flush=True)
    for name in options.set:
        found = in_symbols(options.data, name, options.work)
        real = _real(found, name, options, encoder, load, sound)
        some = found[:: max(1, len(found) // options.pieces)][: options.pieces] if options.pieces else found
        symbols = _symbols(some, options.work / name / f"symbols-{len(some)}", load)
        with Collection.open(real) as one, Collection.open(symbols) as other:
            results = list(answers(some, one, other, encoder.identity.front_end))
        rows += [{"set": name, **row} for row in table_rows(results)]
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    if options.json:
        report.save(options.json, environment=report.environment(), sound=sound.name, rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", nargs="+", choices=SETS, default=("joplin",))
    parser.add_argument("--pieces", type=int, default=16, help="pieces in symbols of each set (default: 16; 0: all)")
    parser.add_argument("--sound", default="steinhoff_upright", help="instrument of the recordings (bench.retrieval)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument("--jobs", type=positive, default=1, help="processes that embed scans and recordings")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps recordings and collections"
    )
    return parser.parse_args(arguments)


def in_symbols(data: Path, name: str, work: Path) -> list[InSymbols]:
    """The pieces of a set. Compressed MusicXML is unpacked below `work`."""
    if name == "asap":
        return list(_asap(data, work / name / "notation"))
    found = []
    others = _performances(data / "dev_scans_mozart") | _performances(data / "dev_scans_bach_haydn")
    for piece in pieces.pieces(data, name):
        notation = piece.notes if piece.notes.suffix == ".krn" else data / "dev_scans_mozart" / f"{piece.id}.krn"
        listed = others.get(piece.id, []) if name == "dev" else []
        midi = data / listed[-1] if listed else None
        found.append(
            InSymbols(
                piece=piece,
                notation=notation if notation.exists() else None,
                midi=midi,
                others_midi=midi not in (None, piece.notes),
            )
        )
    return found


def _performances(folder: Path) -> dict[str, list[str]]:
    """The paths of the performances of each piece of a set."""
    found: dict[str, list[str]] = {}
    with (folder / "performances.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["piece"], []).append(row["path"])
    return found


def _asap(data: Path, unpacked: Path) -> Iterator[InSymbols]:
    """Yields the pieces of the set `asap`, which has no scans."""
    unpacked.mkdir(parents=True, exist_ok=True)
    for id, paths in _performances(data / "val_asap").items():
        notation = unpacked / f"{id}.musicxml"
        notation.write_bytes(gzip.decompress((data / "val_asap" / f"{id}.musicxml.gz").read_bytes()))
        piece = Piece(id=id, title=id, composer="", work="", pages=(), notes=data / paths[0])
        midi = data / paths[1] if len(paths) > 1 else None
        yield InSymbols(piece=piece, notation=notation, midi=midi, others_midi=midi is not None)


def _real(
    found: Sequence[InSymbols],
    name: str,
    options: argparse.Namespace,
    encoder: Encoder,
    load: ingest.LoadEncoder,
    sound: Sound,
) -> Path:
    """The collection of the scans and the recordings of a set, made unless it exists."""
    work, played = options.work / name, [one.piece for one in found]
    if name != "asap":
        return collect(played, work, encoder.identity, load, options.jobs, fresh=False, sound=sound)[0]
    sources = tuple(pieces.recording(piece, work, sound) for piece in played)
    path: Path = work / sound.name / "collection"
    ingest.add(path, sources, load, jobs=options.jobs)
    return path


def _symbols(found: Sequence[InSymbols], path: Path, load: ingest.LoadEncoder) -> Path:
    """The collection of the forms in symbols, which holds these pieces alone; what is missing is added."""
    for form, kind in FORMS.items():
        files = [(one.piece.id, one.midi if form == "midi" else one.notation) for one in found]
        sources = tuple(
            Source(path=file, id=f"{id}.{form}", kind=kind, title=id) for id, file in files if file is not None
        )
        for file, cause in ingest.add(path, sources, load).failed.items():
            print(f"{file.name}, {form}: {cause}")
    return path


def answers(
    found: Sequence[InSymbols], real: Collection, symbols: Collection, front_end: FrontEnd
) -> Iterator[SymbolResult]:
    """Yields the rank of the right document for each query, from symbols to what is real and back."""
    held = {document.id for document in symbols.documents}
    for form, kind in FORMS.items():
        ids = {one.piece.id: f"{one.piece.id}.{form}" for one in found if f"{one.piece.id}.{form}" in held}
        counterparts = {"scans": {one.piece.id: one.piece.id for one in found}}
        counterparts["recordings"] = {
            one.piece.id: one.piece.recording_id for one in found if form != "midi" or one.others_midi
        }
        for name, theirs in counterparts.items():
            their_kind: Kind = "score" if name == "scans" else "recording"
            present = {document.id for document in real.of_kind(their_kind)}
            both = [id for id in ids if theirs.get(id) in present]
            yield from _asked(form, name, both, ids, theirs, symbols, real, their_kind, _shares)
            fragments = functools.partial(_fragments, front_end=front_end)
            yield from _asked(name, form, both, theirs, ids, real, symbols, kind, fragments)


def _asked(
    asked: str,
    among: str,
    both: Sequence[str],
    ours: dict[str, str],
    theirs: dict[str, str],
    source: Collection,
    target: Collection,
    kind: Kind,
    parts: Any,
) -> Iterator[SymbolResult]:
    """Yields the ranks of all queries of one kind. ours, theirs: id of the query and of what it should find."""
    searcher, everything = Searcher(target, SearchSettings(threads=1)), len(target.documents)
    rng = np.random.default_rng(SEED)
    # The forms of notation share a kind with MIDI, whose documents are no rivals of theirs.
    suffix = f".{among}" if among in FORMS else ""
    for id in both:
        for form, sequence in parts(source.sequence(ours[id]), rng):
            given = searcher.query(sequence, kind, "exhaustive", top=everything, locate=False)
            ids = [match.document.id for match in given.matches if match.document.id.endswith(suffix)]
            (rank,) = ranks_of([ids], [theirs[id]])
            yield SymbolResult(asked=asked, among=among, form=form, piece=id, rank=float(rank))


def _shares(sequence: SnippetSequence, rng: Generator) -> Iterator[tuple[str, SnippetSequence]]:
    """Yields a score in symbols whole, and fragments of it."""
    yield "whole", sequence
    for name, share in SHARES.items():
        count = max(1, round(share * len(sequence)))
        for start in rng.random(FRAGMENTS):
            first = int(start * (len(sequence) - count + 1))
            yield name, sequence.part(slice(first, first + count))


def _fragments(sequence: SnippetSequence, rng: Generator, front_end: FrontEnd) -> Iterator[tuple[str, SnippetSequence]]:
    """Yields a scan or a recording whole, and fragments of it."""
    yield "whole", sequence
    for size in (1, 2) if sequence.kind == "score" else (10, 20):
        for _ in range(FRAGMENTS):
            if sequence.kind == "score":
                yield f"{size} system{'s'[: size > 1]}", queries.systems(sequence, size, rng)
            else:
                yield f"{size} s", queries.seconds(sequence, size, front_end, rng)


def table_rows(results: Sequence[SymbolResult]) -> Iterator[dict[str, Any]]:
    """Yields the table rows, one for each kind of query and of document."""
    for asked, among, form in dict.fromkeys((one.asked, one.among, one.form) for one in results):
        some = [one for one in results if (one.asked, one.among, one.form) == (asked, among, form)]
        quality = summarise(np.array([one.rank for one in some]), groups=[one.piece for one in some]).row()
        row = {"asked": asked, "among": among, "query": form}
        yield row | {name: quality[name] for name in ("n", "R@1", "MRR", "R@1 95%", "MRR 95%")}


if __name__ == "__main__":
    main()
