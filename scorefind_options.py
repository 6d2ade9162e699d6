"""The arguments of the command line: which commands and options there are, and which go together."""

import argparse
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from engine import __version__
from engine.arguments import positive, whole
from engine.config import FASTEST, SLOWEST
from engine.names import printable


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the parsed arguments, with the name of the command. Wrong usage ends the program (SystemExit).

    Options may stand anywhere among the arguments of a command.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser, commands = _parser(remote=any(word.partition("=")[0] == "--server" for word in words))
    verbose = list(itertools.takewhile(re.compile("-v+|--verbose").fullmatch, words))
    words = words[len(verbose) :]
    words[1:1] = verbose  # it may stand before the command too
    if not words or words[0] not in commands:
        return parser.parse_args(words)
    command = commands[words[0]]
    if words[0] == "train":  # hands all further arguments to the trainer
        return command.parse_args(words[1:])
    options, surplus = command.parse_known_intermixed_args(words[1:])
    if surplus:
        served = getattr(options, "server", None) and not any(word.startswith("-") for word in surplus)
        hint = "; with --server, leave out COLLECTION" if served else ""
        command.error(f"unrecognized arguments: {' '.join(surplus)}{hint}")
    if options.command == "add" and not (options.paths or options.manifest):
        command.error("expected at least one PATH, or a --manifest that lists them")
    if options.command == "doctor" and (options.cluster is None) != (options.collection is None):
        command.error("expected both --cluster and a COLLECTION, or none of them")
    for wrong in _without_effect(options):
        command.error(wrong)
    return options


