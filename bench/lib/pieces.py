"""The pieces that retrieval is measured on: scanned pages, and one recording of each made from a performance."""

import csv
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench.lib import report
from engine.audio import SAMPLE_RATE
from engine.collection import Collection
from engine.files import replacing
from engine.values import NetworkIdentity
from indexer import ingest
from indexer.sources import Source
from indexer.synthesis.engrave import Engraver
from indexer.synthesis.perform import Performance, perform, random_style, to_midi
from indexer.synthesis.synthesise import default_soundfont, synthesise

SETS = {
    "dev": ("dev_scans_mozart", "dev_scans_bach_haydn"),
    "mozart": ("dev_scans_mozart",),
    "joplin": ("val_scans_joplin",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece in both forms; `id` is that of its score in the collection."""

    id: str
    title: str
    composer: str
    work: str
    pages: tuple[Path, ...]
    notes: Path
    """What is played: a human performance as MIDI, or else the score as kern."""

    @property
    def recording_id(self) -> str:
        return f"{self.id}.{self.notes.stem}"


def pieces(data: Path, name: str) -> list[Piece]:
    """The pieces of a set of `SETS`, in the order of the manifests.

    Of several performances the first listed is taken; where there are none, the score is what will be played.
    Raises FileNotFoundError if a page or the notes of a piece are missing.
    """
    found = [piece for folder in SETS[name] for piece in _pieces(data, folder)]
    for piece in found:
        if not piece.pages or not piece.notes.exists():
            raise FileNotFoundError(f"{piece.id}: expected scanned pages and {piece.notes}, got {piece.pages}")
    return found


def _pieces(data: Path, folder: str) -> Iterator[Piece]:
    performances: dict[str, str] = {}
    if (data / folder / "performances.csv").exists():
        for row in _rows(data / folder / "performances.csv"):
            performances.setdefault(row["piece"], row["path"])
    for row in _rows(data / folder / "manifest.csv"):
        stem = row["id"].removeprefix("joplin_")
        yield Piece(
            id=row["id"],
            title=row["title"],
            composer=row["composer"],
            work=row["opus"],
            pages=tuple(sorted((data / folder / "pages").glob(f"{stem}_p[0-9][0-9].tif"))),
            notes=data / performances.get(row["id"], f"{folder}/{stem}.krn"),
        )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def score(piece: Piece, work: Path) -> Source:
    """The score of the piece: a folder of links to its pages, made below `work`."""
    folder = work / "pages" / piece.id
    folder.mkdir(parents=True, exist_ok=True)
    for page in piece.pages:
        link = folder / page.name
        if not link.is_symlink():
            link.symlink_to(page.resolve())
    return Source(path=folder, id=piece.id, kind="score", title=piece.title, composer=piece.composer, work=piece.work)


def recording(piece: Piece, work: Path) -> Source:
    """The recording of the piece, synthesised below `work` if it is not there yet."""
    path = work / "recordings" / f"{piece.recording_id}.flac"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = synthesise(midi(piece), default_soundfont())
        with replacing(path) as unfinished:
            soundfile.write(unfinished, samples, SAMPLE_RATE, format="FLAC")
    return Source(
        path=path,
        id=piece.recording_id,
        kind="recording",
        title=piece.title,
        composer=piece.composer,
        work=piece.work,
    )


def performance(piece: Piece) -> Performance:
    """A piece that is given as a score, played by a style and slips of its own, always the same."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(piece.id.encode()).digest()[:8], "big"))
    notes = Engraver(piece.notes).notes()
    return perform(notes, random_style(notes, rng), rng)


def midi(piece: Piece) -> bytes:
    """What is played: the performance as it is, or one of the score."""
    if piece.notes.suffix != ".krn":
        return piece.notes.read_bytes()
    return to_midi(performance(piece))


def collect(
    found: Sequence[Piece], work: Path, network: NetworkIdentity, load: ingest.LoadEncoder, jobs: int, *, fresh: bool
) -> tuple[Path, dict[str, Any]]:
    """The collection of both forms of the pieces, made below `work` unless it is there; what adding cost, then or now.

    load: the encoder of `network`. fresh: make it again even so.
    """
    folder = work / f"{network.hash[:12]}-{len(found)}"
    times = folder / "added.json"
    if times.exists() and not fresh:
        kept: dict[str, Any] = json.loads(times.read_text())
        return folder / "collection", kept
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run embedded would be missing from the times
    scores = tuple(score(piece, work) for piece in found)
    recordings = tuple(recording(piece, work) for piece in found)
    cost: dict[str, Any] = {"jobs": jobs}
    for name, sources in (("scores", scores), ("recordings", recordings)):
        started = time.perf_counter()
        summary = ingest.add(folder / "collection", sources, load, jobs=jobs)
        cost[f"{name}_s"] = round(time.perf_counter() - started, 1)
        cost[f"{name}_failed"] = {path.name: cause for path, cause in summary.failed.items()}
    report.save(times, **cost)
    return folder / "collection", cost


def collection_sizes(collection: Collection) -> dict[str, Any]:
    """How much it holds."""
    return {
        "scores": len(collection.of_kind("score")),
        "recordings": len(collection.of_kind("recording")),
        "snippets": collection.snippets,
        "pages": sum(document.pages for document in collection.documents),
        "hours": round(sum(document.duration_s for document in collection.documents) / 3600, 2),
    }
