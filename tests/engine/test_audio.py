import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from engine import audio
from engine.audio import SAMPLE_RATE, decoding, excerpts, filterbank, levelled, read_audio, spectrogram
from engine.config import Bands, FrontEnd, MediaLimits
from engine.errors import AudioError

BANDS = audio.BANDS["published"]

# fmt: off
PUBLISHED_BINS = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 28, 29, 30, 32, 33,
    34, 36, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 58, 60, 63, 66, 69, 72, 75, 78, 82, 85, 89, 93, 97, 102,
    106, 111, 116, 121, 126, 132, 137, 144, 150, 157, 163, 171, 178, 186, 194, 203, 212, 221, 231, 241, 252,
    263, 275, 287, 300, 313, 327, 341, 357, 372, 389, 406, 424, 443, 462, 483, 504, 527, 550,
]
# fmt: on


def tone(seconds: float = 1.0, hertz: float = 440.0, rate: int = SAMPLE_RATE, peak: float = 0.5) -> NDArray[np.float32]:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def loudest_hertz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * SAMPLE_RATE / len(samples))


def test_the_filterbank_has_92_triangles_of_sum_one() -> None:
    assert filterbank().shape == (1024, BANDS)
    np.testing.assert_allclose(filterbank().sum(axis=0), 1, rtol=1e-6)


def test_the_centres_are_the_published_bins() -> None:
    assert filterbank().argmax(axis=0).tolist() == PUBLISHED_BINS[1:-1]


def test_the_filterbank_uses_the_bins_between_the_outer_centres() -> None:
    used = np.flatnonzero(filterbank().any(axis=1))
    assert (used[0], used[-1]) == (4, 549)


def test_a_band_rises_to_its_centre_and_falls_to_the_next_one() -> None:
    band = filterbank()[:, -1]  # 504, 527, 550
    assert band.argmax() == 527
    assert band[504] == 0
    assert band[550] == 0
    assert band[515] / band[527] == pytest.approx(11 / 23)
    assert band[539] / band[527] == pytest.approx(11 / 23)


@pytest.mark.parametrize("band", [2, 20, 50, 91])
def test_a_sine_lands_in_its_band(band: int) -> None:
    centre = int(filterbank()[:, band].argmax())
    spectrum = spectrogram(tone(hertz=centre * SAMPLE_RATE / 2048))
    assert (spectrum[:, 2:10].argmax(axis=0) == band).all()


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (1102, 1), (1103, 2), (2205, 2), (2206, 3)])
def test_the_frame_count_is_the_length_over_the_hop_rounded_up(samples: int, frames: int) -> None:
    assert spectrogram(np.zeros(samples, np.float32)).shape == (BANDS, frames)


def test_the_spectrogram_equals_its_definition_frame_by_frame() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 600 * 1103).astype(np.float32)
    computed = spectrogram(samples)
    padded = np.append(samples, np.zeros(2048, np.float32))
    for frame in (0, 1, 2, 511, 512, 513, computed.shape[1] - 1):
        start = int(1102.5 * frame)
        magnitude = np.abs(np.fft.fft(padded[start : start + 2048] * np.hanning(2048)))[:1024]
        np.testing.assert_allclose(computed[:, frame], np.log10(1 + magnitude @ filterbank()), atol=2e-6)


def test_an_excerpt_starts_every_half_second() -> None:
    spectrum = np.arange(120, dtype=np.float32) * np.ones((BANDS, 1), np.float32)
    cut = excerpts(spectrum, FrontEnd(gain="none"))
    assert cut.shape == (4, BANDS, 84)
    assert cut[:, 0, 0].tolist() == [0, 10, 20, 30]
    assert cut[3, 91, 83] == 113


def test_less_than_one_excerpt_gives_none() -> None:
    assert excerpts(np.zeros((BANDS, 83), np.float32), FrontEnd()).shape == (0, BANDS, 84)


def test_loudness_does_not_change_an_excerpt() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 8 * SAMPLE_RATE).astype(np.float32)
    loud, quiet = (excerpts(spectrogram(samples * gain), FrontEnd()) for gain in (0.9, 0.01))
    np.testing.assert_allclose(loud, quiet, atol=1e-4)


