"""Makes the demo's files: for each piece a PDF that looks like a scan, and a recording that sounds like a pianist."""

import csv
import logging
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from tqdm import tqdm

from engine.audio import SAMPLE_RATE
from engine.files import replacing
from engine.symbols.playing import to_midi
from engine.symbols.soundfont import PIANOS, default_soundfont, synthesise
from engine.workers import Failure, each
from indexer.demo.pieces import DemoError, DemoPiece
from indexer.demo.two_staves import two_staves
from indexer.synthesis.degrade import degrade_audio, degrade_page
from indexer.synthesis.engrave import Engraver, EngravingError, ScoreNotes, random_layout
from indexer.synthesis.perform import perform, random_style

logger = logging.getLogger(__name__)

MAX_PERFORMANCE_S = 75.0
"""Length of the longest performance at its mean tempo, in seconds; longer pieces are played faster."""
PAPER_WIDTH_INCHES = 8.3
PAGE_DAMAGE = 0.9
"""Strength of `degrade_page`: scans of all qualities."""
SOUND_DAMAGE = 0.4
"""Strength of `degrade_audio`: rooms, hiss and colour, but nothing that hides the music."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The score and the recording made of one piece."""

    piece: DemoPiece
    score: Path
    recording: Path

    @property
    def complete(self) -> bool:
        """Whether both files exist."""
        return self.score.exists() and self.recording.exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class _PieceTask:
    files: Files
    source: Path


def files_of(piece: DemoPiece, out: Path) -> Files:
    """The paths of a piece's files. A checksum of the id makes two in three recordings FLAC and the others MP3."""
    suffix = ("flac", "flac", "mp3")[_seed(piece) % 3]
    return Files(
        piece=piece,
        score=out / "scores" / f"{piece.id}.pdf",
        recording=out / "recordings" / f"{piece.id}.{suffix}",
    )


def make(pieces: Sequence[DemoPiece], corpus: Path, out: Path, *, jobs: int) -> list[Files]:
    """The files of all pieces, in the order of the pieces. Existing files are kept; pieces that fail are left out.

    corpus: the folder that `DemoPiece.file` is relative to.
    Raises DemoError if no piece can be made.
    """
    planned = [files_of(piece, out) for piece in pieces]
    tasks = [_PieceTask(files=files, source=corpus / files.piece.file) for files in planned if not files.complete]
    for folder in ("scores", "recordings"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    cause = ""
    outcomes = each(_make, tasks, jobs=max(1, min(jobs, len(tasks))), expected=(EngravingError,))
    for task, outcome in tqdm(outcomes, total=len(tasks), unit="piece", dynamic_ncols=True, disable=not tasks):
        if isinstance(outcome, Failure):
            cause = outcome.cause
            logger.warning("%s was not made: %s", task.files.piece.id, cause)
    made = [files for files in planned if files.complete]
    if not made:
        raise DemoError(f"not one of {len(planned)} pieces could be made; the last cause: {cause}")
    return made


def write_manifest(path: Path, made: Sequence[Files]) -> None:
    """Writes the manifest that `scorefind add --manifest` reads."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "id", "title", "composer", "work", "kind"))
        for files in made:
            piece = files.piece
            description = (piece.title, piece.composer, piece.work)
            rows.writerow((files.score.relative_to(path.parent), score_id(piece), *description, "score"))
            rows.writerow((files.recording.relative_to(path.parent), recording_id(piece), *description, "recording"))


def score_id(piece: DemoPiece) -> str:
    """The id of the score's document."""
    return piece.id


def recording_id(piece: DemoPiece) -> str:
    """The id of the recording's document; ids are unique in a collection, so it differs from the score's."""
    return f"{piece.id}_played"


def _seed(piece: DemoPiece) -> int:
    """The seed of a piece's layout, performance and damage."""
    return zlib.crc32(piece.id.encode())


def _make(task: _PieceTask) -> None:
    """Makes the score and the recording of a piece; runs in a worker process, because Verovio may crash."""
    piece, rng = task.files.piece, np.random.default_rng(_seed(task.files.piece))
    mei = two_staves(task.source, piece.staves, piece.bars, title=_heading(piece), composer=piece.composer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piece.mei"
        path.write_text(mei, encoding="utf-8")
        engraver = Engraver(path)
    _write_score(engraver, task.files.score, rng)
    _write_recording(engraver.notes(), task.files.recording, rng)


def _heading(piece: DemoPiece) -> str:
    """The title that is printed on the first page."""
    return f"{piece.work}: {piece.title}" if piece.work else piece.title


def _write_score(engraver: Engraver, path: Path, rng: np.random.Generator) -> None:
    """Writes the engraved and degraded pages as a PDF of images."""
    layout = replace(random_layout(rng), staff_space_px=float(rng.uniform(8.0, 14.0)))
    scans = [
        Image.fromarray(degrade_page(page.image, layout.staff_space_px, rng, PAGE_DAMAGE).image)
        for page in engraver.pages(layout)
    ]
    with replacing(path) as unfinished:
        scans[0].save(
            unfinished,
            format="PDF",
            save_all=True,
            append_images=scans[1:],
            resolution=layout.width_px / PAPER_WIDTH_INCHES,
            quality=80,
        )


def _write_recording(notes: ScoreNotes, path: Path, rng: np.random.Generator) -> None:
    """Writes a performance, synthesised and degraded, as FLAC or MP3."""
    style = random_style(notes, rng)
    quarters = float((notes.onset_quarter + notes.duration_quarter).max())
    style = replace(style, quarters_per_minute=max(style.quarters_per_minute, 60 * quarters / MAX_PERFORMANCE_S))
    midi = to_midi(perform(notes, style, rng), program=int(rng.choice(PIANOS, p=(0.7, 0.2, 0.1))))
    samples = degrade_audio(synthesise(midi, default_soundfont()), rng, SOUND_DAMAGE).samples
    with replacing(path) as unfinished:
        soundfile.write(unfinished, samples, SAMPLE_RATE, format=path.suffix[1:].upper())
