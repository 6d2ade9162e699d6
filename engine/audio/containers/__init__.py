"""Files -> the streams of sound that they hold, judged by content and not by name.

Headers promise a length, and are often wrong: a recorder lost its power, a stream had no end when its header was
written, files were joined by appending their bytes. libsndfile believes the first header. So this package walks through
the packets of a file, and gives libsndfile each stream by itself, behind a header that is right.
"""

from pathlib import Path

from engine.audio.containers import flac, mpeg, ogg, riff
from engine.audio.containers.substream import Substream, View, mapped

__all__ = ["Substream", "View", "parts"]


def parts(path: Path) -> list[Substream]:
    """The streams of sound in a file, in order; a format that is not known here is one stream, the whole file."""
    with mapped(path) as data:
        found = riff.parts(data) or ogg.parts(data) or flac.parts(data) or mpeg.parts(data)
        return found or [Substream(start=0, stop=len(data))]
