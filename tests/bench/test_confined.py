"""Peers compute with one thread while they are measured."""

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from bench.lib import confined


def test_one_thread_is_left_and_the_others_come_back() -> None:
    with threadpool_limits(2):
        before = [pool["num_threads"] for pool in threadpool_info()]
        with confined.one_thread():
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert [pool["num_threads"] for pool in threadpool_info()] == before
    assert before


def test_a_library_that_keeps_its_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = [{"filepath": "libgood.so", "num_threads": 1}, {"filepath": "libspin.so", "num_threads": 16}]
    monkeypatch.setattr(confined, "threadpool_info", lambda: pools)
    with (
        pytest.raises(RuntimeError, match=r"libraries with one thread each; libspin\.so has 16$"),
        confined.one_thread(),
    ):
        pass
