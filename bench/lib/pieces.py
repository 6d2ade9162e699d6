"""The pieces that retrieval is measured on: scanned pages, and a recording of each piece.

The pages of the set `asap` are engraved, and degraded like scans. Most recordings are synthesised from a performance,
with any sound of `bench.lib.sounds`. The recordings of the set `real` exist already.
"""

import csv
import gzip
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from tqdm import tqdm

from bench.lib import report, takes
from bench.lib.condensed import condensed
from bench.lib.editions import edition
from bench.lib.midi import read_performance
from bench.lib.sounds import TIMGM6MB, Sound
from engine.audio import SAMPLE_RATE
from engine.collection import Collection
from engine.files import replacing
from engine.symbols.playing import to_midi
from engine.values import NetworkIdentity
from indexer import ingest
from indexer.sources import Source
from indexer.synthesis.engrave import Engraver
from indexer.synthesis.perform import Performance, perform, random_style

SETS = {
    "dev": ("dev_scans_mozart", "dev_scans_bach_haydn"),
    "mozart": ("dev_scans_mozart",),
    "joplin": ("val_scans_joplin",),
    "asap": ("val_asap",),
    "real": ("real_dev",),
}
"""Folders of each set in the data folder."""

CROWDS = {"real": "dev", "asap": "joplin"}
"""The crowd of a set: another set, whose scores are searched together with its own."""

PERFORMANCES = (".mid", ".krn")
"""Suffixes of files that are played by a synthesised instrument; other files are recordings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece as scanned pages and as a performance. Several performances of the same pages are several pieces."""

    id: str
    """Id of its score in the collection."""
    title: str
    composer: str
    work: str
    pages: tuple[Path, ...]
    """Scanned pages. A score in symbols (gzipped MusicXML) stands for the pages that `score` engraves."""
    notes: Path
    """File of the performance: a recording, a human performance as MIDI, or else the score as kern."""

    @property
    def recording_id(self) -> str:
        """Id of its recording in the collection."""
        return f"{self.id}.{self.notes.stem}"

    @property
    def is_scanned(self) -> bool:
        """Whether its pages exist and are not engraved."""
        return not any(page.suffix == ".gz" for page in self.pages)

    @property
    def is_recorded(self) -> bool:
        """Whether its recording exists and is not synthesised."""
        return self.notes.suffix not in PERFORMANCES


def pieces(data: Path, name: str) -> list[Piece]:
    """The pieces of a set of `SETS`, in the order of the manifests.

    A piece with several MIDI performances has the first listed. A piece without a performance has its score as kern.
    Raises FileNotFoundError if a page or the performance of a piece is missing.
    """
    found = [piece for folder in SETS[name] for piece in _pieces(data, folder)]
    for piece in found:
        if not piece.pages or not piece.notes.exists():
            raise FileNotFoundError(f"{piece.id}: expected scanned pages and {piece.notes}, got {piece.pages}")
    return found


def crowd(data: Path, name: str, searched: Sequence[Piece]) -> list[Piece]:
    """The pieces whose scores are the crowd of a set; none if `CROWDS` does not list the set.

    A piece of the crowd whose id begins with the id of a searched piece is the same music (bach_bwv846_fugue and
    bach_bwv846f), so it would be a second right answer. It is left out.
    """
    if name not in CROWDS:
        return []
    ids = tuple(_letters(piece.id) for piece in searched)
    return [piece for piece in pieces(data, CROWDS[name]) if not _letters(piece.id).startswith(ids)]


def _letters(name: str) -> str:
    return name.replace("_", "")


def _pieces(data: Path, folder: str) -> Iterator[Piece]:
    rows = _rows(data / folder / "manifest.csv")
    if rows and "recording_file" in rows[0]:
        yield from (_recorded(data / folder, row) for row in rows)
        return
    performances: dict[str, str] = {}
    if (data / folder / "performances.csv").exists():
        for row in _rows(data / folder / "performances.csv"):
            performances.setdefault(row["piece"], row["path"])
    for row in rows:
        stem = row["id"].removeprefix("joplin_")
        scans = sorted((data / folder / "pages").glob(f"{stem}_p[0-9][0-9].tif"))
        symbols = data / row.get("path", "")
        yield Piece(
            id=row["id"],
            title=row["title"],
            composer=row["composer"],
            work=row["opus"],
            pages=(symbols,) if symbols.suffix == ".gz" else tuple(scans),
            notes=data / performances.get(row["id"], f"{folder}/{stem}.krn"),
        )


