"""Is a piece found in a recording that holds more than it, and is nothing found where it is absent?

    python -m bench.mixtures --data DIR [--set dev|joplin] [--sound NAME ...] [--pieces N] [--json FILE]

Each query is 30 s from a random place of a piece's recording. Before it lies a minute of nothing (`clean`: the 30 s
alone), digital silence, applause, talk, or another piece. Applause and talk are made
(`indexer.synthesis.interruptions`), with other random numbers than those of the calibration. The queries are joined as
samples, embedded, and searched among the scores of the whole set (A2S).

- MRR: of the piece after the minute; the piece before it is right, too, and counts in no rank.
- likely, sure: shares of the queries whose piece has a confidence of 0.5 or more, and of 0.8 or more.
- overlap: intersection over union of the stretch that the answer tells and the 30 s, mean where the piece is first.
- falsely likely, falsely sure: the same shares of the best match in a collection that lacks the query's pieces. An
  answer says that a piece is there from 0.8 on, and leaves it in doubt from 0.5 on. The pieces asked for are divided
  into two halves at random, and each query is asked in the set without its half, of which its other piece is, too.

Each row is measured without rests, with rests, and with rests where what is not found is tried at other pitches, as the
command line does. Intervals of 95 %: MRR and overlap by a bootstrap over pieces; shares by Clopper and Pearson, because
a bootstrap of no events has no width. A set with several sounds has several queries of a piece, for which the intervals
of shares are too narrow: judge by one sound.
"""

import argparse
import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import soundfile
from numpy.random import Generator
from tqdm import tqdm

from bench.lib import intervals, pieces, report, sounds
from bench.lib.pieces import Piece, collect
from bench.lib.sounds import Sound
from engine import audio, config, process
from engine.arguments import positive
from engine.audio import SAMPLE_RATE, Recording, Samples
from engine.collection import Collection, CollectionWriter
from engine.config import SearchSettings
from engine.embedding import documents
from engine.embedding.documents import Encoder
from engine.embedding.encoder import DEFAULT_WEIGHTS
from engine.embedding.encoder import Encoder as Network
from engine.metrics import summarise
from engine.search.confidence import LIKELY, SURE, Calibration, beside
from engine.search.searcher import Query, Searcher
from engine.transposition import Transposer
from engine.values import Answer, SnippetSequence
from indexer.synthesis.interruptions import applause, speech

MUSIC_S, BEFORE_S = 30, 60
"""Seconds of a piece in a query, and seconds of something else before them."""
SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedQuery:
    """A recording with more in it than a part of a piece."""

    before: str
    """What lies before the part: a key of `BEFORE`, or `clean`."""
    piece: Piece
    other: str
    """Id of the piece that lies before it; empty if none does. It is right, too, so it counts in no rank."""
    half: int
    """The half of the set, 0 or 1, that the piece belongs to."""
    recording: Recording
    start_s: float
    """Where the part of the piece starts in the recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedResult:
    """The answers to one query by one way of searching."""

    before: str
    way: str
    piece: str
    rank: float
    """Rank of the piece in the collection that holds it."""
    confidence: float
    """Confidence of the piece in the collection that holds it; 0 if it is no match."""
    overlap: float | None
    """Overlap of the stretch that the answer tells with the part of the piece; None if the piece is not first."""
    absent_confidence: float
    """Confidence of the best match in the collection that lacks the query's pieces; 0 if there is none."""


def silence(count: int, rng: Generator) -> Samples:
    """Returns `count` samples of digital silence."""
    return np.zeros(count, np.float32)


BEFORE: dict[str, Callable[[int, Generator], Samples]] = {"silence": silence, "applause": applause, "talk": speech}
"""What lies before a part of a piece, besides another piece."""
FORMS = ("clean", *BEFORE, "another piece")
WAYS = ("no rests", "rests", "rests, pitches")


def mixed(found: Sequence[Piece], files: dict[str, Path]) -> Iterator[tuple[str, Piece, str, int, Samples, float]]:
    """Yields form, piece, id of the other piece, half, samples at 22,050 Hz and start of the part of each query.

    The queries are the same each time.

    files: the recording of each piece, by the id of the piece.
    """
    rng = np.random.default_rng(SEED)
    halves = halved(found, rng)
    for piece in found:
        part = _part(files[piece.id], MUSIC_S, rng)
        own_half = [other for other in found if halves[other.id] == halves[piece.id] and other.id != piece.id]
        for form in FORMS:
            other = ""
            if form == "clean":
                before = np.empty(0, np.float32)
            elif form in BEFORE:
                before = _levelled(BEFORE[form](BEFORE_S * SAMPLE_RATE, rng))
            else:
                other = own_half[int(rng.integers(len(own_half)))].id
                before = _part(files[other], BEFORE_S, rng)
            yield form, piece, other, halves[piece.id], np.concatenate([before, part]), len(before) / SAMPLE_RATE


