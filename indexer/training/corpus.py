"""Scores in symbols -> the training corpus: engraved, printed, scanned; performed, synthesised, recorded.

One file a take: a piece engraved once and performed once, from a seed of its own, so that takes can be added later,
made in parallel and made again. `python -m indexer.training.corpus CONFIG.toml` makes what is missing.
"""

import argparse
import csv
import dataclasses
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine import config
from engine.audio import FRAME_RATE, spectrogram
from engine.config import FrontEnd
from engine.errors import SettingsError
from engine.files import replacing
from engine.score import SystemCourse, cut_strip, normalise_grey, strip_scale
from engine.values import System
from engine.workers import Failure, each
from indexer.training import lilypond
from indexer.training.degrade import DegradedPage, degrade_audio, degrade_page
from indexer.training.engrave import EngravedPage, Engraver, EngravingError, random_layout
from indexer.training.lilypond import LilyPondEngraver
from indexer.training.perform import perform, random_style, to_midi
from indexer.training.synthesise import PIANOS, default_soundfont, synthesise

logger = logging.getLogger(__name__)

STRIP_MARGIN_PX = 16
"""Rows a strip has more than a snippet, so that training can shift snippets up and down; working scale."""

SAME_ONSET_QUARTERS = 0.1
"""Notes closer than this are one onset: arpeggios and grace notes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSettings:
    """What the corpus is made of; table [corpus] of the configuration."""

    data: Path = Path("data")
    """Folder of the scores; `manifests` and the paths in them start here."""
    manifests: tuple[str, ...] = ()
    """CSV files with the columns id and path; scores are MusicXML, kern, MEI or LilyPond, told by their suffixes."""
    splits: str = "splits.csv"
    """CSV file with the columns id and split (train or val)."""
    soundfonts: tuple[str, ...] = ()
    """SoundFont files, from `data` on; none: the one that a package carries."""
    folder: Path = Path("corpus")
    """Where the takes go."""
    train_pieces: int = 1200
    val_pieces: int = 60
    takes: int = 1
    pages: int = 4
    """At most so many pages of a piece are engraved."""
    seconds: float = 200.0
    """At most so much of a performance is kept."""
    page_damage: float = 1.0
    """0: pages as engraved; 1: as badly printed, kept and scanned as pages are."""
    sound_damage: float = 1.0
    """0: sound as synthesised; 1: as badly tuned, reverberant, noisy and compressed as recordings are."""
    freedom: float = 1.0
    """0: played as a machine plays; 1: as freely as people do."""
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One engraving and one performance of a piece, joined by the piece's onsets."""

    piece: str
    quarters: NDArray[np.float64]
    """(onsets,) from the start of the piece."""
    strip: NDArray[np.uint8]
    """((strip_rows + STRIP_MARGIN_PX) / 2, width): the unrolled systems at half the working scale, white = 255."""
    columns: NDArray[np.float32]
    """(onsets,) where in the strip each onset stands."""
    spectrogram: NDArray[np.float16]
    """(92, frames), as published."""
    frames: NDArray[np.float32]
    """(onsets,) when each sounds."""

    def save(self, path: Path) -> None:
        """Writes the take; the file appears whole or not at all."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Take":
        with np.load(path) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        return cls(**(values | {"piece": str(values["piece"])}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One take to be made."""

    piece: str
    score: Path
    seed: tuple[int, ...]
    target: Path


def make(settings: CorpusSettings, front_end: FrontEnd, jobs: int) -> None:
    """Makes every take that is not there yet, in `jobs` processes; a score that fails is logged and passed over.

    Raises SettingsError if a SoundFont is missing, OSError if a list of scores is.
    """
    for soundfont in _soundfonts(settings):
        if not soundfont.is_file():
            raise SettingsError(f"{soundfont}: no such SoundFont; see corpus.soundfonts of the configuration")
    missing = [job for split in ("val", "train") for job in _jobs(settings, split) if not job.target.exists()]
    work = partial(_make_take, settings=settings, front_end=front_end)
    progress = tqdm(each(work, missing, jobs=jobs, expected=(EngravingError,)), total=len(missing), unit="take")
    for job, result in progress:
        if isinstance(result, Failure):
            logger.warning("%s: %s", job.piece, result.cause)


def paths(settings: CorpusSettings, split: str) -> list[Path]:
    """The takes of a split that have been made, sorted."""
    return sorted((settings.folder / split).glob("*.npz"))


def engraver(score: Path) -> Engraver | LilyPondEngraver:
    """The engraver of this kind of score. Raises EngravingError if it cannot read the score."""
    return LilyPondEngraver(score) if score.suffix in lilypond.SUFFIXES else Engraver(score)


def _soundfonts(settings: CorpusSettings) -> list[Path]:
    return [settings.data / name for name in settings.soundfonts] or [default_soundfont()]


