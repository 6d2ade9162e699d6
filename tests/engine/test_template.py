"""Workers that are forked of a template."""

import contextlib
import functools
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import template
from engine.template import Template
from engine.workers import Failure, Worker, each

pytestmark = pytest.mark.skipif(not template.available(), reason="needs pidfd_open of Linux")

loaded: list[int] = []


def load() -> None:
    """Takes a while and leaves something in memory, as modules do."""
    time.sleep(0.3)
    loaded.append(os.getpid())


def state(task: object) -> tuple[list[int], int, str | None]:
    """What a worker has from its template, its own process, and a variable of the environment."""
    return loaded, os.getpid(), os.environ.get("OMP_NUM_THREADS")


def end(how: int) -> None:
    """Ends the process: by a signal if the number is negative."""
    if how < 0:
        os.kill(os.getpid(), -how)
    os._exit(how)


def sockets(_: None) -> int:
    """The number of sockets that this process has."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            count += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
    return count


@pytest.fixture
def made() -> Iterator[Template]:
    one = Template(load, {"OMP_NUM_THREADS": "7"})
    yield one
    one.close()


def test_forked_workers_have_what_the_template_has_loaded_once(made: Template) -> None:
    workers = [Worker(state, template=made) for _ in range(3)]
    told = []
    for worker in workers:
        worker.send(None)
        told.append(worker.receive(20.0))
        worker.end()
    (of_template,) = {tuple(had) for had, _, _ in told}
    pids = {pid for _, pid, _ in told}
    assert len(of_template) == 1
    assert len(pids - set(of_template)) == 3
    assert {threads for _, _, threads in told} == {"7"}
    assert loaded == []  # in this process


@pytest.mark.parametrize(
    ("how", "ending"), [(-signal.SIGKILL, "SIGKILL"), (-signal.SIGSEGV, "SIGSEGV"), (3, "exit code 3")]
)
def test_how_a_forked_worker_ended_is_told(made: Template, how: int, ending: str) -> None:
    worker, other = Worker(end, template=made), Worker(state, template=made)
    worker.send(how)
    assert worker.receive(20.0) == Failure(cause=f"its worker process died ({ending})")
    assert not worker.process.is_alive()
    other.send(None)
    assert other.receive(20.0)[1] == other.process.pid
    other.end()


def test_a_forked_worker_that_takes_too_long_is_killed(made: Template) -> None:
    worker = Worker(time.sleep, template=made)
    assert worker.process.is_alive()
    worker.send(600.0)
    assert worker.receive(1.0) == Failure(cause="took longer than 1 s")
    assert not worker.process.is_alive()
    assert worker.process.exitcode == -signal.SIGKILL


def test_a_template_that_died_is_started_again_and_its_workers_go_on(made: Template) -> None:
    before = Worker(state, template=made)
    before.send(None)
    (first,), _, _ = before.receive(20.0)
    os.kill(first, signal.SIGKILL)
    after = Worker(state, template=made)
    after.send(None)
    (second,), _, _ = after.receive(20.0)
    assert second != first
    before.send(None)
    assert before.receive(20.0)[1] == before.process.pid
    before.end()
    after.end()
    assert before.process.exitcode is None  # nobody knows: its template is gone
    assert after.process.exitcode == -signal.SIGKILL


def test_a_template_that_cannot_be_started_is_an_error() -> None:
    with pytest.raises(OSError, match="cannot be started"):
        Worker(state, template=Template(functools.partial(os._exit, 3), {}))


def test_a_forked_worker_has_its_own_pipe_and_cannot_reach_the_template(made: Template) -> None:
    workers = [Worker(sockets, template=made) for _ in range(2)]
    for worker in workers:
        worker.send(None)
    assert [worker.receive(20.0) for worker in workers] == [1, 1]
    for worker in workers:
        worker.end()


def test_forked_workers_end_with_the_process_that_asked_for_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from engine.template import Template\n"
        "from engine.workers import Worker\n"
        "if __name__ == '__main__':\n"
        "    worker = Worker(time.sleep, template=Template(int, {}))\n"
        "    worker.send(600.0)\n"
        "    print(worker.process.pid, flush=True)\n"
        "    time.sleep(600.0)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    deadline = time.monotonic() + 20.0
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that has ended may not have been waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_where_the_kernel_lacks_what_templates_need_workers_are_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", refused)
    assert not template.available()
    assert dict(each(abs, [-1], jobs=1)) == {-1: 1}
