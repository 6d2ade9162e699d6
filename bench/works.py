"""Are the editions and recordings of a work linked, and nothing else; and are boxes carried to the right place?

    python -m bench.works --data DIR
    python -m bench.works --data DIR --set joplin      # the set that settings are chosen on

The collection has the scans of a set, two recordings of each piece on two sounds, and of some pieces two further
editions, which are engraved and degraded like scans. *Links* counts the pairs of documents that `scorefind link`
proposes. *Carry* carries the place of a note from one of these editions to the other: an error in staff spaces, or the
wrong system. Intervals of 95 %: by a bootstrap over pieces.
"""

import argparse
import functools
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.lib import pieces, report, sounds
from bench.lib.editions import Edition, edition
from bench.lib.intervals import interval, mean
from bench.lib.pieces import Piece, collect
from engine import config, process, score
from engine.collection import Collection, CollectionWriter
from engine.config import SearchSettings
from engine.embedding import documents
from engine.embedding.encoder import Encoder
from engine.errors import QueryError
from engine.finder import Engine
from engine.search import carrying
from engine.search.linking import DocumentLink
from engine.values import Box, Document, System
from indexer.synthesis.engrave import EngravingError

NOTES = 20
"""Notes of a piece that are carried."""
HALF = 1.0
"""Half the width of a note's box, in staff spaces."""
SEED = 5


def name_of_work(id: str) -> str:
    """Returns the piece of a document: its id up to what tells editions and recordings apart."""
    return id.partition("|")[0]


def link_rows(links: Sequence[DocumentLink], held: Sequence[Document], took_s: float) -> Iterator[dict[str, Any]]:
    """Yields a table row for each pair of kinds."""
    kinds = {document.id: document.kind for document in held}
    told = {link.ids for link in links}
    groups: dict[str, list[str]] = defaultdict(list)
    for id in sorted(kinds):
        groups[name_of_work(id)].append(id)
    true = {(one, other) for ids in groups.values() for one in ids for other in ids if one < other}
    for pair in ("score, score", "recording, recording", "recording, score"):

        def of_pair(found: set[tuple[str, str]], pair: str = pair) -> set[tuple[str, str]]:
            return {ids for ids in found if ", ".join(sorted(kinds[id] for id in ids)) == pair}

        right, wrong, missed = of_pair(told & true), of_pair(told - true), of_pair(true - told)
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for ids in right | missed:
            counts[name_of_work(ids[0])][0] += ids in right
            counts[name_of_work(ids[0])][1] += 1
        yield {
            "pairs": pair,
            "n": len(right) + len(missed),
            **interval("recall", list(counts.values())),
            "false links": len(wrong),
            "precision": len(right) / (len(right) + len(wrong)) if right or wrong else None,
            "ms a document": 1000 * took_s / len(held),
        }