def halved(found: Sequence[Piece], rng: Generator) -> dict[str, int]:
    """Returns the half, 0 or 1, of each piece by its id."""
    return {piece.id: int(half) for piece, half in zip(found, rng.permutation(len(found)) % 2, strict=True)}


def _part(file: Path, seconds: float, rng: Generator) -> Samples:
    """Returns a random part of a recording at half of full scale; the whole if the recording is shorter."""
    samples, rate = soundfile.read(file, dtype="float32")
    assert rate == SAMPLE_RATE  # as `pieces.recording` writes them
    count = round(seconds * SAMPLE_RATE)
    first = int(rng.integers(max(1, len(samples) - count + 1)))
    return _levelled(samples[first : first + count])


def _levelled(samples: Samples) -> Samples:
    """Returns samples at half of full scale; silence is returned as it is."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak == 0 else np.asarray(samples / (2 * peak), np.float32)


class Judge:
    """Asks queries in every way, in the collection of all scores and in those that lack a half."""

    def __init__(
        self, whole: Collection, lacking: Sequence[Collection], encoder: Encoder, settings: SearchSettings
    ) -> None:
        """lacking: the collection without the first half of the pieces, and that without the second half."""
        calibration = Calibration.load(beside(None), encoder.identity, settings.alignment)
        if calibration is None or calibration.rests is None:
            raise SystemExit("expected a calibration of this network with a price of rests, got none")
        self._encoder = encoder
        self._everything = len(whole.of_kind("score"))
        without = dataclasses.replace(calibration, rest_price=float("inf"))
        self._whole = {name: Searcher(whole, settings, None, one) for name, one in _ways(without, calibration)}
        self._lacking = [
            {name: Searcher(one, settings, None, judge) for name, judge in _ways(without, calibration)}
            for one in lacking
        ]

    def results(self, query: MixedQuery) -> Iterator[MixedResult]:
        """Yields the result of a query in each way."""
        (sequence,) = documents.sequences([query.recording], self._encoder)
        for way in WAYS:
            known = self._answer(self._whole[way], query, sequence, way, top=self._everything, locate=False)
            ids = [match.document.id for match in known.matches if match.document.id != query.other]
            rank = ids.index(query.piece.id) + 1 if query.piece.id in ids else float("inf")
            confidence = {match.document.id: match.confidence or 0.0 for match in known.matches}
            absent = self._answer(self._lacking[query.half][way], query, sequence, way, top=1, locate=False)
            yield MixedResult(
                before=query.before,
                way=way,
                piece=query.piece.id,
                rank=rank,
                confidence=confidence.get(query.piece.id, 0.0),
                overlap=self._overlap(query, sequence, way) if rank == 1 else None,
                absent_confidence=max((match.confidence or 0.0 for match in absent.matches), default=0.0),
            )

    def _overlap(self, query: MixedQuery, sequence: SnippetSequence, way: str) -> float:
        """Returns the overlap of the stretch that the match of the piece, one of the first two, has with its part."""
        best = self._answer(self._whole[way], query, sequence, way, top=2, locate=True).matches
        told = next(match for match in best if match.document.id == query.piece.id).query_place
        start_s, end_s = told.start_s or 0.0, told.end_s or 0.0
        true_end_s = query.recording.duration_s
        common = max(0.0, min(end_s, true_end_s) - max(start_s, query.start_s))
        return common / (max(end_s, true_end_s) - min(start_s, query.start_s))

    def _answer(
        self, searcher: Searcher, query: MixedQuery, sequence: SnippetSequence, way: str, top: int, locate: bool
    ) -> Answer:
        asked = Query(sequence=sequence, among="score", method="exhaustive", top=top, locate=locate)
        (answer,) = searcher.answers([asked])
        if "pitches" not in way:
            return answer
        make: Callable[[SnippetSequence], Query] = lambda other: dataclasses.replace(asked, sequence=other)  # noqa: E731
        return Transposer(searcher=searcher, encoder=self._encoder, query=make).retried(query.recording, answer)


def _ways(without: Calibration, calibration: Calibration) -> Iterator[tuple[str, Calibration]]:
    """Yields each way of searching with the calibration that it uses."""
    for way in WAYS:
        yield way, without if way == "no rests" else calibration


def rows(sound: Sound, results: Sequence[MixedResult]) -> Iterator[dict[str, Any]]:
    """Yields a table row for each form of query and each way of searching."""
    for form in FORMS:
        for way in WAYS:
            group = [result for result in results if (result.before, result.way) == (form, way)]
            names = [result.piece for result in group]
            mrr = summarise(np.array([result.rank for result in group]), groups=names).mrr
            told = [result for result in group if result.overlap is not None]
            yield {
                "sound": sound.name,
                "heard": "yes" if sound.heard else "no",
                "before": form,
                "way": way,
                "n": len(group),
                "MRR": mrr.value,
                "MRR 95%": [mrr.low, mrr.high],
                **_share("likely", [result.confidence >= LIKELY for result in group]),
                **_share("sure", [result.confidence >= SURE for result in group]),
                **intervals.mean("overlap", [one.overlap or 0.0 for one in told], [one.piece for one in told]),
                **_share("falsely likely", [result.absent_confidence >= LIKELY for result in group]),
                **_share("falsely sure", [result.absent_confidence >= SURE for result in group]),
            }


def _share(name: str, events: Sequence[bool]) -> dict[str, Any]:
    """Returns the share of events with its interval."""
    test = scipy.stats.binomtest(sum(events), len(events))
    interval = test.proportion_ci(method="exact")
    return {name: sum(events) / len(events), f"{name} 95%": [float(interval.low), float(interval.high)]}


def lacking(collection: Path, folder: Path, ids: Sequence[str], encoder: Encoder) -> Path:
    """Returns a copy of a collection, made anew in the folder, without documents of these ids."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(collection, folder)
    with CollectionWriter(folder, encoder.identity) as writer:
        for id in ids:
            writer.remove(id)
        writer.commit()
    return folder


