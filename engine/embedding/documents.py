"""From a file, or a folder of pages, to an embedded document: the front ends and the network put together."""

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
from engine.values import RECORDING_PLACE, Document, Embeddings, Kind, NetworkIdentity, SnippetSequence

RECORDING_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .aac .aif .aiff .wma .mp4 .mka .webm .au .caf .wv .ape".split()
)
"""What is taken for a recording by its name; of another name it is read when the kind is given."""


class Encoder(Protocol):
    """What embeds snippets: `engine.embedding.encoder.Encoder`, or a small stand-in for tests."""

    @property
    def identity(self) -> NetworkIdentity: ...

    @property
    def device(self) -> str: ...

    def score(self, snippets: NDArray[np.uint8], /) -> Embeddings: ...

    def recording(self, excerpts: NDArray[np.float32], /) -> Embeddings: ...

    def bias(self, embeddings: Embeddings, kind: Kind, /) -> NDArray[np.float32]: ...


def kind_of(path: Path) -> Kind:
    """What a file or folder holds, judged by names alone.

    Raises MediaError for a path that does not exist, or whose names say nothing.
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
        what = f"neither a score nor a recording by its name ({suffix or 'no suffix'})"
        raise MediaError(path, f"{what}; say which with --kind")
    return kind


def kind_by_suffix(suffix: str) -> Kind | None:
    """What a file with a name of this suffix, in small letters, holds; None if that says nothing."""
    if suffix in pages.SUFFIXES:
        return "score"
    return "recording" if suffix in RECORDING_SUFFIXES else None


def page_files(folder: Path) -> list[Path]:
    """The page images of a folder in their order, if these (no other media, no folders) are what it holds, else none.

    Hidden files, and files that are no media at all (notes, lists), do not count.
    """
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    media = [path for path in visible if is_media(path)]
    if any(path.is_dir() for path in visible) or any(path.suffix.lower() not in pages.IMAGE_SUFFIXES for path in media):
        return []
    return sorted(media, key=pages.natural_order)


def is_media(path: Path) -> bool:
    """Whether the name is that of a score or a recording."""
    return kind_by_suffix(path.suffix.lower()) is not None


def name_of(path: Path) -> str:
    """What a document is called if nobody says else: the file's stem, or the folder's name."""
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def content_hash(path: Path) -> str:
    """SHA-256 (hex) over the bytes of a file, or over the page files of a folder in their order.

    Raises MediaError if a byte of it cannot be read.
    """
    try:
        return hash_of(_blocks(page_files(path) if path.is_dir() else [path]))
    except OSError as exc:
        raise MediaError(path, f"cannot be read: {exc.strerror}") from exc


def hash_of(blocks: Iterable[bytes]) -> str:
    """SHA-256 (hex) over blocks of bytes, one after the other."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _blocks(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        with file.open("rb") as stream:
            yield from iter(lambda: stream.read(1 << 20), b"")  # read before the next file is opened


Medium = Score | Recording
"""What was read of a file, before it is embedded."""


def read(
    path: Path,
    kind: Kind,
    front_end: FrontEnd,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
) -> Medium:
    """A file or folder, read up to where the network begins.

    start_s, end_s: the part of a recording that is read, in seconds; a score takes none.
    Raises MediaError if it cannot be read, holds nothing to embed or more than `limits` allow, or has no such part.
    """
    if kind == "recording":
        return read_recording(path, front_end, start_s, end_s, limits)
    if start_s is not None or end_s is not None:
        raise PageError(path, "a part in seconds was asked of a score; only recordings have seconds")
    return read_score(path, front_end, limits)


def embed(
    path: Path, kind: Kind, encoder: Encoder, start_s: float | None = None, end_s: float | None = None
) -> tuple[Document, SnippetSequence]:
    """A file or folder as a document, with `name_of` it for id and title, and its embedded snippets.

    The arguments and errors are those of `read`.
    """
    medium = read(path, kind, encoder.identity.front_end, start_s, end_s)
    name, (sequence,) = name_of(path), sequences([medium], encoder)
    return described(Document(id=name, kind=kind, title=name, source=str(path)), medium, sequence), sequence


def described(document: Document, medium: Medium, sequence: SnippetSequence) -> Document:
    """The document with what its medium and snippets tell of it."""
    document = replace(document, snippets=len(sequence))
    if isinstance(medium, Score):
        return replace(document, pages=medium.pages, systems=medium.systems)
    return replace(document, duration_s=medium.duration_s)


def sequences(media: Iterable[Medium], encoder: Encoder) -> list[SnippetSequence]:
    """The embedded snippets of each medium; all scores go through the network together, and so do all recordings."""
    media, front_end = list(media), encoder.identity.front_end
    seen = [score.snippets(medium, front_end) for medium in media if isinstance(medium, Score)]
    heard = [_excerpts(medium, front_end) for medium in media if isinstance(medium, Recording)]
    scores, recordings = _embedded(seen, encoder, "score"), _embedded(heard, encoder, "recording")
    return [next(scores if isinstance(medium, Score) else recordings) for medium in media]


def recording_sequence(embeddings: Embeddings, start_s: float, front_end: FrontEnd) -> SnippetSequence:
    """The excerpts of a recording that only asks, heard from `start_s` on; they need no bias, so it is 0."""
    places = recording_places(start_s, len(embeddings), front_end)
    return SnippetSequence(
        kind="recording", embeddings=embeddings, places=places, bias=np.zeros(len(embeddings), dtype=np.float32)
    )


def recording_places(start_s: float, count: int, front_end: FrontEnd) -> NDArray[Any]:
    """(count,) of RECORDING_PLACE: where the excerpts of a recording lie that is heard from `start_s` on."""
    places = np.empty(count, dtype=RECORDING_PLACE)
    places["start_s"] = start_s + np.arange(count) * (front_end.excerpt_hop_frames / audio.FRAME_RATE)
    places["end_s"] = places["start_s"] + front_end.excerpt_frames / audio.FRAME_RATE
    return places


def _excerpts(recording: Recording, front_end: FrontEnd) -> tuple[NDArray[Any], NDArray[Any]]:
    excerpts = audio.excerpts(recording.spectrogram, front_end)
    return excerpts, recording_places(recording.start_s, len(excerpts), front_end)


def _embedded(cut: list[tuple[NDArray[Any], NDArray[Any]]], encoder: Encoder, kind: Kind) -> Iterator[SnippetSequence]:
    """cut: of each medium its windows and their places."""
    if not cut:
        return
    windows = cut[0][0] if len(cut) == 1 else np.concatenate([windows for windows, _ in cut])
    embeddings = encoder.score(windows) if kind == "score" else encoder.recording(windows)
    ends = np.cumsum([len(places) for _, places in cut])
    for (_, places), part in zip(cut, np.split(embeddings, ends[:-1]), strict=True):
        yield SnippetSequence(kind=kind, embeddings=part, places=places, bias=encoder.bias(part, kind))
