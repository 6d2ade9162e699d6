"""How many seconds of a recording does the server need until it is sure of the right score?

    python -m bench.streaming --data DIR [--collection DIR] [--quick] [--json FILE] [--plot FILE]

The recordings of the dev pieces are pushed half a second at a time, as they would be played, for up to 90 s: once from
the beginning and once from a random place with a fixed seed. After each push, the code that answers `stream.push`
(`server.answering`) returns the best matches among the scores with their confidence. It runs without a socket. A few
recordings also go through a socket, where the answers have to be the same. A run takes about six minutes. With --quick,
12 pieces and 30 s, it takes less than one.

Seconds are counted from the start of playing. `first`: until the right score is first with a confidence of .9 or more.
`for good`: until that is so for the rest of the recording. `never`: the share in which that does not happen; it counts
as later than all others, and a quantile that falls there is blank. `wrong before`: the share in which another score
reaches .9 earlier. Intervals come from resampling pieces.
"""

import argparse
import asyncio
import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib import pieces, report
from bench.lib.pieces import Piece, collect
from engine import process
from engine.arguments import positive
from engine.audio import SAMPLE_RATE
from engine.config import SearchSettings
from engine.embedding.encoder import Encoder
from engine.finder import Engine
from server.address import Address
from server.answering import Answering, Push, Question, Reply
from server.client import AsyncClient
from server.config import Limits, ServerSettings
from server.messages import OpenStream, Wanted
from server.server import serving
from server.shelf import Shelf
from server.streams import LiveRecording

SURE = 0.9
PUSH_S = 0.5
STARTS = ("beginning", "random place")
TOGETHER = 16
"""Number of recordings that are pushed at the same time, as the server batches them."""
CHECKED = 3
"""Number of takes that also go through the socket."""
WANTED = Wanted(among="score", method="refine", top=1, path=False)
SEED, DRAWS = 0, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedExcerpt:
    """A part of a recording that is pushed to the server."""

    piece: Piece
    start: str
    """Where the excerpt starts: one of STARTS."""
    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class BestMatch:
    """The best match after a push."""

    heard_s: float
    id: str
    """Id of the score; empty if there is no match."""
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """When the right score of a take was found."""

    piece: str
    start: str
    seconds: dict[str, float]
    """Seconds until the right score was found `first` and `for good`; infinite if never."""
    wrong_before: bool


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    found = pieces.pieces(options.data, "dev")
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder, work = Encoder.load(options.weights, threads=SearchSettings().threads), options.work / "dev"
    found = found[: 12 if options.quick else None]
    path = options.collection or collect(found, work, encoder.identity, load, options.jobs, fresh=False)[0]
    engine = Engine.load(options.weights, encoder=encoder)
    environment = report.environment()
    print(report.heading(environment))
    takes = [take for piece in found for take in takes_of(piece, work, options.longest)]
    shelf = Shelf(path, engine)
    answers, push_ms = hear(takes, shelf, encoder)
    shelf.close()
    heard = [judged(take, one) for take, one in zip(takes, answers, strict=True)]
    socket = asyncio.run(through_socket(takes[:CHECKED], answers[:CHECKED], path, engine))
    rows = rows_of(heard)
    print("", f"Seconds heard until the right score is first with {SURE:g}, of {path}", sep="\n")
    print(report.table([report.with_intervals(row) for row in rows]))
    print("", f"{TOGETHER} recordings at once, without the socket", report.table([push_ms]), sep="\n")
    print("", "One at a time, through the socket", report.table([socket]), sep="\n")
    if options.json:
        results = [
            asdict(one) | {"seconds": {name: _finite(value) for name, value in one.seconds.items()}} for one in heard
        ]
        content = {"network": report.label(encoder.identity), "sure": SURE, "longest_s": options.longest}
        report.save(
            options.json, environment=environment, **content, rows=rows, pushes=push_ms, socket=socket, takes=results
        )
    if options.plot:
        draw(heard, options.longest, options.plot)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--collection", type=Path, help="collection to search, which holds the scores of the pieces")
    parser.add_argument("--quick", action="store_true", help="12 pieces, 30 s of each")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the distribution to this file; needs matplotlib")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument("--longest", type=float, help="seconds heard of each recording (default: 90)")
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps recordings and collections"
    )
    options = parser.parse_args(arguments)
    options.longest = options.longest or (30.0 if options.quick else 90.0)
    return options


