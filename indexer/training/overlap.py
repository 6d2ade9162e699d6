"""Finds test pieces that are also in the training set, by comparing the intervals of their top lines.

`python -m indexer.training.overlap --trained SCORES --tested SCORES` lists the pairs of pieces that share too many
phrases, whatever their keys. SCORES are files, folders, or manifests (CSV with the columns id and path) of scores and
MIDI files.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from engine import process
from engine.workers import Failure, each
from indexer.synthesis.engrave import EngravingError, ScoreNotes
from indexer.training.corpus import engraver

PHRASE_INTERVALS = 10
"""Number of intervals in a phrase."""

MIN_SHARE = 0.05
"""Pairs of pieces are listed if they share at least this part of the shorter piece's phrases. Two encodings of one rag
share 0.11 to 0.5, because editors treat ties and ornaments differently; of 2,944 pairs of different pieces, no pair
shares more than 0.013."""

_SCORES = (".krn", ".mei", ".musicxml", ".mxl", ".xml", ".ly")
_MIDI = (".mid", ".midi")
_SAME_ONSET = 0.05
"""Notes closer than this, in quarters or seconds, are one onset."""
_MIN_DIFFERENT_INTERVALS = 4
"""Phrases with fewer different intervals (scales, repeated notes) occur in many pieces and are left out."""

Phrases = frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Two pieces, and the share of the shorter piece's phrases that both have."""

    trained: str
    tested: str
    share: float


def phrases(notes: ScoreNotes) -> Phrases:
    """The phrases of a piece: the different runs of PHRASE_INTERVALS intervals in its top line, plain runs left out."""
    intervals = np.clip(np.diff(top_line(notes)), -127, 127).astype(np.int8)
    if len(intervals) < PHRASE_INTERVALS:
        return frozenset()
    runs = np.lib.stride_tricks.sliding_window_view(intervals, PHRASE_INTERVALS)
    return frozenset(run.tobytes() for run in runs if len(set(run.tolist())) >= _MIN_DIFFERENT_INTERVALS)


def top_line(notes: ScoreNotes) -> NDArray[np.int64]:
    """The highest pitch of each onset, int64 (m,), except under a higher note in the first half of its length."""
    order = np.lexsort((-notes.pitch, notes.onset_quarter))
    line: list[int] = []
    held_pitch, held_until, last = -1, 0.0, -np.inf
    for index in order:
        onset, pitch = float(notes.onset_quarter[index]), int(notes.pitch[index])
        together = onset - last < _SAME_ONSET
        if (onset < held_until or together) and pitch <= held_pitch:
            continue
        if together and line:
            line.pop()
        line.append(pitch)
        last = last if together else onset
        held_pitch, held_until = pitch, onset + float(notes.duration_quarter[index]) / 2
    return np.array(line, np.int64)


def compare(
    trained: Mapping[str, Phrases], tested: Mapping[str, Phrases], min_share: float = MIN_SHARE
) -> list[Shared]:
    """The pairs that share at least `min_share` of the shorter piece's phrases, largest share first."""
    pairs = [
        Shared(trained=one, tested=other, share=len(a & b) / min(len(a), len(b)))
        for one, a in trained.items()
        for other, b in tested.items()
        if a and b
    ]
    return sorted((pair for pair in pairs if pair.share >= min_share), key=lambda pair: -pair.share)


def performed_notes(path: Path) -> ScoreNotes:
    """The notes of a MIDI file, with seconds in place of quarters. Raises EngravingError if the file is not MIDI."""
    try:
        messages = list(mido.MidiFile(path))
    except (OSError, EOFError, ValueError, KeyError) as exc:
        raise EngravingError(path, f"expected a MIDI file: {exc}") from exc
    now, sounding, ended = 0.0, dict[tuple[int, int], float](), list[tuple[float, float, int]]()
    for message in messages:
        now += message.time
        if message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            if key in sounding:
                start = sounding.pop(key)
                ended.append((start, now - start, message.note))
            if message.type == "note_on" and message.velocity:
                sounding[key] = now
    columns = np.array(sorted(ended), np.float64).reshape(-1, 3)
    return ScoreNotes(onset_quarter=columns[:, 0], duration_quarter=columns[:, 1], pitch=columns[:, 2].astype(np.int64))


def _phrases_of(path: Path) -> Phrases:
    """The phrases of a score or a MIDI file."""
    return phrases(performed_notes(path) if path.suffix in _MIDI else engraver(path).notes())


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Yields name and path of each piece of a manifest, of a folder, or of a single file."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            # As in the corpus, paths are relative to the folder that holds the manifest's folder.
            yield from ((row["id"], path.parent.parent / row["path"]) for row in csv.DictReader(file))
    elif path.is_dir():
        yield from ((file.stem, file) for file in sorted(path.rglob("*")) if file.suffix in _SCORES + _MIDI)
    else:
        yield path.stem, path


def _read(sources: Sequence[Path], jobs: int) -> dict[str, Phrases]:
    """The phrases of every piece by name; prints the cause for each piece that cannot be read.

    Files of one name, as folders of several composers hold them, have their paths for names.
    """
    found = {file: name for source in sources for name, file in _files(source)}
    shared = {name for name, files in Counter(found.values()).items() if files > 1}
    names = {file: str(file) if name in shared else name for file, name in found.items()}
    pieces: dict[str, Phrases] = {}
    for file, result in each(_phrases_of, list(names), jobs=jobs, expected=(EngravingError,)):
        if isinstance(result, Failure):
            print(f"not compared: {result.cause}")  # noqa: T201  # a command's answer
        else:
            pieces[names[file]] = result
    return pieces


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description="List test pieces that are also in the training set.")
    parser.add_argument("--trained", type=Path, nargs="+", required=True, help="scores: files, folders or manifests")
    parser.add_argument("--tested", type=Path, nargs="+", required=True, help="scores or MIDI files, likewise")
    parser.add_argument("--least", type=float, default=MIN_SHARE, help="smallest share of the shorter piece's phrases")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    arguments = parser.parse_args()
    trained, tested = _read(arguments.trained, arguments.jobs), _read(arguments.tested, arguments.jobs)
    pairs = compare(trained, tested, arguments.least)
    for pair in pairs:
        print(f"{pair.share:4.0%}  {pair.trained}  {pair.tested}")  # noqa: T201
    print(f"{len(trained)} x {len(tested)} pieces compared, {len(pairs)} pairs listed")  # noqa: T201


if __name__ == "__main__":
    main()
