"""Streams of sound by WebSocket."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from http_client import Web, serving_web
from running_server import TOKEN, fill
from server.config import Limits

RATE = 22050


def run(test: Any) -> Any:
    return asyncio.run(test)


def stream(web: Web, **options: Any) -> connect:
    return connect(f"ws://{web.address}/stream", compression=None, **options)


async def told(socket: ClientConnection) -> Any:
    async with asyncio.timeout(20):
        return json.loads(await socket.recv())


def sound(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(int(seconds * RATE)).astype(np.float32) / 10


@pytest.mark.parametrize("kind", ["<f4", "<i2"])
def test_each_message_of_samples_is_answered(tmp_path: Path, kind: str) -> None:
    async def test() -> None:
        samples = sound(6)
        data = samples if kind == "<f4" else (samples * 32767).astype("<i2")
        async with serving_web(fill(tmp_path / "c", 0, 1)) as web, stream(web) as socket:
            await socket.send(json.dumps({"rate": RATE, "among": "score", "top": 1, "path": True, "samples": kind}))
            assert await told(socket) == {"stream": 1}
            await socket.send(data[: 2 * RATE].tobytes())
            first = await told(socket)
            assert (first["heard_s"], first["matches"]) == (2, [])
            await socket.send(data[2 * RATE :].tobytes())
            second = await told(socket)
            assert second["heard_s"] == 6
            assert second["matches"][0]["time_map"]
        async with asyncio.timeout(5):
            while len(web.running.server._door):
                await asyncio.sleep(0.01)

    run(test())


WRONG_OPENINGS: tuple[str | bytes, ...] = (
    *("{", "[]", "x" * 5000, '{"rate": 0}', '{"rate": 44100, "samples": "<f8"}', '{"rate": 44100, "op": "remove"}'),
    b"1234",
)


def test_a_wrong_opening_is_told_and_ends_the_stream(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            for first in WRONG_OPENINGS:
                async with stream(web) as socket:
                    await socket.send(first)
                    assert (await told(socket))["error"]["code"] == "bad_request", first
                    with pytest.raises(ConnectionClosed):
                        await told(socket)

    run(test())


def test_where_reads_need_a_token_a_stream_does_too(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0), open_reads=False) as web:
            for first in ('{"rate": 44100}', '{"rate": 44100, "token": "guess"}'):
                async with stream(web) as socket:
                    await socket.send(first)
                    assert (await told(socket))["error"]["code"] == "unauthorised"

    run(test())


def test_a_token_opens_a_stream(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0), open_reads=False) as web, stream(web) as socket:
            await socket.send(json.dumps({"rate": RATE, "token": TOKEN}))
            assert await told(socket) == {"stream": 1}

    run(test())


def test_samples_that_are_cut_or_too_many_end_the_stream(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            for data, code in ((b"123", "bad_request"), (bytes(1 << 21), None)):
                async with stream(web) as socket:
                    await socket.send(json.dumps({"rate": RATE}))
                    await told(socket)
                    await socket.send(data)
                    if code:
                        assert (await told(socket))["error"]["code"] == code
                    with pytest.raises(ConnectionClosed):
                        await told(socket)

    run(test())


def test_silence_and_a_missing_opening_are_limited(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0), Limits(idle_s=0.2, frame_s=0.2)) as web:
            async with stream(web) as socket:
                assert (await told(socket))["error"]["code"] == "deadline_exceeded"
            async with stream(web) as socket:
                await socket.send(json.dumps({"rate": RATE}))
                await told(socket)
                assert (await told(socket))["error"]["code"] == "deadline_exceeded"

    run(test())


def test_other_sites_cannot_open_a_stream(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            with pytest.raises(InvalidStatus, match="403"):
                async with stream(web, origin="https://evil.example"):
                    pass

    run(test())
