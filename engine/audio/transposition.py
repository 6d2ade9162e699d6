"""A spectrogram -> the spectrogram of the same music, played higher or lower.

The bands of both spectrograms lie at equal distances in pitch, so a transposition moves each band's content to another
band: with `quarter_tone`, a quarter tone is one band. Between two bands, the content is interpolated. A spectrogram of
samples with other bands would be exact, and needs the samples, which a query does not keep.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.audio.recording import Recording
from engine.audio.spectrograms import BANDS, FRAME_SAMPLES, LOWEST_HERTZ, SAMPLE_RATE, filterbank
from engine.config import Bands

MAX_SEMITONES = 12.0
"""Largest transposition, up or down."""


def transposed(recording: Recording, semitones: float, bands: Bands) -> Recording:
    """The recording as if it had been played higher by so many semitones, lower if they are negative.

    bands: the bands of the recording's spectrogram.
    Raises ValueError if the number of semitones is not between -12 and 12.
    """
    if not -MAX_SEMITONES <= semitones <= MAX_SEMITONES:
        raise ValueError(f"expected a transposition of -12 to 12 semitones, got {semitones:g}")
    if semitones == 0:
        return recording
    pitches = _pitches(bands)
    from_band = np.interp(pitches - semitones, pitches, np.arange(len(pitches)), left=-1, right=-1)
    lower = np.floor(np.maximum(from_band, 0)).astype(np.int64)
    upper = np.minimum(lower + 1, len(pitches) - 1)
    share = (from_band - lower).astype(np.float32)[:, None]
    result = recording.spectrogram[lower]
    if share.any():
        result += share * (recording.spectrogram[upper] - result)
    result[from_band < 0] = 0  # below the lowest and above the highest band there is nothing to move
    return replace(recording, spectrogram=result)


@cache
def _pitches(bands: Bands) -> NDArray[np.float64]:
    """The pitch of each band's centre, in semitones, (bands,)."""
    if bands == "quarter_tone":
        hertz = LOWEST_HERTZ * 2.0 ** (np.arange(BANDS[bands]) / 24)
    else:
        hertz = filterbank().argmax(axis=0) * SAMPLE_RATE / FRAME_SAMPLES
    return np.asarray(np.round(12 * np.log2(hertz), 9), np.float64)
