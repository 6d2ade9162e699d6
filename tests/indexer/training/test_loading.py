import os

import pytest

from indexer.training.loading import in_order

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12, in a process with threads


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_values_come_in_order_whoever_makes_them(processes: int) -> None:
    assert list(in_order(lambda number: number * number, range(3, 10), processes)) == [n * n for n in range(3, 10)]


def test_several_processes_make_the_values() -> None:
    makers = set(in_order(lambda _: os.getpid(), range(6), 3))
    assert len(makers) == 3
    assert os.getpid() not in makers


def test_the_death_of_a_process_is_seen() -> None:
    with pytest.raises(EOFError):
        list(in_order(lambda _: os._exit(1), range(4), 2))


def test_processes_end_with_who_fetches_from_them() -> None:
    values = in_order(lambda _: os.getpid(), range(100), 2)
    maker = next(values)
    values.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(maker, 0)
