"""Files whose headers are wrong, missing, or hold for their first part only: every sound in them is read."""

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, read_audio
from engine.audio.containers import View, parts, riff
from engine.errors import AudioError

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is not installed")
VBR = {"format": "MP3", "compression_level": 0.3, "bitrate_mode": "VARIABLE"}


def notes(*hertz: float, rate: int = 44100, seconds: float = 4.0) -> NDArray[np.float32]:
    """One tone after the other, with silence in each second half, in which a variable bit rate falls."""
    each = np.arange(round(seconds * rate)) / rate
    tones = [0.4 * np.sin(2 * np.pi * one * each) * (each < seconds * 0.5) for one in hertz]
    return np.concatenate(tones).astype(np.float32)


def heard(samples: NDArray[np.float32], at_s: float) -> float:
    """The loudest frequency in the second from `at_s` on."""
    part = samples[round(at_s * SAMPLE_RATE) :][:SAMPLE_RATE]
    return float(np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * SAMPLE_RATE / len(part))


def require_notes(path: Path, *hertz: float, seconds: float = 4.0) -> None:
    """All notes are read, in order, and a part starts and ends where it should."""
    samples = read_audio(path)
    assert len(samples) / SAMPLE_RATE == pytest.approx(seconds * len(hertz), abs=0.15 * len(hertz))
    for number, one in enumerate(hertz):
        assert heard(samples, seconds * number + 0.4) == pytest.approx(one, abs=2)
    last_s = seconds * (len(hertz) - 1)
    part = read_audio(path, last_s + 0.3, last_s + 1.6)
    assert len(part) / SAMPLE_RATE == pytest.approx(1.3, abs=0.01)
    assert heard(part, 0.1) == pytest.approx(hertz[-1], abs=2)
    assert heard(read_audio(path, 0.3, 1.6), 0.1) == pytest.approx(hertz[0], abs=2)


def written(path: Path, samples: NDArray[np.float32], rate: int = 44100, **how: object) -> Path:
    soundfile.write(path, samples, rate, **how)
    return path


def joined(path: Path, *files: Path) -> Path:
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    return path


