from pathlib import Path

import numpy as np

from bench.lib.visits import Visit, order, performed, repeats, restored, turns, unfolded

KERN = """**kern
*>[A,A1,A,A2,B]
*>norep[A,A2,B]
*>A
4c
=1
4d
=2
*>A1
4e
=3:|!
*>A2
4f
=4
*>B
4g
==
*-
"""


def visit(measure: int, start_s: float, end_s: float) -> Visit:
    return Visit(measure=measure, start_s=start_s, end_s=end_s)


def test_the_notes_tell_which_measures_a_repeat_plays_again() -> None:
    notes = [5, 9, 3, 7, 6, 8, 12, 4]
    measures = [1, 2, 3, 4, 5, -1, -1, -1, -1, 6, 7, 8]
    assert restored(measures, [*notes[:5], *notes[1:5], *notes[5:]]) == [1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7, 8]


def test_visits_whose_notes_fit_no_measures_stay_unknown() -> None:
    measures = [1, 2, 3, 4, 5, -1, -1, -1, -1, 6]
    assert restored(measures, [5, 9, 3, 7, 6, 20, 1, 20, 1, 8]) == measures


def test_a_single_visit_is_too_little_to_tell_measures_by() -> None:
    assert restored([1, 2, -1, 3], [5, 9, 5, 4]) == [1, 2, -1, 3]


def test_sections_are_visited_in_the_order_that_the_kern_tells() -> None:
    assert order(KERN) == [range(2), range(2, 3), range(2), range(3, 4), range(4, 5)]
    assert order("**kern\n4c\n*-\n") == []


def test_a_recording_is_put_together_in_the_order_of_its_sections() -> None:
    samples = np.repeat(np.array([1, 2, 3], np.float32), 100)  # a second each
    visits = [visit(1, 0.0, 1.0), visit(2, 1.0, 2.0), visit(3, 2.0, 3.0)]
    made, played = unfolded(samples, 100, visits, [range(2), range(2), range(2, 3)])
    assert made[50::100].tolist() == [1, 2, 1, 2, 3]
    assert [(one.measure, one.start_s) for one in played] == [(1, 0), (2, 1), (1, 2), (2, 3), (3, 4)]
    assert turns(played) == [2.0]
    assert repeats(played) == 2


def test_a_section_of_rests_after_the_last_note_is_left_out() -> None:
    visits = [visit(1, 0.0, 1.0), visit(2, 1.0, 2.0)]
    made, played = unfolded(np.ones(100, np.float32), 100, visits, [range(1), range(1, 2)])
    assert len(made) == 100
    assert [one.measure for one in played] == [1]


def test_a_turn_is_seen_across_a_visit_that_is_not_known() -> None:
    played = [visit(1, 0, 1), visit(2, 1, 2), visit(-1, 2, 3), visit(1, 3, 4), visit(2, 4, 5)]
    assert turns(played) == [3]
    assert turns(played[:2]) == []


def test_measures_are_read_from_the_table_of_a_performance(tmp_path: Path) -> None:
    table = tmp_path / "measure_times.csv"
    table.write_text("piece,performance,visit,measure,t0,t1,notes\np,one,1,1,0.5,1.5,4\np,one,2,,1.5,2.0,7\n")
    assert performed(table) == {"one": [visit(1, 0.5, 1.5), visit(-1, 1.5, 2.0)]}
