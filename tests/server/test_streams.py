"""What is kept of a recording that goes on and on, and where it lies."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config import FrontEnd
from fake_encoder import FakeEncoder
from running_server import codes, fill, running
from server.answering import Answering, Push, Question, must_be_heard
from server.config import Limits
from server.errors import Overloaded, RequestError
from server.messages import OpenStream, Wanted, array
from server.streams import LiveRecording, Unheard

RATE = 8000
WANTED = Wanted(among="score", method="refine", top=1, path=False)


def opened(rate: int = RATE) -> LiveRecording:
    """A stream as the server opens it."""
    return LiveRecording(OpenStream(rate=rate, wanted=WANTED), FrontEnd(), Limits().stream_s)


def noise(seconds: float) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


def pieces(samples: NDArray[np.float32], seconds: float) -> Iterator[NDArray[np.float32]]:
    size = round(seconds * RATE)
    return (samples[start : start + size] for start in range(0, len(samples), size))


def heard(stream: LiveRecording, samples: NDArray[np.float32], seconds: float = 10.0) -> LiveRecording:
    """The stream after samples that came in pieces, each embedded when it came."""
    for piece in pieces(samples, seconds):
        stream.hear(piece)
        stream.embed(FakeEncoder())
    return stream


def test_two_minutes_are_kept_and_of_more_the_latest() -> None:
    samples = noise(200)
    kept = heard(opened(), samples).sequence()
    whole = LiveRecording(OpenStream(rate=RATE, wanted=WANTED), FrontEnd(), max_s=1000)
    everything = heard(whole, samples).sequence()
    assert len(kept) == 240 < len(everything)
    np.testing.assert_allclose(kept.embeddings, everything.embeddings[-240:], atol=1e-6)
    np.testing.assert_array_equal(kept.places, everything.places[-240:])


@pytest.mark.parametrize(("seconds", "count", "first_s"), [(124.1, 240, 0.0), (124.6, 240, 0.5), (154.3, 240, 30.5)])
def test_places_count_from_the_start_of_the_stream_though_that_was_dropped(
    seconds: float, count: int, first_s: float
) -> None:
    """The 240th excerpt begins at 119.5 s; each takes 4.2 s, and comes when a little more was heard."""
    places = heard(opened(), noise(seconds)).sequence().places
    assert len(places) == count
    np.testing.assert_allclose(places["start_s"], first_s + 0.5 * np.arange(count), atol=1e-3)
    np.testing.assert_allclose(places["end_s"], places["start_s"] + 4.2, atol=1e-3)


def test_silence_before_the_first_sound_counts_in_places_but_not_among_what_is_kept() -> None:
    stream = heard(opened(), np.concatenate([np.zeros(20 * RATE, np.float32), noise(100)]))
    places = stream.sequence().places
    assert len(places) < 240
    assert (places["start_s"][0], stream.heard_s) == (20.0, 120.0)
    assert heard(stream, noise(60)).sequence().places["start_s"][0] == pytest.approx(180 - 4.2 - 119.5, abs=0.6)


@pytest.mark.parametrize("seconds", [0.7, 119.0, 300.0])
def test_what_is_kept_is_the_same_whatever_the_pieces(seconds: float) -> None:
    samples = noise(140)
    kept, other = heard(opened(), samples).sequence(), heard(opened(), samples, seconds).sequence()
    np.testing.assert_array_equal(kept.places, other.places)
    np.testing.assert_allclose(kept.embeddings, other.embeddings, atol=1e-4)


def test_a_rate_that_no_recording_has_is_refused() -> None:
    assert opened(2000).rate == 2000
    with pytest.raises(RequestError, match="rate: expected a sampling rate of 2000"):
        opened(1999)


def test_samples_are_heard_though_their_deadline_passes_while_they_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, begun, free = Answering.__call__, threading.Event(), threading.Event()

    def slow(answering: Answering, questions: list[Question]) -> object:
        begun.set()
        assert free.wait(30)
        return answered(answering, questions)

    async def go() -> None:
        async with running(fill(tmp_path / "c", 0)) as here, here.client() as client, here.raw() as raw:
            stream = await client.stream(RATE)
            await raw.send({"v": 1, "id": 1, "op": "stream.open", "rate": RATE})
            await raw.replies(1)
            monkeypatch.setattr(Answering, "__call__", slow)
            first = asyncio.create_task(stream.push(noise(1)))
            await asyncio.to_thread(begun.wait, 30)
            push = {"v": 1, "id": 2, "op": "stream.push", "stream": 1, "samples": array(noise(2)), "deadline_s": 0.1}
            await raw.send(push)
            assert codes(await raw.replies(1)) == ["deadline_exceeded"]
            free.set()
            await first
            await raw.send({"v": 1, "id": 3, "op": "stream.push", "stream": 1, "samples": array(noise(3))})
            (reply,) = await raw.replies(1)
            assert reply["ok"]["heard_s"] == 5.0

    asyncio.run(asyncio.wait_for(go(), 60))


def test_samples_of_a_stream_that_is_closed_are_not_heard() -> None:
    stream = opened()
    pushed = [
        Push(stream=stream, samples=noise(1), answer=True, is_open=is_open) for is_open in (lambda: True, lambda: False)
    ]
    asked = [Push(stream=stream, samples=noise(0), answer=True)]
    questions = [Question(source=push, wanted=WANTED) for push in pushed + asked]
    assert list(map(must_be_heard, questions)) == [True, False, False]


def test_samples_that_nobody_waits_for_are_refused_when_too_many_wait() -> None:
    unheard, waiting = Unheard(max_bytes=10), [True, True]
    unheard.add(lambda: waiting[0], 9)
    unheard.require_room()
    unheard.add(lambda: waiting[1], 1)
    with pytest.raises(Overloaded, match="10 bytes of earlier samples wait to be heard; send these samples again"):
        unheard.require_room()
    waiting[1] = False
    unheard.require_room()


def test_a_path_tells_the_seconds_of_a_stream_that_has_gone_on_for_longer_than_is_kept(tmp_path: Path) -> None:
    """A path begins at the first excerpt that is kept, and ends at the latest one, each at its middle."""
    opening = {"v": 1, "id": 1, "op": "stream.open", "rate": RATE, "among": "score", "top": 1, "path": True}
    parts = list(pieces(noise(140), 70.0))

    async def go() -> None:
        async with running(fill(tmp_path / "c", 0)) as here, here.raw() as raw:
            await raw.send(opening)
            await raw.replies(1)
            for number, part in enumerate(parts):
                await raw.send({"v": 1, "id": number, "op": "stream.push", "stream": 1, "samples": array(part)})
                (reply,) = await raw.replies(1)
            path = reply["ok"]["matches"][0]["path"]
            assert reply["ok"]["heard_s"] == 140.0
            assert path[-1]["query"]["s"] == pytest.approx(140 - 4.2 + 2.1, abs=0.75)
            assert path[-1]["query"]["s"] - path[0]["query"]["s"] == pytest.approx(119.5)

    asyncio.run(asyncio.wait_for(go(), 60))