def by_ffmpeg(source: Path, path: Path, *options: str) -> Path:
    command = ["ffmpeg", "-v", "error", "-i", str(source), *options, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture
def no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


# --- MP3 --------------------------------------------------------------------------------------------------------------


def without_info(path: Path) -> bytes:
    """The frames of an MP3 file without its header Xing or Info."""
    content = path.read_bytes()
    (part,) = parts(path)
    at = max(content.find(b"Xing"), content.find(b"Info"))
    assert 0 < at < 60
    second = content.index(content[part.start : part.start + 2], at)
    return content[second:]


@pytest.mark.usefixtures("no_ffmpeg")
def test_a_variable_bit_rate_without_a_header_is_read_to_its_end(tmp_path: Path) -> None:
    made = written(tmp_path / "made.mp3", notes(440, 660, 880), **VBR)
    path = tmp_path / "a.mp3"
    path.write_bytes(without_info(made))
    require_notes(path, 440, 660, 880)


@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize("count", [10, 100_000])
def test_a_wrong_count_in_the_header_ends_nothing(tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "a.mp3", notes(440, 660, 880), **VBR)
    content = bytearray(path.read_bytes())
    at = max(content.find(b"Xing"), content.find(b"Info"))
    struct.pack_into(">I", content, at + 8, count)
    path.write_bytes(content)
    require_notes(path, 440, 660, 880)
    assert ("are missing" in caplog.text) == (count == 100_000)


@pytest.mark.usefixtures("no_ffmpeg")
def test_joined_mp3s_are_read_to_the_end_whatever_their_rates_and_tags(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = written(tmp_path / "1.mp3", notes(440), **VBR)
    second = written(tmp_path / "2.mp3", notes(660, rate=32000), 32000, format="MP3")
    tag = tmp_path / "tag"
    tag.write_bytes(b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"\xff\xfb\x90\x00" * 64)
    require_notes(joined(tmp_path / "a.mp3", tag, first, tag, second, tag, first), 440, 660, 440)
    assert capfd.readouterr().err == ""
    assert not caplog.records


def test_a_whole_mp3_is_given_to_the_decoder_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp3", notes(440), **VBR)
    (part,) = parts(path)
    assert (part.start, part.stop, part.header) == (0, path.stat().st_size, b"")
    assert part.seconds == pytest.approx(4, abs=0.1)


@pytest.mark.usefixtures("no_ffmpeg")
def test_damaged_frames_of_an_mp3_leave_stderr_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.mp3", notes(440, 660, 880), format="MP3")
    content = bytearray(path.read_bytes())
    content[10_000::9973] = bytes(len(content[10_000::9973]))
    content[5000:7000] = bytes(2000)
    path.write_bytes(content)
    assert len(read_audio(path)) > 10 * SAMPLE_RATE
    assert capfd.readouterr().err == ""


# --- WAV --------------------------------------------------------------------------------------------------------------


def with_data_size(path: Path, size: int) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"data") + 4, size)
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize("size", [0, 1000, 44100, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFDA])
def test_a_wav_is_read_to_the_end_whatever_size_its_header_gives(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_data_size(written(tmp_path / "a.wav", notes(440, 660)), size)
    require_notes(path, 440, 660)
    assert not caplog.records


@pytest.mark.usefixtures("no_ffmpeg")
def test_what_follows_the_samples_of_a_wav_is_no_sound(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", notes(440))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"LIST" + struct.pack("<I", 90000) + b"\x7f" * 90000)
    assert len(read_audio(path)) == 4 * SAMPLE_RATE
    (part,) = parts(path)
    assert part.stop == size


@pytest.mark.usefixtures("no_ffmpeg")
def test_joined_wavs_are_read_to_the_end(tmp_path: Path) -> None:
    first = written(tmp_path / "1.wav", notes(440))
    second = written(tmp_path / "2.wav", notes(660, rate=48000), 48000, subtype="PCM_24")
    require_notes(joined(tmp_path / "a.wav", first, second), 440, 660)


@pytest.mark.usefixtures("no_ffmpeg")
def test_many_data_chunks_in_a_wav_are_walked_once_or_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = written(tmp_path / "a.wav", notes(440))
    samples = made.read_bytes()[44:]
    made.write_bytes(made.read_bytes()[:36] + 300 * (b"data" + struct.pack("<I", 2) + b"\0\0") + made.read_bytes()[36:])
    walked = []
    chunk = riff._chunk
    monkeypatch.setattr(riff, "_chunk", lambda *at: walked.append(at) or chunk(*at))  # type: ignore[func-returns-value]
    with made.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        (part,) = riff.parts(data)
        assert data[part.start : part.stop] == samples  # the last one is heard, as ffmpeg does
    assert len(walked) < 700


def test_a_wav_of_more_than_four_gigabytes_is_read_beyond_its_wrapped_size(tmp_path: Path) -> None:
    """The file is sparse. Its sound lies at the end of 4.4 GB."""
    rate = 768_000
    path = written(tmp_path / "a.wav", notes(440, rate=rate), rate, subtype="DOUBLE")
    head, sound = path.read_bytes()[:1000].split(b"data")[0], path.read_bytes()[-4 * rate * 8 :]
    size = (1 << 32) + 8 * 12_000_000
    with path.open("wb") as file:
        file.write(head + b"data" + struct.pack("<I", size % (1 << 32)))
        file.seek(size - len(sound), os.SEEK_CUR)
        file.write(sound)
    (part,) = parts(path)
    assert part.seconds == pytest.approx(size / rate / 8)
    assert heard(read_audio(path, part.seconds - 3.7, part.seconds - 2.5), 0.1) == pytest.approx(440, abs=2)


@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize("how", [{"format": "RF64"}, {"format": "W64"}, {"format": "AU"}, {"format": "CAF"}])
def test_other_containers_of_samples_are_read_whatever_their_suffix(tmp_path: Path, how: dict[str, str]) -> None:
    require_notes(written(tmp_path / "a.mp3", notes(440, 660), **how), 440, 660)


@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "ULAW"])
def test_compressed_wavs_are_read_and_cut_even_where_they_cannot_seek(tmp_path: Path, subtype: str) -> None:
    path = written(tmp_path / "a.wav", notes(440, 660, rate=8000), 8000, subtype=subtype)
    require_notes(path, 440, 660)


