import numpy as np
import pytest

from bench.lib import queries
from engine.config import FrontEnd
from engine.values import RECORDING_PLACE, SCORE_PLACE, SnippetSequence


def recording(snippets: int) -> SnippetSequence:
    """Snippet i's embedding holds i."""
    numbers = np.arange(snippets, dtype=np.float32)
    places = np.zeros(snippets, RECORDING_PLACE)
    places["start_s"] = numbers / 2
    return SnippetSequence(kind="recording", embeddings=np.tile(numbers[:, None], 32), places=places, bias=numbers)


def score(systems: list[tuple[int, int]]) -> SnippetSequence:
    """A snippet for each (first system, last system)."""
    places = np.zeros(len(systems), SCORE_PLACE)
    places["system"], places["end_system"] = np.array(systems).T
    zeros = np.zeros(len(systems), np.float32)
    return SnippetSequence(kind="score", embeddings=np.tile(zeros[:, None], 32), places=places, bias=zeros)


@pytest.mark.parametrize(("length_s", "count"), [(4.2, 1), (4.7, 2), (10, 12), (20, 32), (40, 72)])
def test_a_fragment_holds_as_many_excerpts_as_a_file_of_its_length(length_s: float, count: int) -> None:
    cut = queries.seconds(recording(200), length_s, FrontEnd(), np.random.default_rng(0))
    assert len(cut) == count
    assert np.diff(cut.bias).tolist() == [1] * (count - 1)


def test_fragments_start_at_different_places_of_the_whole_recording() -> None:
    rng = np.random.default_rng(0)
    starts = [int(queries.seconds(recording(40), 20, FrontEnd(), rng).bias[0]) for _ in range(200)]
    assert (min(starts), max(starts)) == (0, 8)


def test_a_recording_shorter_than_the_fragment_is_asked_whole() -> None:
    assert len(queries.seconds(recording(5), 40, FrontEnd(), np.random.default_rng(0))) == 5


def test_a_run_of_systems_holds_the_snippets_that_lie_wholly_in_it() -> None:
    sequence = score([(1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 3)])
    rng = np.random.default_rng(0)
    runs = {tuple(queries.systems(sequence, 1, rng).places["system"].tolist()) for _ in range(50)}
    assert runs == {(1,), (2,), (3, 3)}
    runs = {tuple(queries.systems(sequence, 2, rng).places["system"].tolist()) for _ in range(50)}
    assert runs == {(1, 1, 2), (2, 2, 3, 3)}


def test_a_score_of_fewer_systems_is_asked_whole() -> None:
    sequence = score([(1, 1), (1, 2), (2, 2)])
    assert len(queries.systems(sequence, 4, np.random.default_rng(0))) == 3


def test_systems_too_narrow_for_a_snippet_are_not_asked() -> None:
    sequence = score([(1, 3), (3, 3)])
    assert queries.systems(sequence, 1, np.random.default_rng(0)).places["system"].tolist() == [3]
