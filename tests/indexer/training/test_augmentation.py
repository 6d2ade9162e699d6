import math

import numpy as np
import pytest
import torch

from indexer.training import augmentation
from indexer.training.augmentation import NO_AUGMENTATION, Augmentation, Dice

HEIGHT, WIDTH = 80, 100


def dice(seed: int = 0) -> Dice:
    return Dice(seed, torch.device("cpu"))


def only(**strength: float) -> Augmentation:
    """One change alone."""
    return Augmentation(**{"shift_px": 0, "contrast": 0.0, "tempo": 0.0, "equalisation": 0.0, "noise": 0.0} | strength)  # type: ignore[arg-type]


def test_without_augmentation_nothing_changes() -> None:
    rows, columns = augmentation.sampling_grid(3, HEIGHT, WIDTH, NO_AUGMENTATION, dice())
    assert torch.equal(rows, torch.arange(HEIGHT).float()[:, None].expand(3, HEIGHT, WIDTH))
    assert torch.equal(columns, torch.arange(WIDTH).float().expand(3, HEIGHT, WIDTH))
    snippets, magnitudes = torch.rand(3, HEIGHT, WIDTH), torch.rand(3, 92, 84)
    torch.testing.assert_close(augmentation.changed_snippets(snippets, NO_AUGMENTATION, dice()), snippets)
    assert torch.equal(augmentation.changed_magnitudes(magnitudes, NO_AUGMENTATION, dice()), magnitudes)


def test_shifts_reach_their_bounds_in_each_direction() -> None:
    rows, columns = augmentation.sampling_grid(500, HEIGHT, WIDTH, only(shift_px=4), dice())
    assert set(rows[:, 0, 0].tolist()) == set(columns[:, 0, 0].tolist()) == set(range(-4, 5))


def test_a_scaled_snippet_is_read_about_its_middle() -> None:
    rows, columns = augmentation.sampling_grid(500, HEIGHT, WIDTH, only(scale=0.1), dice())
    assert torch.allclose(rows.mean((1, 2)), torch.tensor((HEIGHT - 1) / 2), atol=1e-3)
    assert torch.allclose(columns.mean((1, 2)), torch.tensor((WIDTH - 1) / 2), atol=1e-3)
    wide = (columns[:, 0, -1] - columns[:, 0, 0]) / (WIDTH - 1)
    tall = (rows[:, -1, 0] - rows[:, 0, 0]) / (HEIGHT - 1)
    assert torch.log(wide * tall).std() / 2 == pytest.approx(0.1, rel=0.15)
    assert torch.log(wide / tall).std() == pytest.approx(0.1, rel=0.15)


def test_a_slope_turns_rows_and_columns_alike() -> None:
    rows, columns = augmentation.sampling_grid(200, HEIGHT, WIDTH, only(slope=0.01), dice())
    along = (rows[:, 0, -1] - rows[:, 0, 0]) / (WIDTH - 1)
    across = (columns[:, -1, 0] - columns[:, 0, 0]) / (HEIGHT - 1)
    torch.testing.assert_close(along, -across, atol=1e-5, rtol=0)
    assert along.std() == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("change", [{"thickness": 1.0}, {"blur": 1.0}, {"grain": 0.2}, {"contrast": 0.5}])
def test_changed_snippets_stay_between_black_and_white(change: dict[str, float]) -> None:
    snippets = (torch.rand(40, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) > 0.3).float()
    changed = augmentation.changed_snippets(snippets, only(**change), dice())
    assert not torch.equal(changed, snippets)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_lines_become_wider_in_some_snippets_and_narrower_in_others() -> None:
    snippets = torch.ones(100, HEIGHT, WIDTH)
    snippets[:, 40:43] = 0
    ink = (1 - augmentation.changed_snippets(snippets, only(thickness=0.5), dice())).sum((1, 2)) / WIDTH
    assert ink.min() < 2.2
    assert ink.max() > 3.8
    assert ((ink > 1.99) & (ink < 4.01)).all()


def test_blurring_keeps_the_ink_and_lowers_its_peak() -> None:
    snippets = torch.ones(100, HEIGHT, WIDTH)
    snippets[:, 40:43, 50] = 0
    ink = 1 - augmentation.changed_snippets(snippets, only(blur=0.6), dice())
    assert ink[:, 41, 50].min() < 0.62
    blurred = ink[ink[:, 41, 49] > 0].sum((1, 2))
    assert 50 < len(blurred) < 84, "the others are sharpened"
    torch.testing.assert_close(blurred, torch.full_like(blurred, 3.0), atol=1e-3, rtol=0)


def test_a_room_rings_after_a_stroke_and_never_before_it() -> None:
    magnitudes = torch.zeros(200, 92, 84)
    magnitudes[:, :, 40] = 2.0
    wet = augmentation.changed_magnitudes(magnitudes, only(room=1.0), dice())
    assert torch.equal(wet[:, :, :40], magnitudes[:, :, :40])
    torch.testing.assert_close(wet[:, :, 40], magnitudes[:, :, 40])
    tails = wet[:, 0, 41:]
    assert (tails[:, :-1] > tails[:, 1:]).all()
    energy = (wet**2).sum(2)[:, 0] / 4 - 1
    assert 0 < energy.min() < 0.1
    assert 0.7 < energy.max() < 1
    # 60 dB in 0.3 s to 3 s: a frame of 0.05 s keeps 10^(-6 * 0.05 / 0.3) to 10^(-6 * 0.05 / 3) of the energy.
    kept = (tails[:, 1] / tails[:, 0]) ** 2
    assert 0.1 <= kept.min() < 0.12
    assert 0.78 < kept.max() <= 10**-0.1


def test_dynamics_keep_the_loudest_magnitude() -> None:
    magnitudes = torch.rand(100, 92, 84) * 3
    changed = augmentation.changed_magnitudes(magnitudes, only(dynamics=0.3), dice())
    torch.testing.assert_close(changed.amax((1, 2)), magnitudes.amax((1, 2)))
    power = torch.log(changed[:, 0, 0] / changed.amax((1, 2))) / torch.log(
        magnitudes[:, 0, 0] / magnitudes.amax((1, 2))
    )
    assert torch.log(power).std() == pytest.approx(0.3, rel=0.2)


def test_an_equaliser_changes_bands_smoothly_and_noise_adds_its_share() -> None:
    magnitudes = torch.ones(300, 92, 84)
    gains = torch.log(augmentation.changed_magnitudes(magnitudes, only(equalisation=0.5), dice()))
    assert torch.equal(gains[:, :, 0], gains[:, :, 1])
    assert gains[:, 0, 0].std() == pytest.approx(0.5, rel=0.15)
    assert (gains[:, 1:, 0] - gains[:, :-1, 0]).abs().max() < 0.5 * 2 * 5 * 5 / 92
    added = (augmentation.changed_magnitudes(magnitudes, only(noise=0.2), dice()) - 1).mean((1, 2))
    assert 0 <= added.min() < 0.02
    assert 0.18 < added.max() < 0.21


def test_numbers_depend_on_the_seed_alone() -> None:
    first, second, other = dice(1), dice(1), dice(2)
    assert torch.equal(first.uniform(5), second.uniform(5))
    assert not torch.equal(first.normal(5), other.normal(5))
    drawn = dice().integers(torch.tensor([3]).expand(3000))
    assert np.bincount(drawn.numpy()).tolist() == pytest.approx([1000] * 3, abs=4 * math.sqrt(3000 * 2 / 9))
