import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.audio import SAMPLE_RATE, Framer, excerpts, read_audio, read_recording, spectrogram
from engine.config import Bands, FrontEnd
from engine.embedding import documents
from fake_encoder import FakeEncoder


@pytest.mark.parametrize("bands", ["published", "quarter_tone"])
@pytest.mark.parametrize("samples", [1, 1103, 2206, 3 * SAMPLE_RATE + 17])
def test_frames_of_blocks_are_the_frames_of_the_whole(bands: Bands, samples: int) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    framer = Framer(bands)
    parts = [framer.hear(part) for part in np.array_split(sound, 7)]
    whole = np.concatenate([*parts, framer.finish()], axis=1)
    np.testing.assert_allclose(whole, spectrogram(sound, bands), atol=1e-5)


@pytest.mark.parametrize("rate", [22050, 44100])
def test_a_recording_read_in_blocks_is_that_of_all_samples(tmp_path: Path, rate: int) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 25 * rate).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, rate)
    whole = spectrogram(read_audio(tmp_path / "a.wav"), "quarter_tone")
    recording = read_recording(tmp_path / "a.wav", FrontEnd(bands="quarter_tone"))
    np.testing.assert_allclose(recording.spectrogram, whole, atol=1e-5)


def test_excerpts_are_embedded_in_blocks_as_all_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recordings = []
    for seed, seconds in enumerate((12.0, 5.0, 30.0)):
        sound = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * SAMPLE_RATE)).astype(np.float32)
        soundfile.write(tmp_path / f"{seed}.wav", sound, SAMPLE_RATE)
        recordings.append(read_recording(tmp_path / f"{seed}.wav", FakeEncoder().identity.front_end))
    at_once = documents.sequences(recordings, FakeEncoder())
    monkeypatch.setattr(documents, "EXCERPTS_A_BLOCK", 7)
    for one, other, recording in zip(documents.sequences(recordings, FakeEncoder()), at_once, recordings, strict=True):
        assert len(one) == len(excerpts(recording.spectrogram, FakeEncoder().identity.front_end))
        np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-6)
        np.testing.assert_array_equal(one.places, other.places)


MEASURED = """
import resource, sys
import numpy as np
from engine.audio import read_recording
from engine.config import FrontEnd
read_recording(sys.argv[1], FrontEnd(), 0.0, 20.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_recording(sys.argv[1], FrontEnd())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_holds_the_spectrogram_and_not_the_samples(tmp_path: Path) -> None:
    """20 minutes: 106 MB of samples, 9 MB of spectrogram."""
    sound = np.random.default_rng(0).integers(-9000, 9000, 20 * 60 * SAMPLE_RATE, np.int16)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "a.wav")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 40 << (10 if sys.platform == "linux" else 20)  # macOS counts bytes