def _jobs(settings: CorpusSettings, split: str) -> Iterator[Job]:
    """The takes of a split: first every piece once, in a shuffled order that does not depend on how many are asked."""
    folder = settings.folder / split
    folder.mkdir(parents=True, exist_ok=True)
    found = pieces(settings, split)[: settings.train_pieces if split == "train" else settings.val_pieces]
    for take in range(settings.takes if split == "train" else 1):
        for piece, score in found:
            seed = (settings.seed, take, zlib.crc32(piece.encode()))
            yield Job(piece=piece, score=score, seed=seed, target=folder / f"{piece}.{take}.npz")


def pieces(settings: CorpusSettings, split: str) -> list[tuple[str, Path]]:
    """Id and file of the scores of a split, in a shuffled order that does not depend on anything else."""
    with (settings.data / settings.splits).open(newline="") as file:
        wanted = {row["id"] for row in csv.DictReader(file) if row["split"] == split}
    found: list[tuple[str, Path]] = []
    for manifest in settings.manifests:
        with (settings.data / manifest).open(newline="") as file:
            found += [(row["id"], settings.data / row["path"]) for row in csv.DictReader(file) if row["id"] in wanted]
    return sorted(found, key=lambda piece: zlib.crc32(piece[0].encode()))


def _make_take(job: Job, *, settings: CorpusSettings, front_end: FrontEnd) -> None:
    rng = np.random.default_rng(job.seed)
    music = engraver(job.score)
    strip, column_of = _print(music, settings, front_end, rng)
    sound, frame_of = _record(music, settings, rng)
    quarters = distinct_onsets(np.array(sorted(column_of)))
    columns = np.array([column_of[quarter] for quarter in quarters], np.float32)
    frames = np.interp(quarters, *frame_of).astype(np.float32)
    kept = frames < sound.shape[1]
    Take(
        piece=job.piece,
        quarters=quarters[kept],
        strip=strip,
        columns=columns[kept],
        spectrogram=sound.astype(np.float16),
        frames=frames[kept],
    ).save(job.target)


def distinct_onsets(quarters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of rising onsets, the first of each run that counts as one: no two are closer than SAME_ONSET_QUARTERS."""
    return quarters[np.diff(quarters, prepend=-1.0) > SAME_ONSET_QUARTERS]


def _print(
    music: Engraver | LilyPondEngraver, settings: CorpusSettings, front_end: FrontEnd, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], dict[float, float]]:
    """The engraved and degraded systems unrolled at half scale, and the column of every onset."""
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
            share = _along(page, system, degraded, course)
            for quarter, x in share:
                column_of.setdefault(quarter, left + x * strip.shape[1])
            strips.append(strip)
            left += strip.shape[1]
    return np.hstack(strips), column_of


def _course(system: System, degraded: DegradedPage, width_px: int, scale_error: float) -> SystemCourse:
    """Where the system runs on the degraded page; the staff space is off by what detection may be off."""
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
    """The system at half the working scale with margin rows; the scale is that of a strip without them."""
    scale = strip_scale(course, front_end)
    roomy = dataclasses.replace(
        front_end, strip_rows=front_end.strip_rows + STRIP_MARGIN_PX, staff_space_px=scale * course.staff_space
    )
    strip = cut_strip(image, course, roomy)
    size = (max(1, strip.shape[1] // 2), strip.shape[0] // 2)
    return np.asarray(cv2.resize(strip, size, interpolation=cv2.INTER_AREA), np.uint8)


def _along(
    page: EngravedPage, system: System, degraded: DegradedPage, course: SystemCourse
) -> list[tuple[float, float]]:
    """Onset and place, as a share of the system's length, of the system's notes; one place an onset."""
    mine = page.note_system == system.number
    quarters, width = page.note_quarter[mine], page.image.shape[1]
    middle = np.full(len(quarters), (system.box.y0 + system.box.y1) / 2 * width)
    x = degraded.warp(np.stack([page.note_x[mine] * width, middle], axis=1))[:, 0]
    share = (x - course.xs[0]) / (course.xs[-1] - course.xs[0])
    return [(quarter, float(np.median(share[quarters == quarter]))) for quarter in np.unique(quarters)]


def _record(
    music: Engraver | LilyPondEngraver, settings: CorpusSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The spectrogram of a degraded performance, and its (quarters, frames) of the beats."""
    notes = music.notes()
    performance = perform(notes, random_style(notes, rng, settings.freedom), rng).until(settings.seconds)
    soundfonts = _soundfonts(settings)
    soundfont = soundfonts[int(rng.integers(len(soundfonts)))]
    program = int(rng.choice(PIANOS, p=(0.7, 0.2, 0.1)))
    heard = degrade_audio(synthesise(to_midi(performance, program), soundfont), rng, settings.sound_damage)
    frames = performance.beat_s * heard.time_factor * FRAME_RATE
    return spectrogram(heard.samples), (performance.beat_quarter, frames)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the training corpus that a configuration describes.")
    parser.add_argument("config", type=Path, help="TOML file, as indexer/training/default.toml")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = config.load(CorpusSettings(), section="corpus", path=arguments.config)
    make(settings, config.load(FrontEnd(), section="front_end", path=arguments.config), arguments.jobs)


if __name__ == "__main__":
    main()
