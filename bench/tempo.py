"""Does the training corpus play as people do? Tempo, togetherness and loudness of real and of synthetic performances.

    python -m bench.tempo --data DIR [--quick] [--json FILE]

Real: the performances of val_asap, by `measure_times.csv` and their MIDI files. Synthetic: the same scores played in
random styles of `indexer.synthesis.perform`, measured in the same way. The tempo of a measure is its length in quarters
divided by its seconds. It is given as a logarithm relative to the performance's median: 0.1 is ten per cent faster. The
first and the last measure are left out, because their times are not those of whole bars. Each row shows the 10th, 50th
and 90th percentile over performances.
"""

import argparse
import csv
import gzip
import io
import itertools
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mido
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib import report
from engine import process
from indexer.synthesis.engrave import ScoreNotes
from indexer.synthesis.perform import perform, random_style

SYNTHETIC_EACH = 3
"""Number of synthetic performances for each real one."""
SECTION_MEASURES = 17
"""Measures of the running median that is the tempo of a section. The rest of the tempo is local."""
MIN_MEASURE_S = 0.05
"""Measures shorter than this are gaps of the annotation."""
TOGETHER_S = 0.035
"""Largest time between successive notes of one chord."""
PERCENTILES = (10, 50, 90)

Floats = NDArray[np.float64]


Note = tuple[float, float, int]
"""A note: onset in its measure and duration, both in quarters, and MIDI pitch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMeasure:
    """A measure of a score."""

    quarters: float
    notes: list[Note]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedPerformance:
    """The times and velocities of one performance."""

    measure_quarters: Floats
    """(m,) length of each visited measure in quarters, in the order of playing."""
    measure_s: Floats
    """(m,) length of each visited measure in seconds."""
    onset_s: Floats
    """(n,) onset of each note."""
    velocity: Floats
    """(n,) MIDI velocity of each note."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    folder = options.data / "val_asap"
    visits = measure_visits(folder / "measure_times.csv")
    paths = {row["performance"]: options.data / row["path"] for row in _rows(folder / "performances.csv")}
    chosen = list(itertools.islice(visits.items(), 6 if options.quick else None))
    rng = np.random.default_rng(0)
    real: dict[str, list[TimedPerformance]] = defaultdict(list)
    synthetic: list[TimedPerformance] = []
    for (piece, name), rows in tqdm(chosen, unit="performance", disable=None):
        measures = read_measures(gzip.decompress((folder / f"{piece}.musicxml.gz").read_bytes()))
        if any(int(row["measure"]) not in measures for row in rows):
            print(f"left out, because its measures are numbered differently from its score's: {name}")
            continue
        visited = [measures[int(row["measure"])] for row in rows]
        onset, velocity = midi_notes(paths[name].read_bytes())
        real[piece].append(
            TimedPerformance(
                measure_quarters=np.array([measure.quarters for measure in visited]),
                measure_s=np.array([float(row["t1"]) - float(row["t0"]) for row in rows]),
                onset_s=onset,
                velocity=velocity,
            )
        )
        synthetic += [play(visited, rng) for _ in range(SYNTHETIC_EACH)]
    everyone = [played for performances in real.values() for played in performances]
    table = compare([statistics(played) for played in everyone], [statistics(played) for played in synthetic])
    spread = players_spread(real.values())
    environment = report.environment()
    print(report.heading(environment), f"{len(everyone)} real, {len(synthetic)} synthetic performances", sep="\n")
    print("", report.table(table), sep="\n")
    print(f"\nOverall tempo, between players of one piece: standard deviation {spread:.3f} of its logarithm")
    if options.json:
        report.save(options.json, environment=environment, n=len(everyone), rows=table, players_spread=spread)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--quick", action="store_true", help="six real performances")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measure_visits(path: Path) -> dict[tuple[str, str], list[dict[str, str]]]:
    """The rows of the file by (piece, performance), in the order of playing."""
    visits: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in _rows(path):
        visits[row["piece"], row["performance"]].append(row)
    return visits


def read_measures(score: bytes) -> dict[int, ScoreMeasure]:
    """The measures of a MusicXML score, numbered from 1, or from 0 if the first is an upbeat called 0.

    Grace notes are left out. Tied notes count as one.
    """
    found = ET.fromstring(score).findall("part[1]/measure")
    first = 0 if found and found[0].get("number") == "0" else 1
    measures, divisions = {}, 1
    for number, measure in enumerate(found, first):
        position = onset = length = 0.0
        notes: list[Note] = []
        for element in measure:
            divisions = int(element.findtext("divisions") or divisions)
            if element.tag not in ("note", "forward", "backup") or element.find("grace") is not None:
                continue
            duration = int(element.findtext("duration") or 0) / divisions
            if element.find("chord") is None:
                onset = position
                position += -duration if element.tag == "backup" else duration
                length = max(length, position)
            pitch = element.find("pitch")
            if pitch is not None and element.find("tie[@type='stop']") is None:
                notes.append((onset, duration, _midi_pitch(pitch)))
        measures[number] = ScoreMeasure(quarters=length, notes=notes)
    return measures


def _midi_pitch(pitch: ET.Element) -> int:
    step = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[pitch.findtext("step") or ""]
    return 12 * (int(pitch.findtext("octave") or 0) + 1) + step + int(float(pitch.findtext("alter") or 0))


