from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.audio import SAMPLE_RATE
from indexer.synthesis.acoustics import Acoustics, acoustics, response
from indexer.synthesis.degrade import degrade_audio


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Fifty rooms of a late echo, ten loudspeakers, and a noise bed."""
    responses, noises = tmp_path / "irs", tmp_path / "noise"
    responses.mkdir()
    noises.mkdir()
    rows = ["file,kind"]
    for number in range(60):
        samples = np.zeros(SAMPLE_RATE // 2, np.float32)
        samples[100], samples[5000] = 0.5, -0.25
        soundfile.write(responses / f"{number}.wav", samples, SAMPLE_RATE)
        rows.append(f"{number}.wav,{'loudspeaker' if number >= 50 else 'hall'}")
    (responses / "irs.csv").write_text("\n".join(rows))
    soundfile.write(noises / "hiss.wav", np.random.default_rng(0).normal(0, 0.01, 3000), SAMPLE_RATE)
    (noises / "noise.csv").write_text("file,kind\nhiss.wav,tape\n")
    return responses, noises


def test_training_and_validation_share_no_response(folders: tuple[Path, Path]) -> None:
    train, val = (acoustics(*folders, split) for split in ("train", "val"))
    assert not set(train.rooms + train.media) & set(val.rooms + val.media)
    assert len(train.rooms + train.media + val.rooms + val.media) == 60
    assert 5 <= len(val.rooms + val.media) <= 20
    assert len(train.media + val.media) == 10


def test_a_response_starts_with_its_direct_sound_and_has_unit_energy(folders: tuple[Path, Path]) -> None:
    samples = response(folders[0] / "0.wav")
    assert np.abs(samples).argmax() <= 8
    assert np.sum(samples**2) == pytest.approx(1, rel=1e-3)


def test_a_noise_bed_lasts_as_long_as_the_music(folders: tuple[Path, Path]) -> None:
    noise = acoustics(*folders, "train").noise(10_000, np.random.default_rng(0))
    assert noise is not None
    assert noise.shape == (10_000,)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1, rel=0.05)


def test_without_recordings_rooms_and_noises_are_made() -> None:
    nothing = Acoustics()
    rng = np.random.default_rng(0)
    assert (nothing.room(rng), nothing.medium(rng), nothing.noise(10, rng)) == (None, None, None)


def test_a_room_neither_delays_nor_moves_what_is_played(folders: tuple[Path, Path]) -> None:
    click = np.zeros(2 * SAMPLE_RATE, np.float32)
    click[SAMPLE_RATE] = 0.9
    rooms = acoustics(*folders, "train")
    late = []
    for seed in range(20):
        heard = degrade_audio(click, np.random.default_rng(seed), 1.0, rooms)
        late.append(np.abs(heard.samples).argmax() / SAMPLE_RATE / heard.time_factor - 1.0)
    assert np.abs(np.median(late)) < 0.002
