"""Sound: files -> samples -> spectrogram -> excerpts, for whole recordings and for recordings that still arrive."""

from engine.audio.decoding import RATES, SILENCE, read_audio
from engine.audio.framing import Framer
from engine.audio.recording import Recording, read_recording, recording_of, recording_of_blocks
from engine.audio.spectrograms import (
    BANDS,
    FRAME_RATE,
    FRAME_SAMPLES,
    HOP_SAMPLES,
    SAMPLE_RATE,
    Samples,
    Spectrogram,
    compressed,
    excerpt_count,
    excerpts,
    filterbank,
    frames,
    levelled,
    reach,
    spectrogram,
)
from engine.audio.transposition import transposed

__all__ = [
    "BANDS",
    "FRAME_RATE",
    "FRAME_SAMPLES",
    "HOP_SAMPLES",
    "RATES",
    "SAMPLE_RATE",
    "SILENCE",
    "Framer",
    "Recording",
    "Samples",
    "Spectrogram",
    "compressed",
    "excerpt_count",
    "excerpts",
    "filterbank",
    "frames",
    "levelled",
    "reach",
    "read_audio",
    "read_recording",
    "recording_of",
    "recording_of_blocks",
    "spectrogram",
    "transposed",
]
