from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE
from engine.symbols.soundfont import default_soundfont
from indexer.synthesis import instruments
from indexer.synthesis.instruments import WELL_KEPT, Condition, SampledInstrument, damper_falls, read_sfz
from indexer.synthesis.perform import Performance

LOW, HIGH = 48, 69
"""The keys that were sampled."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instrument of two keys, each a tone of two partials that rings for six seconds, as regions.csv and as SFZ."""
    path = tmp_path_factory.mktemp("instrument")
    t = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    rows = ["file,pitch_keycenter,lokey,hikey,lovel,hivel,volume_db,tune_cents"]
    for pitch, low, high in ((LOW, 0, 60), (HIGH, 61, 127)):
        phase = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * t
        wave = (0.5 * np.sin(phase) + 0.2 * np.sin(6 * phase)) * np.exp(-t / 3)
        soundfile.write(path / f"{pitch}.wav", wave, SAMPLE_RATE)
        rows.append(f"{pitch}.wav,{pitch},{low},{high},0,127,0.0,0.0")
    (path / "regions.csv").write_text("\n".join(rows))
    (path / "two.sfz").write_text(
        "// a comment\n<control> default_path=./\n<global> volume=-6 <group> lovel=0 hivel=100\n"
        f"<region> sample={LOW}.wav key=c3 hikey=c4\n"
        f"<region> sample={HIGH}.wav pitch_keycenter=a4 lokey=c#4 hikey=g9 tune=10\n"
        "<group> trigger=release\n<region> sample=absent.wav key=60\n"
    )
    return path


def played(
    pitches: list[int],
    onsets: list[float],
    releases: list[float],
    *,
    velocity: int = 100,
    pedal: list[tuple[float, float]] | None = None,
    depth: float = 1.0,
) -> Performance:
    pedal = pedal or []
    return Performance(
        onset_s=np.array(onsets),
        release_s=np.array(releases),
        pitch=np.array(pitches),
        velocity=np.full(len(pitches), velocity),
        pedal_s=np.array(pedal, np.float64).reshape(-1, 2),
        pedal_depth=np.full(len(pedal), depth),
        beat_quarter=np.arange(2.0),
        beat_s=np.arange(2.0),
    )


def sound(folder: Path, performance: Performance, condition: Condition = WELL_KEPT) -> NDArray[np.float32]:
    return instruments.load(str(folder)).play(performance, condition, np.random.default_rng(0))


def hertz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 18))
    return float(spectrum.argmax() * SAMPLE_RATE / (1 << 18))


def level(samples: NDArray[np.float32], start_s: float, end_s: float) -> float:
    return float(np.sqrt(np.mean(samples[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)] ** 2)))


@pytest.mark.parametrize("pitch", [45, 48, 55, 65, 72])
def test_a_key_between_samples_sounds_at_its_own_pitch(folder: Path, pitch: int) -> None:
    samples = sound(folder, played([pitch], [0.0], [1.5]))
    assert hertz(samples[: SAMPLE_RATE + SAMPLE_RATE // 2]) == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=2e-3)


def test_a_note_begins_at_its_onset_and_is_damped_after_its_release(folder: Path) -> None:
    samples = sound(folder, played([60], [1.0], [2.0]))
    assert not samples[: SAMPLE_RATE - 1].any()
    assert level(samples, 1.0, 1.9) > 0.1
    assert level(samples, 3.0, 3.5) < 0.001


def test_the_pedal_holds_a_note_and_half_a_pedal_shortens_it(folder: Path) -> None:
    at = 2.2, 2.6
    dry = level(sound(folder, played([60], [0.0], [1.0])), *at)
    full = level(sound(folder, played([60], [0.0], [1.0], pedal=[(0.5, 3.0)])), *at)
    half = level(sound(folder, played([60], [0.0], [1.0], pedal=[(0.5, 3.0)], depth=0.4)), *at)
    assert dry < 0.05 * half < 0.5 * full


def test_a_key_struck_again_ends_its_own_sound_only() -> None:
    performance = played([60, 64, 60], [0.0, 0.1, 1.0], [5.0, 5.0, 2.0])
    touched, silenced = damper_falls(performance)
    assert silenced.tolist() == touched.tolist() == [1.0, 5.0, 2.0]


def test_a_soft_note_is_quieter_and_darker(folder: Path) -> None:
    loud, soft = (sound(folder, played([80], [0.0], [1.0], velocity=velocity)) for velocity in (100, 30))
    assert level(soft, 0, 1) < 0.2 * level(loud, 0, 1)
    spectra = [np.abs(np.fft.rfft(samples[:SAMPLE_RATE])) for samples in (loud, soft)]
    sixth = round(6 * 440 * 2 ** (11 / 12))
    shares = [spectrum[sixth - 20 : sixth + 20].max() / spectrum.max() for spectrum in spectra]
    assert shares[1] < 0.7 * shares[0]


def test_tuning_moves_all_keys_and_stretch_the_ends(folder: Path) -> None:
    flat = hertz(sound(folder, played([69], [0.0], [1.5]), Condition(tuning_cents=-30.0))[: 3 * SAMPLE_RATE // 2])
    assert 1200 * np.log2(flat / 440) == pytest.approx(-30, abs=3)
    high = hertz(sound(folder, played([96], [0.0], [1.5]), Condition(stretch_cents=40.0))[: 3 * SAMPLE_RATE // 2])
    assert 1200 * np.log2(high / (440 * 2 ** (27 / 12))) == pytest.approx(40 * (36 / 44) ** 3, abs=3)


def test_open_strings_sound_along_while_the_pedal_is_down(folder: Path) -> None:
    performance = played([48], [0.0], [0.5], pedal=[(0.0, 2.0)])
    bare, resonant = (sound(folder, performance, Condition(resonance=amount)) for amount in (0.0, 0.3))
    assert level(resonant - bare, 0.5, 1.9) > 0.001
    assert level(resonant - bare, 2.1, 3.0) == 0


def test_an_sfz_file_gives_its_struck_regions(folder: Path) -> None:
    low, high = read_sfz(folder / "two.sfz")
    assert (low.centre, low.keys, low.velocities, low.gain_db) == (48, (48, 60), (0, 100), -6)
    assert (high.centre, high.keys) == (68.9, (61, 127))
    assert high.file.is_file()
    loud = SampledInstrument([low, high]).play(played([69], [0.0], [1.5]), WELL_KEPT, np.random.default_rng(0))
    assert 1200 * np.log2(hertz(loud[: 3 * SAMPLE_RATE // 2]) / 440) == pytest.approx(10, abs=2)


def test_an_sfz_file_without_regions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.sfz").write_text("<global> volume=1")
    with pytest.raises(ValueError, match=r"empty\.sfz: expected <region> headers with samples, got none"):
        instruments.load(str(tmp_path / "empty.sfz"))


def test_a_soundfont_program_plays_on_time() -> None:
    instrument = instruments.load(f"{default_soundfont()}#0")
    samples = instrument.play(played([69], [1.0], [2.0]), WELL_KEPT, np.random.default_rng(0))
    assert level(samples, 0.0, 0.95) < 1e-3
    assert level(samples, 1.0, 1.5) > 0.01


def test_missing_files_are_told_when_an_instrument_is_loaded(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.sf2: no such SoundFont"):
        instruments.load(str(tmp_path / "absent.sf2#0"))
    (tmp_path / "regions.csv").write_text((folder / "regions.csv").read_text())
    with pytest.raises(FileNotFoundError, match=r"no such sample: .*48\.wav"):
        instruments.load(str(tmp_path))
