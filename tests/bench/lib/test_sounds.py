import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.lib import sounds
from engine.audio import SAMPLE_RATE
from indexer.synthesis.acoustics import VALIDATION_SHARE
from indexer.synthesis.perform import Performance

ECHO = 0.25


def room_of(split: str) -> str:
    """A name whose file goes to this split."""
    names = (f"room{number}" for number in range(100))
    return next(
        name for name in names if (zlib.crc32(f"{name}.flac".encode()) % VALIDATION_SHARE == 0) == (split == "val")
    )


HEARD_ROOM, UNHEARD_ROOM = room_of("train"), room_of("val")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An instrument of each split, two rooms that are one echo, and a telephone that halves the sound."""
    for name in ("salamander_c5", "steinhoff_upright"):
        folder = tmp_path / "pianos" / "bank" / name
        folder.mkdir(parents=True)
        tone = 0.9 * np.sin(np.arange(2 * SAMPLE_RATE) * (2 * np.pi * 440 / SAMPLE_RATE))
        soundfile.write(folder / "a4.flac", tone, SAMPLE_RATE)
        columns = "file,pitch_keycenter,lokey,hikey,lovel,hivel,volume_db,tune_cents"
        (folder / "regions.csv").write_text(f"{columns}\na4.flac,69,0,127,0,127,0,0\n")
    responses = tmp_path / sounds.RESPONSES
    responses.mkdir()
    echo = np.zeros(SAMPLE_RATE // 2)
    echo[0] = echo[round(ECHO * SAMPLE_RATE)] = 0.5
    for name in (HEARD_ROOM, UNHEARD_ROOM, "phone"):
        soundfile.write(responses / f"{name}.flac", echo if name != "phone" else np.array([0.0, 0.5]), SAMPLE_RATE)
    rows = [f"{HEARD_ROOM}.flac,hall", f"{UNHEARD_ROOM}.flac,hall", "phone.flac,telephone"]
    (responses / "irs.csv").write_text("\n".join(["file,kind", *rows]))
    return tmp_path


def tone(velocity: int = 100) -> Performance:
    """A4 for a tenth of a second."""
    return Performance(
        onset_s=np.array([0.0]),
        release_s=np.array([0.1]),
        pitch=np.array([69]),
        velocity=np.array([velocity]),
        pedal_s=np.zeros((0, 2)),
        pedal_depth=np.zeros(0),
        beat_quarter=np.array([0.0, 1.0]),
        beat_s=np.array([0.0, 1.0]),
    )


@pytest.mark.parametrize(
    ("name", "heard"),
    [
        ("TimGM6mb", True),
        ("salamander_c5", True),
        ("steinhoff_upright", False),
        (f"salamander_c5+{HEARD_ROOM}", True),
        (f"salamander_c5+{HEARD_ROOM}+mp3", True),
        (f"salamander_c5+{UNHEARD_ROOM}", False),
        (f"TimGM6mb+{UNHEARD_ROOM}+mp3", False),
        (f"steinhoff_upright+{HEARD_ROOM}", False),
    ],
)
def test_a_sound_is_heard_if_training_has_all_its_parts(name: str, heard: bool, data: Path) -> None:
    made = sounds.sound(name, data)
    assert (made.name, made.heard) == (name, heard)


def test_unknown_parts_are_refused_by_name(data: Path) -> None:
    with pytest.raises(ValueError, match="'kazoo'"):
        sounds.sound("kazoo", data)
    with pytest.raises(ValueError, match="'cellar'"):
        sounds.sound("TimGM6mb+cellar", data)


def test_an_instrument_that_is_not_there_is_refused(data: Path) -> None:
    with pytest.raises(FileNotFoundError, match="yamaha_upright_vcsl"):
        sounds.sound("yamaha_upright_vcsl", data)


def test_the_default_is_a_heard_soundfont_and_the_unheard_instruments_that_are_there(
    data: Path, tmp_path: Path
) -> None:
    assert [(sound.name, sound.heard) for sound in sounds.default_sounds(data)] == [
        ("TimGM6mb", True),
        ("steinhoff_upright", False),
    ]
    assert sounds.default_sounds(tmp_path / "nothing") == [sounds.TIMGM6MB]


def test_an_instrument_plays_the_performance(data: Path) -> None:
    played = sounds.sound("salamander_c5", data).play(tone())
    assert played.dtype == np.float32
    loudness = np.abs(played)
    assert 0.3 < loudness[: SAMPLE_RATE // 10].max() <= 1
    assert loudness[SAMPLE_RATE:].max() < 0.01


def test_a_room_is_mixed_with_the_dry_sound(data: Path) -> None:
    dry = sounds.sound("salamander_c5", data).play(tone())
    wet = sounds.sound(f"salamander_c5+{HEARD_ROOM}", data).play(tone())
    delay, level = round(ECHO * SAMPLE_RATE), np.sqrt(0.5) * sounds.ROOM_SHARE  # responses have an energy of 1
    expected = (1 - sounds.ROOM_SHARE + level) * dry
    expected[delay:] += level * dry[:-delay]
    np.testing.assert_allclose(wet, expected / max(1, np.abs(expected).max()), atol=1e-3)


def test_all_of_the_sound_passes_a_medium(data: Path) -> None:
    dry = sounds.sound("salamander_c5", data).play(tone())
    heard = sounds.sound("salamander_c5+phone", data).play(tone())
    np.testing.assert_allclose(heard[1:], dry[:-1], atol=1e-3)


def test_mp3_changes_the_sound_a_little(data: Path) -> None:
    dry = sounds.sound("salamander_c5", data).play(tone())
    coded = sounds.sound("salamander_c5+mp3", data).play(tone())
    assert len(coded) == len(dry)
    assert np.abs(coded - dry).max() > 0
    assert np.corrcoef(coded, dry)[0, 1] > 0.9
