"""Makes the training corpus from scores in symbols: engraved, printed, scanned; performed, played, recorded.

A piece has prints (layout, font, damage) and recordings (performance, instrument, room, medium). Each is one file and
has its own seed, so files can be added later, made in parallel, and made again. The onsets of the score join any print
of a piece with any recording of it. A piece in another key is another piece, for no snippet and no excerpt of the two
is alike. `python -m indexer.training.corpus CONFIG.toml` makes what is missing.
"""

import argparse
import csv
import dataclasses
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine import config, process
from engine.arguments import positive
from engine.audio import BANDS, FRAME_RATE, spectrogram
from engine.config import FrontEnd
from engine.errors import SettingsError
from engine.score import SystemCourse, cut_strip, normalise_grey, strip_scale
from engine.symbols.soundfont import default_soundfont, limited
from engine.values import System
from engine.workers import Failure, each
from indexer.synthesis import instruments, lilypond
from indexer.synthesis.acoustics import Acoustics, acoustics
from indexer.synthesis.degrade import DegradedPage, degrade_audio, degrade_page
from indexer.synthesis.engrave import EngravedPage, Engraver, EngravingError, ScoreNotes, random_layout
from indexer.synthesis.instruments import random_condition
from indexer.synthesis.lilypond import LilyPondEngraver
from indexer.synthesis.perform import perform, random_style
from indexer.training.corpus_settings import CorpusSettings, listed_instruments
from indexer.training.material import Print, Rendition, encoded, save

logger = logging.getLogger(__name__)

STRIP_MARGIN_PX = 16
"""Rows that a strip has more than a snippet, at the working scale; training shifts snippets up and down by them."""

SAME_ONSET_QUARTERS = 0.1
"""Notes closer than this are one onset: arpeggios and grace notes."""

INTERVALS = tuple(semitones for semitones in range(-5, 7) if semitones)
"""Semitones between a piece's own key and the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Prints and recordings of one piece that must be made."""

    piece: str
    """Name of the piece; in another key than its own, the semitones follow: `NAME@+3`."""
    score: Path
    semitones: int
    """How far the score is raised before it is printed and played."""
    split: str
    prints: tuple[int, ...]
    """Numbers of the missing prints; each has its own seed."""
    recordings: tuple[int, ...]
    """Numbers of the missing recordings; each has its own seed."""


def make(settings: CorpusSettings, front_end: FrontEnd, jobs: int) -> None:
    """Makes the missing prints and recordings in `jobs` processes; a score that fails is logged and left out.

    Raises SettingsError if an instrument, room or noise is missing, or if there are not so many keys, and OSError if a
    list of scores is missing.
    """
    if not 1 <= settings.keys <= 1 + len(INTERVALS):
        raise SettingsError(f"corpus.keys: expected 1 to {1 + len(INTERVALS)}, got {settings.keys}")
    _check_sounds(settings)
    missing = [job for split in ("val", "train") for job in _jobs(settings, split)]
    work = partial(_make, settings=settings, front_end=front_end)
    progress = tqdm(each(work, missing, jobs=jobs, expected=(EngravingError,)), total=len(missing), unit="piece")
    for job, result in progress:
        if isinstance(result, Failure):
            logger.warning("%s: %s", job.piece, result.cause)


def _check_sounds(settings: CorpusSettings) -> None:
    """Raises SettingsError if an instrument, or a list of rooms or noises, is missing or cannot be read."""
    try:
        for split in ("train", "val"):
            for name in _ensemble(settings, split).names:
                instruments.load(name)
            _acoustics(settings, split)
    except (OSError, ValueError, KeyError) as exc:
        raise SettingsError(f"the corpus cannot be played: {exc}") from exc
    finally:
        instruments.load.cache_clear()  # each worker process loads its own


def engraver(score: Path, semitones: int = 0) -> Engraver | LilyPondEngraver:
    """The engraver for a score's format. Raises EngravingError if it cannot read the score.

    semitones: how far the score is raised; 0 for LilyPond, which is not transposed.
    """
    return LilyPondEngraver(score) if score.suffix.lower() in lilypond.SUFFIXES else Engraver(score, semitones)


