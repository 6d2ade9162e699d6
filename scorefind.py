"""The command line. Each command parses its arguments, opens what it needs, calls one method, and prints the result."""

import argparse
import functools
import gc
import json
import logging
import os
import select
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scorefind_segment
from engine.names import OneLine, printable
from scorefind_options import parsed

if TYPE_CHECKING:
    from ssl import SSLContext

    from engine.collection import Storage
    from engine.embedding.documents import Encoder
    from engine.finder import Finder
    from engine.values import Answer, Kind
    from indexer.sources import Source

logger = logging.getLogger("scorefind")

READER_GONE = 141
"""Exit code if the reader of stdout has gone: 128 + SIGPIPE, as a shell reports of programs that the signal ends."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0 done, 1 failed (wholly or for some files), 2 wrong usage.

    It is 141 if the reader of stdout has gone, as after `| head`.
    arguments: words after `scorefind`; None means those of the process.
    """
    from engine.errors import EngineError
    from engine.process import prepare
    from indexer.errors import IndexerError
    from server.errors import ServerError

    try:
        options = parsed(arguments)
        _log_to_stderr(options.verbose)
        prepare()
        code = COMMANDS[options.command](options)
    except SystemExit as exc:  # argparse has printed the help (0) or the mistake (2)
        return int(exc.code or 0)
    except (EngineError, IndexerError, ServerError, OSError) as exc:
        return _failed(exc)
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
    code = _flushed(main())
    gc.freeze()  # else the interpreter searches all objects for garbage when it ends, which takes 0.3 s after a query
    sys.exit(code)


def _failed(exc: Exception) -> int:
    """Logs an error and returns the exit code. A reader of stdout that has gone wanted no more, so it is no error."""
    if isinstance(exc, BrokenPipeError) and _reader_has_gone():
        return READER_GONE
    logger.error("%s", exc)
    return 1