def carried_notes(
    piece: str, editions: Sequence[Edition], collection: Collection, engine: Engine, rng: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """Yields the piece and the error of each carried note, in staff spaces; infinity for the wrong system."""
    first, second = editions
    onsets = np.intersect1d(first.notes[:, 2], second.notes[:, 2])
    settings = engine.settings.alignment
    for onset in rng.choice(onsets, size=min(NOTES, len(onsets)), replace=False).tolist():
        page, (x, y) = _place(first, onset)
        spaces = next((one.staff_space for one in collection.document(f"{piece}|1").systems if one.page == page), 0.01)
        box = Box(x0=x - HALF * spaces, y0=y - spaces, x1=x + HALF * spaces, y1=y + spaces)
        try:
            found = carrying.carry(collection, f"{piece}|1", page, box, f"{piece}|2", engine.backend, settings).parts
        except QueryError:  # a system that was not found
            found = ()
        yield piece, _error(found, collection.document(f"{piece}|2").systems, *_place(second, onset))


def _place(edition: Edition, onset: float) -> tuple[int, tuple[float, float]]:
    """Returns the page and the place of the notes of an onset: of the first, if they lie on several systems."""
    chosen = np.flatnonzero(edition.notes[:, 2] == onset)
    page, y = edition.note_page[chosen[0]], edition.notes[chosen[0], 1]
    same = chosen[(edition.note_page[chosen] == page) & (np.abs(edition.notes[chosen, 1] - y) < 0.02)]
    return int(page), (float(np.mean(edition.notes[same, 0])), float(y))


def _error(
    parts: Sequence[carrying.CarriedPart], systems: Sequence[System], page: int, place: tuple[float, float]
) -> float:
    """Returns the distance from the longest part to where the note is, in staff spaces; infinity in the wrong system.

    The right system is the one that is found nearest to the note, since some are found by one of their staves alone.
    """
    best, (x, y) = max(parts, key=lambda part: part.end - part.start, default=None), place
    right = min(
        (system for system in systems if system.page == page),
        key=lambda system: abs((system.box.y0 + system.box.y1) / 2 - y),
        default=None,
    )
    if best is None or best.system is None or right is None or best.system.number != right.number:
        return float("inf")
    return abs((best.start + best.end) / 2 - x) / right.staff_space


def carry_row(errors: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Returns the table row of carried notes. The errors in staff spaces are of the right system, None without any."""
    pieces = [piece for piece, _ in errors]
    finite = [error for _, error in errors if np.isfinite(error)]
    return {
        "notes": len(errors),
        **mean("right system", [float(np.isfinite(error)) for _, error in errors], pieces),
        "median error, spaces": float(np.median(finite)) if finite else None,
        "90% error, spaces": float(np.quantile(finite, 0.9)) if finite else None,
        **mean("within 7 spaces", [float(error <= 7) for _, error in errors], pieces),
    }


def library(
    options: argparse.Namespace, everything: Sequence[Piece], encoder: Encoder, load: Any
) -> Iterator[tuple[Document, Any]]:
    """Yields the scans and the recordings of a set with their sequences. Ids are of the form PIECE|WHAT."""
    for number, sound in enumerate(options.sounds):
        path, _ = collect(everything, options.work / options.set, encoder.identity, load, 1, fresh=False, sound=sound)
        with Collection.open(path, encoder.identity) as held:
            for document in held.documents:
                piece = document.id if document.kind == "score" else document.id.partition(".")[0]
                if document.kind == "score" and number > 0:
                    continue
                what = "scan" if document.kind == "score" else sound.name
                yield (
                    Document(
                        id=f"{piece}|{what}",
                        kind=document.kind,
                        systems=document.systems,
                        pages=document.pages,
                        duration_s=document.duration_s,
                    ),
                    held.sequence(document.id),
                )


def engraved(chosen: Iterable[Piece]) -> Iterator[tuple[str, list[Edition]]]:
    """Yields the id and two editions of each piece; a piece that Verovio cannot read is left out."""
    for piece in chosen:
        try:
            yield piece.id, [edition(pieces.kern(piece), piece.id, number) for number in (1, 2)]
        except EngravingError as exc:
            print(f"left out: {exc}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, None, threads=1)
    encoder = load()
    settings = config.load(SearchSettings(threads=1), section="search")
    engine = Engine.load(None, settings=settings, backend="cpu", encoder=encoder)
    environment = report.environment()
    print(report.heading(environment))
    print(json.dumps({"network": report.label(encoder.identity), "set": options.set}))
    everything = pieces.pieces(options.data, options.set)
    chosen = everything[:: max(1, len(everything) // options.pieces)][: options.pieces]
    made = dict(engraved(tqdm(chosen, unit="piece", disable=None)))
    path = options.out / options.set
    shutil.rmtree(path, ignore_errors=True)  # other sounds and pieces of an earlier run would count
    with CollectionWriter(path, encoder.identity) as writer:
        for document, sequence in library(options, everything, encoder, load):
            writer.put(document, sequence, replace=True)
        for id, editions in made.items():
            for number, one in enumerate(editions, start=1):
                medium = score.score_of(one.pages, encoder.identity.front_end)
                (sequence,) = documents.sequences([medium], encoder)
                new = documents.described(Document(id=f"{id}|{number}", kind="score"), medium, sequence)
                writer.put(new, sequence, replace=True)
        writer.commit()
    rng = np.random.default_rng(SEED)
    with Collection.open(path, encoder.identity) as collection:
        started = time.process_time()
        links = engine.linker(collection, engine.searcher(collection)).links()
        rows = list(link_rows(links, collection.documents, time.process_time() - started))
        errors = [one for id, editions in made.items() for one in carried_notes(id, editions, collection, engine, rng)]
        carried = carry_row(errors)
    print("", report.table([report.with_intervals(one) for one in rows]), sep="\n")
    print("", report.table([report.with_intervals(carried)]), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, set=options.set, links=rows, carry=carried)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=("dev", "joplin"), default="dev")
    parser.add_argument("--sound", nargs=2, metavar="NAME", help="two sounds, see bench.retrieval (default: the first)")
    parser.add_argument("--pieces", type=int, default=12, help="pieces with further editions (default: 12)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps collections")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/works"), help="folder for the collection of all editions, made anew"
    )
    options = parser.parse_args(arguments)
    named = options.sound and [sounds.sound(name, options.data) for name in options.sound]
    options.sounds = named or sounds.default_sounds(options.data)[:2]
    return options


if __name__ == "__main__":
    main()
