"""Files of symbols -> scores as they look, and recordings as they sound: the same values as of scans and of sound."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, Recording, Samples, recording_of_blocks
from engine.audio.decoding import SoundCheck
from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.errors import AudioError, MediaError, PageError
from engine.score import Score, score_of
from engine.score.pages import Progress
from engine.symbols import formats
from engine.symbols.notation import read_notation
from engine.symbols.playing import Playing


def read_engraved(
    path: Path, front_end: FrontEnd, limits: MediaLimits = GENEROUS, progress: Progress | None = None
) -> Score:
    """The score that Verovio engraves from a file of notation, on pages of A4.

    progress: is called after each page.
    Raises PageError if the file cannot be read, holds no notes, or is over a limit.
    """
    if path.suffix.lower() in formats.MIDI_SUFFIXES:
        raise PageError(path, "a MIDI file holds no notation to engrave; it can only be played, as a recording")
    return score_of(engraved_pages(path, limits, progress), front_end, name=path)


def read_played(
    path: Path,
    front_end: FrontEnd,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
) -> Recording:
    """The recording of a piano that plays a file of notation or MIDI, or its part from `start_s` to `end_s`.

    Raises MediaError if the file cannot be read, holds no notes, is too short for an excerpt, or is over a limit.
    """
    _require_packages(path)
    start = start_s or 0.0
    if not 0 <= start < (np.inf if end_s is None else end_s):
        raise AudioError(path, f"expected a fragment with 0 <= start < end, got {start:g} s to {end_s} s")
    played = _played(path)
    return recording_of_blocks(_sound(path, played, start, end_s, limits), path, start, front_end)


def _require_packages(path: Path) -> None:
    if cause := formats.missing():
        raise MediaError(path, cause)


def played_sound(path: Path, limits: MediaLimits = GENEROUS) -> Iterator[Samples]:
    """Yields the sound of a piano that plays a file of notation or MIDI, as `read_played` hears it."""
    _require_packages(path)
    return _sound(path, _played(path), 0.0, None, limits)


def engraved_pages(
    path: Path, limits: MediaLimits = GENEROUS, progress: Progress | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Yields the engraved pages of a file of notation in order, uint8 (h, w)."""
    _require_packages(path)
    from engine.symbols.verovio import page_count_and_pages

    pages = page_count_and_pages(read_notation(path), limits.pages)
    for number, (total, page) in enumerate(pages, start=1):
        yield page
        if progress is not None:
            progress(number, total)


def _played(path: Path) -> Playing:
    """What keys and pedal do by a file of notation or MIDI, judged by its content."""
    from engine.symbols import midi, verovio

    try:
        with path.open("rb") as file:
            start = file.read(midi.MAX_BYTES + 1)
    except OSError as exc:
        raise AudioError(path, f"cannot be read: {exc.strerror}") from exc
    if path.suffix.lower() in formats.MIDI_SUFFIXES or start.startswith(b"MThd"):
        return midi.read_midi(start, path)
    return midi.read_midi(verovio.midi(read_notation(path)), path)


def _sound(path: Path, played: Playing, start_s: float, end_s: float | None, limits: MediaLimits) -> Iterator[Samples]:
    """Yields the sound of a part. Raises AudioError if there is none, or it is longer than is allowed."""
    from engine.symbols.soundfont import sound

    check = SoundCheck(path)
    for block in sound(played, start_s, end_s):
        check.hear(block)
        if check.samples > limits.seconds * SAMPLE_RATE:
            raise AudioError(path, f"longer than {limits.seconds:g} s, the maximum")
        yield block
    check.finish()