def test_an_excerpt_has_the_same_mean_magnitude_as_all_others() -> None:
    spectrum = np.random.default_rng(0).uniform(0, 1, (70, BANDS, 84)).astype(np.float32)
    magnitude = 10 ** levelled(spectrum, FrontEnd()) - 1
    np.testing.assert_allclose(magnitude.mean(axis=(1, 2)), 0.5, rtol=1e-4)


def test_compression_acts_on_what_the_gain_left() -> None:
    spectrum = np.random.default_rng(0).uniform(0, 1, (3, BANDS, 84)).astype(np.float32)
    magnitude = 10 ** levelled(spectrum, FrontEnd()) - 1
    np.testing.assert_allclose(levelled(spectrum, FrontEnd(compression=30.0)), np.log10(1 + 30 * magnitude), atol=1e-4)


def quarter_tone_band(pitch: float) -> float:
    """The position of a MIDI pitch among the bands; A0 lies between the first two."""
    return 2 * (pitch - 21) + 0.5


@pytest.mark.parametrize("pitch", [28, 33, 45, 57, 58, 69, 81, 82, 100])
def test_a_key_sounds_in_its_own_two_quarter_tone_bands(pitch: int) -> None:
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    loudness = spectrogram(tone(3, hertz=hertz), "quarter_tone")[:, 20:30].mean(axis=1)
    assert loudness.shape == (184,)
    first, second = sorted(np.argsort(loudness)[-2:])
    assert {first, second} <= {round(quarter_tone_band(pitch) + offset) for offset in (-1.5, -0.5, 0.5, 1.5)}


@pytest.mark.parametrize("pitch", [36, 40, 45])
def test_quarter_tones_tell_neighbouring_keys_of_the_low_octaves_apart(pitch: int) -> None:
    def bands(name: Bands) -> list[NDArray[np.float32]]:
        hertz = [440 * 2 ** ((key - 69) / 12) for key in (pitch, pitch + 1)]
        return [spectrogram(tone(3, hertz=one), name)[:, 20:30].mean(axis=1) for one in hertz]

    def likeness(pair: list[NDArray[np.float32]]) -> float:
        low, high = (10**one - 1 for one in pair)
        return float(low @ high / np.linalg.norm(low) / np.linalg.norm(high))

    assert likeness(bands("quarter_tone")) < 0.75 < 0.85 < likeness(bands("published"))


@pytest.mark.parametrize("hertz", [100.0, 500.0, 2000.0])
def test_a_click_lies_in_the_same_frame_in_each_transform(hertz: float) -> None:
    samples = np.zeros(3 * SAMPLE_RATE, np.float32)
    start = int(1102.5 * 30) + 1024
    burst = tone(0.05, hertz=hertz)
    samples[start - len(burst) // 2 :][: len(burst)] = burst
    loudest = spectrogram(samples, "quarter_tone").sum(axis=0).argmax()
    assert loudest == 30


def test_a_tone_is_about_as_loud_in_each_transform() -> None:
    levels = []
    for pitch in range(50, 90):
        band = spectrogram(tone(2, hertz=440 * 2 ** ((pitch - 69) / 12)), "quarter_tone")[:, 15:25]
        levels.append(float((10**band - 1).max(axis=0).mean()))
    assert max(levels) < 3.2 * min(levels)


def test_near_silence_is_not_blown_up() -> None:
    faint = np.full((1, BANDS, 84), np.log10(1 + 1e-6), np.float32)
    np.testing.assert_allclose(10 ** levelled(faint, FrontEnd()) - 1, 1e-3, rtol=0.1)
    np.testing.assert_array_equal(levelled(np.zeros((1, BANDS, 84), np.float32), FrontEnd()), 0)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_a_tone_survives_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(3), SAMPLE_RATE)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(3 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    assert loudest_hertz(samples) == pytest.approx(440, abs=1)
    assert rms(samples) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])
