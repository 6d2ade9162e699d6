import itertools
import logging
import os
import signal
import time
from collections.abc import Iterator

import pytest

from engine.workers import Codec, Failure, Worker, each, tell


def square(number: int) -> int:
    if number == 13:
        raise ValueError("13 is not liked")
    if number == 66:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def wait_and_name_the_process(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_every_task_gets_its_result() -> None:
    assert sorted(each(square, range(7), jobs=2)) == [(n, n * n) for n in range(7)]


def test_no_task_is_done_by_no_process() -> None:
    with pytest.raises(ValueError, match="expected 1 process or more, got 0"):
        list(each(square, [1], jobs=0))


def test_an_expected_error_is_told_by_its_message_alone() -> None:
    outcomes = dict(each(square, [2, 13, 3], jobs=1, expected=(ValueError,)))
    assert outcomes == {2: 4, 13: Failure(cause="13 is not liked"), 3: 9}


def test_an_unexpected_error_is_told_by_its_name_too() -> None:
    assert dict(each(square, [13], jobs=1)) == {13: Failure(cause="unexpected ValueError: 13 is not liked")}


def test_a_task_that_kills_its_process_fails_alone() -> None:
    outcomes = dict(each(square, [66, 2, 3], jobs=1))
    killed = Failure(cause="its worker process died (SIGKILL)")
    assert outcomes == {66: killed, 2: 4, 3: 9}


def test_tasks_are_taken_only_as_workers_become_free() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    outcomes = each(square, tasks(), jobs=2)
    next(outcomes)
    assert len(taken) == 2
    outcomes.close()


def test_leaving_the_loop_ends_a_worker_that_is_still_at_work() -> None:
    outcomes = each(wait_and_name_the_process, [0.0, 600.0], jobs=2)
    _, pid = next(outcomes)
    assert isinstance(pid, int)
    outcomes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def count_and_warn(number: int) -> int:
    for step in range(number):
        tell(step)
    logging.getLogger("engine.test").warning("%d steps", number)
    logging.getLogger("engine.test").debug("not wanted")
    return number


def test_what_a_task_tells_and_logs_reaches_the_parent_before_its_result(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[int, int]] = []
    for task, result in each(count_and_warn, [3, 2], jobs=1, observe=lambda task, step: told.append((task, step))):
        assert result == task
        assert len([step for done, step in told if done == task]) == task
    assert told == [(3, 0), (3, 1), (3, 2), (2, 0), (2, 1)]
    assert [record.getMessage() for record in caplog.records] == ["3 steps", "2 steps"]


def test_the_result_is_received_past_what_a_task_tells() -> None:
    worker = Worker(count_and_warn)
    worker.send(3)
    assert worker.receive(60.0) == 3
    worker.end()


def counted(number: int) -> Iterator[bytes]:
    """The numbers up to one, in parts; after 9 nothing comes for long, and after 99 the process is gone."""
    for step in range(number):
        yield str(step).encode()
    if number == 9:
        time.sleep(60)
    if number == 99:
        os._exit(7)


def joined(parts: Iterator[bytes]) -> str:
    """The parts, as far as they come and are not 20."""
    return " ".join(part.decode() for part in itertools.takewhile(lambda part: part != b"20", parts))


def identity(number: int) -> int:
    return number


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (3, "0 1 2"),
        (9, Failure(cause="took longer than 10 s")),
        (99, Failure(cause="its worker process sent no result (it sent more than a result)")),
        (0, ""),
    ],
)
def test_a_result_in_parts_is_whole_or_no_result(number: int, expected: str | Failure) -> None:
    worker = Worker(identity, codec=Codec(encode=counted, decode=joined))
    worker.send(number)
    assert worker.receive(10 if number == 9 else 60) == expected
    assert worker.alive is (expected in ("0 1 2", ""))
    worker.end()


def test_a_worker_that_dies_between_two_parts_has_no_result() -> None:
    worker = Worker(identity, codec=Codec(encode=counted, decode=b" ".join))
    worker.send(99)
    assert worker.receive(60.0) == Failure(cause="its worker process died (exit code 7)")


def test_telling_outside_a_worker_does_nothing() -> None:
    tell(1)
