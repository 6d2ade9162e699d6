"""How well is an evening's recording cut into its set list, and what does an hour of sound cost?

    python -m bench.segment --data DIR
    python -m bench.segment --data DIR --set joplin --evenings 1     # the set that settings are chosen on
    python -m bench.segment --data DIR --live                        # also while the evening is played
    python -m bench.segment --data DIR --rooms effects               # in rooms in which no piano stands

Evenings are made of the performances of a set (`bench.lib.recitals`), each on one of the sounds and in a room of the
validation split. The collection has the scores of every second piece; the others are the strangers. A told passage is
right if it overlaps with a true one of the same piece by half of both together, one to one. A false work is a told
passage of a piece that is not played at any moment of it. Border errors are of right passages. Intervals of 95 %: F1
and the share of borders within five seconds by a bootstrap over pieces, false works by Poisson's law.

A *volume* has the scans of all pieces in random order, and is cut by the recordings of every second one.

CPU seconds and the peak of Python's and NumPy's memory are of finding the passages; embedding is a column of its own.

With `--live`, each evening is also heard half a second at a time. The delay of a border is the time from the true
border to the moment at which a passage of its piece is first told with this border, within five seconds of the truth;
an end is told only when the passage is told to have ended. Borders that are never told count as later than all others.
"""

import argparse
import functools
import json
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from bench.lib import live_evenings, pieces, recitals, report, sounds, volumes
from bench.lib.intervals import NOTHING, interval
from bench.lib.live_evenings import BORDER_S, LiveDelays
from bench.lib.pieces import Piece, collect
from bench.lib.recitals import Played, PlayedEvening, Programme
from bench.mixtures import lacking
from engine import audio, config, process
from engine.arguments import positive
from engine.audio import SAMPLE_RATE, Samples
from engine.collection import Collection
from engine.config import SearchSettings
from engine.embedding import documents
from engine.embedding.encoder import Encoder
from engine.evening import tones_of
from engine.finder import Engine
from engine.search.passages import Passage
from engine.search.segmentation import Evening
from indexer.synthesis.acoustics import acoustics

PROGRAMMES = {
    "whole pieces": Programme(),
    "two minutes each": Programme(length_s=120),
    "one minute each": Programme(length_s=60),
    "half a minute each": Programme(length_s=30),
    "whole, SNR 20 dB": Programme(snr_db=20),
    "whole, SNR 10 dB": Programme(snr_db=10),
    "one minute, SNR 10 dB": Programme(length_s=60, snr_db=10),
    "medley": Programme(form="medley"),
    "practice": Programme(form="practice"),
}
ROOMS = ("made", "openair", "seminar")
"""Beginnings of the names of rooms of the validation split in which a piano may stand. The others are plates, silos and
effects, in which the network does not find half a minute of a piece either."""
MIN_OVERLAP = 0.5
"""Smallest overlap of a right passage with the true one, as a share of both together."""
SEED = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEvening:
    """How the passages of one evening compare with what was played."""

    right: tuple[tuple[str, float, float], ...]
    """Piece, and errors of start and end in seconds, of each right passage."""
    wrong: tuple[str, ...]
    """Pieces of told passages that are not right."""
    missed: tuple[str, ...]
    """Pieces that were played and not told."""
    false_works: int
    """Told passages of pieces that are not played at any moment of them."""
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EveningCost:
    """What an evening costs."""

    embed_s: float
    """CPU seconds of embedding."""
    search_s: float
    """CPU seconds of finding the passages."""
    megabytes: float
    """Peak of the memory of finding the passages, beside the embedded evening; nan if it was not measured."""


def judged(told: Sequence[Played], played: Sequence[Played], hours: float) -> JudgedEvening:
    """Returns how told passages compare with what was played. Strangers have no id and are right nowhere."""
    left = [one for one in played if one.piece]
    right, wrong, false_works = [], [], 0
    for one in told:
        same = [other for other in left if other.piece == one.piece]
        best = max(same, key=lambda other: _overlap(one, other), default=None)
        if best is not None and _overlap(one, best) >= MIN_OVERLAP:
            left.remove(best)
            right.append((one.piece, one.start_s - best.start_s, one.end_s - best.end_s))
            continue
        wrong.append(one.piece)
        false_works += not any(other.piece == one.piece and _overlap(one, other) > 0 for other in played)
    missed = tuple(other.piece for other in left)
    return JudgedEvening(right=tuple(right), wrong=tuple(wrong), missed=missed, false_works=false_works, hours=hours)


def _overlap(one: Played, other: Played) -> float:
    """Returns the seconds that two stretches share, as a share of those of both together."""
    common = min(one.end_s, other.end_s) - max(one.start_s, other.start_s)
    return max(0.0, common) / (max(one.end_s, other.end_s) - min(one.start_s, other.start_s))


