"""Is anything that is tested on in what is trained on? Pieces compared by their top lines, in whatever key.

`python -m indexer.training.overlap --trained SCORES --tested SCORES` lists the pairs of pieces that share too much.
SCORES are files, folders, or manifests (CSV with the columns id and path) of scores and MIDI files.
"""

import argparse
import csv
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

LENGTH = 10
"""Intervals of a phrase that is looked up."""

SUSPICIOUS = 0.05
"""Two pieces that share at least this part of the shorter one's phrases are listed. Two encodings of one rag share 0.11
to 0.5 of them, by their editors' ways with ties and ornaments; different pieces, 2,944 pairs, none more than 0.013."""

_SCORES = (".krn", ".mei", ".musicxml", ".mxl", ".xml", ".ly")
_MIDI = (".mid", ".midi")
_TOGETHER = 0.05
"""Notes closer than this, in quarters or seconds, are one onset."""
_PLAIN = 3
"""Phrases of so few different intervals, scales and repeated notes, are everybody's and prove nothing."""

Phrases = frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Two pieces and the part of the shorter one's phrases that both have."""

    trained: str
    tested: str
    share: float


def phrases(notes: ScoreNotes) -> Phrases:
    """The different runs of LENGTH intervals in a piece's top line, without the plainest ones."""
    intervals = np.clip(np.diff(top_line(notes)), -127, 127).astype(np.int8)
    if len(intervals) < LENGTH:
        return frozenset()
    runs = np.lib.stride_tricks.sliding_window_view(intervals, LENGTH)
    return frozenset(run.tobytes() for run in runs if len(set(run.tolist())) > _PLAIN)


def top_line(notes: ScoreNotes) -> NDArray[np.int64]:
    """int64 (m,): the highest pitch of each onset, unless a higher note is still in the first half of its length."""
    order = np.lexsort((-notes.pitch, notes.onset_quarter))
    line: list[int] = []
    held_pitch, held_until, last = -1, 0.0, -np.inf
    for index in order:
        onset, pitch = float(notes.onset_quarter[index]), int(notes.pitch[index])
        together = onset - last < _TOGETHER
        if (onset < held_until or together) and pitch <= held_pitch:
            continue
        if together and line:
            line.pop()
        line.append(pitch)
        last = last if together else onset
        held_pitch, held_until = pitch, onset + float(notes.duration_quarter[index]) / 2
    return np.array(line, np.int64)


def compare(trained: Mapping[str, Phrases], tested: Mapping[str, Phrases], least: float = SUSPICIOUS) -> list[Shared]:
    """The pairs that share at least this part of the shorter piece's phrases, most suspicious first."""
    found = [
        Shared(trained=one, tested=other, share=len(a & b) / min(len(a), len(b)))
        for one, a in trained.items()
        for other, b in tested.items()
        if a and b
    ]
    return sorted((pair for pair in found if pair.share >= least), key=lambda pair: -pair.share)


def performed_notes(path: Path) -> ScoreNotes:
    """The notes of a MIDI file, in seconds for quarters. Raises EngravingError if it is none."""
    try:
        messages = list(mido.MidiFile(path))
    except (OSError, EOFError, ValueError, KeyError) as exc:
        raise EngravingError(path, f"expected a MIDI file: {exc}") from exc
    now, sounding, heard = 0.0, dict[tuple[int, int], float](), list[tuple[float, float, int]]()
    for message in messages:
        now += message.time
        if message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            if key in sounding:
                start = sounding.pop(key)
                heard.append((start, now - start, message.note))
            if message.type == "note_on" and message.velocity:
                sounding[key] = now
    columns = np.array(sorted(heard), np.float64).reshape(-1, 3)
    return ScoreNotes(onset_quarter=columns[:, 0], duration_quarter=columns[:, 1], pitch=columns[:, 2].astype(np.int64))


def _phrases_of(path: Path) -> Phrases:
    return phrases(performed_notes(path) if path.suffix in _MIDI else engraver(path).notes())


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each piece of a manifest, a folder, or a single file."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            # Paths of a manifest start where the corpus's do: beside the manifest's own folder.
            yield from ((row["id"], path.parent.parent / row["path"]) for row in csv.DictReader(file))
    elif path.is_dir():
        yield from ((file.stem, file) for file in sorted(path.rglob("*")) if file.suffix in _SCORES + _MIDI)
    else:
        yield path.stem, path


def _read(sources: Sequence[Path], jobs: int) -> dict[str, Phrases]:
    """The phrases of every piece; one that cannot be read is named and passed over."""
    names = {file: name for source in sources for name, file in _files(source)}
    pieces: dict[str, Phrases] = {}
    for file, result in each(_phrases_of, list(names), jobs=jobs, expected=(EngravingError,)):
        if isinstance(result, Failure):
            print(f"not compared: {result.cause}")  # noqa: T201  # a command's answer
        else:
            pieces[names[file]] = result
    return pieces


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description="List the pieces tested on that are found in what is trained on.")
    parser.add_argument("--trained", type=Path, nargs="+", required=True, help="scores: files, folders or manifests")
    parser.add_argument("--tested", type=Path, nargs="+", required=True, help="scores or performances, likewise")
    parser.add_argument("--least", type=float, default=SUSPICIOUS, help="part of the shorter piece shared")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    arguments = parser.parse_args()
    trained, tested = _read(arguments.trained, arguments.jobs), _read(arguments.tested, arguments.jobs)
    found = compare(trained, tested, arguments.least)
    for pair in found:
        print(f"{pair.share:4.0%}  {pair.trained}  {pair.tested}")  # noqa: T201
    print(f"{len(trained)} x {len(tested)} pieces compared, {len(found)} pairs found")  # noqa: T201


if __name__ == "__main__":
    main()