def midi_notes(midi: bytes) -> tuple[Floats, Floats]:
    """The onset in seconds and the velocity of each note of a MIDI file, in order."""
    seconds, notes = 0.0, []
    for message in mido.MidiFile(file=io.BytesIO(midi)):
        seconds += message.time
        if message.type == "note_on" and message.velocity:
            notes.append((seconds, message.velocity))
    onset, velocity = np.array(notes, np.float64).reshape(-1, 2).T
    return onset, velocity


def play(measures: Sequence[ScoreMeasure], rng: np.random.Generator) -> TimedPerformance:
    """A performance of the measures, in the given order, in a random style."""
    edges = np.concatenate([[0.0], np.cumsum([measure.quarters for measure in measures])])
    table = np.array(
        sorted(
            (start + note[0], *note[1:])
            for start, measure in zip(edges, measures, strict=False)
            for note in measure.notes
        )
    )
    notes = ScoreNotes(
        onset_quarter=table[:, 0], duration_quarter=np.maximum(table[:, 1], 0.05), pitch=table[:, 2].astype(np.int64)
    )
    performance = perform(notes, random_style(notes, rng), rng)
    edges = edges[edges <= performance.beat_quarter[-1]]  # rests at the end are not performed
    return TimedPerformance(
        measure_quarters=np.diff(edges),
        measure_s=np.diff(performance.seconds_at(edges)),
        onset_s=np.sort(performance.onset_s),
        velocity=performance.velocity.astype(np.float64),
    )


def statistics(played: TimedPerformance) -> dict[str, float]:
    """The statistics of one performance, by the name of their row."""
    tempo = log_tempo(played.measure_quarters, played.measure_s)
    half = SECTION_MEASURES // 2
    section = np.array([np.nanmedian(tempo[max(0, i - half) : i + half + 1]) for i in range(len(tempo))])
    chords = [chord for chord in _chords(played.onset_s) if len(chord) > 1]
    return {
        "spread of tempo": float(np.nanstd(tempo)),
        "  of sections": float(np.nanstd(section)),
        "  local, robust": _robust_spread(tempo - section),
        "  local, outliers too": float(np.nanstd(tempo - section)),
        "from a measure to the next, robust": _robust_spread(np.diff(tempo)),
        "autocorrelation after 1 measure": _autocorrelation(tempo, 1),
        "autocorrelation after 4 measures": _autocorrelation(tempo, 4),
        "quarters until it is below 1/e": _memory(tempo) * float(np.median(played.measure_quarters)),
        "last three measures": float(np.nanmean(tempo[-3:]) - np.nanmedian(tempo[-19:-3])),
        "chords a second": len(list(_chords(played.onset_s))) / float(played.onset_s[-1] - played.onset_s[0]),
        "spread in a chord, ms": 1000 * float(np.median([chord.std() for chord in chords])) if chords else np.nan,
        "velocity": float(played.velocity.mean()),
        "spread of velocity": float(played.velocity.std()),
    }


def log_tempo(quarters: Floats, seconds: Floats) -> Floats:
    """The logarithm of each inner measure's tempo relative to their median: (m - 2,), NaN where unknown."""
    known = (quarters > 0) & (seconds > MIN_MEASURE_S)
    tempo = np.log(np.where(known, quarters, np.nan) / np.where(known, seconds, np.nan))[1:-1]
    return np.asarray(tempo - np.nanmedian(tempo), np.float64)


def players_spread(pieces: Iterable[list[TimedPerformance]]) -> float:
    """The standard deviation of the logarithm of overall tempo between performances of one piece; NaN if unknown."""
    gaps: list[float] = []
    for performances in pieces:
        overall = [np.log(one.measure_quarters.sum() / one.measure_s.sum()) for one in performances]
        gaps += [float(a - b) for a, b in itertools.combinations(overall, 2)]
    return float(np.sqrt(np.mean(np.square(gaps)) / 2)) if gaps else float("nan")


def compare(real: Sequence[Mapping[str, float]], synthetic: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """The table rows, one for each statistic: its percentiles over real and over synthetic performances."""
    rows = []
    for name in real[0]:
        row: dict[str, Any] = {"statistic": name}
        for side, group in (("real", real), ("synthetic", synthetic)):
            values = np.nanpercentile([one[name] for one in group], PERCENTILES)
            row |= {f"{side} {percent}%": float(value) for percent, value in zip(PERCENTILES, values, strict=True)}
        rows.append(row)
    return rows


def _robust_spread(values: Floats) -> float:
    """The standard deviation that normal values of the same median magnitude would have."""
    return 1.4826 * float(np.nanmedian(np.abs(values)))


def _autocorrelation(tempo: Floats, lag: int) -> float:
    centred = tempo - np.nanmean(tempo)
    return float(np.nanmean(centred[:-lag] * centred[lag:]) / np.nanvar(centred))


def _memory(tempo: Floats) -> int:
    """The number of measures after which the autocorrelation of the tempo is below 1/e."""
    lags = range(1, len(tempo) // 2)
    return next((lag for lag in lags if _autocorrelation(tempo, lag) < np.exp(-1)), len(tempo) // 2)


def _chords(onset_s: Floats) -> list[Floats]:
    return np.split(onset_s, np.flatnonzero(np.diff(onset_s) > TOGETHER_S) + 1)


if __name__ == "__main__":
    main()
