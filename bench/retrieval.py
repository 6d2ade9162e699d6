"""How well, and how fast, are recordings of real playing found by their scans, and scans by their recordings?

    python -m bench.retrieval --data DIR [--set dev|joplin|asap|real] [--sound NAME ...] [--quick] [--json FILE]

The recordings are performances synthesised with each of the sounds in turn (`bench.lib.sounds`): an instrument, and
optionally a room and MP3. The set `real` holds real recordings; its scores are searched together with the dev scans.
The set `asap` has no scans: its scores are engraved and degraded like scans, and searched together with those of
`joplin`.
One collection holds all scores of a set and all of its recordings with one sound. Each recording is searched among the
scores (A2S): whole, and in fragments of 5, 10, 20 and 40 s. Each score is searched among the recordings (S2A): whole,
and in one to four consecutive systems. Fragments start at random places with a fixed seed. Column `heard` says whether
all parts of the sound are in the default training corpus.

Fragments are cut from the sequence of the whole document, on its grid of snippets (0.5 s; 50 px), and not from the
file: a file that is cut elsewhere gives other snippets. The time of the front ends on a file is measured separately.
"""

import argparse
import functools
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from bench.lib import pieces, queries, report, sounds
from bench.lib.pieces import Piece, collect, collection_sizes
from bench.lib.queries import AMONG, LabelledQuery
from bench.lib.sounds import REAL, Sound
from engine import config, process
from engine.arguments import positive
from engine.collection import Collection
from engine.config import SearchSettings
from engine.embedding import documents
from engine.embedding.encoder import Encoder, Precision
from engine.metrics import ranks_of, summarise
from engine.search.searcher import Searcher
from engine.values import Kind, Method

LENGTHS_S = (5, 10, 20, 40)
SYSTEMS = (1, 2, 3, 4)
METHODS: tuple[Method, ...] = ("vote", "refine", "exhaustive")
SEED = 0
QUICK_PIECES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalResult:
    """The answer to one query by one method."""

    query: LabelledQuery
    method: Method
    answer: tuple[str, ...]
    """Ids of all documents found, best first."""
    timings_ms: dict[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, options.weights, threads=1, precision=options.precision)
    first = QUICK_PIECES if options.quick else None
    found = pieces.pieces(options.data, options.set)[:first]
    others = pieces.crowd(options.data, options.set, found)[:first]
    per_piece = 1 if options.quick else options.fragments
    settings = config.load(SearchSettings(threads=options.jobs), section="search", path=options.config)
    encoder = load()
    work = options.work / options.set
    embed = functools.partial(collect, found, work, encoder.identity, load, options.jobs, others=others)
    environment = report.environment()
    print(report.heading(environment))
    print(json.dumps({"network": encoder.identity.name, "on": encoder.device, **asdict(settings)}))
    results, collections, quality = [], {}, []
    for number, sound in enumerate(options.sounds):
        path, added = embed(fresh=options.fresh and number == 0, sound=sound)
        with Collection.open(path, encoder.identity) as collection:
            collections[sound.name] = {**collection_sizes(collection), **added}
            print(json.dumps({"sound": sound.name, **collections[sound.name]}), flush=True)
            answered = answer(collection, list(ask(collection, found, per_piece)), settings, options.methods)
        results += answered
        quality += [
            {"sound": sound.name, "heard": "yes" if sound.heard else "no", **row} for row in quality_rows(answered)
        ]
    timing = timing_rows(results)
    front_ends = time_front_ends(found, work, encoder, options.sounds[0])
    print("", report.table([report.with_intervals(row) for row in quality]), sep="\n")
    print(
        "",
        "Mean milliseconds of a query, by stage; `locate` is for the ten best matches",
        report.table(timing),
        sep="\n",
    )
    print("", "Milliseconds from file to snippets' embeddings", report.table(front_ends), sep="\n")
    if options.json:
        report.save(
            options.json,
            environment=environment,
            set=options.set,
            network=encoder.identity.name,
            settings=asdict(settings),
            collections=collections,
            rows=quality,
            timings_ms=timing,
            front_ends_ms=front_ends,
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=sorted(pieces.SETS), default="dev")
    parser.add_argument(
        "--sound",
        nargs="+",
        metavar="NAME",
        help="instruments, such as steinhoff_upright+made_practice_2+mp3 (default: TimGM6mb and, if DIR has them, "
        "the pianos for validation)",
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PIECES} pieces, one fragment of each length")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument(
        "--precision", choices=get_args(Precision), help="of the network; give each precision a --work of its own"
    )
    parser.add_argument("--config", type=Path, help="TOML file whose table [search] changes the default settings")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument(
        "--fragments", type=int, default=3, help="number of fragments of each length from each document"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed, threads that search")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps recordings and collections"
    )
    parser.add_argument("--fresh", action="store_true", help="embed all again, as after a change of the front ends")
    options = parser.parse_args(arguments)
    try:
        options.sounds = sounds_of(options.set, options.sound, options.data)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return options


