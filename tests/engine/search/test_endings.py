"""Until when a passage sounds that has come to the end of its document."""

import numpy as np
import pytest

from engine.audio import FRAME_RATE
from engine.search.endings import LONGEST_S, Tones


def _tones(*parts: tuple[float, float], start_s: float = 0.0) -> Tones:
    """Stretches of sound: seconds and mean tonality of each, which varies by a tenth."""
    rng = np.random.default_rng(0)
    values = [mean + rng.uniform(-0.1, 0.1, round(FRAME_RATE * seconds)) for seconds, mean in parts]
    return Tones(values=np.concatenate(values).astype(np.float32), start_s=start_s, rate=FRAME_RATE)


def test_music_goes_on_until_it_is_less_tonal() -> None:
    tones = _tones((30, 0.7), (100, 2.5), (30, 0.7))
    assert tones.music_until(30, 110, np.inf) == pytest.approx(130, abs=1.5)


def test_what_ends_where_the_music_ends_stays_as_it_is() -> None:
    tones = _tones((30, 0.7), (100, 2.5), (30, 0.7))
    assert tones.music_until(30, 130, np.inf) == pytest.approx(130, abs=1.5)
    assert tones.music_until(30, 131, np.inf) == 131


def test_noise_that_is_nearly_as_loud_as_the_music_is_told_from_it() -> None:
    tones = _tones((100, 1.5), (30, 1.15))
    assert tones.music_until(0, 80, np.inf) == pytest.approx(100, abs=1.5)


def test_a_breath_is_no_ending() -> None:
    tones = _tones((50, 2.5), (0.1, 0.7), (50, 2.5), (30, 0.7))
    assert tones.music_until(0, 40, np.inf) == pytest.approx(100, abs=1.5)


def test_music_goes_on_to_the_next_passage_or_for_a_minute_at_most() -> None:
    tones = _tones((300, 2.5))
    assert tones.music_until(0, 100, 120) == pytest.approx(120, abs=0.1)
    assert tones.music_until(0, 100, np.inf) == pytest.approx(100 + LONGEST_S, abs=0.1)


def test_times_are_those_of_the_file() -> None:
    tones = _tones((100, 2.5), (30, 0.7), start_s=1000.0)
    assert tones.music_until(1000, 1080, np.inf) == pytest.approx(1100, abs=1.5)
    assert tones.music_until(900, 1080, np.inf) == pytest.approx(1100, abs=1.5)


def test_without_enough_sound_before_nothing_is_prolonged() -> None:
    assert _tones((60, 2.5)).music_until(0, 3, np.inf) == 3
    assert _tones((60, 2.5)).music_until(0, 60, np.inf) == 60