def row(name: str, sound: str, results: Sequence[JudgedEvening], costs: Sequence[EveningCost]) -> dict[str, Any]:
    """Returns the table row of some evenings."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])  # of each piece: right, and wrong or missed
    for result in results:
        for piece, _, _ in result.right:
            counts[piece][0] += 1
        for piece in (*result.wrong, *result.missed):
            counts[piece][1] += 1
    errors = [abs(error) for result in results for _, *both in result.right for error in both]
    by_piece = [
        [
            abs(error) <= BORDER_S
            for result in results
            for piece, *both in result.right
            if piece == one
            for error in both
        ]
        for one in counts
    ]
    hours, false_works = sum(result.hours for result in results), sum(result.false_works for result in results)
    megabytes = [cost.megabytes for cost in costs if np.isfinite(cost.megabytes)]
    return {
        "evening": name,
        "sound": sound,
        "hours": hours,
        "n": sum(len(result.right) + len(result.missed) for result in results),
        "told": sum(len(result.right) + len(result.wrong) for result in results),
        **interval("F1", list(counts.values()), _f1),
        "border median s": float(np.median(errors)) if errors else None,
        "border 90% s": float(np.quantile(errors, 0.9)) if errors else None,
        **interval("within 5 s", [[sum(own), len(own)] for own in by_piece]),
        "false works/h": false_works / hours,
        "false works/h 95%": _poisson(false_works, hours),
        "embed CPU s/h": sum(cost.embed_s for cost in costs) / hours,
        "search CPU s/h": sum(cost.search_s for cost in costs) / hours,
        "search MB": max(megabytes, default=None),
    }  # fmt: skip


def _f1(totals: NDArray[np.float64]) -> float:
    """Returns F1, or NOTHING. totals: float (2,), the right passages, and the wrong or missed ones."""
    right, others = totals.tolist()
    return float(2 * right / (2 * right + others)) if right or others else NOTHING


def _poisson(events: int, hours: float) -> list[float]:
    """Returns the exact interval of a rate of events."""
    low = scipy.stats.chi2.ppf(0.025, 2 * events) / 2 if events else 0.0
    return [float(low) / hours, float(scipy.stats.chi2.ppf(0.975, 2 * events + 2)) / 2 / hours]


def told(passages: Sequence[Passage]) -> list[Played]:
    """Returns the passages as stretches of the evening."""
    return [
        Played(piece=one.document.id, start_s=one.stretch.start_s or 0.0, end_s=one.stretch.end_s or 0.0)
        for one in passages
    ]


def found(
    evening: PlayedEvening, engine: Engine, collection: Collection, *, traced: bool
) -> tuple[JudgedEvening, EveningCost]:
    """Returns how well one evening is cut, and what it costs. traced: whether its memory is measured."""
    started = time.process_time()
    recording = audio.recording_of(evening.samples, SAMPLE_RATE, engine.encoder.identity.front_end)
    (sequence,) = documents.sequences([recording], engine.encoder)
    embedded = time.process_time()
    segmenter = engine.segmenter(engine.searcher(collection))
    asked = Evening(sequence=sequence, among="score", tones=tones_of(recording))
    passages = segmenter.passages(asked)
    search_s, megabytes = time.process_time() - embedded, float("nan")
    if traced:
        tracemalloc.start()
        segmenter.passages(asked)
        megabytes = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    cost = EveningCost(embed_s=embedded - started, search_s=search_s, megabytes=megabytes)
    return judged(told(passages), evening.played, recording.duration_s / 3600), cost


def volume_row(everything: Sequence[Piece], whole: Path, half: Path, engine: Engine) -> dict[str, Any]:
    """Returns the table row of a volume of all scans, among the recordings of every second piece.

    whole, half: the collection with all scans, and the one without the strangers.
    """
    network, known = engine.encoder.identity, frozenset(piece.id for piece in everything[::2])
    with Collection.open(whole, network) as scans, Collection.open(half, network) as collection:
        one = volumes.volume(scans, everything, known, np.random.default_rng(SEED))
        segmenter = engine.segmenter(engine.searcher(collection))
        started = time.process_time()
        passages = segmenter.passages(Evening(sequence=one.sequence, among="recording", systems=one.systems))
        took_s = time.process_time() - started
    stretches = [(passage.document.id, [system.number for system in passage.stretch.systems]) for passage in passages]
    found = [Played(piece=id, start_s=numbers[0] - 1, end_s=numbers[-1]) for id, numbers in stretches]
    result = judged(found, one.printed, one.pages / 100)
    errors = np.abs([error for _, *both in result.right for error in both])
    counted = row("", "", [result], [])
    return {
        "pages": one.pages,
        "systems": len(one.systems),
        "n": counted["n"],
        "told": counted["told"],
        "F1": counted["F1"],
        "F1 95%": counted["F1 95%"],
        "false works": result.false_works,
        "borders right": float(np.mean(errors == 0)),
        "within a system": float(np.mean(errors <= 1)),
        "search CPU s/100 pages": 100 * took_s / one.pages,
    }


def rooms(data: Path, *, effects: bool = False) -> list[Callable[[Samples], Samples]]:
    """Returns what the rooms make of a recording; without rooms, one function that changes nothing.

    effects: the rooms in which no piano stands, instead of the others.
    """
    every = acoustics(data / sounds.RESPONSES, None, "val").rooms
    known = [path for path in every if path.stem.startswith(ROOMS) != effects]
    made = [functools.partial(sounds.convolved, path=path, share=sounds.ROOM_SHARE) for path in known]
    return [*made] or [lambda samples: samples]


def measured(
    options: argparse.Namespace, everything: Sequence[Piece], engine: Engine, half: Path
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yields the rows of each programme, over all sounds and evenings: of the whole evenings, and of them live.

    half: the collection without the strangers.
    """
    work, strangers = options.work / options.set, everything[1::2]
    known_rooms = rooms(options.data, effects=options.rooms == "effects")
    with Collection.open(half, engine.encoder.identity) as collection:
        segmenter = engine.segmenter(engine.searcher(collection))
        for name in options.programmes:
            results: list[JudgedEvening] = []
            costs: list[EveningCost] = []
            delays: list[LiveDelays] = []
            for number in range(options.evenings):
                for sound in options.sounds:
                    seed = [SEED, number, list(PROGRAMMES).index(name), len(results)]
                    rng = np.random.default_rng(seed)
                    files = {piece.id: pieces.recording(piece, work, sound).path for piece in everything}
                    known = {piece.id: files[piece.id] for piece in everything[::2]}
                    others = [files[piece.id] for piece in strangers]
                    room = known_rooms[int(rng.integers(len(known_rooms)))]
                    evening = recitals.evening(PROGRAMMES[name], known, others, room, rng)
                    result, cost = found(evening, engine, collection, traced=not results)
                    results.append(result)
                    costs.append(cost)
                    if options.live:
                        delays.append(live_evenings.delays(evening, engine, segmenter))
            whole = row(name, ", ".join(sound.name for sound in options.sounds), results, costs)
            yield whole, live_evenings.row(name, delays) if delays else None


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, None, threads=1)
    encoder = load()
    engine = Engine.load(
        None, settings=config.load(SearchSettings(threads=1), section="search"), backend="cpu", encoder=encoder
    )
    environment = report.environment()
    print(report.heading(environment))
    print(json.dumps({"network": report.label(encoder.identity), "set": options.set}))
    everything, work = pieces.pieces(options.data, options.set), options.work / options.set
    whole, _ = collect(everything, work, encoder.identity, load, options.jobs, fresh=False, sound=options.sounds[0])
    strangers = [id for piece in everything[1::2] for id in (piece.id, piece.recording_id)]
    half = lacking(whole, options.out / f"{options.set}-half", strangers, encoder)
    volume = volume_row(everything, whole, half, engine)
    print("", report.table([report.with_intervals(volume)]), sep="\n", flush=True)
    table, live = [], []
    for one, played in measured(options, everything, engine, half):
        table.append(one)
        live += [played] if played else []
        print(json.dumps([one, played] if played else one), flush=True)
    print("", report.table([report.with_intervals(one) for one in table]), sep="\n")
    if live:
        print("", "While the evenings are played", report.table(live), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, set=options.set, volume=volume, rows=table, live=live)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=("dev", "joplin"), default="dev")
    parser.add_argument("--sound", nargs="+", metavar="NAME", help="see bench.retrieval (default: as there)")
    parser.add_argument("--programmes", nargs="+", choices=PROGRAMMES, default=list(PROGRAMMES), metavar="NAME")
    parser.add_argument("--rooms", choices=("plain", "effects"), default="plain", help="rooms of the evenings")
    parser.add_argument("--live", action="store_true", help="also hear each evening while it is played")
    parser.add_argument("--evenings", type=int, default=1, help="evenings of each programme and sound (default: 1)")
    parser.add_argument("--jobs", type=positive, default=1, help="processes that embed the collection")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps collections")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/segment"), help="folder for the collection that lacks half"
    )
    options = parser.parse_args(arguments)
    named = options.sound and [sounds.sound(name, options.data) for name in options.sound]
    options.sounds = named or sounds.default_sounds(options.data)
    return options


if __name__ == "__main__":
    main()
