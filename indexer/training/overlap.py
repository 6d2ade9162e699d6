"""Finds test pieces that are also in the training set, by comparing the intervals of their top lines.

`python -m indexer.training.overlap --trained SCORES --tested SCORES` lists the pairs of pieces that share too many
phrases, whatever their keys. SCORES are files, folders, or manifests (CSV with the columns id and path) of scores and
MIDI files. Pieces that cannot be read are named; if a side has no other pieces, the program ends with exit code 1.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import process
from engine.arguments import positive
from engine.errors import AudioError
from engine.symbols.formats import MIDI_SUFFIXES
from engine.symbols.midi import read_midi
from engine.workers import Failure, each
from indexer.synthesis.engrave import EngravingError, ScoreNotes
from indexer.training.corpus import engraver

PHRASE_INTERVALS = 10
"""Number of intervals in a phrase."""

MIN_SHARE = 0.05
"""Pairs of pieces are listed if they share at least this part of the shorter piece's phrases. Two encodings of one rag
share 0.11 to 0.5, because editors treat ties and ornaments differently; of 2,944 pairs of different pieces, no pair
shares more than 0.013."""

SUFFIXES = MIDI_SUFFIXES | {".krn", ".mei", ".musicxml", ".mxl", ".xml", ".ly"}
"""Suffixes, in lower case, of the files of a folder that are read."""
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
    """The notes of a MIDI file, with seconds in place of quarters.

    Raises AudioError if the file is not MIDI or has no notes, and OSError if it cannot be opened.
    """
    playing = read_midi(path.read_bytes(), path)
    return ScoreNotes(
        onset_quarter=playing.onset_s, duration_quarter=playing.release_s - playing.onset_s, pitch=playing.pitch
    )


def _phrases_of(path: Path) -> Phrases:
    """The phrases of a score or a MIDI file. Raises EngravingError, AudioError or OSError if it cannot be read."""
    is_midi = path.suffix.lower() in MIDI_SUFFIXES
    found = phrases(performed_notes(path) if is_midi else engraver(path).notes())
    if not found:
        raise EngravingError(path, f"expected a melody with phrases of {PHRASE_INTERVALS} intervals, got none")
    return found


def _files(path: Path) -> list[tuple[str, Path]]:
    """Name and path of each piece of a manifest, of a folder, or of a single file.

    Raises SystemExit if there are none, or if the manifest cannot be read.
    """
    if path.suffix.lower() == ".csv":
        found = _listed(path)
    elif path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
        found = [(file.stem, file) for file in files]
    elif path.exists():
        found = [(path.stem, path)]
    else:
        raise SystemExit(f"{path}: no such file or folder")
    if not found:
        raise SystemExit(f"{path}: expected scores or MIDI files ({', '.join(sorted(SUFFIXES))}), got none")
    return found


def _listed(manifest: Path) -> list[tuple[str, Path]]:
    """Name and path of each piece of a manifest. Raises SystemExit if it cannot be read, or lacks a column."""
    try:
        with manifest.open(newline="") as file:
            # As in the corpus, paths are relative to the folder that holds the manifest's folder.
            return [(row["id"], manifest.parent.parent / row["path"]) for row in csv.DictReader(file)]
    except OSError as exc:
        raise SystemExit(f"{manifest}: {exc.strerror}") from exc
    except (KeyError, TypeError, ValueError, csv.Error) as exc:  # a column is missing, or it is no text
        raise SystemExit(f"{manifest}: expected a CSV file whose rows have the columns id and path") from exc


def _named(sources: Sequence[Path]) -> dict[Path, str]:
    """The name of each piece by its file. Raises SystemExit if a source has no pieces.

    Files of one name, as folders of several composers hold them, have their paths for names.
    """
    found = {file: name for source in sources for name, file in _files(source)}
    shared = {name for name, files in Counter(found.values()).items() if files > 1}
    return {file: str(file) if name in shared else name for file, name in found.items()}


def _read(names: Mapping[Path, str], jobs: int) -> dict[str, Phrases]:
    """The phrases of every piece by name; prints the cause for each piece that cannot be read.

    names: see `_named`. Raises SystemExit if no piece can be read.
    """
    pieces: dict[str, Phrases] = {}
    for file, result in each(_phrases_of, list(names), jobs=jobs, expected=(EngravingError, AudioError, OSError)):
        if isinstance(result, Failure):
            print(f"not compared: {result.cause}")  # noqa: T201  # a command's answer
        else:
            pieces[names[file]] = result
    if not pieces:
        raise SystemExit(f"nothing to compare in {len(names)} files, the first of them {next(iter(names))}")
    return pieces


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description="List test pieces that are also in the training set.")
    parser.add_argument("--trained", type=Path, nargs="+", required=True, help="scores: files, folders or manifests")
    parser.add_argument("--tested", type=Path, nargs="+", required=True, help="scores or MIDI files, likewise")
    parser.add_argument("--least", type=float, default=MIN_SHARE, help="smallest share of the shorter piece's phrases")
    parser.add_argument("--jobs", type=positive, default=2, help="worker processes")
    arguments = parser.parse_args()
    # Both sides are looked through first: a wrong path should not wait until the other side is read.
    sides = [_named(sources) for sources in (arguments.trained, arguments.tested)]
    trained, tested = (_read(names, arguments.jobs) for names in sides)
    pairs = compare(trained, tested, arguments.least)
    for pair in pairs:
        print(f"{pair.share:4.0%}  {pair.trained}  {pair.tested}")  # noqa: T201
    print(f"{len(trained)} x {len(tested)} pieces compared, {len(pairs)} pairs listed")  # noqa: T201


if __name__ == "__main__":
    main()
