"""The passages of long recordings over the socket and over HTTP; work that nobody waits for ends."""

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from websockets.asyncio.client import connect

import scorefind
from collection_samples import sequence
from engine.evening import LiveEvening
from engine.search.live_segmentation import STEP
from engine.search.segmentation import Evening
from fake_encoder import FakeEncoder
from http_client import serving_web
from media import write_recording
from running_server import TOKEN, fill, running
from server.answering import KnownDocument
from server.config import Limits
from server.errors import Overloaded, RequestError
from server.evenings import Evenings
from server.messages import SegmentRequest, parse
from server.streams import Unheard

RATE = 22050


@pytest.fixture
def evening(tmp_path: Path) -> Path:
    """A take of thirty seconds between two stretches of noise of ten seconds."""
    rng = np.random.default_rng(0)
    take = soundfile.read(write_recording(tmp_path / "waltz.flac", 1, seconds=30))[0]
    before, after = (0.1 * rng.standard_normal(10 * RATE) for _ in range(2))
    soundfile.write(tmp_path / "evening.wav", np.concatenate([before, take, after]), RATE)
    return tmp_path / "evening.wav"


def told(setlist: dict[str, Any]) -> list[tuple[str, int]]:
    """Document and start, to five seconds, of each passage."""
    return [(passage["id"], 5 * round(passage["start_s"] / 5)) for passage in setlist["passages"]]


def test_a_recording_is_cut_into_passages_over_the_socket_and_over_http(evening: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web, web.running.client(token=TOKEN) as client:
            await client.add("waltz", tmp_path / "waltz.flac")
            found = await client.segment(evening, among="recording")
            assert told(found) == [("waltz", 10)]
            assert (found["start_s"], found["duration_s"]) == (0, pytest.approx(50))
            assert found["timings_ms"].keys() == {"embed", "segment", "total"}
            part = {"among": "recording", "start_s": "5", "end_s": "45"}
            reply = await web.form("/segment", part, evening)
            assert (reply.json["start_s"], reply.json["duration_s"]) == (5, pytest.approx(40))
            assert (reply.json["query"], told(reply.json)) == ("evening.wav", [("waltz", 10)])
            known = await web.post("/segment", {"document": "waltz", "kind": "recording", "among": "recording"})
            assert told(known.json) == [("waltz", 0)]
            assert (known.json["start_s"], known.json["duration_s"]) == (0, pytest.approx(30, abs=5))

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_document_among_its_own_is_a_passage_of_itself_and_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0, 1)) as here, here.client() as client:
            found = await client.request("segment", document="s1", kind="score", among="score")
            assert [passage["id"] for passage in found["passages"]] == ["s1"]
            assert (found["pages"], found["start_s"], found["duration_s"]) == (1, None, None)
            with pytest.raises(RequestError, match="kind: expected score"):
                await client.request("segment", document="s1", kind="recording")

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_score_has_no_part_in_seconds() -> None:
    message = {"v": 1, "id": 1, "op": "segment", "media": [{"name": "a.pdf", "data": b""}]}
    body = parse(message).body
    assert isinstance(body, SegmentRequest)
    assert body.among == "recording"
    with pytest.raises(RequestError, match="start_s, end_s: only a recording"):
        parse(message | {"start_s": 1.0})


def test_more_evenings_than_wait_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, going_on = threading.Event(), threading.Event()

    def slow(*_: object) -> object:
        begun.set()
        going_on.wait(30)
        raise RequestError("done")

    monkeypatch.setattr(Evenings, "_found", slow)

    async def test() -> None:
        async with running(fill(tmp_path / "c", 0), limits=Limits(evenings=1)) as here, here.client() as client:
            asking = asyncio.create_task(client.request("segment", document="s0", kind="score", among="score"))
            await asyncio.to_thread(begun.wait, 10)
            with pytest.raises(Overloaded, match="1 evenings"):
                await client.request("segment", document="s0", kind="score", among="score")
            assert (await client.ping()) == {}
            going_on.set()
            with pytest.raises(RequestError, match="done"):
                await asking

    asyncio.run(asyncio.wait_for(test(), 60))


class EndlessSegmenter:
    """Works until `between` raises."""

    def __init__(self) -> None:
        self.began = threading.Event()

    def found(self, evening: Evening) -> None:
        self.began.set()
        while True:
            evening.between()


def test_the_work_ends_when_nobody_waits_for_it_any_more() -> None:
    segmenter = EndlessSegmenter()

    @contextmanager
    def taken() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(segmenter=segmenter)

    async def test() -> None:
        evenings = Evenings(SimpleNamespace(taken=taken), FakeEncoder(), Unheard())  # type: ignore[arg-type]
        known = KnownDocument(sequence=sequence(9, "recording"), systems=())
        asking = asyncio.create_task(evenings.found(known, "score"))
        await asyncio.to_thread(segmenter.began.wait, 10)
        asking.cancel()
        await evenings.close()  # waits for the thread

    asyncio.run(asyncio.wait_for(test(), 20))