def takes_of(piece: Piece, work: Path, longest_s: float) -> list[PlayedExcerpt]:
    """The takes of a piece: a part of its recording from each of STARTS, at most `longest_s` long."""
    samples, rate = soundfile.read(pieces.recording(piece, work).path, dtype="float32")
    assert rate == SAMPLE_RATE
    count = int(longest_s * rate)
    rng = np.random.default_rng([SEED, *piece.id.encode()])
    starts = 0, int(rng.integers(max(1, len(samples) - count)))
    return [
        PlayedExcerpt(piece=piece, start=name, samples=samples[at : at + count])
        for name, at in zip(STARTS, starts, strict=True)
    ]


def hear(
    takes: Sequence[PlayedExcerpt], shelf: Shelf, encoder: Encoder
) -> tuple[list[list[BestMatch]], dict[str, float]]:
    """The best matches of each take, push by push, and the milliseconds of a push: of all, and of the last tenth."""
    answering = Answering(shelf, encoder, Limits().located)
    answers: list[list[BestMatch]] = []
    times: list[tuple[float, float]] = []
    for some in tqdm(_groups(takes), desc="hearing", unit=f"{TOGETHER} takes", disable=None, dynamic_ncols=True):
        streams = [_stream(encoder) for _ in some]
        found: list[list[BestMatch]] = [[] for _ in some]
        longest = max(len(take.samples) for take in some)
        for at in range(0, longest, _push_samples()):
            going = [i for i, take in enumerate(some) if at < len(take.samples)]
            parts = [some[i].samples[at : at + _push_samples()] for i in going]
            asked = [
                Question(source=Push(stream=streams[i], samples=part, answer=True), wanted=WANTED)
                for i, part in zip(going, parts, strict=True)
            ]
            started = time.perf_counter()
            replies = answering(asked)
            times.append((at / longest, 1000 * (time.perf_counter() - started) / len(asked)))
            for i, reply in zip(going, replies, strict=True):
                assert isinstance(reply, Reply)
                found[i].append(_best_match(reply.result))
        answers += found
    last = [ms for share, ms in times if share >= 0.9]
    return answers, {"ms a push": float(np.median([ms for _, ms in times])), "at the end": float(np.median(last))}


def _groups(takes: Sequence[PlayedExcerpt]) -> list[Sequence[PlayedExcerpt]]:
    return [takes[at : at + TOGETHER] for at in range(0, len(takes), TOGETHER)]


def _push_samples() -> int:
    return int(PUSH_S * SAMPLE_RATE)


def _stream(encoder: Encoder) -> LiveRecording:
    return LiveRecording(OpenStream(rate=SAMPLE_RATE, wanted=WANTED), encoder.identity.front_end, Limits().stream_s)


def _best_match(result: dict[str, Any]) -> BestMatch:
    best: dict[str, Any] = next(iter(result["matches"]), {})
    return BestMatch(heard_s=result["heard_s"], id=best.get("id", ""), confidence=best.get("confidence") or 0.0)


def judged(take: PlayedExcerpt, answers: Sequence[BestMatch]) -> Heard:
    """When the right score of a take was found; the module's docstring defines it."""
    right = [one.id == take.piece.id and one.confidence >= SURE for one in answers]
    wrong = [one.id != take.piece.id and one.confidence >= SURE for one in answers]
    first = right.index(True) if any(right) else len(right)
    for_good = len(right) - (right[::-1].index(False) if not all(right) else len(right))
    times = [*(one.heard_s for one in answers), np.inf]
    return Heard(
        piece=take.piece.id,
        start=take.start,
        seconds={"first": times[first], "for good": times[for_good]},
        wrong_before=any(wrong[:first]),
    )