class _Parser(argparse.ArgumentParser):
    """A parser whose messages are one printable line: an argument may be any text."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _without_effect(options: argparse.Namespace) -> Iterator[str]:
    """Yields a message for each option that was given and has no effect without, or with, another one."""

    def given(flag: str) -> bool:
        value = getattr(options, "traced" if flag == "--path" else flag[2:].replace("-", "_"))
        return value is not None and value is not False

    if options.command == "export" and not options.recording:
        if options.format not in ("iiif", "mei"):
            yield f"--format {options.format} needs --recording"
        return
    if options.command == "link" and options.confirm and options.out:
        yield "--out has no effect with --confirm"
        return
    if options.command == "query":
        needed = {"--token-file": "--server", "--tls-ca": "--server", "--path": "--json"}
        searches = (
            "--weights",
            "--precision",
            "--config",
            "--neighbours",
            "--shortlist",
            "--jump-penalty",
            "--threads",
        )
        barred = dict.fromkeys((*searches, "--speed"), "--server")  # the server chooses these
    elif options.command == "segment":
        needed = dict.fromkeys(("--token-file", "--tls-ca"), "--server")
        barred = dict.fromkeys(("--weights", "--precision", "--config", "--threads", "--speed"), "--server")
        yield from _without_effect_on_stdin(options, given)
    elif options.command == "serve":
        needed = {"--tls-key": "--tls-cert", "--metrics-host": "--metrics-port"}
        needed |= dict.fromkeys(("--http-host", "--public-url"), "--http-port")
        barred = {"--plain": "--tls-cert", "--host": "--unix", "--port": "--unix"}
    else:
        return
    yield from (f"{one} has no effect without {other}" for one, other in needed.items() if given(one) > given(other))
    yield from (f"{one} has no effect with {other}" for one, other in barred.items() if given(one) and given(other))


def _without_effect_on_stdin(options: argparse.Namespace, given: Callable[[str], bool]) -> Iterator[str]:
    """Yields a message for each option of `segment` that is for files alone, or for the standard input alone."""
    if options.path != Path("-"):
        if given("--rate"):
            yield "--rate has no effect without the PATH -"
        return
    flags = ("--kind", "--start", "--end", "--transpose", "--speed", "--cue")
    yield from (f"{flag} has no effect with the PATH -" for flag in flags if given(flag))


def _parser(*, remote: bool) -> tuple[_Parser, dict[str, _Parser]]:
    """Returns the parser of the program, and those of the commands by name.

    remote: `query` or `segment` asks a server, so it has no argument COLLECTION.
    """
    common = _Parser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="count", default=0, help="log each step to stderr; twice: log details"
    )
    parser = _Parser(prog="scorefind", description="Find the sheet music of a recording, and the recordings of a page.")
    parser.add_argument("--version", action="version", version=f"scorefind {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, help: str, example: str) -> _Parser:
        subparser: _Parser = commands.add_parser(
            name,
            parents=[common],
            help=help,
            description=help,
            epilog=f"example:\n  scorefind {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.set_defaults(command=name)
        return subparser

    _add_options(command("add", "Add scores and recordings to a collection.", "add music.sf scans/ takes/"))
    remove = command("remove", "Remove documents from a collection.", "remove music.sf op10-3 op10-4")
    _collection(remove)
    remove.add_argument("ids", nargs="+", metavar="ID", help="id of a document to remove")
    info = command("info", "Show the contents of a collection.", "info music.sf")
    _collection(info)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.add_argument("--list", action="store_true", help="list all documents")
    _collection(command("check", "Verify a collection's checksums and counts.", "check music.sf"))
    build = command(
        "build", "Rewrite a collection without what was removed, and measure its indexes' recall.", "build music.sf"
    )
    _collection(build)
    _jobs(build)
    build.add_argument("--json", action="store_true", help="print one JSON object")
    backup = command("backup", "Copy a collection while it is in use.", "backup music.sf backups/music.sf")
    _collection(backup)
    backup.add_argument("target", type=Path, metavar="TARGET", help="a new or an empty folder")
    shard = command(
        "shard", "Write a collection in shards, for several machines.", "shard music.sf --into music.shards --shards 4"
    )
    _collection(shard)
    shard.add_argument("--into", type=Path, required=True, metavar="DIR", help="a new or an empty folder")
    shard.add_argument("--shards", type=positive, required=True, metavar="N", help="number of shards")
    _jobs(shard)
    _query_options(
        command(
            "query",
            "Find the scores of a recording, or the recordings of a score.",
            "query music.sf take.flac --start 30 --end 50",
        ),
        remote=remote,
    )
    _segment_options(
        command(
            "segment",
            "List what is played from when to when in a long recording, or printed where in a volume.",
            "segment music.sf evening.flac --cue evening.cue",
        ),
        remote=remote,
    )
    link = command(
        "link",
        "Propose which documents are of one work, or take over the works that a librarian has confirmed.",
        "link music.sf --out works.csv",
    )
    _collection(link)
    link.add_argument("--out", type=Path, metavar="FILE", help="write the list to this file instead of stdout")
    link.add_argument("--confirm", type=Path, metavar="CSV", help="give the documents of this list their works")
    link.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, table [search]")
    link.add_argument("--threads", type=positive, metavar="N", help="threads of the search")
    _weights(link)
    carry = command(
        "carry",
        "Show where a box on a page lies in another edition, or is heard in a recording.",
        "carry music.sf op10-3 2 0.1,0.2,0.5,0.3 --to op10-3_henle",
    )
    _collection(carry)
    carry.add_argument("id", metavar="DOC", help="id of a score in the collection")
    carry.add_argument("page", type=positive, metavar="PAGE", help="number of the page")
    carry.add_argument(
        "box", type=_box, metavar="X0,Y0,X1,Y1", help="the box, in widths of the page, from its top left corner"
    )
    carry.add_argument("--to", required=True, metavar="DOC2", help="id of the other score, or of a recording")
    carry.add_argument("--json", action="store_true", help="print one JSON object")
    carry.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, table [search]")
    align = command(
        "align",
        "Show where in a score a recording is at each second.",
        "align op10-3.pdf take.flac --json --out map.json",
    )
    align.add_argument("score", type=Path, metavar="SCORE", help="a score file, or a folder of page images")
    align.add_argument("recording", type=Path, metavar="RECORDING", help="a recording of the score")
    align.add_argument("--json", action="store_true", help="print one JSON object, with the place at each half second")
    align.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of stdout")
    align.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, table [search]")
    _weights(align)
    _export_options(
        command(
            "export",
            "Write a score, and a recording of it, as a file that other programs read.",
            "export music.sf op10-3 --recording take --format iiif --out op10-3.json",
        )
    )
    _serve_options(command("serve", "Serve queries of a collection over a socket.", "serve music.sf"))
    restart = command(
        "restart",
        "Restart the processes of shards on a cluster one after the other, while queries go on.",
        "restart music.shards --cluster auto",
    )
    _collection(restart)
    _cluster(restart, "the Ray cluster whose machines have the shards", required=True)
    restart.add_argument(
        "--alone", action="store_true", help="also where a shard has one replica, so that queries miss it meanwhile"
    )
    doctor = command("doctor", "Report what is installed, which backends are in use, and why.", "doctor")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    _cluster(doctor, "report the shards of COLLECTION on the machines of a Ray cluster, too, and start nothing there")
    doctor.add_argument("collection", type=Path, nargs="?", metavar="COLLECTION", help="its directory, with --cluster")
    _weights(doctor)
    train = command("train", "Train the embedding network.", "train indexer/training/default.toml")
    train.add_argument("settings", type=Path, metavar="CONFIG.toml", help="settings of the training in TOML")
    train.add_argument("rest", nargs=argparse.REMAINDER, help="further arguments of the trainer")
    demo = command("demo", "Generate music, add it, query it, and report the ranks.", "demo --out demo")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="output folder (default: demo)")
    _jobs(demo)
    _weights(demo)
    return parser, commands.choices


def _add_options(parser: _Parser) -> None:
    _collection(parser)
    parser.add_argument(
        "paths",
        nargs="*",
        type=_source,
        metavar="PATH",
        help="a file, a folder of page images, a folder of these, or a IIIF manifest: its file or its URL",
    )
    _kind(
        parser,
        "--kind",
        "kind of all PATHs (default: auto, by their names); notation is engraved as a score, played as a recording",
    )
    parser.add_argument(
        "--manifest", type=Path, metavar="CSV", help="list of documents, columns path,id,title,composer,work,kind"
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder for the images of IIIF manifests (default: COLLECTION-images)",
    )
    parser.add_argument(
        "--private", action="store_true", help="let a IIIF manifest name images in this machine's own network"
    )
    _jobs(parser)
    _cluster(parser, "add to a collection whose shards lie on the machines of a Ray cluster, which do the work too")
    parser.add_argument(
        "--replace", action="store_true", help="let a file replace another file's document of the same id"
    )
    parser.add_argument(
        "--keep-media",
        action="store_true",
        help="keep pictures of the pages and compressed sound, so that the page shows them without the files",
    )
    _weights(parser)


def _query_options(parser: _Parser, *, remote: bool) -> None:
    if not remote:
        _collection(parser)
    parser.add_argument("path", type=Path, metavar="PATH", help="a recording, a score file, or a folder of page images")
    _kind(parser, "--kind", "kind of PATH (default: auto, by its name)")
    _kind(parser, "--among", "kind of documents to search (default: auto, the other kind; for notation, both)")
    parser.add_argument("--top", type=positive, default=10, metavar="K", help="number of matches (default: 10)")
    parser.add_argument(
        "--start",
        type=_time,
        metavar="TIME",
        help="start of the part of a recording to query: seconds, M:SS or H:MM:SS",
    )
    parser.add_argument("--end", type=_time, metavar="TIME", help="end of that part")
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
        "--neighbours", type=positive, metavar="N", help="nearest neighbours that vote, for each query snippet"
    )
    parser.add_argument(
        "--shortlist",
        type=positive,
        metavar="N",
        help="documents to align (default: all; in a large collection 100 to 3000)",
    )
    parser.add_argument(
        "--jump-penalty", type=float, metavar="COST", help="cost of a jump within a document (inf: no jumps)"
    )
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
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of the search")
    _weights(parser)
    _remote(parser)


def _remote(parser: _Parser) -> None:
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="ask a server, at this address or path of a Unix socket; then leave out COLLECTION",
    )
    _token_file(parser, "the token of the server")
    parser.add_argument(
        "--tls-ca", type=Path, metavar="PEM", help="use TLS; the certificate by which the server is trusted"
    )


def _segment_options(parser: _Parser, *, remote: bool) -> None:
    if not remote:
        _collection(parser)
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="a recording of any length, a volume as a file, or a folder of its pages; -: what is played, as samples "
        "on the standard input, signed 16-bit little-endian and mono. Then each passage is told as it begins and ends",
    )
    parser.add_argument("--rate", type=_rate, metavar="HZ", help="sampling rate of the standard input (default: 44100)")
    _kind(parser, "--kind", "kind of PATH (default: auto, by its name)")
    _kind(parser, "--among", "kind of documents to search (default: auto, the other kind)")
    parser.add_argument("--start", type=_time, metavar="TIME", help="start of the part of a recording to read")
    parser.add_argument("--end", type=_time, metavar="TIME", help="end of that part")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cue", type=Path, metavar="FILE", help="write the passages of a recording as a CUE sheet")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="write them as labels of Audacity")
    parser.add_argument(
        "--transpose",
        type=_semitones,
        metavar="N[,N...]",
        help="semitones by which a recording is transposed; of several, those of which most is found (default: 0)",
    )
    parser.add_argument(
        "--speed", type=_speed, metavar="X", help="the recording runs at X times its true speed (default: 1)"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, table [search]")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of the search")
    _weights(parser)
    _remote(parser)


def _export_options(parser: _Parser) -> None:
    _collection(parser)
    parser.add_argument("id", metavar="DOC", help="id of a score in the collection")
    parser.add_argument("--recording", metavar="DOC2", help="id of a recording of the score in the collection")
    parser.add_argument(
        "--format",
        required=True,
        choices=("iiif", "annotations", "audacity", "csv", "sonic-visualiser", "jams", "mei"),
        help="iiif: a manifest with the systems as regions; annotations: the places of the recording alone; audacity, "
        "csv, sonic-visualiser, jams: when each measure is played; mei: zones of the pages, with moments",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of stdout")
    parser.add_argument(
        "--base",
        default="http://127.0.0.1:8080",
        metavar="URL",
        help="address under which a server shows the documents, for iiif and annotations (default: %(default)s)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, table [search]")


def _serve_options(parser: _Parser) -> None:
    from server.address import LOCAL_HOST, PORT

    _collection(parser)
    _cluster(parser, "serve a collection whose shards lie on the machines of a Ray cluster (docs/cluster.md)")
    parser.add_argument("--host", help=f"address to listen on (default: {LOCAL_HOST})")
    parser.add_argument("--port", type=_port, help=f"port to listen on; 0: any free port (default: {PORT})")
    parser.add_argument("--unix", type=Path, metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes that decode media (default: 2)")
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="largest number of queries in a batch (default: 16)"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of the search (default: 2)")
    _token_file(
        parser,
        "the token that changes of the collection need, and that all requests need if other machines reach the "
        "address; without it the collection cannot be changed",
    )
    parser.add_argument(
        "--read-token-file", type=Path, metavar="FILE", help="file whose first line is a token that only opens queries"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="PEM", help="use TLS, with this certificate")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="key of the certificate, if in a file of its own")
    parser.add_argument(
        "--plain", action="store_true", help="let other machines connect without TLS: tokens and media can be read"
    )
    parser.add_argument(
        "--backend",
        choices=("auto", "cpu", "gpu"),
        default="auto",
        help="where alignment runs (default: auto, the fastest)",
    )
    parser.add_argument(
        "--metrics-port", type=_port, metavar="PORT", help="port for /metrics and /healthz over HTTP (default: none)"
    )
    parser.add_argument("--metrics-host", metavar="HOST", help=f"address for --metrics-port (default: {LOCAL_HOST})")
    parser.add_argument(
        "--http-port", type=_port, metavar="PORT", help="port for the page and for HTTP with JSON (default: none)"
    )
    parser.add_argument("--http-host", metavar="HOST", help="address for --http-port (default: that of the socket)")
    parser.add_argument(
        "--public-url", metavar="URL", help="address of --http-port for others, where a proxy shows the server"
    )
    parser.add_argument("--log", choices=("json", "text"), default="json", help="format of the log (default: json)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, tables [server] and [search]")
    _weights(parser)


def _token_file(parser: _Parser, help: str) -> None:
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=f"file whose first line is {help}")


def _collection(parser: _Parser) -> None:
    parser.add_argument("collection", type=Path, metavar="COLLECTION", help="the collection's directory")


def _cluster(parser: _Parser, help: str, *, required: bool = False) -> None:
    told = f"{help}: HOST:PORT, or auto for that of this machine"
    parser.add_argument("--cluster", type=_ray_address, metavar="ADDRESS", required=required, help=told)


def _jobs(parser: _Parser) -> None:
    cores = os.cpu_count() or 1
    parser.add_argument("--jobs", type=positive, default=cores, metavar="N", help="processes (default: one per core)")


def _weights(parser: _Parser) -> None:
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights file of the network (default: the shipped one)"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "int8"),
        help="numbers that the network computes with on a CPU (default: int8 on CPUs with VNNI, where it takes half "
        "the time, and fp32 elsewhere; both find the same)",
    )


class _Kind(argparse.Action):
    """Argparse action that stores a kind, and None for `auto`."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, None if values == "auto" else values)


