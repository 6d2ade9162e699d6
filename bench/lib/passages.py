"""Passages of real scans with their recordings: which column of the strip sounds at which time.

The systems that detection finds are joined with those of `systems.csv`, which lists the measures of each system but not
their places. The places are estimated: widths of measures and places of onsets are those that an engraver would give
the notes of the kern. A gap of d quarters takes room in proportion to d ** 0.6 (Verovio's default), after the room of
clef and signature. Columns are therefore good to about half a measure only.

Where a human plays (dev_scans_mozart), times come from `measure_times.csv`, and are linear within a measure. Where the
kern is played (val_scans_joplin), times come from the performance itself. Uncertain passages are left out and counted:
systems that detection does not find, measures that a repeat or a line break splits, visits of unknown measures.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import verovio
from numpy.typing import NDArray

from bench.lib import pieces
from bench.lib.pairs import Material
from bench.lib.pieces import Piece
from bench.lib.printed import MIN_IOU, PrintedSystem, iou, printed_systems
from engine import score
from engine.audio import FRAME_RATE, decoding, spectrogram, spectrograms
from engine.config import Bands, FrontEnd
from engine.files import replacing
from engine.score import read_score
from engine.symbols import playing, soundfont
from indexer.synthesis import engrave, perform
from indexer.training.corpus import distinct_onsets

SPACING_POWER = 0.6
"""Power of a note's length to which its room is proportional: Verovio's `spacingNonLinear`."""

HEAD_SPACES = 7.0
"""Room of clef and key signature at the left of a system, in staff spaces."""

_SEEN_BY = sorted(Path(str(score.__file__)).parent.glob("*.py"))
_HEARD_BY = [Path(str(module.__file__)) for module in (decoding, spectrograms, engrave, perform, playing, soundfont)]
"""Files whose code decides what a spectrogram is. Work files made by another version of them are not used."""

Place = tuple[int, float]
"""A place in the score: measure number, and quarters from the start of the measure."""
Timed = tuple[int, float, float]
"""A place in the score and its time: measure number, quarters from the start of the measure, second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A visit of a printed measure when the kern is played."""

    number: int
    start_quarter: float
    length_quarters: float
    onsets: tuple[float, ...]
    """Onsets in quarters from the start of the measure. Of onsets that count as one, the first is listed."""
    whole: bool
    """Whether this is a whole measure. False for the parts of a measure that a repeat splits."""
    repeated: bool
    """Whether this is not the first visit."""


def materials(
    data: Path, name: str, window: FrontEnd, work: Path, every: int = 1
) -> tuple[list[Material], Counter[str]]:
    """The material of every `every`-th piece of a set that has verified systems, and counts of what is left out.

    name: a set of `bench.lib.pieces.SETS`.
    """
    (folder,) = pieces.SETS[name]
    printed = by_piece(printed_systems(data / folder))
    found = [(piece, file_stem(piece)) for piece in pieces.pieces(data, name)]
    left_out = Counter({"pieces without verified systems": sum(stem not in printed for _, stem in found)})
    times = _measure_times(data / folder)
    made = []
    for piece, stem in [(piece, stem) for piece, stem in found if stem in printed][::every]:
        measures = read_measures(data / folder / f"{stem}.krn")
        strip, columns = _seen(piece, printed[stem], measures, window, work, left_out)
        sound, timed = _heard(piece, measures, times, work, left_out, window.bands)
        made.append(_material(piece.id, strip, columns, sound, timed, measures))
    return made, left_out


def present(data: Path, name: str) -> bool:
    """Whether the data folder holds a set of `bench.lib.pieces.SETS`, with the truth about its systems."""
    return all((data / folder / "systems.csv").exists() for folder in pieces.SETS[name])


def read_measures(kern: Path) -> list[Measure]:
    """The measures of a kern file in the order of sounding. A part without a number belongs to the measure before."""
    toolkit = verovio.toolkit()
    verovio.enableLog(verovio.LOG_OFF)
    if not toolkit.loadFile(str(kern)):
        raise ValueError(f"{kern}: expected kern that Verovio can read")
    timemap: list[Mapping[str, Any]] = toolkit.renderToTimemap({"includeMeasures": True})
    onsets = np.array([entry["qstamp"] for entry in timemap if entry.get("on")])
    starts = [(str(entry["measureOn"]), float(entry["qstamp"])) for entry in timemap if "measureOn" in entry]
    ends = [start for _, start in starts[1:]] + [float(timemap[-1]["qstamp"])]
    labels = {name: toolkit.getElementAttr(name).get("n", "") for name in dict.fromkeys(_first(n) for n, _ in starts)}
    numbers, split = _numbered(labels)
    measures: list[Measure] = []
    for (name, start), end in zip(starts, ends, strict=True):
        inside = onsets[(onsets >= start) & (onsets < end)] - start
        measures.append(
            Measure(
                number=numbers[_first(name)],
                start_quarter=start,
                length_quarters=end - start,
                onsets=tuple(distinct_onsets(inside).tolist()),
                whole=_first(name) not in split,
                repeated=name != _first(name),
            )
        )
    return measures


def _first(name: str) -> str:
    """The name of a measure at its first visit. Verovio marks the names of measures that a repeat plays again."""
    return re.sub(r"-rend\d+$", "", name)


def _numbered(labels: Mapping[str, str]) -> tuple[dict[str, int], set[str]]:
    """The number of each measure, and the measures that are parts of one that a repeat splits. A pickup is number 0.

    labels: printed label by name of the measure, in order.
    """
    numbers: dict[str, int] = {}
    split: set[str] = set()
    before = ""
    for name, label in labels.items():
        if before and not label.isdigit():
            numbers[name] = numbers[before]
            split |= {before, name}
        else:
            numbers[name] = int(label or 0)
        before = name
    return numbers, split


def places(system: PrintedSystem, measures: Iterable[Measure], head: float) -> dict[Place, float]:
    """The places of the onsets of a system's whole measures, as shares of the system's length.

    head: the share of the length that clef and signature take.
    """
    steps: list[tuple[Place | None, float]] = []
    for measure in measures:
        if system.first_measure <= measure.number <= system.last_measure and not measure.repeated:
            stops = sorted({0.0, *measure.onsets})
            room = np.diff([*stops, measure.length_quarters]).clip(0) ** SPACING_POWER
            known = set(measure.onsets) if measure.whole else set()
            steps += [((measure.number, at) if at in known else None, r) for at, r in zip(stops, room, strict=True)]
    ends = np.cumsum([room for _, room in steps])
    return {
        place: head + (1 - head) * float((end - room) / ends[-1])
        for (place, room), end in zip(steps, ends, strict=True)
        if place is not None
    }


def _seen(
    piece: Piece,
    printed: Sequence[tuple[int, PrintedSystem]],
    measures: Sequence[Measure],
    window: FrontEnd,
    work: Path,
    left_out: Counter[str],
) -> tuple[NDArray[np.uint8], dict[Place, float]]:
    """The strip, and the column of each place whose system is found."""

    def read() -> dict[str, NDArray[Any]]:
        found = read_score(pieces.score(piece, work).path, window)
        boxes = np.array([(system.page, system.box.y0, system.box.y1) for system in found.systems])
        return {"strip": found.strip, "starts": np.append(found.starts_px, found.strip.shape[1]), "boxes": boxes}

    held = kept(work / "strips", [*_SEEN_BY, *piece.pages], str(asdict(window)), read)
    columns: dict[Place, float] = {}
    several = shared_measures(printed)
    for page, system in printed:
        same = [(iou(system.rows, (y0, y1)), i) for i, (at, y0, y1) in enumerate(held["boxes"]) if at == page]
        overlap, number = max(same, default=(0.0, 0))
        if overlap < MIN_IOU:
            left_out["systems not found"] += 1
            continue
        left, right = held["starts"][number : number + 2]
        head = HEAD_SPACES * window.staff_space_px / (right - left)
        for place, share in places(system, measures, head).items():
            if place[0] not in several:
                columns[place] = left + share * (right - left)
    left_out["measures split"] += len(several | {measure.number for measure in measures if not measure.whole})
    return held["strip"], columns


def shared_measures(printed: Sequence[tuple[int, PrintedSystem]]) -> set[int]:
    """The measures of which more than one system holds a part."""
    counts = Counter(n for _, system in printed for n in range(system.first_measure, system.last_measure + 1))
    return {number for number, count in counts.items() if count > 1}


def _heard(
    piece: Piece,
    measures: Sequence[Measure],
    times: Mapping[str, Sequence[Mapping[str, str]]],
    work: Path,
    left_out: Counter[str],
    bands: Bands,
) -> tuple[NDArray[np.floating], list[Timed]]:
    """The spectrogram, and the onsets of each visit of a measure with their seconds."""

    def listen() -> dict[str, NDArray[Any]]:
        return {
            "spectrogram": spectrogram(soundfont.synthesise(pieces.midi(piece), soundfont.default_soundfont()), bands)
        }

    held = kept(work / "spectrograms", [*_HEARD_BY, piece.notes], f"{piece.id} {bands}", listen)
    if piece.notes.suffix == ".krn":
        return held["spectrogram"], list(_played(piece, measures))
    visits = times[piece.notes.stem]
    left_out["visits not mapped"] += sum(not visit["measure"] for visit in visits)
    by_number = {measure.number: measure for measure in measures if not measure.repeated}
    timed: list[Timed] = []
    for visit in visits:
        measure = by_number.get(int(visit["measure"] or -1))
        if measure is not None:
            start, end = float(visit["t0"]), float(visit["t1"])
            pace = (end - start) / measure.length_quarters
            timed += [(measure.number, at, start + at * pace) for at in measure.onsets]
    return held["spectrogram"], timed


def _played(piece: Piece, measures: Iterable[Measure]) -> Iterator[Timed]:
    performance = pieces.performance(piece)
    for measure in measures:
        seconds = performance.seconds_at(measure.start_quarter + np.array(measure.onsets))
        yield from zip([measure.number] * len(seconds), measure.onsets, seconds.tolist(), strict=True)


def _material(
    piece: str,
    strip: NDArray[np.uint8],
    columns: Mapping[Place, float],
    sound: NDArray[np.floating],
    timed: Sequence[Timed],
    measures: Iterable[Measure],
) -> Material:
    """The material of a piece, with each place once.

    If a place is visited several times, one visit is drawn, because equal snippets cannot be told apart.
    """
    lengths = {measure.number: measure.length_quarters for measure in measures}
    second: dict[Place, float] = {}
    for i in np.random.default_rng(0).permutation(len(timed)):
        number, at, at_s = timed[i]
        second.setdefault((number, at), at_s)
    common = sorted(columns.keys() & second.keys())
    return Material(
        piece=piece,
        strip=strip,
        spectrogram=sound,
        columns=np.array([columns[place] for place in common]),
        frames=np.array([second[place] * FRAME_RATE for place in common]),
        measures=np.array([number + at / lengths[number] for number, at in common]),
    )


def kept(
    folder: Path, inputs: Iterable[Path], settings: str, make: Callable[[], dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """The result of `make`, kept in a file of `folder` whose name depends on the contents of the inputs.

    inputs: files that the result depends on, code included.
    """
    digest = hashlib.sha256(settings.encode())
    for path in inputs:
        digest.update(path.read_bytes())
    path = folder / f"{digest.hexdigest()[:24]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = make()
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # takes arrays by any name
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def file_stem(piece: Piece) -> str:
    """The name of a piece in file names and in `systems.csv`."""
    return piece.id.removeprefix("joplin_")


def by_piece(
    printed: Mapping[tuple[str, int], Sequence[PrintedSystem]],
) -> dict[str, list[tuple[int, PrintedSystem]]]:
    """The systems by piece, each with its page."""
    found: dict[str, list[tuple[int, PrintedSystem]]] = {}
    for (piece, page), on_page in printed.items():
        found.setdefault(piece, []).extend((page, system) for system in on_page)
    return found


def _measure_times(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The visits of measures by performance; none in sets whose scores are played."""
    visits: dict[str, list[dict[str, str]]] = {}
    if (folder / "measure_times.csv").exists():
        with (folder / "measure_times.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                visits.setdefault(row["performance"], []).append(row)
    return visits