async def through_socket(
    takes: Iterable[PlayedExcerpt],
    answers: Iterable[Sequence[BestMatch]],
    path: Path,
    engine: Engine,
) -> dict[str, float]:
    """Compares a server's answers to one client with the expected ones.

    Returns the number of answers, how many differ, and the milliseconds of a push near the end.
    """
    differ = count = 0
    times_ms: list[float] = []
    async with (
        serving(path, engine, ServerSettings()) as server,
        AsyncClient(await server.listen(Address(port=0))) as client,
    ):
        for take, expected in zip(takes, answers, strict=True):
            stream = await client.stream(SAMPLE_RATE, among="score", top=1)
            for number, one in enumerate(expected):
                part = take.samples[number * _push_samples() : (number + 1) * _push_samples()]
                started = time.perf_counter()
                got = _best_match(await stream.push(part))
                count += 1
                differ += got.id != one.id or abs(got.confidence - one.confidence) > 1e-3
                if number >= 0.9 * len(expected):
                    times_ms.append(1000 * (time.perf_counter() - started))
            await stream.close()
    return {"answers": count, "differ": differ, "ms a push at the end": float(np.median(times_ms))}


def rows_of(heard: Sequence[Heard]) -> list[dict[str, Any]]:
    """The table rows, one for each start and way of counting: median, 90th percentile, and share of never."""
    rows = []
    for start in STARTS:
        mine = [one for one in heard if one.start == start]
        wrong = float(np.mean([one.wrong_before for one in mine]))
        for name in ("first", "for good"):
            seconds = np.array([one.seconds[name] for one in mine])
            median, most = (_quantile(seconds, share) for share in (0.5, 0.9))
            rows.append(
                {
                    "start": start,
                    "until": name,
                    "n": len(mine),
                    "median s": median,
                    "median s 95%": _interval(seconds, 0.5),
                    "90 % s": most,
                    "90 % s 95%": _interval(seconds, 0.9),
                    "never": float(np.mean(np.isinf(seconds))),
                    "wrong before": wrong,
                }
            )
    return rows


def _quantile(seconds: NDArray[np.float64], share: float) -> float | None:
    """The quantile of the seconds, one of the values; None for never."""
    return _finite(float(np.percentile(seconds, 100 * share, method="inverted_cdf")))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _interval(seconds: NDArray[np.float64], share: float) -> tuple[float | None, float | None]:
    """The 95 % interval of the quantile, by resampling."""
    drawn = np.random.default_rng(SEED).choice(seconds, (DRAWS, len(seconds)))
    quantiles = np.percentile(drawn, 100 * share, axis=1, method="inverted_cdf")
    return _quantile(quantiles, 0.025), _quantile(quantiles, 0.975)


def draw(heard: Sequence[Heard], longest_s: float, path: Path) -> None:
    """Draws the share of takes that are found against the seconds heard."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7.5, 4.5))
    for color, start in enumerate(STARTS):
        mine = [one for one in heard if one.start == start]
        for name, line in (("first", "-"), ("for good", "--")):
            seconds = np.sort([one.seconds[name] for one in mine])
            found = seconds[np.isfinite(seconds)]
            shares = np.arange(len(found) + 1) / len(mine)
            times = np.concatenate([[0.0], found])
            label = f"from {'the' if color == 0 else 'a'} {start}, {name}"
            axis.step([*times, longest_s], [*shares, shares[-1]], line, where="post", color=f"C{color}", label=label)
    axis.set(xlim=(0, longest_s), ylim=(0, 1.02), xlabel="seconds heard")
    axis.set_ylabel(f"share with the right score first at {SURE:g}")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
