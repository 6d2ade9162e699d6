"""The command line. Each command parses its arguments, opens what it needs, calls one method, and prints the result."""

import argparse
import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import __version__

if TYPE_CHECKING:
    from ssl import SSLContext

    from engine.embedding.documents import Encoder

logger = logging.getLogger("scorefind")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0 done, 1 failed (wholly or for some files), 2 wrong usage.

    arguments: words after `scorefind`; None means those of the process.
    """
    from engine.errors import EngineError
    from engine.process import prepare
    from indexer.errors import IndexerError
    from server.errors import ServerError

    try:
        options = _parsed(arguments)
        _log_to_stderr(options.verbose)
        prepare(embeds="weights" in options and not getattr(options, "server", None))
        code: int = options.run(options)
    except SystemExit as exc:  # argparse has printed the help (0) or the mistake (2)
        return int(exc.code or 0)
    except (EngineError, IndexerError, ServerError, OSError) as exc:
        logger.error("%s", exc)
        return 1
    except ModuleNotFoundError as exc:
        logger.error("%s; `scorefind doctor` lists missing packages, README.md says which extra installs them", exc)
        return 1
    except KeyboardInterrupt:
        logger.error("interrupted")
        return 1
    return code


def entry() -> None:
    """Runs the console script `scorefind`."""
    from engine.process import one_thread_each

    one_thread_each()
    sys.exit(main())


def encoder_loader(weights: Path | None, threads: int = 1) -> Callable[[], "Encoder"]:
    """Returns a function that loads the encoder, in this process or in a worker."""
    from engine.embedding.encoder import Encoder

    return functools.partial(Encoder.load, weights, threads=threads)


def _log_to_stderr(verbose: int, formatter: logging.Formatter | None = None) -> None:
    """Sends log records to stderr: warnings, with `verbose` 1 also information, with 2 also debugging."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter or logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # FAISS logs each build that it tries to load


# --- commands ---------------------------------------------------------------------------------------------------------


def _add(options: argparse.Namespace) -> int:
    from indexer.ingest import add
    from indexer.sources import discover

    discovered = discover(options.paths, options.kind, options.manifest)
    summary = add(
        options.collection,
        discovered.sources,
        encoder_loader(options.weights),
        jobs=options.jobs,
        takeover=options.replace,
    )
    failed = discovered.failed | summary.failed
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
    from engine.search.answers import contents

    with Collection.open(options.collection) as collection:
        facts = {"path": str(options.collection), **contents(collection, list_documents=options.list)}
    _print_facts(facts, options.json)
    return 0


def _check(options: argparse.Namespace) -> int:
    from engine.collection import Collection

    with Collection.open(options.collection) as collection:
        collection.check()
        print(f"sound: generation {collection.generation}, {collection.count} documents")
    return 0


def _build(options: argparse.Namespace) -> int:
    from engine.collection import CollectionWriter
    from engine.collection.manifest import Manifest
    from indexer.build import build

    network = Manifest.read(options.collection).network
    with CollectionWriter(options.collection, network, threads=options.jobs) as writer:
        facts = build(writer, threads=options.jobs)
    _print_facts(facts, options.json)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from engine.doctor import report
    from engine.search.confidence import beside

    _print_facts(report(encoder_loader(options.weights), beside(options.weights)), options.json)
    return 0


def _query(options: argparse.Namespace) -> int:
    from engine.search.answers import table

    answer = _answer_of_server(options) if options.server else _answer_here(options)
    if options.json:
        print(json.dumps({"query": str(options.path)} | answer, ensure_ascii=False, default=float))  # NumPy's numbers
    else:
        print(table(answer))
    return 0