def _recorded(folder: Path, row: dict[str, str]) -> Piece:
    """The piece of a row of a manifest of recordings; recordings of the same pages share the id of the score."""
    scan = folder / row["scan_dir"]
    return Piece(
        id=scan.name,
        title=f"{row['work']}, {row['movement']}",
        composer=row["composer"],
        work=row["work"],
        pages=tuple(sorted(scan.glob("p[0-9][0-9].tif"))),
        notes=folder / row["recording_file"],
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kern(piece: Piece) -> Path:
    """The score of the piece as kern: its performance, or the file beside the folder of its scanned pages."""
    if piece.notes.suffix == ".krn":
        return piece.notes
    return piece.pages[0].parent.parent / f"{piece.pages[0].stem[: -len('_p00')]}.krn"


def score(piece: Piece, work: Path) -> Source:
    """The score of the piece: a folder of links to its pages, or of its engraved pages, made below `work`."""
    folder = work / "pages" / piece.id
    if piece.is_scanned:
        folder.mkdir(parents=True, exist_ok=True)
        for page in piece.pages:
            link = folder / page.name
            if not link.is_symlink():
                link.symlink_to(page.resolve())
    elif not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _engrave(piece, folder)
    return Source(path=folder, id=piece.id, kind="score", title=piece.title, composer=piece.composer, work=piece.work)


def _engrave(piece: Piece, folder: Path) -> None:
    """Writes the pages of a piece in symbols to a folder, as PNG. They depend on nothing but the piece's id."""
    (symbols,) = piece.pages
    with replacing(folder) as unfinished, tempfile.TemporaryDirectory() as scratch:
        notation = Path(scratch) / "score.mei"
        notation.write_text(condensed(gzip.decompress(symbols.read_bytes()).decode()), encoding="utf-8")
        unfinished.mkdir()
        for number, page in enumerate(edition(notation, piece.id, 1).pages, start=1):
            Image.fromarray(page).save(unfinished / f"p{number:02}.png")


def first_page(piece: Piece, work: Path) -> Path:
    """The file of the first page of the piece's score."""
    return min(score(piece, work).path.iterdir())


def recording(piece: Piece, work: Path, sound: Sound = TIMGM6MB) -> Source:
    """The recording of the piece. It is synthesised with the sound below `work` unless it exists already."""
    path = piece.notes if piece.is_recorded else work / "recordings" / sound.name / f"{piece.recording_id}.flac"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = sound.play(performance(piece))
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
    """The performance of a piece: the MIDI file of a pianist, or a score played in a random style.

    The random style and its slips depend on nothing but the piece's id.
    """
    if piece.notes.suffix == ".mid":
        return read_performance(piece.notes.read_bytes())
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(piece.id.encode()).digest()[:8], "big"))
    notes = Engraver(piece.notes).notes()
    return perform(notes, random_style(notes, rng), rng)


def midi(piece: Piece) -> bytes:
    """The performance of the piece as a MIDI file."""
    return piece.notes.read_bytes() if piece.notes.suffix == ".mid" else to_midi(performance(piece))


def collect(
    found: Sequence[Piece],
    work: Path,
    network: NetworkIdentity,
    load: ingest.LoadEncoder,
    jobs: int,
    *,
    fresh: bool,
    sound: Sound = TIMGM6MB,
    others: Sequence[Piece] = (),
) -> tuple[Path, dict[str, Any]]:
    """The collection of the scores and recordings of the pieces, and what embedding them cost.

    It is made below `work` unless it exists. Scores are embedded once, whatever the number of sounds.

    load: loads the encoder of `network`. others: pieces whose scores are added as a crowd.
    fresh: embed all again; removes what exists of these pieces, with any sound.
    """
    folder = work / f"{network.hash[:12]}-{len(found)}{f'-among-{len(others)}' if others else ''}"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    printed = {piece.id: piece for piece in (*found, *others)}
    sources = (score(piece, work) for piece in printed.values())
    scores, scores_cost = _embedded(folder / "scores", sources, load, jobs)
    played = (recording(piece, work, sound) for piece in tqdm(found, unit="recording", disable=None))
    recordings, recordings_cost = _embedded(folder / sound.name / "recordings", played, load, jobs)
    with Collection.open(scores, network) as one, Collection.open(recordings, network) as other:
        path = takes.joined(folder / sound.name / "collection", network, [one, other])
    costs = {"scores": scores_cost, "recordings": recordings_cost}
    return path, {f"{kind}_{name}": value for kind, cost in costs.items() for name, value in cost.items()}


def _embedded(
    folder: Path, sources: Iterable[Source], load: ingest.LoadEncoder, jobs: int
) -> tuple[Path, dict[str, Any]]:
    """A collection of the sources, made in the folder unless it exists, and what embedding them costs or did cost."""
    times = folder / "added.json"
    if times.exists():
        cost: dict[str, Any] = json.loads(times.read_text())
        return folder / "collection", cost
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run embedded would be missing from the times
    ready = tuple(sources)
    started = time.perf_counter()
    summary = ingest.add(folder / "collection", ready, load, jobs=jobs)
    elapsed_s = round(time.perf_counter() - started, 1)
    cost = {"jobs": jobs, "s": elapsed_s, "failed": {path.name: cause for path, cause in summary.failed.items()}}
    report.save(times, **cost)
    return folder / "collection", cost


def collection_sizes(collection: Collection) -> dict[str, Any]:
    """How much a collection holds: documents of each kind, snippets, pages and hours."""
    return {
        "scores": len(collection.of_kind("score")),
        "recordings": len(collection.of_kind("recording")),
        "snippets": collection.snippets,
        "pages": sum(document.pages for document in collection.documents),
        "hours": round(sum(document.duration_s for document in collection.documents) / 3600, 2),
    }