def _jobs(settings: CorpusSettings, split: str) -> Iterator[Job]:
    """Yields what is missing, in rounds over all pieces: a second print only after every piece has its first.

    A round makes one more print of each piece, and its share of the recordings, in the pieces' own keys first. The
    order of the pieces does not depend on their number, so a larger corpus starts with the same pieces.
    """
    folder = settings.folder / split
    training = split == "train"
    prints, recordings, keys = (settings.prints, settings.recordings, settings.keys) if training else (1, 1, 1)
    scores = pieces(settings, split)[: settings.train_pieces if training else settings.val_pieces]
    in_keys = [piece for key in range(keys) for piece in _in_key(scores, key, settings.seed)]
    rounds = max(1, min(prints, recordings))
    for turn in range(rounds):
        for piece, score, semitones in in_keys:
            job = Job(
                piece=piece,
                score=score,
                semitones=semitones,
                split=split,
                prints=tuple(_missing(folder / "prints", piece, range(turn, prints, rounds))),
                recordings=tuple(_missing(folder / "recordings", piece, range(turn, recordings, rounds))),
            )
            if job.prints or job.recordings:
                yield job


def _in_key(scores: list[tuple[str, Path]], key: int, seed: int) -> Iterator[tuple[str, Path, int]]:
    """Yields name, file and semitones of each piece; key 0 is the piece's own, later ones are random."""
    for piece, score in scores:
        if key == 0:
            yield piece, score, 0
        elif score.suffix.lower() not in lilypond.SUFFIXES:
            order = np.random.default_rng((seed, zlib.crc32(piece.encode()), 2)).permutation(INTERVALS)
            yield f"{piece}@{order[key - 1]:+d}", score, int(order[key - 1])


def _missing(folder: Path, piece: str, numbers: range) -> list[int]:
    """The numbers for which the piece has no file yet."""
    return [number for number in numbers if not (folder / f"{piece}.{number}.npz").exists()]


def pieces(settings: CorpusSettings, split: str) -> list[tuple[str, Path]]:
    """Id and file of each score of a split, in the order of a checksum of the id."""
    with (settings.data / settings.splits).open(newline="") as file:
        ids = {row["id"] for row in csv.DictReader(file) if row["split"] == split}
    scores: list[tuple[str, Path]] = []
    for manifest in settings.manifests:
        with (settings.data / manifest).open(newline="") as file:
            scores += [(row["id"], settings.data / row["path"]) for row in csv.DictReader(file) if row["id"] in ids]
    return sorted(scores, key=lambda piece: zlib.crc32(piece[0].encode()))


def _make(job: Job, *, settings: CorpusSettings, front_end: FrontEnd) -> None:
    """Makes the prints and recordings of a job; reads the score once for all of them."""
    music = engraver(job.score, job.semitones)
    folder, seed = settings.folder / job.split, (settings.seed, zlib.crc32(job.piece.encode()))
    for number in job.prints:
        rng = np.random.default_rng((*seed, 0, number))
        save(_print(job.piece, music, settings, front_end, rng), folder / "prints" / f"{job.piece}.{number}.npz")
    notes = music.notes() if job.recordings else None
    for number in job.recordings:
        assert notes is not None
        rng = np.random.default_rng((*seed, 1, number))
        save(_record(job, notes, settings, rng), folder / "recordings" / f"{job.piece}.{number}.npz")