def _reader_has_gone() -> bool:
    """Whether nobody reads stdout any more. BrokenPipeError alone does not say so: a socket raises it too."""
    try:
        stdout = sys.stdout.fileno()
    except (AttributeError, OSError):  # closed from the start, or replaced by a program that calls `main`
        return False
    poll = select.poll()
    poll.register(stdout, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _flushed(code: int) -> int:
    """Writes what stdout still holds, and returns the exit code of the program: `code`, or 141 in place of 0.

    The interpreter would write the rest only when it ends, and print a traceback if the reader has gone.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter writes the rest again
        return code or READER_GONE
    return code


def encoder_loader(options: argparse.Namespace, threads: int = 1) -> Callable[[], "Encoder"]:
    """Returns a function that loads the encoder that the options name, in this process or in a worker."""
    from engine.embedding.encoder import Encoder

    return functools.partial(Encoder.load, options.weights, threads=threads, precision=options.precision)


def _log_to_stderr(verbose: int, handler: logging.Handler | None = None) -> None:
    """Sends log records to stderr: warnings, with `verbose` 1 also information, with 2 also debugging."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # FAISS logs each build that it tries to load


# --- commands ---------------------------------------------------------------------------------------------------------


def _add(options: argparse.Namespace) -> int:
    from indexer.ingest import add
    from indexer.sources import Discovery, discover

    manifested, failures = _manifested(options)
    paths = [path for path in options.paths if isinstance(path, Path) and str(path) not in manifested]
    given = paths or (options.manifest and not manifested)  # without paths, all that the list has is added
    discovered = discover(paths, options.kind, options.manifest) if given else Discovery.nothing()
    summary = add(
        options.collection,
        (*discovered.sources, *(source for source in manifested.values() if source is not None)),
        encoder_loader(options),
        jobs=options.jobs,
        takeover=options.replace,
        keep_media=options.keep_media,
        **_on_cluster(options),
    )
    failed = discovered.failed | summary.failed
    for path, cause in failed.items():
        logger.error("%s: %s", path, cause)
    for path, cause in summary.passed_over.items():
        logger.warning("%s: passed over, an image beside recordings that is no score: %s", path, cause)
    others = ", ".join(f"{count} {printable(name)}" for name, count in discovered.ignored.items())
    print(
        f"{len(summary.added)} added, {len(summary.changed)} changed, {len(summary.unchanged)} unchanged, "
        f"{len(failed) + failures} failed; {summary.snippets} new snippets"
        + (f"; passed over: {others}" if others else "")
    )
    return 1 if failed or failures else 0


def _on_cluster(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `indexer.ingest.add` that spread its work over the cluster that the options name."""
    if options.cluster is None:
        return {}
    from cluster import bulk
    from cluster.machines import connect
    from cluster.storage import ClusterStorage

    connect(options.cluster)
    return {"run": bulk.each, "opened": ClusterStorage(options.collection).writer}


def _manifested(options: argparse.Namespace) -> "tuple[dict[str, Source | None], int]":
    """Returns the source of each IIIF manifest among the paths, None if it cannot be had, and how many cannot.

    Their images are fetched.
    """
    from indexer import iiif
    from indexer.errors import IIIFError

    images = options.images or options.collection.with_name(f"{options.collection.name}-images")
    fetcher = iiif.Fetcher(private=options.private)
    found: dict[str, Source | None] = {}
    for path in filter(iiif.is_manifest, map(str, options.paths)):
        found[path] = None
        try:
            found[path] = iiif.fetched(path, images, fetcher)
        except IIIFError as exc:
            logger.error("%s", exc)
    return found, sum(source is None for source in found.values())


def _remove(options: argparse.Namespace) -> int:
    from engine.collection import open_writer

    with open_writer(options.collection) as writer:
        for id in options.ids:
            writer.remove(id)
        generation = writer.commit()
    print(f"{len(options.ids)} removed; generation {generation}")
    return 0


def _info(options: argparse.Namespace) -> int:
    from engine.collection import open_collection
    from engine.search.answers import contents

    with open_collection(options.collection) as collection:
        facts = {"path": str(options.collection), **contents(collection, list_documents=options.list)}
    _print_facts(facts, options.json)
    return 0


def _check(options: argparse.Namespace) -> int:
    from engine.collection import open_collection

    with open_collection(options.collection) as collection:
        checked = collection.check()
        print(f"sound: generation {collection.generation}, {collection.count} documents")
    for name, size in checked.sizes.items():
        print(f"verified: {name}, {size:,} bytes")
    for name in checked.unused:
        print(f"not verified, because this generation does not use it: {printable(name)}")
    return 0


def _backup(options: argparse.Namespace) -> int:
    from engine.collection import backup

    copied = backup(options.collection, options.target)
    print(printable(f"generation {copied.generation} with {copied.documents} documents copied to {options.target}"))
    return 0


def _build(options: argparse.Namespace) -> int:
    from engine.collection import open_writer
    from indexer.build import build

    with open_writer(options.collection, threads=options.jobs) as writer:
        facts = build(writer, threads=options.jobs)
    _print_facts(facts, options.json)
    return 0


def _shard(options: argparse.Namespace) -> int:
    from engine.collection import shard

    shards = shard(options.collection, options.into, options.shards, threads=options.jobs)
    print(printable(f"{len(shards.shards)} shards written to {options.into}"))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from engine.doctor import report
    from engine.search.confidence import beside
    from server.sandbox import in_force

    facts = report(encoder_loader(options), beside(options.weights))
    with tempfile.TemporaryDirectory() as folder:
        facts["decoders of the server"] = in_force(Path(folder))
    if options.cluster is not None:
        from cluster import inspection, machines

        machines.connect(options.cluster)
        facts["cluster"] = inspection.report(options.collection)
    _print_facts(facts, options.json)
    return 0


def _restart(options: argparse.Namespace) -> int:
    from cluster.machines import connect
    from cluster.storage import ClusterStorage

    connect(options.cluster)
    for name in ClusterStorage(options.collection).restart(alone=options.alone):
        print(printable(f"{name} answers again"), flush=True)
    return 0


def _query(options: argparse.Namespace) -> int:
    from engine.search.answers import merged, table

    ask = _answers_of_server if options.server else _answers_here
    answers = ask(options, _among(options))
    answer = answers[0] if len(answers) == 1 else merged(answers, options.top)
    if options.json:
        print(_json({"query": str(options.path)} | answer))
    else:
        print(table(answer))
    return 0


def _among(options: argparse.Namespace) -> "tuple[Kind | None, ...]":
    """Returns the kinds of documents that a query is asked among, one after the other; None: the other kind.

    Notation is searched for among recordings as it looks, and among scores as it sounds, unless the user says which.
    """
    from engine import symbols

    if options.kind or options.among or not symbols.is_notation(options.path):
        return (options.among,)
    only_played = options.start is not None or options.end is not None or options.transpose
    return ("score",) if only_played else ("score", "recording")


def _answers_here(options: argparse.Namespace, among: "Sequence[Kind | None]") -> list[dict[str, Any]]:
    """Returns the answers to a query of a collection that this process opens, one for each kind in `among`."""
    from engine.config import SearchSettings, load
    from engine.embedding import documents
    from engine.finder import Engine, Finder
    from engine.search.answers import as_dict
    from engine.values import OTHER

    settings = load(SearchSettings(), section="search", path=options.config, flags=_search_flags(options))
    kinds = [options.kind or documents.kind_of(options.path, one) for one in among]
    encoder = encoder_loader(options, settings.threads)()
    engine = Engine.load(options.weights, settings=settings, encoder=encoder)
    with Finder(options.collection, engine) as finder:
        return [
            as_dict(_found(finder, options, kind, one or OTHER[kind]), kind, one or OTHER[kind], finder.collection)
            for kind, one in zip(kinds, among, strict=True)
        ]


def _found(finder: "Finder", options: argparse.Namespace, kind: "Kind", among: "Kind") -> "Answer":
    """Returns what a finder finds of a query of this kind among documents of this kind."""
    return finder.query(
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


def _answers_of_server(options: argparse.Namespace, among: "Sequence[Kind | None]") -> list[dict[str, Any]]:
    """Returns a server's answers to a query, one for each kind in `among`."""
    from engine import symbols
    from engine.embedding import documents
    from server.client import Client

    in_symbols = symbols.is_symbolic(options.path)  # whether they can be read, and as what, the server says
    kind = options.kind or (None if in_symbols else documents.kind_of(options.path))
    with Client(options.server, token=_token(options.token_file), tls=_trusted(options.tls_ca)) as client:
        return [
            client.query(
                options.path,
                kind=kind,
                among=one,
                method=options.method,
                top=options.top,
                start_s=options.start,
                end_s=options.end,
                path=options.traced,
                transpose=options.transpose,
            )
            for one in among
        ]


def _align(options: argparse.Namespace) -> int:
    from engine.alignment import choose
    from engine.config import SearchSettings, load
    from engine.pairing import align_files

    settings = load(SearchSettings(), section="search", path=options.config, flags={})
    encoder = encoder_loader(options, settings.threads)()
    backend = choose(threads=settings.threads)
    pair = align_files(options.score, options.recording, encoder, backend, settings.alignment)
    if pair.is_doubtful:
        logger.warning("%s: probably not the music of %s (cost %.3f)", options.recording, options.score, pair.cost)
    _write((_json(pair.as_dict()) if options.json else pair.table()) + "\n", options.out)
    return 0


def _segment(options: argparse.Namespace) -> int:
    from engine.config import SearchSettings, load
    from engine.embedding import documents
    from engine.errors import QueryError
    from engine.finder import Engine, Finder
    from engine.search import setlist
    from server.client import Client

    live = options.path == scorefind_segment.STDIN
    kind = "recording" if live else options.kind or documents.kind_of(options.path, options.among)
    if kind == "score" and (options.cue or options.labels):
        raise QueryError(f"{options.path}: --cue and --labels are for recordings, this is a volume of pages")
    show = functools.partial(print, flush=True)
    if options.server:
        with Client(options.server, token=_token(options.token_file), tls=_trusted(options.tls_ca)) as client:
            found = scorefind_segment.of_server(client, options, show)
    else:
        settings = load(SearchSettings(), section="search", path=options.config, flags={"threads": options.threads})
        encoder = encoder_loader(options, settings.threads)()
        engine = Engine.load(options.weights, settings=settings, encoder=encoder)
        with Finder(options.collection, engine) as finder:
            found = scorefind_segment.of_finder(finder, options, show)
    files: list[tuple[Path, str]] = []
    if options.cue:
        files.append((options.cue, setlist.cue(found, scorefind_segment.named_in(options.cue, options.path))))
    if options.labels:
        files.append((options.labels, setlist.labels(found)))
    try:
        show(_json({"query": str(options.path)} | found) if options.json else setlist.table(found))
    finally:  # a closed stdout costs no file, and a file that cannot be written costs no set list
        codes = [_written(text, path) for path, text in files]
    return max(codes, default=0)


def _link(options: argparse.Namespace) -> int:
    from engine.config import SearchSettings, load
    from engine.finder import Engine, Finder
    from engine.search.linking import proposed
    from indexer import linking

    if options.confirm:
        changed = linking.apply(options.collection, linking.confirmed(options.confirm))
        print(f"{changed} documents have another work now")
        return 0
    settings = load(SearchSettings(), section="search", path=options.config, flags={"threads": options.threads})
    engine = Engine.load(options.weights, settings=settings, encoder=encoder_loader(options, settings.threads)())
    with Finder(options.collection, engine) as finder:
        links = engine.linker(finder.collection, finder.searcher).links()
        works = proposed(links, finder.collection.summaries())
    _write(linking.as_csv(works), options.out)
    return 0


def _carry(options: argparse.Namespace) -> int:
    from engine.alignment import choose
    from engine.collection import open_collection
    from engine.config import SearchSettings, load
    from engine.search import carrying
    from engine.values import Box

    settings = load(SearchSettings(), section="search", path=options.config, flags={})
    x0, y0, x1, y1 = options.box
    box = Box(x0=x0, y0=y0, x1=x1, y1=y1)
    with open_collection(options.collection) as collection:
        carried = carrying.carry(
            collection, options.id, options.page, box, options.to, choose(threads=1), settings.alignment
        )
    print(_json({"to": options.to} | carried.as_dict()) if options.json else carried.table())
    return 0


def _export(options: argparse.Namespace) -> int:
    from engine import export
    from engine.alignment import choose
    from engine.collection import open_collection
    from engine.config import SearchSettings, load

    settings = load(SearchSettings(), section="search", path=options.config, flags={})
    needs = export.FORMATS[options.format]
    with open_collection(options.collection) as collection:
        made_of = export.material(
            collection,
            options.id,
            options.recording,
            choose(threads=settings.threads),
            settings.alignment,
            sized=needs.pages,
            measured=needs.measures,
            base=options.base,
        )
    if made_of.pair is not None and made_of.pair.is_doubtful:
        logger.warning("%s: probably not the music of %s", options.recording, options.id)
    _write(export.exported(made_of, options.format), options.out)
    return 0


def _serve(options: argparse.Namespace) -> int:
    import asyncio

    from server.logs import queued

    try:
        with queued(sys.stderr, as_json=options.log == "json") as handler:
            _log_to_stderr(max(options.verbose, 1), handler)
            asyncio.run(_serving(options))
    finally:
        _log_to_stderr(options.verbose)  # the queue is closed
    return 0


async def _serving(options: argparse.Namespace) -> None:
    """Runs the server until a signal stops it."""
    from engine.config import SearchSettings, load
    from engine.finder import Engine
    from server.access import AccessFiles
    from server.address import LOCAL_HOST, Address
    from server.config import ServerSettings
    from server.server import serving

    flags = {"workers": options.workers, "batch": options.batch, "web.public_url": options.public_url}
    settings = load(ServerSettings(), section="server", path=options.config, flags=flags)
    search = load(SearchSettings(), section="search", path=options.config, flags={"threads": options.threads})
    given = {name: getattr(options, name) for name in ("host", "port", "unix") if getattr(options, name) is not None}
    address, pages = Address(**given), None
    if options.http_port is not None:
        pages = Address(host=options.http_host or address.host, port=options.http_port)
    exposed = next((place for place in (address, pages) if place is not None and not place.is_local), address)
    files = AccessFiles(
        address=exposed,
        token_file=options.token_file,
        read_token_file=options.read_token_file,
        cert=options.tls_cert,
        key=options.tls_key,
        plain=options.plain,
    )
    access = files.load()
    encoder = encoder_loader(options, search.threads)()
    engine = Engine.load(options.weights, settings=search, backend=options.backend, encoder=encoder)
    place: Path | Storage = options.collection
    if options.cluster is not None:
        from cluster.machines import connect
        from cluster.storage import ClusterStorage

        connect(options.cluster)
        place = ClusterStorage(options.collection, search, options.backend)
    async with serving(place, engine, settings, access) as server:
        if options.metrics_port is not None:
            monitor = server.monitor(Address(host=options.metrics_host or LOCAL_HOST, port=options.metrics_port))
            print(f"metrics and health on http://{monitor}", flush=True)
        with server.signals(files.load) as stop:
            if pages is not None:
                opened = await server.web(pages, settings.web)
                print(f"the page is at {'http' if access.tls is None else 'https'}://{opened}", flush=True)
            listening = await server.listen(address)
            print(printable(f"serving {options.collection} on {listening}"), flush=True)
            await stop.wait()
    print("stopped", flush=True)


def _token(file: Path | None) -> str:
    """Returns the token in the first line of a file; empty without a file. Raises AddressError if the line is empty."""
    from server.access import secret

    return "" if file is None else secret(file)


def _trusted(certificates: Path | None) -> "SSLContext | None":
    """Returns the TLS settings that trust these certificates of a server; None: the connection is not encrypted."""
    from server.access import trusted

    return None if certificates is None else trusted(certificates)


def _train(options: argparse.Namespace) -> int:
    from indexer.training import train

    _log_to_stderr(max(options.verbose, 1))
    return train.main([str(options.settings), *options.rest])


def _demo(options: argparse.Namespace) -> int:
    from indexer import demo

    demo.run(options.out, jobs=options.jobs, load_encoder=encoder_loader(options))
    return 0


def _search_flags(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the search settings given as flags, by name; None: the flag is not given."""
    return {
        "neighbours": options.neighbours,
        "shortlist": options.shortlist,
        "threads": options.threads,
        "alignment.jump_penalty": options.jump_penalty,
    }


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "add": _add,
    "remove": _remove,
    "info": _info,
    "check": _check,
    "build": _build,
    "backup": _backup,
    "shard": _shard,
    "query": _query,
    "segment": _segment,
    "link": _link,
    "carry": _carry,
    "align": _align,
    "export": _export,
    "serve": _serve,
    "restart": _restart,
    "doctor": _doctor,
    "train": _train,
    "demo": _demo,
}


# --- output -----------------------------------------------------------------------------------------------------------


def _write(text: str, path: Path | None) -> None:
    """Writes a text to a file, or prints it."""
    from engine.files import write

    if path is None:
        print(text, end="")
    else:
        write(path, text)


def _written(text: str, path: Path) -> int:
    """Writes a text to a file, logs the cause if it cannot be written, and returns the exit code."""
    try:
        _write(text, path)
    except OSError as exc:
        return _failed(exc)
    return 0


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Prints nested facts, as one JSON object or as indented lines."""
    print(_json(facts) if as_json else "\n".join(_lines(facts)))


def _json(facts: dict[str, Any]) -> str:
    """Returns facts as one JSON object. A byte of a file name that is not UTF-8 is an escape, `\\udcNN`."""
    text = json.dumps(facts, ensure_ascii=False, default=float)  # NumPy's numbers
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Returns nested facts as indented lines."""
    lines: list[str] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [printable(f"{indent}{name}:"), *_lines(value, indent + "  ")]
        else:
            lines.append(printable(f"{indent}{name}: {value}"))
    return lines


if __name__ == "__main__":
    entry()
