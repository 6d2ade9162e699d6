"""Media are read in processes that may die, take too long or too much, without harm."""

import asyncio
import os
import pickle
import signal
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.audio import Recording
from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.score import Score
from engine.score.facsimile import picture_size
from media import write_page, write_recording
from running_server import decoder_processes
from server.browsing import Looks
from server.decoded import Decoded
from server.decoding import Decoders, Drawing, Reading
from server.errors import MediaRefused, Stopping
from server.sent import File, Media

READING = Reading(front_end=FrontEnd(), limits=MediaLimits(seconds=60.0), timeout_s=60.0)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def deaths() -> list[int]:
    return []


@pytest.fixture(scope="module")
def decoders(loop: asyncio.AbstractEventLoop, deaths: list[int]) -> Iterator[Decoders]:
    """One worker, which may take half a GiB."""
    made = Decoders(1, memory_bytes=1 << 29, observe_death=lambda: deaths.append(1))
    yield made
    loop.run_until_complete(made.close())


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_recording(tmp_path_factory.mktemp("takes") / "a.flac", 1, seconds=8).read_bytes()


def media(name: str, data: bytes) -> Media:
    return Media(kind="recording" if name.endswith(".flac") else "score", files=(File(name=name, data=data),))


def read(decoders: Decoders, loop: asyncio.AbstractEventLoop, media: Media, **changes: Any) -> Score | Recording:
    return loop.run_until_complete(decoders.read(media, replace(READING, **changes)))


def leftovers(decoders: Decoders) -> list[Path]:
    return list(decoders._scratch.path.glob("*/*"))


def test_a_recording_is_read_or_a_part_of_it(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes
) -> None:
    whole = read(decoders, loop, media("a.flac", recording))
    part = read(decoders, loop, media("a.flac", recording), start_s=1.0, end_s=6.0)
    assert isinstance(whole, Recording)
    assert isinstance(part, Recording)
    assert (whole.duration_s, part.duration_s, part.start_s) == (8.0, 5.0, 1.0)
    assert not leftovers(decoders)


def test_workers_are_confined_and_send_bytes_and_arrays(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes
) -> None:
    read(decoders, loop, media("a.flac", recording))
    (worker,) = decoders._workers
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    with pytest.raises(ValueError, match=r"expected|extra data"):
        worker._decode(pickle.dumps({"cause": "it is pickled"}))


