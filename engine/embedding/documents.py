"""Files and folders of pages -> embedded documents, by the front ends and the network."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine import audio, score
from engine.audio import Recording, read_recording
from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.errors import MediaError, PageError
from engine.score import Score, pages, read_score
from engine.score.pages import Progress
from engine.values import DIMENSION, RECORDING_PLACE, Document, Embeddings, Kind, NetworkIdentity, SnippetSequence

RECORDING_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .aac .aif .aiff .wma .mp4 .mka .webm .au .caf .wv .ape".split()
)
"""Suffixes of files that count as recordings. A file with another suffix is read only if the caller names its kind."""


class Encoder(Protocol):
    """An object that embeds snippets: `engine.embedding.encoder.Encoder`, or a small stand-in for tests."""

    @property
    def identity(self) -> NetworkIdentity: ...

    @property
    def device(self) -> str: ...

    def score(self, snippets: NDArray[np.uint8], /) -> Embeddings: ...

    def recording(self, excerpts: NDArray[np.float32], /) -> Embeddings: ...

    def bias(self, embeddings: Embeddings, kind: Kind, /) -> NDArray[np.float32]: ...


def kind_of(path: Path) -> Kind:
    """The kind of document that a file or folder holds, judged only by names.

    Raises MediaError if the path does not exist, or if its names do not show the kind.
    """
    if path.is_dir():
        if page_files(path):
            return "score"
        raise MediaError(path, "expected a folder of page images, got a folder that holds none")
    if not path.exists():
        raise MediaError(path, "no such file or folder")
    suffix = path.suffix.lower()
    kind = kind_by_suffix(suffix)
    if kind is None:
        cause = f"neither a score nor a recording by its name ({suffix or 'no suffix'})"
        raise MediaError(path, f"{cause}; give the kind with --kind")
    return kind


def kind_by_suffix(suffix: str) -> Kind | None:
    """The kind of document in files with this suffix (lower case); None if the suffix does not show the kind."""
    if suffix in pages.SUFFIXES:
        return "score"
    return "recording" if suffix in RECORDING_SUFFIXES else None


def page_files(folder: Path) -> list[Path]:
    """The page images of a folder in page order; empty if the folder also holds other media or folders.

    Hidden files and files that are not media (notes, lists) are ignored.
    """
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    media = [path for path in visible if is_media(path)]
    if any(path.is_dir() for path in visible) or any(path.suffix.lower() not in pages.IMAGE_SUFFIXES for path in media):
        return []
    return sorted(media, key=pages.natural_order)


def is_media(path: Path) -> bool:
    """Whether the suffix of a path is that of a score or a recording."""
    return kind_by_suffix(path.suffix.lower()) is not None


def name_of(path: Path) -> str:
    """The default name of a document: the stem of the file, or the name of the folder."""
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def content_hash(path: Path) -> str:
    """The SHA-256 (hex) of the bytes of a file, or of the page files of a folder in page order.

    Raises MediaError if a file cannot be read.
    """
    try:
        return hash_of(_blocks(page_files(path) if path.is_dir() else [path]))
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
    progress: Progress | None = None,
) -> Medium:
    """The score or recording in a file or folder, ready to be cut into snippets and embedded.

    start_s, end_s: the part of a recording to read, in seconds; for a score, both must be None.
    progress: is called after each page of a score.
    Raises MediaError if the path cannot be read, has nothing to embed, exceeds `limits`, or has no such part.
    """
    if kind == "recording":
        return read_recording(path, front_end, start_s, end_s, limits)
    if start_s is not None or end_s is not None:
        raise PageError(path, "expected a whole score, got a part in seconds; only recordings have seconds")
    return read_score(path, front_end, limits, progress)


def embed(
    path: Path, kind: Kind, encoder: Encoder, start_s: float | None = None, end_s: float | None = None
) -> tuple[Document, SnippetSequence]:
    """The document in a file or folder, and its embedded snippets. Its id and title are `name_of` the path.

    Arguments and errors are those of `read`.
    """
    medium = read(path, kind, encoder.identity.front_end, start_s, end_s)
    name, (sequence,) = name_of(path), sequences([medium], encoder)
    return described(Document(id=name, kind=kind, title=name, source=str(path)), medium, sequence), sequence


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
    windows = (block for medium in scores for block in score.windows(medium, front_end))
    of_scores = _embedded(windows, [score.places(medium, front_end) for medium in scores], encoder, "score")
    cut = [_excerpts(medium, front_end) for medium in media if isinstance(medium, Recording)]
    excerpts = (excerpts for excerpts, _ in cut)
    of_recordings = _embedded(excerpts, [places for _, places in cut], encoder, "recording")
    return [next(of_scores if isinstance(medium, Score) else of_recordings) for medium in media]


def recording_sequence(embeddings: Embeddings, start_s: float, front_end: FrontEnd) -> SnippetSequence:
    """The embedded excerpts of a query recording that starts at `start_s`. A query needs no bias, so the bias is 0."""
    places = recording_places(start_s, len(embeddings), front_end)
    return SnippetSequence(
        kind="recording", embeddings=embeddings, places=places, bias=np.zeros(len(embeddings), dtype=np.float32)
    )


def recording_places(start_s: float, count: int, front_end: FrontEnd) -> NDArray[Any]:
    """The places of the excerpts of a recording that starts at `start_s`: (count,) of RECORDING_PLACE."""
    places = np.empty(count, dtype=RECORDING_PLACE)
    places["start_s"] = start_s + np.arange(count) * (front_end.excerpt_hop_frames / audio.FRAME_RATE)
    places["end_s"] = places["start_s"] + front_end.excerpt_frames / audio.FRAME_RATE
    return places


def _excerpts(recording: Recording, front_end: FrontEnd) -> tuple[NDArray[Any], NDArray[Any]]:
    """The excerpts of a recording and their places."""
    excerpts = audio.excerpts(recording.spectrogram, front_end)
    return excerpts, recording_places(recording.start_s, len(excerpts), front_end)


def _embedded(
    blocks: Iterable[NDArray[Any]], places: list[NDArray[Any]], encoder: Encoder, kind: Kind
) -> Iterator[SnippetSequence]:
    """The embedded snippets of each medium.

    blocks: windows (snippets or excerpts) of all media one after the other, in blocks of any size.
    places: places of the windows of each medium.
    """
    if not places:
        return
    embed = encoder.score if kind == "score" else encoder.recording
    nothing = np.empty((0, DIMENSION), np.float32)
    embeddings = np.concatenate([nothing, *(embed(windows) for windows in _regrouped(blocks))])
    ends = np.cumsum([len(of_medium) for of_medium in places])
    for of_medium, part in zip(places, np.split(embeddings, ends[:-1]), strict=True):
        yield SnippetSequence(kind=kind, embeddings=part, places=of_medium, bias=encoder.bias(part, kind))


def _regrouped(blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The rows of all blocks in blocks of BLOCK rows, so that batches of short media are full; the last is shorter."""
    waiting: list[NDArray[Any]] = []
    rows = 0
    for block in blocks:
        while len(block):
            part, block = block[: score.BLOCK - rows], block[score.BLOCK - rows :]
            waiting.append(part)
            rows += len(part)
            if rows == score.BLOCK:
                yield _joined(waiting)
                waiting, rows = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The rows of all parts; a single part is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