def test_any_rate_comes_out_at_22050(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2, rate=rate), rate)
    samples = read_audio(tmp_path / "a.wav")
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=2)
    assert loudest_hertz(samples) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_any_bit_depth_has_full_scale_at_one(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), SAMPLE_RATE, subtype=subtype)
    assert read_audio(tmp_path / "a.wav").max() == pytest.approx(0.5, abs=0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = tone()
    soundfile.write(tmp_path / "a.wav", np.stack([left, 0 * left], axis=1), SAMPLE_RATE)
    assert rms(read_audio(tmp_path / "a.wav")) == pytest.approx(rms(left) / 2, rel=1e-3)


def test_samples_with_the_channels_first_are_refused() -> None:
    with pytest.raises(AudioError, match=r"samples.*at most, got \(2, 220500\).*must be transposed"):
        audio.recording_of(np.stack([tone(10)] * 2), SAMPLE_RATE, FrontEnd())


@pytest.mark.parametrize("speed", [float("nan"), float("inf"), 0.0, -1.0, 0.2, 4.1])
def test_an_impossible_speed_is_refused(tmp_path: Path, speed: float) -> None:
    soundfile.write(tmp_path / "a.wav", tone(6), SAMPLE_RATE)
    with pytest.raises(AudioError, match=r"a\.wav.*expected a speed from 0\.25 to 4, got"):
        audio.read_recording(tmp_path / "a.wav", FrontEnd(), speed=speed)
    with pytest.raises(AudioError, match="expected a speed"):
        audio.recording_of(tone(6), SAMPLE_RATE, FrontEnd(), speed=speed)


def test_a_recording_longer_than_a_block_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.flac", tone(3, rate=44100), 44100)
    at_once = read_audio(tmp_path / "a.flac")
    monkeypatch.setattr(decoding, "_BLOCK_VALUES", 5000)
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac"), at_once, atol=1e-4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_fragment_is_what_lies_between_its_ends(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.concatenate([tone(2, 440), tone(2, 880), tone(2, 1320)]), SAMPLE_RATE)
    samples = read_audio(path, 2.1, 3.9)
    assert len(samples) == pytest.approx(1.8 * SAMPLE_RATE, abs=2)
    assert loudest_hertz(samples) == pytest.approx(880, abs=1)


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 96000])
def test_a_fragment_is_cut_in_seconds_of_the_file_whatever_its_rate(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([tone(2, 440, rate), tone(2, 880, rate), tone(2, 1320, rate)]), rate)
    for start_s, end_s, hertz in ((0.0, 1.9, 440), (2.1, 3.9, 880), (4.1, 5.9, 1320), (4.1, None, 1320)):
        samples = read_audio(path, start_s, end_s)
        assert len(samples) == pytest.approx(((end_s or 6.0) - start_s) * SAMPLE_RATE, abs=2)
        for half in np.array_split(samples, 2):
            assert loudest_hertz(half) == pytest.approx(hertz, abs=1)


def test_a_fragment_may_run_to_the_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(3), SAMPLE_RATE)
    assert len(read_audio(tmp_path / "a.wav", 1.0)) == 2 * SAMPLE_RATE


@pytest.mark.parametrize(("start_s", "end_s"), [(-1.0, 2.0), (2.0, 2.0), (float("nan"), 1.0)])
def test_a_fragment_without_length_is_refused(tmp_path: Path, start_s: float, end_s: float) -> None:
    soundfile.write(tmp_path / "a.wav", tone(3), SAMPLE_RATE)
    with pytest.raises(AudioError, match="0 <= start < end"):
        read_audio(tmp_path / "a.wav", start_s, end_s)


def test_a_recording_too_long_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(seconds=3.0), SAMPLE_RATE)
    assert len(read_audio(tmp_path / "a.wav", limits=MediaLimits(seconds=3.0))) == 3 * SAMPLE_RATE
    assert len(read_audio(tmp_path / "a.wav", 0.5, 2.0, MediaLimits(seconds=1.5))) == 1.5 * SAMPLE_RATE
    for part in ((None, None), (0.1, 3.0), (0.1, None)):
        with pytest.raises(AudioError, match=r"a\.wav: longer than 2 s, the maximum"):
            read_audio(tmp_path / "a.wav", *part, MediaLimits(seconds=2.0))


