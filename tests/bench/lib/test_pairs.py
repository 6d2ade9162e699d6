from dataclasses import replace

import numpy as np
import pytest

from bench.lib import pairs
from bench.lib.pairs import Material, Pairs
from engine.config import FrontEnd

WINDOW = FrontEnd(strip_rows=4, snippet_px=4, excerpt_frames=6)


def material(columns: list[float], frames: list[float], zoom: int = 1) -> Material:
    """A strip of 40 columns and a spectrogram of 40 frames that hold their own numbers."""
    return Material(
        piece="piece",
        strip=np.tile(np.arange(40, dtype=np.uint8), (6, 1)),
        zoom=zoom,
        spectrogram=np.tile(np.arange(40, dtype=np.float32), (92, 1)),
        columns=np.array(columns),
        frames=np.array(frames),
        measures=np.array(columns),
    )


def test_windows_are_centred_on_their_points() -> None:
    cut = pairs.cut([material([10], [20])], [(0, 0)], WINDOW)
    assert cut.snippets.shape == (1, 4, 4)
    assert cut.snippets[0, 0].tolist() == [8, 9, 10, 11]
    assert cut.excerpts[0, 0].tolist() == [17, 18, 19, 20, 21, 22]


def test_a_strip_at_half_the_scale_is_enlarged() -> None:
    cut = pairs.cut([material([10], [20], zoom=2)], [(0, 0)], WINDOW)
    assert cut.snippets[0, 0].tolist() == [9, 9, 10, 10]


def test_points_are_picked_evenly_among_those_whose_windows_lie_inside() -> None:
    inside = [float(column) for column in range(10, 21)]
    made = material([1.0, *inside, 20.0], [20.0] * 12 + [39.0])
    assert pairs.pick([made], WINDOW, 3) == [(0, 1), (0, 6), (0, 11)]
    assert len(pairs.pick([made], WINDOW, 100)) == len(inside)


def test_the_widest_windows_hold_those_of_all_networks() -> None:
    short, narrow = replace(WINDOW, excerpt_frames=2), replace(WINDOW, snippet_px=2)
    assert pairs.widest([short, narrow]) == WINDOW


def test_networks_of_different_scales_are_not_compared() -> None:
    with pytest.raises(ValueError, match="staff_space_px"):
        pairs.widest([WINDOW, replace(WINDOW, staff_space_px=10.0)])


def test_near_duplicates_are_errors_unless_forgiven() -> None:
    embeddings = np.eye(32, dtype=np.float32)[:3]
    recording = embeddings[[1, 0, 2]]  # the first two are taken for each other
    cut = Pairs(
        snippets=np.zeros((3, 1, 1), np.uint8),
        excerpts=np.zeros((3, 1, 1), np.float32),
        pieces=np.array(["a", "a", "b"]),
        measures=np.array([1.0, 1.5, 1.0]),
    )
    for ranked in pairs.rank(embeddings, recording, cut).values():
        assert ranked.exact.tolist() == [3, 3, 1]
        assert ranked.forgiving.tolist() == [1, 1, 1]