def test_a_wav_that_breaks_off_tells_the_seconds_that_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.wav", notes(440, 660))
    os.truncate(path, path.stat().st_size * 3 // 4)
    assert len(read_audio(path)) == pytest.approx(6 * SAMPLE_RATE, abs=20)
    assert f"{path}: breaks off after 6.0 s; 2.0 s are missing" in caplog.text


# --- Ogg and FLAC -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_is_read_to_the_end(tmp_path: Path, subtype: str, caplog: pytest.LogCaptureFixture) -> None:
    rates = (48000, 24000)
    files = [
        written(tmp_path / f"{hertz}", notes(hertz, rate=rate), rate, format="OGG", subtype=subtype)
        for hertz, rate in zip((440, 660), rates, strict=True)
    ]
    require_notes(joined(tmp_path / "a.ogg", *files, files[0]), 440, 660, 440)
    assert not caplog.records


@needs_ffmpeg
def test_chained_flac_in_ogg_is_read_to_the_end(tmp_path: Path) -> None:
    files = []
    for hertz in (440, 660):
        made = written(tmp_path / f"{hertz}.wav", notes(hertz))
        files.append(by_ffmpeg(made, tmp_path / f"{hertz}.oga", "-c:a", "flac"))
    require_notes(joined(tmp_path / "a.oga", *files), 440, 660)


@pytest.mark.usefixtures("no_ffmpeg")
def test_joined_flacs_are_read_to_the_end(tmp_path: Path) -> None:
    first = written(tmp_path / "1.flac", notes(440))
    second = written(tmp_path / "2.flac", notes(660, rate=48000), 48000)
    require_notes(joined(tmp_path / "a.flac", first, second), 440, 660)


def damaged_flac(path: Path) -> Path:
    """A noisy FLAC file of 20 s with zeros in its middle."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * SAMPLE_RATE).astype(np.float32)
    content = bytearray(written(path, noise, SAMPLE_RATE).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)
    return path


@needs_ffmpeg
def test_a_flac_is_read_beyond_damage_in_its_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = read_audio(damaged_flac(tmp_path / "a.flac"))
    assert len(samples) / SAMPLE_RATE == pytest.approx(20, abs=1)
    assert np.abs(samples[-SAMPLE_RATE:]).mean() > 0.1
    assert "is damaged" in caplog.text or "are missing" in caplog.text


@pytest.mark.usefixtures("no_ffmpeg")
def test_without_ffmpeg_the_seconds_after_damage_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = damaged_flac(tmp_path / "a.flac")
    read_s = len(read_audio(path)) / SAMPLE_RATE
    assert 6 < read_s < 20
    assert "is damaged" in caplog.text or f"{path}: breaks off after {read_s:.1f} s" in caplog.text


# --- by content -------------------------------------------------------------------------------------------------------


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "name"),
    [("aac", "a.mp3"), ("m4a", "a.mp3"), ("mka", "a.wav"), ("mp2", "a.flac"), ("wma", "a.mp3"), ("ac3", "a.ogg")],
)
def test_a_suffix_of_another_format_deceives_nobody(
    tmp_path: Path, suffix: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    made = by_ffmpeg(written(tmp_path / "made.wav", notes(440, 660)), tmp_path / f"made.{suffix}")
    require_notes(made.rename(tmp_path / name), 440, 660)
    assert capfd.readouterr().err == ""


def test_flac_named_mp3_is_flac(tmp_path: Path) -> None:
    require_notes(written(tmp_path / "a.mp3", notes(440, 660), format="FLAC"), 440, 660)


@pytest.mark.usefixtures("no_ffmpeg")
def test_bytes_at_random_are_no_sound(tmp_path: Path) -> None:
    for seed in range(20):
        path = tmp_path / f"{seed}.mp3"
        path.write_bytes(np.random.default_rng(seed).bytes(100_000))
        with pytest.raises(AudioError, match="not readable"):
            read_audio(path)


@pytest.mark.parametrize("how", [{"format": "WAV"}, {"format": "FLAC"}, {"format": "OGG"}, VBR])
def test_no_truncation_is_worse_than_an_error(tmp_path: Path, how: dict[str, object]) -> None:
    whole = written(tmp_path / "whole", notes(440, seconds=1.0), **how).read_bytes()
    path = tmp_path / "a.wav"
    for size in [*range(1, 200, 23), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        try:
            read_audio(path)
        except AudioError:
            continue


def test_a_view_reads_what_lies_behind_its_header(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", notes(440), subtype="PCM_U8")
    (part,) = parts(path)
    with View(path, part) as view:
        data = view.read()
        view.seek(len(part.header) - 2)
        assert view.read(4) == data[len(part.header) - 2 :][:4]
    assert data == part.header + path.read_bytes()[part.start : part.stop]
