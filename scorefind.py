"""The command line: one thin door. Each command parses, opens, calls one method, and prints."""

import argparse
import dataclasses
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.documents import Encoder
    from engine.values import Kind, Match, Part, System

logger = logging.getLogger("scorefind")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 failed (wholly or for some files), 2 wrong usage."""
    from engine.errors import EngineError
    from indexer.errors import IndexerError

    try:
        options = _parsed(arguments)
        _log_to_stderr(options.verbose)
        code: int = options.run(options)
    except SystemExit as exc:  # argparse has printed help (0) or what is wrong (2)
        return int(exc.code or 0)
    except (EngineError, IndexerError, OSError) as exc:
        logger.error("%s", exc)
        return 1
    except ModuleNotFoundError as exc:
        logger.error("%s; `scorefind doctor` tells what is missing, README.md which extra brings it", exc)
        return 1
    except KeyboardInterrupt:
        logger.error("interrupted")
        return 1
    return code


def entry() -> None:
    """The console script."""
    sys.exit(main())


def encoder_loader(weights: Path | None, threads: int = 1) -> Callable[[], "Encoder"]:
    """What loads the encoder, here or in a worker process."""
    from engine.encoder import Encoder

    return functools.partial(Encoder.load, weights, threads=threads)


def _calibration_file(weights: Path | None) -> Path | None:
    """Beside the weights; None is the shipped one, of the shipped weights."""
    from engine.confidence import beside

    return weights and beside(weights)


def _log_to_stderr(verbose: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(stream=sys.stderr, level=level, format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells how it tries one build after another


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(facts, ensure_ascii=False) if as_json else "\n".join(_lines(facts)))


# --- commands ---------------------------------------------------------------------------------------------------------


def _add(options: argparse.Namespace) -> int:
    from indexer.ingest import add
    from indexer.sources import discover

    found = discover(options.paths, options.kind, options.manifest)
    summary = add(
        options.collection, found.sources, encoder_loader(options.weights), jobs=options.jobs, takeover=options.replace
    )
    failed = found.failed | summary.failed
    for path, cause in failed.items():
        logger.error("%s: %s", path, cause)
    print(
        f"{len(summary.added)} added, {len(summary.changed)} changed, {len(summary.unchanged)} unchanged, "
        f"{len(failed)} failed; {summary.snippets} new snippets"
    )
    return 1 if failed else 0


def _remove(options: argparse.Namespace) -> int:
    from engine.collection import CollectionWriter
    from engine.collection.manifest import Manifest

    network = Manifest.read(options.collection).network
    with CollectionWriter(options.collection, network) as writer:
        for id in options.ids:
            writer.remove(id)
        generation = writer.commit()
    print(f"{len(options.ids)} removed; generation {generation}")
    return 0


def _info(options: argparse.Namespace) -> int:
    from engine.collection import Collection

    with Collection.open(options.collection) as collection:
        facts: dict[str, Any] = {
            "path": str(options.collection),
            "generation": collection.generation,
            "documents": _count(collection),
            "snippets": collection.snippets,
            "kinds": {
                kind: {"documents": held.documents, "snippets": held.snippets}
                for kind, held in collection.manifest.kinds.items()
            },
            "network": dataclasses.asdict(collection.network),
        }
        if options.list:
            facts["ids"] = {document.id: f"{document.kind}, {document.title}" for document in collection.documents}
    _print_facts(facts, options.json)
    return 0


def _check(options: argparse.Namespace) -> int:
    from engine.collection import Collection

    with Collection.open(options.collection) as collection:
        collection.check()
        print(f"sound: generation {collection.generation}, {_count(collection)} documents")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from engine.doctor import report

    _print_facts(report(encoder_loader(options.weights), _calibration_file(options.weights)), options.json)
    return 0


def _query(options: argparse.Namespace) -> int:
    from engine import documents
    from engine.collection import Collection
    from engine.confidence import Calibration
    from engine.config import SearchSettings, load
    from engine.search import Searcher

    settings = load(SearchSettings(), section="search", path=options.config, flags=_search_flags(options))
    kind = options.kind or documents.kind_of(options.path)
    among: Kind = options.among or ("score" if kind == "recording" else "recording")
    encoder = encoder_loader(options.weights, settings.threads)()
    with Collection.open(options.collection, encoder.identity) as collection:
        started = time.perf_counter()
        asking, sequence = documents.embed(options.path, kind, encoder, options.start, options.end)
        embed_ms = (time.perf_counter() - started) * 1000
        calibration = Calibration.load(_calibration_file(options.weights), encoder.identity, settings.alignment)
        answer = Searcher(collection, settings, calibration=calibration).query(
            sequence, among, options.method, options.top, path=options.traced, systems=asking.systems
        )
        timings_ms = {"embed": embed_ms} | answer.timings_ms
        timings_ms["total"] += embed_ms
        held = {
            "generation": collection.generation,
            "documents": _count(collection),
            "snippets": collection.snippets,
        }
    if options.json:
        result = {
            "query": str(options.path),
            "direction": f"{_LETTERS[kind]}2{_LETTERS[among]}",
            "in_collection": answer.in_collection,
            "matches": [_match_json(match) for match in answer.matches],
            "timings_ms": timings_ms,
            "collection": held,
        }
        print(json.dumps(result, ensure_ascii=False, default=float))  # NumPy's numbers
    else:
        print("\n".join(_table([_match_row(match) for match in answer.matches])))
        if answer.in_collection is False:
            print("likely not in this collection: no match has a confidence of 0.5")
    return 0


def _train(options: argparse.Namespace) -> int:
    from indexer.training import train

    _log_to_stderr(max(options.verbose, 1))
    return train.main([str(options.settings), *options.rest])


def _demo(options: argparse.Namespace) -> int:
    from indexer import demo

    demo.run(options.out, jobs=options.jobs, load_encoder=encoder_loader(options.weights))
    return 0


def _count(collection: "Collection") -> int:
    """Its documents, which are many: not one of them is read."""
    return sum(held.documents for held in collection.manifest.kinds.values())


# --- what is printed --------------------------------------------------------------------------------------------------

_LETTERS = {"recording": "A", "score": "S"}
_HEADER = ("rank", "id", "title", "cost", "confidence", "where")


def _match_json(match: "Match") -> dict[str, Any]:
    document = match.document
    told = {
        "rank": match.rank,
        "id": document.id,
        "title": document.title,
        "composer": document.composer,
        "kind": document.kind,
        "cost": match.cost,
        "confidence": match.confidence,
        "votes": match.votes,
        "boxes": [_box_json(system) for system in match.systems],
        **_place_json(match),
        "parts": [{"share": part.share, **_place_json(part)} for part in match.parts],
    }
    if match.path:
        told["path"] = [dataclasses.asdict(point) for point in match.path]
    return told


def _place_json(place: "Match | Part") -> dict[str, Any]:
    return {
        "pages": list(place.pages),
        "systems": [system.number for system in place.systems],
        "start_x": place.start_x,
        "end_x": place.end_x,
        "start_s": place.start_s,
        "end_s": place.end_s,
    }


def _box_json(system: "System") -> dict[str, float]:
    box = system.box
    return {"page": system.page, "system": system.number, "x0": box.x0, "y0": box.y0, "x1": box.x1, "y1": box.y1}


def _match_row(match: "Match") -> tuple[str, ...]:
    if match.start_s is not None and match.end_s is not None:
        where = f"{_clock(match.start_s)}-{_clock(match.end_s)}"
    elif match.systems:
        systems = [system.number for system in match.systems]
        where = f"p. {_ranges(match.pages)}, {'system' if len(systems) == 1 else 'systems'} {_ranges(systems)}"
    else:
        where = ""
    cost = f"{round(match.cost, 3) + 0.0:.3f}"
    confidence = "" if match.confidence is None else f"{match.confidence:.2f}"
    return (str(match.rank), match.document.id, match.document.title, cost, confidence, where)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _ranges(numbers: Sequence[int]) -> str:
    """Runs of numbers in the order they come: `1-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows under the header, in columns; numbers to the right. Confidence has one only if it could be told."""
    if not rows:
        return ["no matches"]
    cells = dict(zip(_HEADER, zip(*rows, strict=True), strict=True))
    if not any(cells["confidence"]):
        del cells["confidence"]
    columns = []
    for name, column in cells.items():
        width = max(len(cell) for cell in (name, *column))
        right = name in ("rank", "cost", "confidence")
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in (name, *column)])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Nested facts as indented lines."""
    lines: list[str] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines


# --- what is parsed ---------------------------------------------------------------------------------------------------


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.run is _add and not (options.paths or options.manifest):
        parser.error("add: expected at least one PATH, or a --manifest that lists them")
    return options


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="count", default=0, help="log each step to stderr; twice: more")
    parser = argparse.ArgumentParser(
        prog="scorefind", description="Find the sheet music of a recording, and the recordings of a page."
    )
    parser.add_argument("--version", action="version", version=f"scorefind {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], help: str, example: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            parents=[common],
            help=help,
            description=help,
            epilog=f"example:\n  scorefind {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        return made

    _add_options(command("add", _add, "Embed scores and recordings into a collection.", "add music.sf scans/ takes/"))
    remove = command("remove", _remove, "Take documents out of a collection.", "remove music.sf op10-3 op10-4")
    _collection(remove)
    remove.add_argument("ids", nargs="+", metavar="ID")
    info = command("info", _info, "Tell what a collection holds.", "info music.sf")
    _collection(info)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.add_argument("--list", action="store_true", help="tell the documents too")
    _collection(command("check", _check, "Verify a collection's checksums and counts.", "check music.sf"))
    _query_options(
        command(
            "query", _query, "Find what a recording or a score shows.", "query music.sf take.flac --start 30 --end 50"
        )
    )
    doctor = command("doctor", _doctor, "Tell what is installed, what is in force, and why.", "doctor")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    _weights(doctor)
    train = command("train", _train, "Train the embedding network.", "train indexer/training/default.toml")
    train.add_argument("settings", type=Path, metavar="CONFIG.toml")
    train.add_argument("rest", nargs=argparse.REMAINDER, help="handed to the trainer")
    demo = command("demo", _demo, "Make music, add it, find it, and report how well.", "demo --out demo")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where to put it (default: demo)")
    _jobs(demo)
    _weights(demo)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    _collection(parser)
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="a file, a folder of page images, or a folder of these"
    )
    _kind(parser, "--kind", "take all PATHs for this kind (default: auto, by their names)")
    parser.add_argument("--manifest", type=Path, metavar="CSV", help="path,id,title,composer,work,kind of documents")
    _jobs(parser)
    parser.add_argument("--replace", action="store_true", help="let a file take over the id of another file's document")
    _weights(parser)


def _query_options(parser: argparse.ArgumentParser) -> None:
    _collection(parser)
    parser.add_argument("path", type=Path, metavar="PATH", help="a recording, a score file, or a folder of page images")
    _kind(parser, "--kind", "what PATH is (default: auto, by its name)")
    _kind(parser, "--among", "what to search (default: auto, the other kind)")
    parser.add_argument("--top", type=_positive, default=10, metavar="K", help="matches to show (default: 10)")
    parser.add_argument("--start", type=float, metavar="S", help="where the recording's part to use starts, in seconds")
    parser.add_argument("--end", type=float, metavar="S", help="where it ends")
    parser.add_argument(
        "--method",
        choices=("refine", "exhaustive", "vote", "fingerprint", "sdtw", "dtw"),
        default="refine",
        help="refine (default): the documents of a shortlist are aligned; exhaustive: all are; vote, fingerprint: what "
        "makes the shortlist ranks by itself; sdtw, dtw: all are aligned as published, the query with a part or the "
        "whole of each",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--path", action="store_true", dest="traced", help="with --json: tell each match's path, point by point"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, table [search]")
    parser.add_argument("--neighbours", type=_positive, metavar="N", help="neighbours of a snippet that vote")
    parser.add_argument(
        "--shortlist", type=_positive, metavar="N", help="documents aligned (default: all; 200 of a large collection)"
    )
    parser.add_argument("--jump-penalty", type=float, metavar="COST", help="cost of going on elsewhere (inf: never)")
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads for the search")
    _weights(parser)


def _search_flags(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "neighbours": options.neighbours,
        "shortlist": options.shortlist,
        "threads": options.threads,
        "alignment.jump_penalty": options.jump_penalty,
    }


def _collection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", type=Path, metavar="COLLECTION", help="the collection's directory")


def _jobs(parser: argparse.ArgumentParser) -> None:
    cores = os.cpu_count() or 1
    parser.add_argument("--jobs", type=_positive, default=cores, metavar="N", help="processes (default: one a core)")


def _weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, metavar="FILE", help="network to embed with (default: the one shipped)")


class _Kind(argparse.Action):
    """Turns `auto` into None."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, None if values == "auto" else values)


def _kind(parser: argparse.ArgumentParser, flag: str, help: str) -> None:
    parser.add_argument(flag, action=_Kind, choices=("auto", "score", "recording"), help=help)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def _version() -> str:
    try:
        return metadata.version("scorefind")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    entry()
