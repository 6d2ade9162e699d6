"""The rival of transcription and perfect reading: pitch sets, and their alignment at any tempo."""

import numpy as np
import pytest

from bench.lib import symbols
from bench.lib.symbols import PitchSets, Transcription, cost, costs, heard_sets, written_sets
from indexer.synthesis.engrave import ScoreNotes


def score(pitches: list[list[int]], quarters: float = 1.0) -> PitchSets:
    """The pitch sets of chords at equal distances."""
    onsets = [quarters * number for number, chord in enumerate(pitches) for _ in chord]
    flat = [pitch for chord in pitches for pitch in chord]
    notes = ScoreNotes(
        onset_quarter=np.array(onsets), duration_quarter=np.full(len(flat), 0.5), pitch=np.array(flat, np.int64)
    )
    return written_sets(notes)


def heard(onsets_s: list[float], pitches: list[int]) -> PitchSets:
    return heard_sets(Transcription(onset_s=np.array(onsets_s), pitch=np.array(pitches, np.int64), cpu_s=0.0))


def random_score(seed: int, count: int = 40) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [sorted(rng.choice(np.arange(48, 84), 3, replace=False).tolist()) for _ in range(count)]


def test_notes_struck_together_are_one_set() -> None:
    sets = heard([0.0, 0.03, 0.06, 0.5, 0.52], [60, 64, 67, 62, 65])
    assert [np.flatnonzero(row).tolist() for row in sets] == [[60, 64, 67], [62, 65]]


def test_notes_of_a_score_are_apart_however_close() -> None:
    assert len(score([[60], [62], [64]], quarters=0.125)) == 3


@pytest.mark.parametrize("seconds", [0.2, 0.9])
def test_a_part_of_the_score_costs_nothing_at_any_tempo(seconds: float) -> None:
    chords = random_score(0)
    part = chords[10:25]
    onsets = [seconds * number for number, chord in enumerate(part) for _ in chord]
    fragment = heard(onsets, [pitch for chord in part for pitch in chord])
    assert cost(fragment, score(chords)) == pytest.approx(0)


def test_the_right_score_is_cheapest_in_spite_of_wrong_notes() -> None:
    chords, rng = random_score(0), np.random.default_rng(1)
    part = [[pitch for pitch in chord if rng.random() > 0.3] or chord for chord in chords[5:30]]
    part.insert(7, [41])
    del part[15]
    fragment = score(part)
    found = costs(fragment, [score(random_score(seed)) for seed in (3, 0, 4)])
    assert found.argmin() == 1
    assert found[1] < 0.35 < found[[0, 2]].min()


def test_every_set_of_the_fragment_is_charged() -> None:
    """A fragment of nothing but wrong notes costs 1 a set, however its path runs."""
    fragment = score([[30], [31], [32], [33]])
    assert cost(fragment, score(random_score(0))) == pytest.approx(1)


def test_silence_and_an_empty_score_cost_one() -> None:
    some = score(random_score(0))
    nothing = heard([], [])
    assert cost(nothing, some) == 1
    assert cost(some, nothing) == 1


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"transkun is not installed \(extra `peers`\)"):
        symbols.Transcriber()
