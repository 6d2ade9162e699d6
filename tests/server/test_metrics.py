"""What the server tells of itself."""

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scorefind
from engine import alignment
from engine.collection import ShardHealth
from engine.collection.opening import Folder
from engine.names import OneLine
from engine.neighbours import FlatIndex, build
from engine.search.answers import table
from running_server import ROOT, Gate, ask, fill, ping, running
from server.address import Address
from server.config import Limits
from server.errors import AddressError, CollectionRefused, DeadlineExceeded, Overloaded
from server.logs import JsonLines, QueuedLines, queued


def got(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def test_counts_and_health_are_told_over_http(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0, 1)) as server, server.client() as client:
            url = f"http://{server.server.monitor(Address(port=0))}"
            await ask(client)
            status, text = await asyncio.to_thread(got, f"{url}/metrics")
            assert status == 200
            lines = text.splitlines()
            assert 'scorefind_requests_total{op="query",outcome="ok"} 1.0' in lines
            assert 'scorefind_stage_seconds_count{stage="align"} 1.0' in lines
            assert 'scorefind_collection{of="scores"} 2.0' in lines
            assert "scorefind_connections 1.0" in lines
            assert 'scorefind_in_flight{queue="queries"} 0.0' in lines
            assert await asyncio.to_thread(got, f"{url}/healthz") == (
                200,
                '{"ok": true, "degraded": [], "generation": 1}',
            )
            assert (await asyncio.to_thread(got, f"{url}/"))[0] == 404

    asyncio.run(test())


class Replicated(Folder):
    """A folder that says of itself what a collection in a cluster says."""

    def health(self) -> tuple[ShardHealth, ...]:
        return (
            ShardHealth(name="shard-000", replicas=2, answering=2, passed_over={"a/shard-000": 3}),
            ShardHealth(name="shard-001", replicas=3, answering=1, passed_over={}),
        )


def test_replicas_that_do_not_answer_are_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(Replicated(fill(tmp_path / "c", 0))) as server:
            url = f"http://{server.server.monitor(Address(port=0))}"
            lines = (await asyncio.to_thread(got, f"{url}/metrics"))[1].splitlines()
            assert 'scorefind_replicas{shard="shard-001",state="known"} 3.0' in lines
            assert 'scorefind_replicas{shard="shard-001",state="answering"} 1.0' in lines
            assert 'scorefind_replica_passed_over_total{of="a/shard-000",shard="shard-000"} 3.0' in lines
            assert server.server._health()["degraded"] == ["shard-001: 1 of 3 replicas answer"]

    asyncio.run(test())


def test_stats_tell_the_same_to_a_client(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0)) as server, server.client() as client:
            await ask(client)
            (tmp_path / "c" / "manifest.json").write_text("{}")
            with pytest.raises(CollectionRefused):
                await client.reload()
            stats = await client.stats()
            assert stats["requests"] == {"ping": {"ok": 1.0}, "query": {"ok": 1.0}, "reload": {"collection": 1.0}}
            assert stats["memory_bytes"] > 10_000_000
            assert stats["open_files"] > 3

    asyncio.run(test())


def test_every_error_is_counted_whatever_it_concerns(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0)) as here, here.client() as client:
            async with here.raw() as raw:
                await raw.send(ping(1) | {"v": 2}, ping(2) | {"what": 1})
                await raw.replies(2)
                await raw.send(b"\0\0\0\1\xc1")
                await raw.replies()
            assert (await client.stats())["requests"]["none"] == {"unsupported_version": 1.0, "bad_request": 1.0}
            cut = here.server._service.metrics.registry.get_sample_value
            assert cut("scorefind_connections_cut_total", {"code": "bad_frame"}) == 1.0

    asyncio.run(test())