def measured(found: Sequence[Piece], path: Path, work: Path, sound: Sound, encoder: Encoder) -> list[MixedResult]:
    """Returns the results of all queries with one sound. path: the collection of the pieces with this sound."""
    files = {piece.id: pieces.recording(piece, work, sound).path for piece in found}
    settings = config.load(SearchSettings(threads=1), section="search")
    results: list[MixedResult] = []
    halves = halved(found, np.random.default_rng(SEED)).items()
    ids = [[id for id, half in halves if half == number] for number in (0, 1)]
    with ExitStack() as opened:
        parts = [lacking(path, work / "lacking" / f"{half}", ids[half], encoder) for half in (0, 1)]
        whole, *others = (opened.enter_context(Collection.open(one, encoder.identity)) for one in (path, *parts))
        judge = Judge(whole, others, encoder, settings)
        for form, piece, other, half, samples, start_s in tqdm(
            mixed(found, files), total=len(found) * len(FORMS), unit="query", disable=None
        ):
            recording = audio.recording_of(samples, SAMPLE_RATE, encoder.identity.front_end)
            query = MixedQuery(before=form, piece=piece, other=other, half=half, recording=recording, start_s=start_s)
            results += judge.results(query)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Network.load, None, threads=1)
    encoder = load()
    everything = pieces.pieces(options.data, options.set)
    chosen = everything[:: max(1, len(everything) // options.pieces)][: options.pieces]
    work = options.work / options.set
    environment = report.environment()
    print(report.heading(environment))
    print(json.dumps({"network": report.label(encoder.identity), "weights": str(DEFAULT_WEIGHTS.name)}))
    table = []
    for sound in options.sounds:
        path, _ = collect(everything, work, encoder.identity, load, options.jobs, fresh=False, sound=sound)
        table += list(rows(sound, measured(chosen, path, work, sound, encoder)))
    print("", report.table([report.with_intervals(row) for row in table]), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, set=options.set, network=encoder.identity.name, rows=table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=("dev", "joplin"), default="dev")
    parser.add_argument(
        "--sound", nargs="+", default=[sounds.TIMGM6MB.name], metavar="NAME", help="see bench.retrieval"
    )
    parser.add_argument("--pieces", type=int, default=40, help="pieces that are asked for, evenly spread (default: 40)")
    parser.add_argument("--jobs", type=positive, default=1, help="processes that embed the collection")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps collections")
    options = parser.parse_args(arguments)
    options.sounds = [sounds.sound(name, options.data) for name in options.sound]
    return options


if __name__ == "__main__":
    main()
