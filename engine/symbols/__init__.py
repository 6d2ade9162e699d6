"""Scores in symbols: notation is engraved into pages or played, MIDI is played, and then they are as any other.

Each stage is a module. `notation` reads the text of a score and `midi` notes in seconds; `verovio` asks the process of
`verovio_process` for pages or for a MIDI file; `soundfont` plays notes; `reading` puts these together. Modules that
import packages of the extra `symbols` are imported when a file is read.
"""

from engine.symbols.formats import fault, is_notation, is_symbolic, kind_by_suffix
from engine.symbols.reading import engraved_pages, played_sound, read_engraved, read_played

__all__ = [
    "engraved_pages",
    "fault",
    "is_notation",
    "is_symbolic",
    "kind_by_suffix",
    "played_sound",
    "read_engraved",
    "read_played",
]
