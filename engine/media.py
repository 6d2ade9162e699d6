"""What a collection can keep of a document's file: pictures of its pages, or its sound, small enough to be carried."""

import io
from pathlib import Path

import soundfile

from engine.audio import SAMPLE_RATE
from engine.audio.decoding import decoded
from engine.score import facsimile, numbered_pages
from engine.values import Kind

SOUND = 0
"""The sound among the media of a document; pictures have the numbers of their pages."""
SOUND_TYPE = "audio/mpeg"
PICTURE_PX = 1200
"""Width of the pictures, in px: 60 to 200 kB a page."""
COMPRESSION = 0.6
"""Compression level of the MP3: some 0.4 MB a minute of mono at 22,050 Hz, which is what the search has heard."""


def of_file(path: Path, kind: Kind) -> dict[int, bytes]:
    """Returns the media of a file or folder: pictures by page, or the sound under `SOUND`. Raises MediaError."""
    if kind == "recording":
        return {SOUND: _compressed(path)}
    return {number: facsimile.encoded(page, width=PICTURE_PX) for number, page in numbered_pages(path)}


def _compressed(path: Path) -> bytes:
    """Returns a recording as an MP3."""
    written = io.BytesIO()
    with soundfile.SoundFile(
        written, "w", SAMPLE_RATE, channels=1, format="MP3", subtype="MPEG_LAYER_III", compression_level=COMPRESSION
    ) as file:
        for block in decoded(path):
            file.write(block.clip(-1, 1))
    return written.getvalue()