def test_several_images_are_the_pages_of_one_score(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    first, second = write_page(tmp_path / "z.png", 1, systems=2), write_page(tmp_path / "a.png", 2, systems=3)
    files = tuple(File(name=path.name, data=path.read_bytes()) for path in (first, second))
    found = read(decoders, loop, Media(kind="score", files=files))
    assert isinstance(found, Score)
    assert [system.page for system in found.systems] == [1, 1, 2, 2, 2]


def test_what_is_to_be_kept_is_made_up_to_a_size(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes
) -> None:
    def kept(most: int) -> Decoded:
        return loop.run_until_complete(decoders.decode(media("a.flac", recording), replace(READING, kept_bytes=most)))

    assert kept(0).kept == {}
    whole = kept(1 << 20).kept
    assert set(whole) == {0}
    with pytest.raises(MediaRefused, match=r"a\.flac: takes more than the 0 MiB that may be kept"):
        kept(len(whole[0]) - 1)


def test_a_page_is_drawn_and_one_that_is_not_there_refused(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    page = media("a.png", write_page(tmp_path / "a.png", 1).read_bytes())

    def drawn(number: int, limits: MediaLimits = GENEROUS) -> bytes:
        drawing = Drawing(looks=Looks(page=number, turn=90, width=600), limits=limits, timeout_s=60.0)
        return loop.run_until_complete(decoders.decode(page, drawing)).picture

    assert picture_size(drawn(1)) == (600, 621)
    with pytest.raises(MediaRefused, match="no page 2"):
        drawn(2)
    with pytest.raises(MediaRefused, match="too large for a page"):
        drawn(1, MediaLimits(pixels=1000))
    assert not leftovers(decoders)


def test_what_cannot_be_read_is_told_by_the_clients_own_name(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes
) -> None:
    with pytest.raises(MediaRefused, match=r"^mine\.png: not a PDF or an image in a format that is read"):
        read(decoders, loop, media("mine.png", b"hello"))
    with pytest.raises(MediaRefused, match=r"^a\.flac: longer than 5 s, the maximum$"):
        read(decoders, loop, media("a.flac", recording), limits=MediaLimits(seconds=5.0))
    assert not leftovers(decoders)


def test_a_file_that_takes_too_much_memory_is_refused_and_the_worker_lives(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes, deaths: list[int]
) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    side = 13_000  # 169 million pixels of three bytes
    header = side.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    packer = zlib.compressobj()
    pixels = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    assert len(bomb) < 1 << 20
    workers = decoder_processes(decoders)
    with pytest.raises(MediaRefused, match=r"bomb\.png: takes more than the 512 MiB that are allowed"):
        read(decoders, loop, media("bomb.png", bomb))
    assert isinstance(read(decoders, loop, media("a.flac", recording)), Recording)
    assert (decoder_processes(decoders), deaths) == (workers, [])


def test_a_worker_that_dies_is_replaced_and_fails_its_request_alone(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes, deaths: list[int]
) -> None:
    async def killed_at_work() -> None:
        (worker,) = decoder_processes(decoders)
        os.kill(worker, signal.SIGSTOP)  # else it may have read the file before it is killed
        reading = asyncio.create_task(decoders.read(media("a.flac", recording), READING))
        while not leftovers(decoders):
            await asyncio.sleep(0.01)
        os.kill(worker, signal.SIGKILL)
        await reading

    with pytest.raises(MediaRefused, match=r"a\.flac: its worker process died \(SIGKILL\)"):
        loop.run_until_complete(killed_at_work())
    assert deaths.pop() == 1
    assert isinstance(read(decoders, loop, media("a.flac", recording)), Recording)
    assert not leftovers(decoders)


def test_a_worker_that_died_while_idle_is_replaced_before_anybody_notices(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes, deaths: list[int]
) -> None:
    os.kill(decoder_processes(decoders)[0], signal.SIGKILL)
    decoders._workers[0].process.join()
    assert isinstance(read(decoders, loop, media("a.flac", recording)), Recording)
    assert deaths == []


def test_a_worker_that_takes_too_long_is_killed(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes, deaths: list[int]
) -> None:
    before = decoder_processes(decoders)
    with pytest.raises(MediaRefused, match=r"a\.flac: took longer than 0\.001 s"):
        read(decoders, loop, media("a.flac", recording), timeout_s=0.001)
    assert deaths.pop() == 1
    assert isinstance(read(decoders, loop, media("a.flac", recording)), Recording)
    assert decoder_processes(decoders) != before


def test_who_is_cancelled_leaves_the_worker_to_the_next_one(
    decoders: Decoders, loop: asyncio.AbstractEventLoop, recording: bytes
) -> None:
    async def leave_and_return() -> Score | Recording:
        (worker,) = decoder_processes(decoders)
        os.kill(worker, signal.SIGSTOP)
        gone = asyncio.create_task(decoders.read(media("a.flac", recording), READING))
        while not leftovers(decoders):
            await asyncio.sleep(0.01)
        gone.cancel()
        os.kill(worker, signal.SIGCONT)
        return await decoders.read(media("a.flac", recording), READING)

    assert isinstance(loop.run_until_complete(leave_and_return()), Recording)
    assert not leftovers(decoders)


def test_closing_ends_a_worker_that_is_read_from(loop: asyncio.AbstractEventLoop, recording: bytes) -> None:
    """Often, since the thread that waits for the worker and the one that closes could get in each other's way."""

    async def close_while_reading() -> None:
        made = Decoders(1, memory_bytes=1 << 29)
        reading = asyncio.create_task(made.read(media("a.flac", recording), READING))
        while not leftovers(made):
            await asyncio.sleep(0)
        await made.close()
        with pytest.raises(Stopping, match="the server is stopping"):
            await reading
        with pytest.raises(Stopping, match="the server is stopping"):
            await made.read(media("a.flac", recording), READING)

    for _ in range(20):
        loop.run_until_complete(close_while_reading())
