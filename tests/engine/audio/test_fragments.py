"""A fragment of a file is made of the samples of the very seconds asked for, whatever the file's rate and format."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, read_audio, read_recording
from engine.config import FrontEnd

SECONDS = 9.0
FRAGMENTS = [(0.0, 2.0), (0.02, 1.5), (3.22, 5.9), (6.5, None), (None, 2.76)]
"""In seconds; all of them whole numbers of samples at every rate."""


def muffled_noise(rate: int) -> NDArray[np.float32]:
    """float32 (n,): noise below some 2 kHz, which no two places share and every format keeps."""
    noise = np.random.default_rng(0).standard_normal(round(SECONDS * rate))
    width = rate // 2000
    smooth = np.convolve(noise, np.hanning(width), mode="same")
    return (0.4 * smooth / np.abs(smooth).max()).astype(np.float32)


@pytest.fixture(scope="module", params=[44_100, 48_000])
def rate(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module", params=["wav", "flac", "ogg", "mp3", "m4a", "mka", "wma"])
def path(request: pytest.FixtureRequest, rate: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fragments")
    made = folder / f"a.{request.param}"
    if request.param in ("m4a", "mka", "wma"):
        if shutil.which("ffmpeg") is None:
            pytest.skip("the ffmpeg program is not installed")
        soundfile.write(folder / "a.wav", muffled_noise(rate), rate)
        subprocess.run(["ffmpeg", "-v", "error", "-i", folder / "a.wav", made], check=True)
    else:
        soundfile.write(made, muffled_noise(rate), rate)
    return made


def likeness(one: NDArray[np.float32], other: NDArray[np.float32], lag: int) -> float:
    """The correlation of two recordings when the second one is moved by so many samples."""
    moved = other[50 + lag : len(one) - 50 + lag]
    return float(np.corrcoef(one[50:-50], moved)[0, 1])


@pytest.mark.parametrize(("start_s", "end_s"), FRAGMENTS)
def test_a_fragment_is_what_is_cut_out_of_the_whole(path: Path, start_s: float | None, end_s: float | None) -> None:
    whole = read_audio(path)
    first = round((start_s or 0.0) * SAMPLE_RATE)
    cut = whole[first : None if end_s is None else round(end_s * SAMPLE_RATE)]
    fragment = read_audio(path, start_s, end_s)
    assert len(fragment) == pytest.approx(len(cut), abs=2)
    lags = {lag: likeness(fragment[: len(cut) - 100], cut, lag) for lag in range(-40, 41)}
    assert max(lags, key=lambda lag: lags[lag]) in (-1, 0, 1)
    assert lags[0] > 0.99


def test_a_recording_tells_where_its_fragment_starts_and_how_long_it_is(path: Path) -> None:
    fragment = read_recording(path, FrontEnd(), 2.5, 7.74)
    assert (fragment.start_s, fragment.duration_s) == (2.5, pytest.approx(5.24, abs=1e-3))
    assert fragment.spectrogram.shape[1] == 105


@pytest.mark.parametrize("channels", [2, 5])
def test_a_fragment_of_several_channels_is_cut_at_the_same_seconds(tmp_path: Path, channels: int) -> None:
    sound = muffled_noise(48_000)
    soundfile.write(tmp_path / "a.wav", np.stack([sound] * channels, axis=1), 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", sound, 48_000, subtype="FLOAT")
    fragments = (read_audio(tmp_path / name, 1.25, 6.5) for name in ("a.wav", "mono.wav"))
    np.testing.assert_allclose(*fragments, atol=1e-5)
