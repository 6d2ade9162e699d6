"""Which files are scores in symbols, judged by their names, and whether the packages that read them are installed."""

import importlib.util
from functools import cache
from pathlib import Path

from engine.symbols.notation import is_foreign_xml
from engine.values import Kind

NOTATION_SUFFIXES = frozenset(".musicxml .mxl .xml .mei .krn .kern .abc".split())
"""Suffixes of notation: scores that can be engraved, and played too."""
MIDI_SUFFIXES = frozenset(".mid .midi .kar .rmi .smf".split())
"""Suffixes of MIDI files, which hold keys and times, and can only be played."""
SUFFIXES = NOTATION_SUFFIXES | MIDI_SUFFIXES

_PACKAGES = ("verovio", "resvg_py", "mido", "midirenderer", "pretty_midi")
"""Modules of the extra `symbols`."""


def is_symbolic(path: Path) -> bool:
    """Returns whether a file holds symbols by its name."""
    return path.suffix.lower() in SUFFIXES


def is_notation(path: Path) -> bool:
    """Returns whether a file holds notation by its name, which can be engraved and played."""
    return path.suffix.lower() in NOTATION_SUFFIXES


def kind_by_suffix(suffix: str, among: Kind | None = None) -> Kind | None:
    """Returns what a file with this suffix (lower case) becomes; None if the suffix is none of symbols.

    among: the kind of documents that are searched for the file; None: the file is a document.
    """
    if suffix in MIDI_SUFFIXES:
        return "recording"
    if suffix in NOTATION_SUFFIXES:
        return "recording" if among == "score" else "score"
    return None


def fault(path: Path) -> str:
    """Returns why a file that holds symbols by its name is passed over; empty if it can be read, or has to be tried."""
    if cause := missing():
        return cause
    is_foreign = path.suffix.lower() == ".xml" and is_foreign_xml(path)
    return "XML that is neither MusicXML nor MEI" if is_foreign else ""


@cache
def missing() -> str:
    """Returns what to install before files of symbols can be read; empty if all is there."""
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    return f"symbols, which need {', '.join(absent)}: pip install 'scorefind[symbols]'" if absent else ""