def sounds_of(name: str, wanted: Sequence[str] | None, data: Path) -> list[Sound]:
    """The sounds that a set is measured with: those of the names, or else the default ones.

    Raises ValueError for an unknown name and for a set of real recordings with a name, OSError for a missing file.
    """
    if name == REAL.name:
        if wanted:
            raise ValueError("expected no --sound with --set real, whose recordings exist already")
        return [REAL]
    return [sounds.sound(one, data) for one in dict.fromkeys(wanted)] if wanted else sounds.default_sounds(data)


def ask(collection: Collection, found: Sequence[Piece], per_piece: int) -> Iterator[LabelledQuery]:
    """All queries of the pieces: each document whole, and `per_piece` fragments of each length."""
    rng, shortest_rng = np.random.default_rng(SEED), np.random.default_rng((SEED, LENGTHS_S[0]))
    front_end = collection.network.front_end
    for query in queries.whole(collection, found):
        yield query
        for size, _ in itertools.product(LENGTHS_S if query.direction == "A2S" else SYSTEMS, range(per_piece)):
            # Of its own, so that fragments of the other lengths are those of tables without the shortest.
            own = shortest_rng if query.direction == "A2S" and size == LENGTHS_S[0] else rng
            yield queries.fragment(query, size, front_end, own)


def answer(
    collection: Collection, asked: Sequence[LabelledQuery], settings: SearchSettings, methods: Sequence[Method]
) -> list[RetrievalResult]:
    """The answer to every query by every method, with the whole ranking.

    To time the location of matches, the queries of three pieces also locate their ten best matches, as a user's do.
    """
    searcher = Searcher(collection, settings)
    everything = len(collection.documents)
    located = list(dict.fromkeys(query.piece for query in asked))[:3]
    for among in AMONG.values():
        for method in methods:  # loads indexes, compiles kernels
            searcher.query(asked[0].sequence, among, method, top=1)
    results = []
    for query in tqdm(asked, unit="query", disable=None, dynamic_ncols=True):
        among = AMONG[query.direction]
        for method in methods:
            given = searcher.query(query.sequence, among, method, top=everything, locate=False)
            times = {stage: given.timings_ms[stage] for stage in given.timings_ms if stage != "total"}
            if query.piece in located:
                times["locate"] = searcher.query(query.sequence, among, method, top=10).timings_ms["locate"]
            ids = tuple(match.document.id for match in given.matches if match.document.id not in query.also_right)
            results.append(RetrievalResult(query=query, method=method, answer=ids, timings_ms=times))
    return results


def _grouped(results: Sequence[RetrievalResult]) -> dict[tuple[str, str, str], list[RetrievalResult]]:
    groups: dict[tuple[str, str, str], list[RetrievalResult]] = defaultdict(list)
    for result in results:
        groups[result.query.direction, result.query.form, result.method].append(result)
    order = ["whole", *(f"{length} s" for length in LENGTHS_S)]
    return dict(sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] not in order, item[0][1] != "whole")))


def quality_rows(results: Sequence[RetrievalResult]) -> list[dict[str, Any]]:
    """The table rows of quality, one for each kind of query and method: R@1, R@10, MRR and MR.

    Intervals come from resampling pieces.
    """
    rows = []
    for (direction, form, method), group in _grouped(results).items():
        ranks = ranks_of([result.answer for result in group], [result.query.truth for result in group])
        quality = summarise(ranks, groups=[result.query.piece for result in group])
        rows.append({"direction": direction, "query": form, "method": method, **quality.row()})
    return rows


def timing_rows(results: Sequence[RetrievalResult]) -> list[dict[str, Any]]:
    """The table rows of time, one for each kind of query and method: mean milliseconds of each stage that runs."""
    rows = []
    for (direction, form, method), group in _grouped(results).items():
        row: dict[str, Any] = {"direction": direction, "query": form, "method": method}
        for stage in ("vote", "align", "locate"):
            times = [result.timings_ms[stage] for result in group if stage in result.timings_ms]
            row[stage] = float(np.mean(times)) if times else None
        rows.append(row)
    return rows


def time_front_ends(found: Sequence[Piece], work: Path, encoder: Encoder, sound: Sound) -> list[dict[str, Any]]:
    """The table rows of the front ends: milliseconds from file to embeddings, for a page and for 20 s of a recording.

    Up to eight pieces are measured.
    """
    parts: dict[tuple[str, Kind], list[tuple[Path, float | None, float | None]]] = {
        ("one page", "score"): [(pieces.first_page(piece, work), None, None) for piece in found[:8]],
        ("20 s", "recording"): [(pieces.recording(piece, work, sound).path, 10.0, 30.0) for piece in found[:8]],
    }
    rows = []
    for (name, kind), files in parts.items():
        times = []
        for path, start_s, end_s in files:
            started = time.perf_counter()
            documents.embed(path, kind, encoder, start_s, end_s)
            times.append(1000 * (time.perf_counter() - started))
        rows.append({"from": name, "n": len(times), "median ms": float(np.median(times)), "most ms": max(times)})
    return rows


if __name__ == "__main__":
    main()
