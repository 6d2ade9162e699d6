"""From a file, or a folder of pages, to an embedded document: the front ends and the network put together."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine import audio, pages, score
from engine.config import FrontEnd
from engine.errors import AudioError, MediaError, PageError
from engine.values import RECORDING_PLACE, Document, Embeddings, Kind, NetworkIdentity, Sequence

RECORDING_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .aac .aif .aiff .wma .mp4 .mka .webm .au .caf .wv .ape".split()
)
"""What is taken for a recording by its name; of another name it is read when the kind is given."""


class Encoder(Protocol):
    """What embeds snippets: `engine.encoder.Encoder`, or a small stand-in for tests."""

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
    if suffix in pages.SUFFIXES:
        return "score"
    if suffix in RECORDING_SUFFIXES:
        return "recording"
    raise MediaError(
        path, f"neither a score nor a recording by its name ({suffix or 'no suffix'}); say which with --kind"
    )


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
    return path.suffix.lower() in pages.SUFFIXES | RECORDING_SUFFIXES


def name_of(path: Path) -> str:
    """What a document is called if nobody says else: the file's stem, or the folder's name."""
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) over the bytes of a file, or over the page files of a folder in their order.

    Raises MediaError if a byte of it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in page_files(path) if path.is_dir() else [path]:
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
    except OSError as exc:
        raise MediaError(path, f"cannot be read: {exc.strerror}") from exc
    return digest.hexdigest()


def embed(
    path: Path, kind: Kind, encoder: Encoder, start_s: float | None = None, end_s: float | None = None
) -> tuple[Document, Sequence]:
    """A file or folder as a document, with `name_of` it for id and title, and its embedded snippets.

    start_s, end_s: the part of a recording that is embedded, in seconds; a score takes none.
    Raises MediaError if it cannot be read, holds nothing to embed, or has no such part.
    """
    name = name_of(path)
    document = Document(id=name, kind=kind, title=name, source=str(path))
    if kind == "score":
        if start_s is not None or end_s is not None:
            raise PageError(path, "a part in seconds was asked of a score; only recordings have seconds")
        return _embed_score(path, document, encoder)
    return _embed_recording(path, document, encoder, start_s, end_s)


def _embed_score(path: Path, document: Document, encoder: Encoder) -> tuple[Document, Sequence]:
    front_end = encoder.identity.front_end
    read = score.read_score(path, front_end)
    snippets, places = score.snippets(read, front_end)
    sequence = _sequence(encoder, encoder.score(snippets), places, "score")
    return replace(document, snippets=len(sequence), pages=read.pages, systems=read.systems), sequence


def _embed_recording(
    path: Path, document: Document, encoder: Encoder, start_s: float | None, end_s: float | None
) -> tuple[Document, Sequence]:
    samples = audio.read_audio(path, start_s, end_s)
    duration_s = len(samples) / audio.SAMPLE_RATE
    front_end = encoder.identity.front_end
    excerpts = audio.excerpts(audio.spectrogram(samples), front_end)
    if len(excerpts) == 0:
        least_s = front_end.excerpt_frames / audio.FRAME_RATE
        raise AudioError(path, f"{duration_s:.1f} s of audio are too short; an excerpt takes {least_s:.1f} s")
    places = _recording_places(len(excerpts), start_s or 0.0, front_end)
    sequence = _sequence(encoder, encoder.recording(excerpts), places, "recording")
    return replace(document, snippets=len(sequence), duration_s=duration_s), sequence


def _recording_places(count: int, start_s: float, front_end: FrontEnd) -> NDArray[Any]:
    places = np.empty(count, dtype=RECORDING_PLACE)
    places["start_s"] = start_s + np.arange(count) * (front_end.excerpt_hop_frames / audio.FRAME_RATE)
    places["end_s"] = places["start_s"] + front_end.excerpt_frames / audio.FRAME_RATE
    return places


def _sequence(encoder: Encoder, embeddings: Embeddings, places: NDArray[Any], kind: Kind) -> Sequence:
    return Sequence(embeddings=embeddings, places=places, bias=encoder.bias(embeddings, kind))