class Listening:
    """An evening that notes how many samples it hears."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.finds = 0

    def hear(self, samples: NDArray[np.float32]) -> None:
        self.heard.append(len(samples))

    def find(self, *_: object, **__: object) -> None:
        self.finds += 1

    def as_dict(self, _: object) -> dict[str, Any]:
        return {}


class Engaged:
    """A shelf whose generation nobody gets before `free` is set."""

    def __init__(self) -> None:
        self.free = threading.Event()

    @contextmanager
    def taken(self) -> Iterator[SimpleNamespace]:
        assert self.free.wait(30)
        yield SimpleNamespace(segmenter=None, collection=None, number=1)


def test_samples_are_heard_in_order_though_nobody_waits_for_the_answer_any_more() -> None:
    async def test() -> None:
        shelf, evening, unheard = Engaged(), Listening(), Unheard(max_bytes=8)
        evenings = Evenings(shelf, FakeEncoder(), unheard)  # type: ignore[arg-type]
        pushes = [
            asyncio.create_task(evenings.heard(evening, np.zeros(count, np.float32)))  # type: ignore[arg-type]
            for count in (1, 2, 3)
        ]
        await asyncio.sleep(0)
        pushes[1].cancel()
        await asyncio.wait([pushes[1]])
        with pytest.raises(Overloaded, match="8 bytes of earlier samples wait to be heard"):
            await evenings.heard(evening, np.zeros(4, np.float32))  # type: ignore[arg-type]
        telling = asyncio.create_task(evenings.heard(evening, np.zeros(0, np.float32)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        shelf.free.set()
        await asyncio.gather(pushes[0], pushes[2], telling)
        assert (evening.heard, evening.finds) == ([1, 2, 3, 0], 4)
        unheard.require_room()
        await evenings.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_an_evening_keeps_little_of_pushes_whose_deadline_has_passed(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0)) as server:
            evenings = server.server._service._evenings
            evening = LiveEvening(8000, FakeEncoder.identity.front_end, "score")
            samples = np.random.default_rng(0).normal(0, 0.1, 8000 * 30).astype(np.float32)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await evenings.heard(evening, samples)
            await asyncio.wrap_future(evenings._live.submit(lambda: None))  # is done after all that was pushed
            assert evening.heard_s == 90
            assert evening._waiting == []
            assert len(evening._segmentation._waiting) < STEP

    asyncio.run(asyncio.wait_for(test(), 60))


def test_samples_of_an_evening_that_its_client_has_left_are_dropped() -> None:
    async def test() -> None:
        shelf, evening, unheard = Engaged(), Listening(), Unheard(max_bytes=8)
        evenings = Evenings(shelf, FakeEncoder(), unheard)  # type: ignore[arg-type]
        pushes = [
            asyncio.create_task(evenings.heard(evening, np.zeros(count, np.float32), lambda: False))  # type: ignore[arg-type]
            for count in (1, 2, 3, 0)
        ]
        await asyncio.sleep(0)
        pushes[1].cancel()
        pushes[3].cancel()
        await asyncio.wait([pushes[1], pushes[3]])
        assert len(unheard._waiting) == 1
        shelf.free.set()
        await asyncio.gather(pushes[0], pushes[2])
        assert (evening.heard, evening.finds) == ([1, 3], 2)
        unheard.require_room()
        await evenings.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def samples_of(path: Path) -> NDArray[np.float32]:
    return soundfile.read(path, dtype="float32")[0]


def test_an_evening_that_is_played_is_told_by_the_socket(evening: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0)) as server, server.client(token=TOKEN) as client:
            await client.add("waltz", tmp_path / "waltz.flac")
            stream = await client.stream(RATE, among="recording", passages=True)
            samples, states = samples_of(evening), []
            for at in range(0, len(samples), 2 * RATE):
                answer = await stream.push(samples[at : at + 2 * RATE])
                states.append([(one["id"], one["ended"]) for one in answer["passages"]])
            assert [state for state, _ in itertools.groupby(states)] == [[], [("waltz", False)], [("waltz", True)]]
            told_last = await stream.get()
            assert told(told_last) == [("waltz", 10)]
            assert told_last["heard_s"] == pytest.approx(50)
            assert (await stream.push(samples[:RATE], answer=False))["passages"] == []
            await stream.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_an_evening_that_is_played_is_told_by_web_socket(evening: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web, web.running.client(token=TOKEN) as client:
            await client.add("waltz", tmp_path / "waltz.flac")
            async with connect(f"ws://{web.address}/stream", compression=None) as socket:
                await socket.send(json.dumps({"rate": RATE, "among": "recording", "passages": True}))
                await socket.recv()
                samples, answer = samples_of(evening), {}
                for at in range(0, len(samples), 2 * RATE):
                    await socket.send(samples[at : at + 2 * RATE].tobytes())
                    answer = json.loads(await socket.recv())
            assert told(answer) == [("waltz", 10)]
            assert answer["passages"][0]["ended"]

    asyncio.run(asyncio.wait_for(test(), 60))


def test_more_live_evenings_than_allowed_are_refused_until_a_client_leaves(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0), Limits(live_evenings=1)) as server, server.client() as client:
            async with server.client() as other:
                await other.stream(RATE, passages=True)
                with pytest.raises(Overloaded, match="1 evenings are going on"):
                    await client.stream(RATE, passages=True)
            while True:
                try:
                    stream = await client.stream(RATE, passages=True)
                    break
                except Overloaded:
                    await asyncio.sleep(0.05)
            await stream.close()
            await client.stream(RATE, passages=True)

    asyncio.run(asyncio.wait_for(test(), 30))


def test_an_impossible_rate_of_a_live_evening_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0)) as server, server.client() as client:
            with pytest.raises(RequestError, match="rate: expected a sampling rate"):
                await client.stream(1, passages=True)

    asyncio.run(asyncio.wait_for(test(), 30))


def test_the_command_line_asks_a_server(evening: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> int:
        async with running(fill(tmp_path / "c", 0)) as server, server.client(token=TOKEN) as client:
            await client.add("waltz", tmp_path / "waltz.flac")
            arguments = ["segment", str(evening), "--among", "recording", "--json", "--server", str(server.address)]
            return await asyncio.to_thread(scorefind.main, arguments)

    assert asyncio.run(asyncio.wait_for(test(), 60)) == 0
    found = json.loads(capsys.readouterr().out)
    assert (told(found), found["query"], found["transposed"]) == ([("waltz", 10)], str(evening), 0)
