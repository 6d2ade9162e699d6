import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from indexer.synthesis.degrade import MAX_DETUNE_CENTS, SAMPLE_RATE, degrade_audio, degrade_page, mp3


def staves(height: int = 600, width: int = 900, space: int = 12) -> NDArray[np.uint8]:
    page = np.full((height, width), 255, np.uint8)
    for top in range(60, height - 100, 120):
        for line in range(5):
            page[top + line * space : top + line * space + 2, 40 : width - 40] = 0
    return page


def tone(seconds: float = 2.0, hertz: float = 440.0) -> NDArray[np.float32]:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def test_a_degraded_page_keeps_its_size_and_type() -> None:
    page = staves()
    image = degrade_page(page, 12.0, np.random.default_rng(0)).image
    assert image.shape == page.shape
    assert image.dtype == np.uint8


def test_the_same_seed_gives_the_same_page() -> None:
    page = staves()
    first, second = (degrade_page(page, 12.0, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)


def test_different_seeds_give_different_pages() -> None:
    page = staves()
    first, second = (degrade_page(page, 12.0, np.random.default_rng(seed)) for seed in (1, 2))
    assert (first.image != second.image).any()


def test_many_pages_come_out_in_one_bit_and_many_in_grey() -> None:
    rng = np.random.default_rng(0)
    levels = [len(np.unique(degrade_page(staves(), 6.5, rng).image)) for _ in range(24)]
    assert 6 <= sum(n <= 2 for n in levels) <= 18


def test_a_page_stays_mostly_white_with_its_ink_in_place() -> None:
    page = staves()
    rng = np.random.default_rng(0)
    for _ in range(8):
        degraded = degrade_page(page, 12.0, rng)
        assert np.median(degraded.image) > 100
        between = degraded.warp(np.array([[450.0, 150.0]]))[0].astype(int)
        on = degraded.warp(np.array([[450.0, 84.5]]))[0].astype(int)
        patch = degraded.image[between[1] - 8 : between[1] + 8, 300:600]
        staff = degraded.image[on[1] - 24 : on[1] + 25, 300:600]
        assert staff.mean() < patch.mean() - 8


@pytest.mark.parametrize("seed", range(6))
def test_warp_says_where_a_mark_of_the_clean_page_went(seed: int) -> None:
    page = np.full((1000, 800), 255, np.uint8)
    marks = np.array([[x, y] for x in (100.0, 400.0, 700.0) for y in (120.0, 500.0, 880.0)])
    for x, y in marks.astype(int):
        cv2.circle(page, (int(x), int(y)), 9, 0, -1)
    degraded = degrade_page(page, 12.0, np.random.default_rng(seed))
    for x, y in degraded.warp(marks):
        row, column = round(y) - 22, round(x) - 22
        patch = degraded.image[row : row + 45, column : column + 45].astype(np.float64)
        ink = np.clip(np.median(patch) - patch - 40, 0, None)
        rows, columns = np.indices(patch.shape)
        found = np.array([(columns * ink).sum() / ink.sum() + column, (rows * ink).sum() / ink.sum() + row])
        assert np.hypot(*(found - (x, y))) < 2.0


def test_geometry_stays_small() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [899.0, 0.0], [0.0, 599.0], [899.0, 599.0]])
    for _ in range(20):
        moved = degrade_page(staves(), 12.0, rng).warp(corners) - corners
        assert np.abs(moved).max() < 60


def test_a_blank_page_is_degraded_too() -> None:
    page = np.full((300, 200), 255, np.uint8)
    assert degrade_page(page, 8.0, np.random.default_rng(0)).image.shape == page.shape


def test_zero_strength_leaves_a_page_straight_and_clean() -> None:
    page = staves()
    degraded = degrade_page(page, 12.0, np.random.default_rng(0), strength=0.0)
    points = np.array([[10.0, 20.0], [800.0, 500.0]])
    np.testing.assert_allclose(degraded.warp(points), points, atol=1e-6)
    assert np.median(degraded.image) == 255


def test_degraded_audio_is_finite_within_bounds_and_float32() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        samples = degrade_audio(tone(), rng).samples
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1.0


def test_the_time_factor_is_the_change_of_length_and_small() -> None:
    rng = np.random.default_rng(0)
    clean = tone()
    for _ in range(12):
        degraded = degrade_audio(clean, rng)
        assert abs(np.log2(degraded.time_factor)) <= MAX_DETUNE_CENTS / 1200
        assert len(degraded.samples) == pytest.approx(len(clean) * degraded.time_factor, abs=2)


def test_detuning_moves_the_pitch_against_the_time_factor() -> None:
    degraded = degrade_audio(tone(), np.random.default_rng(0), strength=0.999)
    spectrum = np.abs(np.fft.rfft(degraded.samples * np.hanning(len(degraded.samples))))
    hertz = np.fft.rfftfreq(len(degraded.samples), 1 / SAMPLE_RATE)
    near = (hertz > 400) & (hertz < 480)
    assert hertz[near][spectrum[near].argmax()] == pytest.approx(440 / degraded.time_factor, abs=1.0)


def test_the_same_seed_gives_the_same_audio() -> None:
    first, second = (degrade_audio(tone(), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.samples, second.samples)


def test_an_onset_stays_where_the_time_factor_puts_it() -> None:
    rng = np.random.default_rng(1)
    clean = np.concatenate([np.zeros(SAMPLE_RATE, np.float32), tone()])
    for _ in range(8):
        degraded = degrade_audio(clean, rng, strength=0.5)
        smooth = np.convolve(np.abs(degraded.samples), np.ones(441) / 441, "same")
        onset = int(np.argmax(smooth > 0.5 * np.median(smooth[-SAMPLE_RATE:])))
        assert onset == pytest.approx(SAMPLE_RATE * degraded.time_factor, abs=0.05 * SAMPLE_RATE)


def test_mp3_keeps_length_and_time_and_only_roughly_the_samples() -> None:
    rng = np.random.default_rng(0)
    sound = np.zeros(33_000, np.float32)
    sound[16_000:16_300] = 0.3 * rng.standard_normal(300)
    for compression in (0.2, 0.6):
        heard = mp3(sound, compression)
        assert heard.shape == sound.shape
        assert np.abs(heard).argmax() == pytest.approx(np.abs(sound).argmax(), abs=300)
        delay = int(np.correlate(heard, sound[15_000:17_000], "valid").argmax()) - 15_000
        assert delay == 0
        assert not np.array_equal(heard, sound)
