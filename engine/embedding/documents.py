"""Files and folders of pages -> embedded documents, by the front ends and the network."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine import audio, names, score, symbols
from engine.audio import Recording, read_recording
from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.embedding import folders
from engine.errors import AudioError, MediaError, PageError
from engine.score import PageAddress, Score, pages, read_score
from engine.score.pages import Progress
from engine.values import DIMENSION, RECORDING_PLACE, Document, Embeddings, Kind, NetworkIdentity, SnippetSequence

EXCERPTS_A_BLOCK = 512
"""Excerpts that are cut and embedded at a time, 32 MB: four minutes of a recording."""


class Encoder(Protocol):
    """An object that embeds snippets: `engine.embedding.encoder.Encoder`, or a small stand-in for tests."""

    @property
    def identity(self) -> NetworkIdentity: ...

    @property
    def device(self) -> str: ...

    def score(self, snippets: NDArray[np.uint8], /) -> Embeddings: ...

    def recording(self, excerpts: NDArray[np.float32], /) -> Embeddings: ...

    def bias(self, embeddings: Embeddings, kind: Kind, /) -> NDArray[np.float32]: ...


def kind_of(path: Path, among: Kind | None = None) -> Kind:
    """The kind of document that a file or folder holds, judged by names.

    among: the kind of documents that are searched for it: notation is played for some, and engraved for others
        (`engine.symbols.formats`).
    Raises MediaError if the path does not exist, if its names do not show the kind, or if the file holds symbols that
    cannot be read.
    """
    if os.path.isdir(path):
        if page_files(path):
            return "score"
        raise MediaError(path, "expected a folder of page images, got a folder that holds none")
    require_file_or_folder(path)
    suffix = path.suffix.lower()
    kind = folders.kind_by_suffix(suffix, among)
    if symbols.is_symbolic(path) and (cause := symbols.fault(path)):
        raise MediaError(path, cause)
    if kind is None:
        cause = f"neither a score nor a recording by its name ({suffix or 'no suffix'})"
        raise MediaError(path, f"{cause}; give the kind with --kind")
    return kind


def page_files(folder: Path) -> list[Path]:
    """The page images of a folder in page order; empty if the folder also holds other media or folders.

    Covers, thumbnails, and files that are not media (notes, lists) are ignored.
    """
    return list(folders.contents(folder).pages)


def require_file_or_folder(path: Path) -> None:
    """Raises MediaError if nothing is at the path, or a pipe, a device or a link that leads nowhere."""
    if cause := folders.fault(path):
        raise MediaError(path, cause)


def warn_of_unread(path: Path) -> None:
    """Logs which files of a folder of pages are not read. Does nothing for a file."""
    if path.is_dir():
        folders.warn(folders.contents(path).unread)


def name_of(path: Path) -> str:
    """The default name of a document: the stem of the file, or the name of the folder, as ids are written."""
    path = Path(os.path.abspath(path))  # `..` has a name
    return names.normal(path.name if path.is_dir() else path.stem)


def source_of(path: Path) -> str:
    """The text by which a collection remembers the file or folder at a path."""
    return names.encodable(str(path.absolute()))


def size_of(path: Path) -> int:
    """The number of bytes of the files that are read of a path; 0 if one cannot be read."""
    try:
        return sum(file.stat().st_size for file in pages.page_files(path))
    except (OSError, PageError):
        return 0


def content_hash(path: Path) -> str:
    """The SHA-256 (hex) of the bytes of a file, or of the page images of a folder in page order.

    A folder that holds other media or folders too is a score if somebody says so, and then has pages all the same.
    Raises MediaError if a file cannot be read, or if a folder holds no page image.
    """
    require_file_or_folder(path)
    try:
        return hash_of(_blocks(pages.page_files(path)))
    except OSError as exc:
        raise MediaError(path, f"cannot be read: {exc.strerror}") from exc


def hash_of(blocks: Iterable[bytes]) -> str:
    """The SHA-256 (hex) of consecutive blocks of bytes."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _blocks(files: Iterable[Path]) -> Iterator[bytes]:
    """The bytes of all files, in blocks of at most 1 MiB."""
    for file in files:
        with file.open("rb") as stream:
            yield from iter(lambda: stream.read(1 << 20), b"")  # reads the whole file before `with` closes it


Medium = Score | Recording
"""A file or folder that was read and is not embedded yet."""


def read(
    path: Path,
    kind: Kind,
    front_end: FrontEnd,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
    *,
    speed: float = 1.0,
    progress: Progress | None = None,
) -> Medium:
    """The score or recording in a file or folder, ready to be cut into snippets and embedded.

    start_s, end_s: the part of a recording to read, in seconds; for a score, both must be None.
    speed: see `engine.audio.decoding.decoded`; for a score, it must be 1.
    progress: is called after each page of a score.
    Raises MediaError if the path cannot be read, has nothing to embed, exceeds `limits`, or has no such part.
    """
    require_file_or_folder(path)
    in_symbols = symbols.is_symbolic(path) and path.is_file()
    if kind == "recording" and in_symbols:
        if speed != 1:
            raise AudioError(path, f"expected symbols at speed 1, got {speed:g}; only recordings have a speed")
        return symbols.read_played(path, front_end, start_s, end_s, limits)
    if kind == "recording":
        return read_recording(path, front_end, start_s, end_s, limits, speed=speed)
    if start_s is not None or end_s is not None:
        raise PageError(path, "expected a whole score, got a part in seconds; only recordings have seconds")
    if speed != 1:
        raise PageError(path, f"expected a score at speed 1, got {speed:g}; only recordings have a speed")
    return (symbols.read_engraved if in_symbols else read_score)(path, front_end, limits, progress)