def distinct_onsets(quarters: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rising onsets without those that follow another within SAME_ONSET_QUARTERS."""
    return quarters[np.diff(quarters, prepend=-1.0) > SAME_ONSET_QUARTERS]


def _print(
    piece: str,
    music: Engraver | LilyPondEngraver,
    settings: CorpusSettings,
    front_end: FrontEnd,
    rng: np.random.Generator,
) -> Print:
    """A print: the engraved and degraded systems unrolled at half scale, and the column of every onset."""
    layout = random_layout(rng)
    scale_error = float(rng.normal(1.0, 0.03))
    strips: list[NDArray[np.uint8]] = []
    column_of: dict[float, float] = {}
    left = 0
    for page in music.pages(layout, limit=settings.pages):
        degraded = degrade_page(page.image, layout.staff_space_px, rng, settings.page_damage)
        image = normalise_grey(degraded.image)
        for system in page.systems:
            course = _course(system, degraded, page.image.shape[1], scale_error)
            strip = _half_strip(image, course, front_end)
            for quarter, x in _onset_places(page, system, degraded, course):
                column_of.setdefault(quarter, left + x * strip.shape[1])
            strips.append(strip)
            left += strip.shape[1]
    quarters = distinct_onsets(np.array(sorted(column_of)))
    columns = np.array([column_of[quarter] for quarter in quarters], np.float32)
    return Print(piece=piece, quarters=quarters, strip=np.hstack(strips), columns=columns)


def _course(system: System, degraded: DegradedPage, width_px: int, scale_error: float) -> SystemCourse:
    """The course of a system on the degraded page; its staff space is multiplied by the error of a detector."""
    box = system.box
    xs = np.linspace(box.x0, box.x1, 24) * width_px
    middle = degraded.warp(np.stack([xs, np.full(24, (box.y0 + box.y1) / 2 * width_px)], axis=1))
    return SystemCourse(
        xs=middle[:, 0].astype(np.float32),
        ys=middle[:, 1].astype(np.float32),
        height=(box.y1 - box.y0) * width_px,
        staff_space=system.staff_space * width_px * scale_error,
    )


def _half_strip(image: NDArray[np.uint8], course: SystemCourse, front_end: FrontEnd) -> NDArray[np.uint8]:
    """The system at half the working scale, with margin rows; the scale is that of a strip without margin rows."""
    scale = strip_scale(course, front_end)
    roomy = dataclasses.replace(
        front_end, strip_rows=front_end.strip_rows + STRIP_MARGIN_PX, staff_space_px=scale * course.staff_space
    )
    strip = cut_strip(image, course, roomy)
    size = (max(1, strip.shape[1] // 2), strip.shape[0] // 2)
    return np.asarray(cv2.resize(strip, size, interpolation=cv2.INTER_AREA), np.uint8)


def _onset_places(
    page: EngravedPage, system: System, degraded: DegradedPage, course: SystemCourse
) -> list[tuple[float, float]]:
    """The onsets in a system, each with its place as a share of the system's length: the median over its notes."""
    inside = page.note_system == system.number
    quarters, width = page.note_quarter[inside], page.image.shape[1]
    middle = np.full(len(quarters), (system.box.y0 + system.box.y1) / 2 * width)
    x = degraded.warp(np.stack([page.note_x[inside] * width, middle], axis=1))[:, 0]
    share = (x - course.xs[0]) / (course.xs[-1] - course.xs[0])
    return [(quarter, float(np.median(share[quarters == quarter]))) for quarter in np.unique(quarters)]


def _record(job: Job, notes: ScoreNotes, settings: CorpusSettings, rng: np.random.Generator) -> Rendition:
    """A recording: the notes performed, played on a random instrument and recorded in a random room."""
    performance = perform(notes, random_style(notes, rng, settings.freedom), rng).until(settings.seconds)
    sound = limited(_instrument(settings, job.split, rng).play(performance, random_condition(rng), rng))
    heard = degrade_audio(sound, rng, settings.sound_damage, _acoustics(settings, job.split))
    kept = {bands: encoded(10 ** spectrogram(heard.samples, bands) - 1) for bands in settings.bands}
    frames = performance.beat_s * heard.time_factor * FRAME_RATE
    return Rendition(
        piece=job.piece,
        beat_quarter=performance.beat_quarter,
        beat_frame=frames.astype(np.float32),
        **{bands: kept.get(bands, np.empty((count, 0), np.uint8)) for bands, count in BANDS.items()},
    )


@dataclass(frozen=True, slots=True)
class _Ensemble:
    """Names of the instruments of a split, and the probability of each."""

    names: tuple[str, ...]
    probabilities: NDArray[np.float64]


@lru_cache(maxsize=4)
def _ensemble(settings: CorpusSettings, split: str) -> _Ensemble:
    """The instruments of a split.

    Raises OSError if the list of instruments is missing, and ValueError if it has none of this split.
    """
    if not settings.instruments:
        return _Ensemble((f"{default_soundfont()}#0",), np.ones(1))
    rows = [row for row in listed_instruments(settings) if row["split"] == split]
    if not rows:
        raise ValueError(f"{settings.instruments}: expected instruments of the split {split!r}, got none")
    shares = np.array([float(row["share"]) for row in rows])
    return _Ensemble(tuple(str(settings.data / row["instrument"]) for row in rows), shares / shares.sum())


def _instrument(settings: CorpusSettings, split: str, rng: np.random.Generator) -> instruments.Instrument:
    """A random instrument of the split."""
    ensemble = _ensemble(settings, split)
    return instruments.load(ensemble.names[int(rng.choice(len(ensemble.names), p=ensemble.probabilities))])


def _acoustics(settings: CorpusSettings, split: str) -> Acoustics:
    """The rooms, media and noises of the split."""
    responses = settings.data / settings.responses if settings.responses else None
    noises = settings.data / settings.noises if settings.noises else None
    return acoustics(responses, noises, split)


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description="Make the training corpus that a configuration describes.")
    parser.add_argument("config", type=Path, help="TOML file like indexer/training/default.toml")
    parser.add_argument("--jobs", type=positive, default=2, help="worker processes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = config.load(CorpusSettings(), section="corpus", path=arguments.config)
    make(settings, config.load(FrontEnd(), section="front_end", path=arguments.config), arguments.jobs)


if __name__ == "__main__":
    main()
