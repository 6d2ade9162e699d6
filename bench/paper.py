"""The tables of the paper this project starts from, on open data, with our own systems in the same columns.

    python -m bench.paper --data DIR [--baseline FILE] [--attention FILE] [--corpus DIR] [--quick] [--json FILE]

Carvalho & Widmer, Exploiting Temporal Dependencies for Cross-Modal Music Piece Identification (EUSIPCO 2021), search
recordings among scores (A2S) and scores among recordings (S2A), for 321 pieces that are not public. The queries of
Table I are whole documents. The queries of Table II are fragments of 10 to 80 s and of 1 to 8 systems, 1,500 random
ones of each length. Here the pieces are the 71 of the set `dev`: real scans, and recordings synthesised from
performances by pianists. Each network has its own collection, made from the same files and kept below `--work` beside
those of `bench.retrieval`. With `--corpus` the pieces hide among the takes of that training corpus (`bench.crowd`).

`bench.lib.methods` has the methods. Fragments are cut from the sequence of the whole document, on its grid of snippets.
"""

import argparse
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib import methods, pieces, queries, report, takes
from bench.lib.methods import Cost
from bench.lib.pieces import Piece, collect, collection_sizes
from bench.lib.queries import AMONG, Direction, LabelledQuery
from engine import process
from engine.arguments import positive
from engine.collection import Collection
from engine.config import SearchSettings
from engine.embedding.encoder import DEFAULT_WEIGHTS, Encoder
from engine.metrics import summarise

RECALLS = (1, 5, 10)
LENGTHS: dict[Direction, tuple[int, ...]] = {"A2S": (10, 20, 30, 40, 50, 60, 70, 80), "S2A": (1, 2, 3, 4, 5, 6, 7, 8)}
UNITS: dict[Direction, str] = {"A2S": "s", "S2A": "systems"}
QUICK_PIECES, QUICK_FRAGMENTS = 12, 20
SEED = 0

PUBLISHED: dict[Direction, dict[str, tuple[float, float, float, int]]] = {
    "A2S": {
        "Baseline": (0.13, 0.42, 0.23, 15),
        "Baseline+Att": (0.29, 0.72, 0.42, 4),
        "DTW": (0.61, 0.87, 0.69, 1),
        "DTW+Att": (0.83, 0.94, 0.87, 1),
        "Shazam": (0.40, 0.60, 0.47, 4),
        "Shazam+Att": (0.48, 0.65, 0.54, 2),
    },
    "S2A": {
        "Baseline": (0.36, 0.65, 0.46, 4),
        "Baseline+Att": (0.58, 0.82, 0.66, 1),
        "DTW": (0.70, 0.91, 0.76, 1),
        "DTW+Att": (0.77, 0.93, 0.83, 1),
        "Shazam": (0.40, 0.58, 0.46, 4),
        "Shazam+Att": (0.44, 0.60, 0.49, 3),
    },
}
"""R@1, R@10, MRR and MR of the paper's Table I."""
PUBLISHED_FRAGMENTS: dict[Direction, tuple[float, ...]] = {
    "A2S": (0.41, 0.51, 0.56, 0.59, 0.61, 0.62, 0.63, 0.64),
    "S2A": (0.45, 0.54, 0.59, 0.63, 0.63, 0.63, 0.63, 0.64),
}
"""MRR of the paper's Table II, SDTW with attention, by `LENGTHS`."""