def test_health_tells_what_is_wrong_though_the_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.service.FULL_S", 0.0)

    async def test() -> None:
        gate = Gate()
        async with (
            running(fill(tmp_path / "c", 0), Limits(queue=2), backend=gate.backend) as here,
            here.client() as client,
        ):
            assert here.server._health()["degraded"] == []
            manifest = tmp_path / "c" / "manifest.json"
            good = manifest.read_bytes()
            manifest.write_text("{}")
            with pytest.raises(CollectionRefused):
                await client.reload()
            gate.shut()
            asking = [asyncio.create_task(ask(client)) for _ in range(3)]
            await here.until(in_flight=2)
            await asyncio.sleep(0.05)
            assert here.server._health() == {
                "ok": True,
                "degraded": ["queries are refused: too many", "the last reload failed: an older generation answers"],
                "generation": 1,
            }
            gate.open()
            await asyncio.gather(*asking, return_exceptions=True)
            manifest.write_bytes(good)
            await client.reload()
            assert here.server._health()["degraded"] == []

    asyncio.run(test())


class Slow(Folder):
    """A folder whose newest generation is only opened when `free` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked, self.free = threading.Event(), threading.Event()
        self.free.set()

    def generation(self) -> int:
        self.asked.set()
        assert self.free.wait(30)
        return super().generation()


def test_a_reload_that_goes_on_is_no_fault_and_counts_though_its_deadline_passes(tmp_path: Path) -> None:
    async def test() -> None:
        place = Slow(fill(tmp_path / "c", 0))
        async with running(place) as here, here.client() as client:
            manifest = tmp_path / "c" / "manifest.json"
            good = manifest.read_bytes()
            manifest.write_text("{}")
            with pytest.raises(CollectionRefused):
                await client.reload()
            manifest.write_bytes(good)
            place.asked.clear()
            place.free.clear()
            with pytest.raises(DeadlineExceeded):
                await client.request("reload", deadline_s=0.2)
            assert await asyncio.to_thread(place.asked.wait, 30)
            failed = here.server._health()["degraded"]
            assert failed == ["the last reload failed: an older generation answers"]
            place.free.set()
            while here.server._health()["degraded"]:
                await asyncio.sleep(0.01)
            place.asked.clear()
            place.free.clear()
            loading = asyncio.create_task(client.reload())
            assert await asyncio.to_thread(place.asked.wait, 30)
            assert here.server._health()["degraded"] == []
            place.free.set()
            assert await loading == {"changed": False}

    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("maximum", [1, 2, 3])
def test_a_queue_that_is_empty_again_is_not_full_whatever_its_maximum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maximum: int
) -> None:
    monkeypatch.setattr("server.service.FULL_S", 0.0)

    async def test() -> None:
        gate = Gate()
        limits = Limits(queue=maximum)
        async with running(fill(tmp_path / "c", 0), limits, backend=gate.backend) as here, here.client() as client:
            gate.shut()
            asking = [asyncio.create_task(ask(client)) for _ in range(maximum)]
            await here.until(in_flight=maximum)
            with pytest.raises(Overloaded):
                await ask(client)
            assert here.server._health()["degraded"] == ["queries are refused: too many"]
            gate.open()
            await asyncio.gather(*asking)
            assert here.server._health()["degraded"] == []

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_queue_that_is_switched_off_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.service.FULL_S", 0.0)

    async def test() -> None:
        async with running(fill(tmp_path / "c", 0), Limits(evenings=0)) as here, here.client() as client:
            with pytest.raises(Overloaded):
                await client.request("segment", document="s0", kind="score", among="score")
            assert here.server._health()["degraded"] == []

    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("part", ["alignment", "neighbours"])
def test_health_tells_that_a_gpu_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    failed = False

    class OnGpu(FlatIndex):
        @property
        def fell_back(self) -> bool:  # type: ignore[override]
            return failed

    backend = alignment.choose("cpu", threads=1)
    if part == "alignment":
        backend = replace(backend, fell_back=lambda: failed)
    else:
        monkeypatch.setattr(
            "engine.collection.reader.build", lambda packed, threads: OnGpu(build(packed, threads=threads).raw)
        )

    async def test() -> None:
        nonlocal failed
        async with running(fill(tmp_path / "c", 0), backend=backend) as here, here.client() as client:
            await ask(client, method="exhaustive")
            here.server._service._shelf._held.collection.index("score")
            assert here.server._health()["degraded"] == []
            failed = True
            assert here.server._health()["degraded"] == [f"the GPU has failed: the CPU does the {part}"]

    asyncio.run(test())


KILLED_READER = """
import sys, time
from engine.collection import Collection
with Collection.open(sys.argv[1]):
    print("open", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_reader_held_is_freed_while_the_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fill(tmp_path / "c", 0)
    monkeypatch.setattr("server.service.REAP_S", 0.1)

    async def test() -> None:
        async with running(path) as here:
            command = [sys.executable, "-c", KILLED_READER, str(path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as reader:
                assert reader.stdout is not None
                assert await asyncio.to_thread(reader.stdout.readline) == b"open\n"
                readers = here.server._service._shelf._held.collection._store._env.readers
                assert f"{reader.pid} " in readers()
                await asyncio.sleep(0.3)
                assert f"{reader.pid} " in readers()  # a living reader keeps its place
                reader.kill()
            async with asyncio.timeout(20):
                while f"{reader.pid} " in readers():
                    await asyncio.sleep(0.05)

    asyncio.run(test())


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0)) as server:
            with pytest.raises(AddressError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
                server.server.monitor(server.address)

    asyncio.run(test())


def test_a_log_that_nobody_reads_makes_nobody_wait_and_counts_what_it_drops() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading) as reader:
        handler = QueuedLines(stream, OneLine(), waiting=10)
        began = time.monotonic()
        for number in range(5000):
            handler.emit(logging.makeLogRecord({"msg": "x" * 100, "levelname": "INFO", "name": str(number)}))
        assert time.monotonic() - began < 5
        written = dropped = 0
        while written + dropped < 5000:
            line = reader.readline()
            written += line.startswith("INFO")
            dropped += int(line.split()[2]) if "lines of the log were dropped" in line else 0
        assert dropped > 3000
        handler.close()


def test_warnings_and_uncaught_errors_are_lines_of_the_log() -> None:
    stream = io.StringIO()
    with queued(stream, as_json=True) as handler:
        logging.getLogger().addHandler(handler)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                np.log(np.array([0.0]))
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        finally:
            logging.getLogger().removeHandler(handler)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert "divide by zero" in events[0]["message"]
    assert events[1]["traceback"].endswith("ZeroDivisionError: division by zero")


HOSTILE = "a\x1b[2J\x9b2J\u202eb\nERROR forged\x7f"


@pytest.mark.parametrize("lines", [JsonLines(), OneLine()])
def test_no_escape_sequence_and_no_forged_line_gets_into_the_log(lines: logging.Formatter) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.LogRecord("server", logging.ERROR, "x.py", 1, "%s is gone", (HOSTILE,), sys.exc_info())
    text = lines.format(record)
    assert text.replace("\n", "").isprintable()
    assert "forged" in text.splitlines()[0]


def test_no_escape_sequence_gets_into_a_table() -> None:
    match = {"rank": 1, "id": HOSTILE, "title": HOSTILE, "cost": 1.0, "votes": None, "confidence": None}
    place = {"start_s": 0.0, "end_s": 1.0, "systems": [], "pages": []}
    answer = {"matches": [match | place], "in_collection": None}
    shown = [*table(answer).splitlines(), *scorefind._lines({"ids": {HOSTILE: HOSTILE}})]
    assert len(shown) == 4
    assert all(line.isprintable() for line in shown)


def test_the_log_is_one_json_object_a_line() -> None:
    try:
        raise ValueError("no\nway")
    except ValueError:
        record = logging.LogRecord("server", logging.ERROR, "x.py", 1, "%s is gone", ("a",), sys.exc_info())
    record.op = "query"
    line = JsonLines().format(record)
    assert "\n" not in line
    event = json.loads(line)
    assert (event["level"], event["logger"], event["message"], event["op"]) == ("ERROR", "server", "a is gone", "query")
    assert event["time"].endswith("Z")
    assert event["traceback"].endswith("ValueError: no\nway")
