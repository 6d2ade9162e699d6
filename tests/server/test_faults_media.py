"""Media that are hostile, sent to a server that listens, and decoders that die of them."""

import asyncio
import os
import random
import shutil
import signal
import zlib
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config import MediaLimits
from media import write_page, write_recording
from running_server import Process, Running, ask, decoder_processes, fill, running, serving_process
from server.client import AsyncClient
from server.config import Limits
from server.errors import MediaRefused, ServerError
from server.metrics import memory_bytes

MIB = 1 << 20
M4A = [("a.m4a", b"only ffmpeg reads this")]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores s0 to s3; only read."""
    return fill(tmp_path_factory.mktemp("media") / "c", 0, 1, 2, 3)


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("takes") / "take.flac", 1, seconds=6)


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The command line of an ffmpeg that never ends, by which its process is found: decoders can write nowhere else."""
    script, seconds = tmp_path / "bin" / "ffmpeg", f"{600 + random.random()}"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\nexec sleep {seconds}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return f"sleep\0{seconds}\0"


async def started(command: str) -> int:
    """The process that runs a command."""
    async with asyncio.timeout(20):
        while True:
            for line in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    if line.read_text() == command:
                        return int(line.parent.name)
            await asyncio.sleep(0.01)


async def is_gone(process: int) -> bool:
    """Whether the process ends within five seconds."""
    for _ in range(500):
        status = Path(f"/proc/{process}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        await asyncio.sleep(0.01)
    return False


async def decoders_lost(here: Running) -> int:
    async with here.client() as client:
        return int((await client.stats())["decoders_lost"])


def within(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it hangs."""
    asyncio.run(asyncio.wait_for(work, 60))


def test_a_decoder_that_is_killed_at_work_fails_its_request_alone(collection: Path, take: Path, ffmpeg: str) -> None:
    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            query = asyncio.create_task(client.query(M4A))
            child = await started(ffmpeg)
            os.kill(decoder_processes(here.server._service._decoders)[0], signal.SIGKILL)
            assert (await ask(client, 2))["matches"][0]["id"] == "s2"
            with pytest.raises(MediaRefused, match=r"a\.m4a: its worker process died \(SIGKILL\)"):
                await query
            assert (await client.query(take, top=1))["matches"]
            assert await decoders_lost(here) == 1
            assert await is_gone(child)

    within(go())


def test_a_file_that_takes_too_long_is_refused_and_nothing_goes_on_reading_it(
    collection: Path, take: Path, ffmpeg: str
) -> None:
    async def go() -> None:
        async with running(collection, Limits(decode_s=8.0)) as here, here.client() as client:
            query = asyncio.create_task(client.query(M4A))
            child = await started(ffmpeg)
            assert (await ask(client, 2))["matches"][0]["id"] == "s2"
            with pytest.raises(MediaRefused, match=r"a\.m4a: took longer than 8 s"):
                await query
            assert await is_gone(child)
            assert (await client.query(take, top=1))["matches"]
            assert await decoders_lost(here) == 1

    within(go())


def test_decoders_end_with_the_server_whatever_they_do(collection: Path, ffmpeg: str) -> None:
    async def go() -> None:
        async with running(collection, Limits(drain_s=0.1)) as here, here.client() as client:
            query = asyncio.create_task(client.query(M4A, deadline_s=2.0))
            child = await started(ffmpeg)
            decoders = decoder_processes(here.server._service._decoders)
            await here.server.stop()
            assert [await is_gone(process) for process in (*decoders, child)] == [True, True]
            with pytest.raises(ServerError):
                await query

    within(go())


def test_decoders_end_with_a_server_that_is_killed(collection: Path, ffmpeg: str) -> None:
    async def go(process: Process) -> None:
        async with AsyncClient(process.address) as client:
            query = asyncio.create_task(client.query(M4A, deadline_s=2.0))
            child = await started(ffmpeg)
            process.send(signal.SIGKILL)
            assert await is_gone(child)
            with pytest.raises(ServerError):
                await query

    with serving_process(collection) as process:
        within(go(process))


def png(side: int, pixels: bytes) -> bytes:
    """A square PNG of one bit a pixel, and of these lines."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes((1, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def test_bombs_are_refused_and_memory_stays_flat(
    collection: Path, take: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Images of few bytes and many pixels, and ten hours of silence."""
    silent = tmp_path_factory.mktemp("silence") / "silent.flac"
    with soundfile.SoundFile(silent, "w", samplerate=2000, channels=1, subtype="PCM_S8") as file:
        for _ in range(100):
            file.write(np.zeros(720_000, np.int16))
    side = 9000
    hostile = {
        "huge.png": (png(100_000, b""), r"huge\.png: 100000 x 100000 px: too large for a page"),
        "deep.png": (
            png(side, bytes((1 + side // 8) * side)),
            r"deep\.png: takes more than the 96 MiB that are allowed",
        ),
        "long.flac": (silent.read_bytes(), r"long\.flac: longer than 60 s, the maximum"),
    }
    limits = Limits(decode_bytes=96 * MIB, query_media=MediaLimits(seconds=60.0, pixels=100_000_000))

    async def go() -> None:
        async with running(collection, limits) as here, here.client() as client:
            await client.query(take)
            memory = memory_bytes()
            for name, (data, message) in hostile.items():
                assert len(data) < MIB
                with pytest.raises(MediaRefused, match=message):
                    await client.query([(name, data)])
                assert (await client.query(take, top=1))["matches"]
            assert memory_bytes() < memory + 32 * MIB
            assert await decoders_lost(here) == 0

    within(go())


def test_no_other_file_is_read_for_a_client(collection: Path, tmp_path: Path) -> None:
    """ffmpeg goes by content, and so does Pillow: a playlist names other files, an EPS starts another program."""
    secret = write_recording(tmp_path / "secret.wav", 1, seconds=20)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\n{secret}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{secret}'\n"
    postscript = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n%%EndComments\nshowpage\n%%EOF\n"
    hostile = {"a.mp3": playlist, "b.m4a": playlist, "c.mp3": concat, "d.png": postscript}

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            for name, text in hostile.items():
                with pytest.raises(MediaRefused) as raised:
                    await client.query([(name, text.encode())])
                assert "secret" not in str(raised.value)

    within(go())


def test_random_bytes_under_every_name_are_refused_as_media(collection: Path, take: Path) -> None:
    rng = np.random.default_rng(0)
    starts = [
        b"",
        b"%PDF-1.7\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"II*\x00",
        b"fLaC",
        b"RIFF\0\0\0\0WAVEfmt ",
    ]
    names = [f"a{suffix}" for suffix in (".pdf", ".png", ".jpg", ".tiff", ".flac", ".wav", ".mp3", ".ogg", ".wma")]

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            for start in starts:
                for name in names:
                    with pytest.raises(MediaRefused, match=rf"^{name}: "):
                        await client.query([(name, start + rng.bytes(1000))])
            assert (await client.query(take, top=1))["matches"]

    within(go())


def test_decoding_goes_on_when_the_folder_of_temporary_files_was_cleared_away(collection: Path, take: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            decoders = here.server._service._decoders
            shutil.rmtree(decoders._scratch.path)
            assert (await client.query(take, top=1))["matches"]
            assert decoders._scratch.path.stat().st_mode & 0o777 == 0o700  # nobody else reads what clients send

    within(go())


def test_a_damaged_page_is_refused_and_the_next_one_read(collection: Path, tmp_path: Path) -> None:
    whole = write_page(tmp_path / "a.png", 1).read_bytes()

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            with pytest.raises(MediaRefused, match=r"a\.png: damaged image"):
                await client.query([("a.png", whole[:60])])
            assert (await client.query([("a.png", whole)], among="score", top=1))["matches"]

    within(go())