def test_a_fragment_after_the_end_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), SAMPLE_RATE)
    with pytest.raises(AudioError, match="holds no audio from 5 s on"):
        read_audio(tmp_path / "a.wav", 5.0, 6.0)


def test_silence_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)
    with pytest.raises(AudioError, match=r"a\.wav: is silent"):
        read_audio(tmp_path / "a.wav")


def test_a_recording_of_no_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), SAMPLE_RATE)
    with pytest.raises(AudioError, match="holds no audio"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    samples = tone()
    samples[100] = bad
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="not finite"):
        read_audio(tmp_path / "a.wav")


def test_a_rate_no_recording_has_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 10)
    with pytest.raises(AudioError, match=r"expected a sampling rate of 2000\.\.768000 Hz, got 10 Hz"):
        read_audio(tmp_path / "a.wav")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="got a folder"):
        read_audio(tmp_path)


@pytest.mark.parametrize("content", [b"RIFF", b"not audio at all" * 100])
def test_a_file_that_is_no_audio_is_refused(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav: not readable by libsndfile .* ffmpeg program"):
        read_audio(tmp_path / "a.wav")


def test_an_empty_file_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(AudioError, match=r"a\.wav: is an empty file"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_file_that_breaks_off_is_read_so_far(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * SAMPLE_RATE).astype(np.float32)
    soundfile.write(path, noise, SAMPLE_RATE)
    os.truncate(path, path.stat().st_size // 2)
    assert len(read_audio(path)) == pytest.approx(10 * SAMPLE_RATE, rel=0.2)


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_what_libsndfile_cannot_read_goes_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack(">4sIIIII", b".snd", 28, 0xFFFFFFFF, 6, SAMPLE_RATE, 1) + bytes(4)
    (tmp_path / "decoded").write_bytes(header + tone(4).astype(">f4").tobytes())
    fake_ffmpeg(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/arguments; cat {tmp_path}/decoded')
    (tmp_path / "a.m4a").write_bytes(b"an AAC stream")
    wanted = tone(4)[SAMPLE_RATE : round(2.5 * SAMPLE_RATE)]
    np.testing.assert_allclose(read_audio(tmp_path / "a.m4a", 1.0, 2.5), wanted, atol=1e-4)
    arguments = (tmp_path / "arguments").read_text()
    assert f" -i file:{tmp_path.resolve()}/a.m4a " in arguments
    assert "-ss" not in arguments


def test_what_ffmpeg_says_of_a_bad_file_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(tmp_path, monkeypatch, "echo '[mov @ 0x1] [error] moov atom not found' >&2; exit 1")
    (tmp_path / "a.m4a").write_bytes(b"half an AAC stream")
    with pytest.raises(AudioError, match=r"a\.m4a: ffmpeg cannot decode it: moov atom not found"):
        read_audio(tmp_path / "a.m4a")


PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp3\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile secret.mp3\n",
}


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is not installed")
@pytest.mark.parametrize("playlist", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_opens_no_other_file(tmp_path: Path, playlist: str) -> None:
    """ffmpeg goes by content: a playlist named .mp3 would have the file decoded that it names."""
    soundfile.write(tmp_path / "secret.mp3", tone(6), SAMPLE_RATE, format="MP3")
    (tmp_path / "a.mp3").write_text(playlist)
    with pytest.raises(AudioError) as raised:
        read_audio(tmp_path / "a.mp3")
    assert "secret" not in str(raised.value)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is not installed")
@pytest.mark.parametrize("suffix", ["m4a", "mka", "webm", "mov", "wma", "mp2", "ac3", "caf"])
def test_ffmpeg_reads_the_formats_that_hold_sound(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(3), SAMPLE_RATE)
    made = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), str(tmp_path / f"a.{suffix}")]
    subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    samples = read_audio(tmp_path / f"a.{suffix}")
    assert len(samples) == pytest.approx(3 * SAMPLE_RATE, abs=4000)
    assert loudest_hertz(samples) == pytest.approx(440, abs=1)