def _kind(parser: _Parser, flag: str, help: str) -> None:
    parser.add_argument(flag, action=_Kind, choices=("auto", "score", "recording"), help=help)


def _source(text: str) -> Path | str:
    """Returns the path in an argument, or the argument itself if it is a URL: a path has no two slashes in a row."""
    return text if text.lower().startswith(("http://", "https://")) else Path(text)


def _port(text: str) -> int:
    """Returns the port in an argument. Raises ArgumentTypeError if no port has this number."""
    from server.address import PORTS

    return _within(PORTS, "a port", text)


def _ray_address(text: str) -> str:
    """Returns the address in an argument, as Ray takes it. Raises ArgumentTypeError if no port has its number.

    Ray itself tries to reach such a port for two minutes.
    """
    port = text.rpartition(":")[2]
    if port.isdecimal():
        _port(port)
    return text


def _rate(text: str) -> int:
    """Returns the sampling rate in an argument. Raises ArgumentTypeError if samples of this rate are not read."""
    from engine.audio import RATES  # imports NumPy, which the help does without

    return _within(RATES, "a sampling rate in Hz", text)


def _within(numbers: range, what: str, text: str) -> int:
    """Returns the number in an argument. Raises ArgumentTypeError if it is none of these numbers."""
    value = whole(text)
    if value not in numbers:
        raise argparse.ArgumentTypeError(f"expected {what} from {numbers[0]} to {numbers[-1]}, got {value}")
    return value


