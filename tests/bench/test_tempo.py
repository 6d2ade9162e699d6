import numpy as np
import pytest

from bench import tempo
from bench.tempo import ScoreMeasure, TimedPerformance

SCORE = b"""<score-partwise><part id="P1">
<measure number="0"><attributes><divisions>2</divisions></attributes>
<note><pitch><step>G</step><octave>4</octave></pitch><duration>2</duration></note></measure>
<measure number="1">
<note><grace/><pitch><step>A</step><octave>4</octave></pitch></note>
<note><pitch><step>C</step><alter>1</alter><octave>4</octave></pitch><duration>4</duration><tie type="start"/></note>
<note><chord/><pitch><step>E</step><octave>4</octave></pitch><duration>4</duration></note>
<note><pitch><step>C</step><alter>1</alter><octave>4</octave></pitch><duration>2</duration><tie type="stop"/></note>
<backup><duration>6</duration></backup>
<note><rest/><duration>2</duration></note>
<note><pitch><step>C</step><octave>3</octave></pitch><duration>4</duration></note>
</measure></part></score-partwise>"""


def played(seconds: list[float], onsets: list[float] | None = None) -> TimedPerformance:
    """Measures of four quarters."""
    onset = np.array(onsets or np.arange(10.0))
    return TimedPerformance(
        measure_quarters=np.full(len(seconds), 4.0),
        measure_s=np.array(seconds),
        onset_s=onset,
        velocity=np.full(len(onset), 60.0),
    )


def test_a_score_is_read_measure_by_measure_from_its_upbeat() -> None:
    measures = tempo.read_measures(SCORE)
    assert {number: measure.quarters for number, measure in measures.items()} == {0: 1.0, 1: 3.0}
    assert measures[0].notes == [(0.0, 1.0, 67)]
    assert measures[1].notes == [(0.0, 2.0, 61), (0.0, 2.0, 64), (1.0, 2.0, 48)]


def test_tempo_is_told_about_the_median_and_without_the_ends() -> None:
    log = tempo.log_tempo(np.full(5, 4.0), np.array([9.0, 2.0, 1.0, 4.0, 0.5]))
    assert log == pytest.approx([0.0, np.log(2), -np.log(2)])


def test_a_measure_without_a_length_in_time_is_not_known() -> None:
    log = tempo.log_tempo(np.full(5, 4.0), np.array([2.0, 2.0, 0.0, 2.0, 2.0]))
    assert np.isnan(log).tolist() == [False, True, False]


def test_a_machine_has_no_spread_and_a_slowing_shows_at_the_end() -> None:
    steady = tempo.statistics(played([2.0, 2.01] * 15))
    assert steady["spread of tempo"] < 0.01
    assert tempo.statistics(played([2.0, 2.01] * 15 + [4.0] * 4))["last three measures"] == pytest.approx(
        -0.69, abs=0.01
    )


def test_a_chord_is_what_sounds_nearly_together() -> None:
    told = tempo.statistics(played([2.0, 2.01] * 15, [0.0, 0.02, 1.0, 1.02, 2.0]))
    assert told["chords a second"] == pytest.approx(1.5)
    assert told["spread in a chord, ms"] == pytest.approx(10.0)


def test_players_of_one_piece_are_compared_with_one_another_alone() -> None:
    slow, fast = played([2.0] * 4), played([1.0] * 4)
    assert tempo.players_spread([[slow, fast], [slow]]) == pytest.approx(np.log(2) / np.sqrt(2))


def test_random_styles_play_all_measures() -> None:
    measures = [ScoreMeasure(quarters=4.0, notes=[(beat, 1.0, 60) for beat in range(4)])] * 30
    synthetic = tempo.play(measures, np.random.default_rng(0))
    assert len(synthetic.measure_s) == 30
    assert synthetic.measure_s.min() > 0
