import numpy as np

from engine.config import FrontEnd
from indexer.training.contact_sheet import random_pair, sheets
from indexer.training.material import Take


def take(columns: list[float], frames: list[float]) -> Take:
    """A strip with a black line, and a click, at each onset."""
    strip = np.full((88, 600), 255, np.uint8)
    strip[:, np.array(columns, int)] = 0
    spectrogram = np.zeros((92, 400), np.float32)
    spectrogram[:, np.array(frames, int)] = 1
    return Take(
        piece="piece",
        quarters=np.arange(len(columns), dtype=np.float64),
        strip=strip,
        columns=np.array(columns, np.float32),
        spectrogram=spectrogram,
        frames=np.array(frames, np.float32),
    )


def test_a_pair_has_its_onset_in_the_middle_of_both_windows_and_its_neighbours_beside() -> None:
    pair = random_pair(take([10, 200, 240], [5, 100, 121]), FrontEnd(), np.random.default_rng(1))
    assert pair is not None
    assert pair.snippet[0, 50] == 0
    assert pair.excerpt[0, 42] == 0
    assert (pair.caption, pair.seen.tolist()) in (("piece 1.00", [0.5, 0.9]), ("piece 2.00", [0.5, 0.1]))
    assert len(pair.heard) == 2


def test_a_take_too_short_for_a_window_gives_no_pair() -> None:
    assert random_pair(take([10], [5]), FrontEnd(), np.random.default_rng(0)) is None


def test_the_sheets_mark_the_chosen_onset_in_red() -> None:
    pair = random_pair(take([200], [100]), FrontEnd(), np.random.default_rng(0))
    assert pair is not None
    snippets, excerpts = sheets([pair] * 7)
    assert snippets.shape == excerpts.shape
    assert snippets[5, 150].tolist() == excerpts[5, 150].tolist() == [0, 0, 220]