def page_addresses(path: Path, kind: Kind) -> list[PageAddress]:
    """Where the pages of images lie that a file or folder holds, found without decoding them; none if it holds none.

    Raises PageError if there are more pages than a score may have.
    """
    in_symbols = symbols.is_symbolic(path) and path.is_file()
    return [] if kind == "recording" or in_symbols else score.page_addresses(path)


def embed(
    path: Path, kind: Kind, encoder: Encoder, start_s: float | None = None, end_s: float | None = None
) -> tuple[Document, SnippetSequence]:
    """The document in a file or folder, and its embedded snippets. Its id and title are `name_of` the path.

    Arguments and errors are those of `read`.
    """
    medium = read(path, kind, encoder.identity.front_end, start_s, end_s)
    name, (sequence,) = name_of(path), sequences([medium], encoder)
    return described(
        Document(id=name, kind=kind, title=name, source=names.encodable(str(path))), medium, sequence
    ), sequence


def described(document: Document, medium: Medium, sequence: SnippetSequence) -> Document:
    """The document with its number of snippets, and its pages and systems or its duration, filled in."""
    document = replace(document, snippets=len(sequence))
    if isinstance(medium, Score):
        return replace(document, pages=medium.pages, systems=medium.systems)
    return replace(document, duration_s=medium.duration_s)


def sequences(media: Iterable[Medium], encoder: Encoder) -> list[SnippetSequence]:
    """The embedded snippets of each medium. Scores are embedded together, and so are recordings."""
    media, front_end = list(media), encoder.identity.front_end
    scores = [medium for medium in media if isinstance(medium, Score)]
    recordings = [medium for medium in media if isinstance(medium, Recording)]
    windows = (block for medium in scores for block in score.windows(medium, front_end))
    excerpts = (block for medium in recordings for block in _excerpts(medium, front_end))
    of_scores = _embedded(windows, [score.places(medium, front_end) for medium in scores], encoder, "score")
    of_recordings = _embedded(excerpts, [_places(medium, front_end) for medium in recordings], encoder, "recording")
    return [next(of_scores if isinstance(medium, Score) else of_recordings) for medium in media]


def score_sequence(medium: Score, embeddings: Embeddings, encoder: Encoder) -> SnippetSequence:
    """The embedded snippets of a score, whose embeddings are known."""
    places = score.places(medium, encoder.identity.front_end)
    return SnippetSequence(kind="score", embeddings=embeddings, places=places, bias=encoder.bias(embeddings, "score"))


def recording_sequence(embeddings: Embeddings, start_s: float, front_end: FrontEnd) -> SnippetSequence:
    """The embedded excerpts of a query recording that starts at `start_s`. A query needs no bias, so the bias is 0."""
    places = recording_places(start_s, len(embeddings), front_end)
    return SnippetSequence(
        kind="recording", embeddings=embeddings, places=places, bias=np.zeros(len(embeddings), dtype=np.float32)
    )


def recording_places(start_s: float, count: int, front_end: FrontEnd, speed: float = 1.0) -> NDArray[Any]:
    """The places of the excerpts of a recording that starts at `start_s`: (count,) of RECORDING_PLACE.

    speed: see `Recording.speed`.
    """
    places = np.empty(count, dtype=RECORDING_PLACE)
    second = audio.FRAME_RATE * speed  # frames in a second of the file
    places["start_s"] = start_s + np.arange(count) * (front_end.excerpt_hop_frames / second)
    places["end_s"] = places["start_s"] + front_end.excerpt_frames / second
    return places


def _places(recording: Recording, front_end: FrontEnd) -> NDArray[Any]:
    """The places of the excerpts of a recording."""
    count = audio.excerpt_count(recording.spectrogram, front_end)
    return recording_places(recording.start_s, count, front_end, recording.speed)


def _excerpts(recording: Recording, front_end: FrontEnd) -> Iterator[NDArray[np.float32]]:
    """The excerpts of a recording in blocks.

    Excerpts overlap: all together take eight times the memory of the spectrogram.
    """
    for first in range(0, audio.excerpt_count(recording.spectrogram, front_end), EXCERPTS_A_BLOCK):
        yield audio.excerpts(recording.spectrogram, front_end, first, EXCERPTS_A_BLOCK)


def _embedded(
    blocks: Iterable[NDArray[Any]], places: list[NDArray[Any]], encoder: Encoder, kind: Kind
) -> Iterator[SnippetSequence]:
    """The embedded snippets of each medium.

    blocks: snippets or excerpts of all media one after the other, in blocks of any size.
    places: places of the snippets of each medium.
    """
    if not places:
        return
    embed, rows = (encoder.score, score.BLOCK) if kind == "score" else (encoder.recording, EXCERPTS_A_BLOCK)
    nothing = np.empty((0, DIMENSION), np.float32)
    embeddings = np.concatenate([nothing, *map(embed, _regrouped(blocks, rows))])
    ends = np.cumsum([len(of_medium) for of_medium in places])
    for of_medium, part in zip(places, np.split(embeddings, ends[:-1]), strict=True):
        yield SnippetSequence(kind=kind, embeddings=part, places=of_medium, bias=encoder.bias(part, kind))


def _regrouped(blocks: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """The rows of all blocks in blocks of `rows`, so that batches of short media are full; the last is shorter."""
    waiting: list[NDArray[Any]] = []
    held = 0
    for block in blocks:
        while len(block):
            part, block = block[: rows - held], block[rows - held :]
            waiting.append(part)
            held += len(part)
            if held == rows:
                yield _joined(waiting)
                waiting, held = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The rows of all parts; a single part is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