def _time(text: str) -> float:
    """Returns the seconds in an argument such as `90`, `1:30` or `1:02:03.5`. Raises ArgumentTypeError."""
    parts = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", text, re.ASCII)
    if parts is None:
        raise argparse.ArgumentTypeError(f"expected seconds, M:SS or H:MM:SS, got {text!r}")
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    if (parts[2] and seconds >= 60) or (parts[1] and minutes >= 60):
        raise argparse.ArgumentTypeError(f"expected minutes and seconds below 60, got {text!r}")
    return 3600 * hours + 60 * minutes + seconds


def _box(text: str) -> tuple[float, float, float, float]:
    """Returns the corners in an argument. Raises ArgumentTypeError if they are no box."""
    numbers = [float(part) for part in text.split(",")]
    if len(numbers) != 4 or not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise argparse.ArgumentTypeError(f"expected X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1, got {text!r}")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _semitones(text: str) -> list[float]:
    """Returns the numbers in an argument. Raises ArgumentTypeError if one is not between -12 and 12."""
    values = [float(one) for one in text.split(",")]
    if not all(-12 <= value <= 12 for value in values):
        raise argparse.ArgumentTypeError(f"expected semitones from -12 to 12, got {text}")
    return values


def _speed(text: str) -> float:
    """Returns the number in an argument. Raises ArgumentTypeError if no recording can be heard at that speed."""
    value = float(text)
    if not SLOWEST <= value <= FASTEST:
        raise argparse.ArgumentTypeError(f"expected a speed from {SLOWEST:g} to {FASTEST:g}, got {text}")
    return value