def _answer_here(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the answer to a query of a collection that this process opens."""
    from engine.config import SearchSettings, load
    from engine.embedding import documents
    from engine.finder import Engine, Finder
    from engine.search.answers import as_dict
    from engine.values import OTHER

    settings = load(SearchSettings(), section="search", path=options.config, flags=_search_flags(options))
    kind = options.kind or documents.kind_of(options.path)
    among = options.among or OTHER[kind]
    encoder = encoder_loader(options.weights, settings.threads)()
    engine = Engine.load(options.weights, settings=settings, encoder=encoder)
    with Finder(options.collection, engine) as finder:
        answer = finder.query(
            options.path,
            kind=kind,
            start_s=options.start,
            end_s=options.end,
            among=among,
            method=options.method,
            top=options.top,
            path=options.traced,
            transpose=options.transpose,
            speed=options.speed or 1.0,
        )
        return as_dict(answer, kind, among, finder.collection)


def _answer_of_server(options: argparse.Namespace) -> dict[str, Any]:
    """Returns a server's answer to a query."""
    from engine.embedding import documents
    from server.client import Client

    kind = options.kind or documents.kind_of(options.path)
    with Client(options.server, token=_token(options.token_file), tls=_trusted(options.tls_ca)) as client:
        return client.query(
            options.path,
            kind=kind,
            among=options.among,
            method=options.method,
            top=options.top,
            start_s=options.start,
            end_s=options.end,
            path=options.traced,
        )


def _serve(options: argparse.Namespace) -> int:
    import asyncio

    from server.logs import JsonLines

    _log_to_stderr(max(options.verbose, 1), JsonLines() if options.log == "json" else None)
    asyncio.run(_serving(options))
    return 0


async def _serving(options: argparse.Namespace) -> None:
    """Runs the server until a signal stops it."""
    from engine.config import SearchSettings, load
    from engine.finder import Engine
    from server.address import LOCAL_HOST, Address
    from server.config import ServerSettings
    from server.server import require_token, serving, tls_context

    flags = {"workers": options.workers, "batch": options.batch}
    settings = load(ServerSettings(), section="server", path=options.config, flags=flags)
    search = load(SearchSettings(), section="search", path=options.config, flags={"threads": options.threads})
    given = {name: getattr(options, name) for name in ("host", "port", "unix") if getattr(options, name) is not None}
    address, token = Address(**given), _token(options.token_file)
    require_token(address, token)
    tls = tls_context(options.tls_cert, options.tls_key) if options.tls_cert else None
    encoder = encoder_loader(options.weights, search.threads)()
    engine = Engine.load(options.weights, settings=search, backend=options.backend, encoder=encoder)
    async with serving(options.collection, engine, settings, token=token, open_reads=address.is_local) as server:
        if options.metrics_port is not None:
            monitor = server.monitor(Address(host=options.metrics_host or LOCAL_HOST, port=options.metrics_port))
            print(f"metrics and health on http://{monitor}", flush=True)
        with server.signals() as stop:
            listening = await server.listen(address, tls)
            print(f"serving {options.collection} on {listening}", flush=True)
            await stop.wait()
    print("stopped", flush=True)


def _token(file: Path | None) -> str:
    """Returns the token in the first line of a file; empty without a file. Raises AddressError if the line is empty."""
    from server.errors import AddressError

    if file is None:
        return ""
    token = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    if not token:
        raise AddressError(f"{file}: expected a token in the first line, got nothing")
    return token


def _trusted(certificates: Path | None) -> "SSLContext | None":
    """Returns the TLS settings that trust these certificates of a server; None: the connection is not encrypted."""
    import ssl

    return None if certificates is None else ssl.create_default_context(cafile=certificates)


def _train(options: argparse.Namespace) -> int:
    from indexer.training import train

    _log_to_stderr(max(options.verbose, 1))
    return train.main([str(options.settings), *options.rest])


def _demo(options: argparse.Namespace) -> int:
    from indexer import demo

    demo.run(options.out, jobs=options.jobs, load_encoder=encoder_loader(options.weights))
    return 0


# --- output -----------------------------------------------------------------------------------------------------------


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Prints nested facts, as one JSON object or as indented lines."""
    print(json.dumps(facts, ensure_ascii=False) if as_json else "\n".join(_lines(facts)))


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Returns nested facts as indented lines."""
    lines: list[str] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines


# --- arguments --------------------------------------------------------------------------------------------------------


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the parsed arguments. Wrong usage ends the program (SystemExit)."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser(remote=any(word.partition("=")[0] == "--server" for word in words))
    options = parser.parse_args(words)
    if options.run is _add and not (options.paths or options.manifest):
        parser.error("add: expected at least one PATH, or a --manifest that lists them")
    for wrong in _without_effect(options):
        parser.error(wrong)
    return options


def _without_effect(options: argparse.Namespace) -> Iterator[str]:
    """Yields a message for each option that was given and has no effect without, or with, another one."""

    def given(flag: str) -> bool:
        value = getattr(options, "traced" if flag == "--path" else flag[2:].replace("-", "_"))
        return value is not None and value is not False

    if options.run is _query:
        needed = {"--token-file": "--server", "--tls-ca": "--server", "--path": "--json"}
        servers = (
            "--weights",
            "--config",
            "--neighbours",
            "--shortlist",
            "--jump-penalty",
            "--threads",
            "--transpose",
            "--speed",
        )
        barred = dict.fromkeys(servers, "--server")  # the server chooses these
    elif options.run is _serve:
        needed = {"--tls-key": "--tls-cert", "--metrics-host": "--metrics-port"}
        barred = {"--host": "--unix", "--port": "--unix"}
    else:
        return
    yield from (f"{one} has no effect without {other}" for one, other in needed.items() if given(one) > given(other))
    yield from (f"{one} has no effect with {other}" for one, other in barred.items() if given(one) and given(other))


def _parser(*, remote: bool) -> argparse.ArgumentParser:
    """Returns the parser of all commands. remote: `query` asks a server, so it has no argument COLLECTION."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="count", default=0, help="log each step to stderr; twice: log details"
    )
    parser = argparse.ArgumentParser(
        prog="scorefind", description="Find the sheet music of a recording, and the recordings of a page."
    )
    parser.add_argument("--version", action="version", version=f"scorefind {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], help: str, example: str
    ) -> argparse.ArgumentParser:
        subparser = commands.add_parser(
            name,
            parents=[common],
            help=help,
            description=help,
            epilog=f"example:\n  scorefind {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.set_defaults(run=run)
        return subparser

    _add_options(command("add", _add, "Add scores and recordings to a collection.", "add music.sf scans/ takes/"))
    remove = command("remove", _remove, "Remove documents from a collection.", "remove music.sf op10-3 op10-4")
    _collection(remove)
    remove.add_argument("ids", nargs="+", metavar="ID", help="id of a document to remove")
    info = command("info", _info, "Show the contents of a collection.", "info music.sf")
    _collection(info)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.add_argument("--list", action="store_true", help="list all documents")
    _collection(command("check", _check, "Verify a collection's checksums and counts.", "check music.sf"))
    build = command("build", _build, "Rebuild a collection's indexes, and measure their recall.", "build music.sf")
    _collection(build)
    _jobs(build)
    build.add_argument("--json", action="store_true", help="print one JSON object")
    _query_options(
        command(
            "query",
            _query,
            "Find the scores of a recording, or the recordings of a score.",
            "query music.sf take.flac --start 30 --end 50",
        ),
        remote=remote,
    )
    _serve_options(command("serve", _serve, "Serve queries of a collection over a socket.", "serve music.sf"))
    doctor = command("doctor", _doctor, "Report what is installed, which backends are in use, and why.", "doctor")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    _weights(doctor)
    train = command("train", _train, "Train the embedding network.", "train indexer/training/default.toml")
    train.add_argument("settings", type=Path, metavar="CONFIG.toml", help="settings of the training in TOML")
    train.add_argument("rest", nargs=argparse.REMAINDER, help="further arguments of the trainer")
    demo = command("demo", _demo, "Generate music, add it, query it, and report the ranks.", "demo --out demo")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="output folder (default: demo)")
    _jobs(demo)
    _weights(demo)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    _collection(parser)
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="a file, a folder of page images, or a folder of these"
    )
    _kind(parser, "--kind", "kind of all PATHs (default: auto, by their names)")
    parser.add_argument(
        "--manifest", type=Path, metavar="CSV", help="list of documents, columns path,id,title,composer,work,kind"
    )
    _jobs(parser)
    parser.add_argument(
        "--replace", action="store_true", help="let a file replace another file's document of the same id"
    )
    _weights(parser)


def _query_options(parser: argparse.ArgumentParser, *, remote: bool) -> None:
    if not remote:
        _collection(parser)
    parser.add_argument("path", type=Path, metavar="PATH", help="a recording, a score file, or a folder of page images")
    _kind(parser, "--kind", "kind of PATH (default: auto, by its name)")
    _kind(parser, "--among", "kind of documents to search (default: auto, the other kind)")
    parser.add_argument("--top", type=_positive, default=10, metavar="K", help="number of matches (default: 10)")
    parser.add_argument(
        "--start", type=float, metavar="S", help="start of the part of a recording to query, in seconds"
    )
    parser.add_argument("--end", type=float, metavar="S", help="end of the part of a recording to query, in seconds")
    parser.add_argument(
        "--transpose",
        type=_semitones,
        metavar="N[,N...]",
        help="semitones by which a recording is transposed; of several, the likeliest (default: 0 and, if the piece "
        "seems not to be there, up to 3 up or down)",
    )
    parser.add_argument(
        "--speed", type=_speed, metavar="X", help="the recording runs at X times its true speed (default: 1)"
    )
    parser.add_argument(
        "--method",
        choices=("refine", "exhaustive", "vote", "fingerprint", "sdtw", "dtw"),
        default="refine",
        help="how documents are ranked. refine (default): by alignment, in a large collection of a shortlist; "
        "exhaustive: by alignment of all documents; vote, fingerprint: by nearest neighbours, without alignment; "
        "sdtw, dtw: by the published alignment of all documents, with a part (sdtw) or the whole (dtw) of each",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--path", action="store_true", dest="traced", help="with --json: print the alignment path of each match"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, table [search]")
    parser.add_argument(
        "--neighbours", type=_positive, metavar="N", help="nearest neighbours that vote, for each query snippet"
    )
    parser.add_argument(
        "--shortlist",
        type=_positive,
        metavar="N",
        help="documents to align (default: all; in a large collection 100 to 3000)",
    )
    parser.add_argument(
        "--jump-penalty", type=float, metavar="COST", help="cost of a jump within a document (inf: no jumps)"
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads of the search")
    _weights(parser)
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="query a server, at this address or path of a Unix socket; then leave out COLLECTION",
    )
    _token_file(parser, "the token of the server")
    parser.add_argument(
        "--tls-ca", type=Path, metavar="PEM", help="use TLS; the certificate by which the server is trusted"
    )


def _serve_options(parser: argparse.ArgumentParser) -> None:
    from server.address import LOCAL_HOST, PORT

    _collection(parser)
    parser.add_argument("--host", help=f"address to listen on (default: {LOCAL_HOST})")
    parser.add_argument("--port", type=int, help=f"port to listen on; 0: any free port (default: {PORT})")
    parser.add_argument("--unix", type=Path, metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes that decode media (default: 2)")
    parser.add_argument(
        "--batch", type=_positive, metavar="N", help="largest number of queries in a batch (default: 16)"
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads of the search (default: 2)")
    _token_file(
        parser,
        "the token that changes of the collection need, and that all requests need if other machines reach the "
        "address; without it the collection cannot be changed",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="PEM", help="use TLS, with this certificate")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="key of the certificate, if in a file of its own")
    parser.add_argument(
        "--backend",
        choices=("auto", "cpu", "gpu"),
        default="auto",
        help="where alignment runs (default: auto, the fastest)",
    )
    parser.add_argument(
        "--metrics-port", type=int, metavar="PORT", help="port for /metrics and /healthz over HTTP (default: none)"
    )
    parser.add_argument("--metrics-host", metavar="HOST", help=f"address for --metrics-port (default: {LOCAL_HOST})")
    parser.add_argument("--log", choices=("json", "text"), default="json", help="format of the log (default: json)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, tables [server] and [search]")
    _weights(parser)


def _token_file(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=f"file whose first line is {help}")


def _search_flags(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the search settings given as flags, by name; None: the flag is not given."""
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
    parser.add_argument("--jobs", type=_positive, default=cores, metavar="N", help="processes (default: one per core)")


def _weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights file of the network (default: the shipped one)"
    )


class _Kind(argparse.Action):
    """Argparse action that stores a kind, and None for `auto`."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, None if values == "auto" else values)


def _kind(parser: argparse.ArgumentParser, flag: str, help: str) -> None:
    parser.add_argument(flag, action=_Kind, choices=("auto", "score", "recording"), help=help)


def _semitones(text: str) -> list[float]:
    """Returns the numbers in an argument. Raises ArgumentTypeError if one is not between -12 and 12."""
    values = [float(one) for one in text.split(",")]
    if not all(-12 <= value <= 12 for value in values):
        raise argparse.ArgumentTypeError(f"expected semitones from -12 to 12, got {text}")
    return values


def _speed(text: str) -> float:
    """Returns the number in an argument. Raises ArgumentTypeError if it is not between a quarter and 4."""
    value = float(text)
    if not 0.25 <= value <= 4:
        raise argparse.ArgumentTypeError(f"expected a speed from 0.25 to 4, got {text}")
    return value


def _positive(text: str) -> int:
    """Returns the number in an argument. Raises ArgumentTypeError if the number is below 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


if __name__ == "__main__":
    entry()
