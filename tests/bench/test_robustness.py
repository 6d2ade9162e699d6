from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import robustness
from bench.lib.pairs import Material
from bench.robustness import NEUTRAL, EngravedScore, played, printed
from engine.config import FrontEnd
from fake_encoder import FakeEncoder
from small_scores import write_kern

WINDOW = FrontEnd()


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> EngravedScore:
    path = write_kern(tmp_path_factory.mktemp("score") / "piece.krn", seed=0, bars=16)
    return robustness._engraved(("piece", path))


@pytest.fixture(scope="module")
def clean(score: EngravedScore) -> Material:
    return robustness.material(score, NEUTRAL, WINDOW)


def test_every_onset_is_seen_and_heard(clean: Material) -> None:
    assert len(clean.columns) == len(clean.frames) == 64
    assert np.all(np.diff(clean.frames) > 0)
    assert clean.columns.max() < clean.strip.shape[1]
    notes = clean.strip[:, np.rint(clean.columns).astype(int)]
    assert notes.mean() < clean.strip.mean() - 10  # there is more ink at notes than elsewhere


def test_twice_the_tempo_takes_half_the_time(score: EngravedScore, clean: Material) -> None:
    _, frames = played(score, clean.measures * 4, replace(NEUTRAL, tempo=2.0), WINDOW.bands)
    assert np.ptp(frames) == pytest.approx(np.ptp(clean.frames) / 2)


def test_a_higher_tuning_moves_energy_up(score: EngravedScore, clean: Material) -> None:
    conditions = replace(NEUTRAL, tuning_cents=100.0, mp3_kbit_s=128.0)
    sharp, frames = played(score, clean.measures * 4, conditions, WINDOW.bands)
    centres = [np.average(np.arange(92), weights=sound.sum(axis=1)) for sound in (clean.spectrogram, sharp)]
    assert centres[1] > centres[0] + 0.5
    assert np.ptp(frames) == pytest.approx(np.ptp(clean.frames) / 2 ** (1 / 12))


def test_too_large_a_staff_space_makes_the_strip_smaller(score: EngravedScore, clean: Material) -> None:
    strip, columns = printed(score, clean.measures * 4, replace(NEUTRAL, page_scale=1.4), WINDOW)
    assert strip.shape[1] == pytest.approx(clean.strip.shape[1] / 1.4, abs=5)
    np.testing.assert_allclose(columns, clean.columns / 1.4, atol=3)


@pytest.mark.parametrize("name", ["skew_degrees", "blur_spaces", "noise", "contrast"])
def test_other_damage_changes_the_strip_and_not_the_columns(score: EngravedScore, clean: Material, name: str) -> None:
    worst = replace(NEUTRAL, **{name: robustness.CURVES[name][-1]})
    strip, columns = printed(score, clean.measures * 4, worst, WINDOW)
    np.testing.assert_array_equal(columns, clean.columns)
    assert not np.array_equal(strip, clean.strip)


def test_curves_are_measured_and_drawn(score: EngravedScore, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    curves = {"tempo": (0.5, 1.0), "noise": (0.0, 0.5)}
    rows = robustness.measure([score], [FakeEncoder()], WINDOW, curves, 20)
    assert [(row["condition"], row["value"], row["direction"]) for row in rows] == [
        (name, value, direction) for name in curves for value in curves[name] for direction in ("A2S", "S2A")
    ]
    neutral = [row["MRR"] for row in rows if (row["condition"], row["value"]) in {("tempo", 1.0), ("noise", 0.0)}]
    assert neutral[:2] == neutral[2:]
    robustness.draw(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0
