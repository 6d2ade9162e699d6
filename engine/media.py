"""What a collection can keep of a document's file: pictures of its pages, or its sound, small enough to be carried."""

import io
import itertools
from collections.abc import Iterable
from pathlib import Path

import soundfile

from engine import symbols
from engine.audio import SAMPLE_RATE, Samples
from engine.audio.decoding import decoded
from engine.config import GENEROUS, MediaLimits
from engine.errors import PageError
from engine.score import Grey, facsimile, numbered_pages
from engine.values import Kind

SOUND = 0
"""The sound among the media of a document; pictures have the numbers of their pages."""
SOUND_TYPE = "audio/mpeg"
"""Media type of the sound that a collection keeps."""
SOUND_TYPES = {
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".wave": "audio/wav",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
    ".weba": "audio/webm",
}
"""Media types of the recordings that browsers play, by suffix: of the files that a server sends, and exports name."""
PICTURE_PX = 1200
"""Width of the pictures, in px: 60 to 200 kB a page."""
COMPRESSION = 0.6
"""Compression level of the MP3: some 0.4 MB a minute of mono at 22,050 Hz, which is what the search has heard."""


def of_file(path: Path, kind: Kind, limits: MediaLimits = GENEROUS) -> dict[int, bytes]:
    """Returns the media of a file or folder: pictures by page, or the sound under `SOUND`. Raises MediaError."""
    in_symbols = symbols.is_symbolic(path) and path.is_file()
    if kind == "recording":
        return {SOUND: _compressed(symbols.played_sound(path) if in_symbols else decoded(path))}
    return pictures(enumerate(symbols.engraved_pages(path, limits), 1) if in_symbols else numbered_pages(path, limits))


def pictures(pages: Iterable[tuple[int, Grey]]) -> dict[int, bytes]:
    """Returns pictures of pages, by their numbers. pages: the number and the image of each."""
    return {number: facsimile.encoded(page, width=PICTURE_PX) for number, page in pages}


def page_picture(path: Path, number: int, *, turn: int, width: int, limits: MediaLimits) -> bytes:
    """Returns a picture of a page of a score, of notation as it is engraved. See `facsimile.page_picture`.

    Raises PageError if there is no such page or it cannot be read.
    """
    if not (symbols.is_symbolic(path) and path.is_file()):
        return facsimile.page_picture(path, number, turn=turn, width=width, limits=limits)
    page = next(itertools.islice(symbols.engraved_pages(path, limits), number - 1, None), None) if number > 0 else None
    if page is None:
        raise PageError(path, f"has no page {number}")
    return facsimile.encoded(page, turn=turn, width=width)


def _compressed(blocks: Iterable[Samples]) -> bytes:
    """Returns the sound of a recording as an MP3."""
    written = io.BytesIO()
    with soundfile.SoundFile(
        written, "w", SAMPLE_RATE, channels=1, format="MP3", subtype="MPEG_LAYER_III", compression_level=COMPRESSION
    ) as file:
        for block in blocks:
            file.write(block.clip(-1, 1))
    return written.getvalue()