SUFFIXES = {"baseline": "", "attention": "+Att", "default": " (default)"}
"""What each network adds to the name of a system."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    found = pieces.pieces(options.data, "dev")[: QUICK_PIECES if options.quick else None]
    fragments = QUICK_FRAGMENTS if options.quick else options.fragments
    environment = report.environment()
    print(report.heading(environment))
    whole_rows: list[dict[str, Any]] = []
    fragment_rows: list[dict[str, Any]] = []
    networks = {}
    for network in SUFFIXES:
        weights: Path | None = getattr(options, network)
        if weights is None:
            train = f"`scorefind train indexer/training/{network}.toml`"
            print(f"{network}: {train} trains it, --{network} FILE measures it")
            continue
        load = functools.partial(Encoder.load, weights, threads=1)
        encoder = load()
        path, added = collect(found, options.work / "dev", encoder.identity, load, options.jobs, fresh=options.fresh)
        if options.corpus:
            path = takes.hidden(path, options.corpus, options.work.parent / "crowd", encoder)
        with Collection.open(path, encoder.identity) as collection:
            sizes = collection_sizes(collection)
            print(f"{network}: {report.label(encoder.identity)}, {sizes}", flush=True)
            networks[network] = {"hash": encoder.identity.hash, "collection": sizes, "added": added}
            whole_rows += table_1(collection, found, network, options.jobs)
            fragment_rows += table_2(collection, found, network, fragments, options.jobs)
    whole_rows.sort(key=lambda row: str(row["direction"]))
    fragment_rows.sort(key=lambda row: (row["direction"], row["length"]))
    published, published_fragments = published_table_1(), published_table_2()
    for title, rows in (
        ("Table I: whole pieces", [_for_people(row) for row in whole_rows]),
        ("the paper's own figures, of its private collection of 321 other pieces", published),
        (f"Table II: fragments, MRR of {fragments} random queries each", wide(fragment_rows)),
        ("the paper's own figures", wide(published_fragments)),
    ):
        print("", title, report.table(rows), sep="\n")
    if options.json:
        report.save(
            options.json,
            environment=environment,
            networks=networks,
            table_1=whole_rows,
            table_2=fragment_rows,
            published={"table_1": published, "table_2": published_fragments},
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--baseline", type=Path, help="weights file (default: its rows are left out)")
    parser.add_argument("--attention", type=Path, help="weights file (default: its rows are left out)")
    parser.add_argument("--default", type=Path, default=DEFAULT_WEIGHTS, help="weights file")
    parser.add_argument("--corpus", type=Path, help="training corpus whose takes are the crowd (default: no crowd)")
    parser.add_argument("--fragments", type=int, default=1500, help="random queries of each length (default: 1500)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PIECES} pieces, {QUICK_FRAGMENTS} fragments")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed, threads that search")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps recordings and collections"
    )
    parser.add_argument("--fresh", action="store_true", help="embed all again, as after a change of the front ends")
    return parser.parse_args(arguments)


def systems_1(collection: Collection, network: str, threads: int) -> dict[str, Cost]:
    """The systems of Table I that use one network, by name."""
    settings = SearchSettings(threads=threads)
    shipped = functools.partial(methods.shipped, collection, settings=settings)
    systems = {
        "Baseline, k = 1": methods.vote(collection, 1, threads=threads),
        "Baseline, k = 25": methods.vote(collection, 25, threads=threads),
        "DTW": shipped("dtw"),
        "Shazam": methods.shazam(collection, threads=threads),
    }
    if network == "default":
        systems["fingerprint"] = shipped("fingerprint")
        systems["SDTW, as published"] = shipped("sdtw")
        systems["jump-SDTW of all"] = shipped("exhaustive")
        systems["shortlist, jump-SDTW"] = shipped("refine")
    return {f"{name}{SUFFIXES[network]}": system for name, system in systems.items()}


def systems_2(collection: Collection, network: str, threads: int) -> dict[str, Cost]:
    """The systems of Table II that use one network, by name."""
    shipped = functools.partial(methods.shipped, collection, settings=SearchSettings(threads=threads))
    systems = {"SDTW, as published": shipped("sdtw")}
    if network == "default":
        systems |= {"vote": shipped("vote"), "fingerprint": shipped("fingerprint")}
        systems |= {"jump-SDTW of all": shipped("exhaustive"), "shortlist, jump-SDTW": shipped("refine")}
    return {f"{name}{SUFFIXES[network]}": system for name, system in systems.items()}


def table_1(collection: Collection, found: Sequence[Piece], network: str, threads: int) -> Iterator[dict[str, Any]]:
    """The rows of Table I (whole pieces) for one network: one for each direction and system."""
    asked = list(queries.whole(collection, found))
    for system, cost in systems_1(collection, network, threads).items():
        for direction in AMONG:
            some = [query for query in asked if query.direction == direction]
            ranks = methods.ranks(collection, some, cost, system)
            counts = {f"R@{k} count": int(np.sum(ranks <= k)) for k in RECALLS}
            yield {"direction": direction, "system": system, **summarise(ranks, at=RECALLS).row(), **counts}


def table_2(
    collection: Collection, found: Sequence[Piece], network: str, count: int, threads: int
) -> Iterator[dict[str, Any]]:
    """The rows of Table II (fragments) for one network: one for each direction, length and system.

    Intervals come from resampling pieces.
    """
    systems = systems_2(collection, network, threads)
    wholes = list(queries.whole(collection, found))
    for direction, lengths in LENGTHS.items():
        for length in lengths:
            asked = fragments(collection, [q for q in wholes if q.direction == direction], length, count)
            for system, cost in systems.items():
                quality = summarise(
                    methods.ranks(collection, asked, cost, f"{system}, {length} {UNITS[direction]}"),
                    groups=[query.piece for query in asked],
                )
                yield {"direction": direction, "length": length, "system": system, **quality.row()}


def fragments(collection: Collection, wholes: Sequence[LabelledQuery], length: int, count: int) -> list[LabelledQuery]:
    """`count` fragments of `length` seconds or systems, from random places of random pieces, with a fixed seed."""
    rng = np.random.default_rng((SEED, length))
    chosen = rng.integers(len(wholes), size=count)
    return [queries.fragment(wholes[number], length, collection.network.front_end, rng) for number in chosen]


def wide(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with one column for each system: its MRR, with the interval if there is one."""
    table: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        line = {"direction": row["direction"], "length": f"{row['length']} {UNITS[row['direction']]}"}
        table.setdefault((row["direction"], row["length"]), line)[row["system"]] = report.with_intervals(row)["MRR"]
    return list(table.values())


def published_table_1() -> list[dict[str, Any]]:
    """The rows of the paper's Table I, which has no intervals."""
    return [
        {"direction": direction, "system": system, "n": 321, "R@1": r1, "R@10": r10, "MRR": mrr, "MR": mr}
        for direction, systems in PUBLISHED.items()
        for system, (r1, r10, mrr, mr) in systems.items()
    ]


def published_table_2() -> list[dict[str, Any]]:
    """The rows of the paper's Table II, which has no intervals."""
    return [
        {"direction": direction, "length": length, "system": "SDTW+Att", "n": 1500, "MRR": mrr}
        for direction, figures in PUBLISHED_FRAGMENTS.items()
        for length, mrr in zip(LENGTHS[direction], figures, strict=True)
    ]


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    """The row for people: with intervals, and with a count before each share."""
    shown = report.with_intervals(row)
    for k in RECALLS:
        shown[f"R@{k}"] = f"{shown.pop(f'R@{k} count')}: {shown[f'R@{k}']}"
    return shown


if __name__ == "__main__":
    main()
