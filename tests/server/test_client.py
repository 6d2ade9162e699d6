"""Clients, and what the server does for them from end to end."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.audio import read_audio
from engine.errors import MediaError
from fake_encoder import FakeEncoder
from media import write_page, write_recording
from running_server import NETWORK, TOKEN, Running, ask, fill, running
from server.address import Address
from server.client import AsyncClient, Client
from server.config import Limits
from server.errors import (
    AddressError,
    ConnectionLost,
    DeadlineExceeded,
    DocumentMissing,
    QueryRefused,
    RequestError,
    TooMany,
    from_code,
)

Test = Callable[[Running, AsyncClient], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "sonata").mkdir()
    write_page(folder / "sonata" / "p1.png", seed=1)
    write_page(folder / "sonata" / "p2.png", seed=2)
    write_page(folder / "etude.png", seed=3)
    for seed, name in enumerate(("etude", "waltz"), start=3):
        write_recording(folder / f"{name}.flac", seed, seconds=20)
    return folder


def within(path: Path, test: Test, limits: Limits | None = None) -> None:
    """Runs a test against a server of the collection at `path`, made with three scores if it is not there."""
    if not path.exists():
        fill(path, 0, 1, 2)

    async def run() -> None:
        async with running(path, limits) as server, server.client() as client:
            await test(server, client)

    asyncio.run(run())


def test_what_is_added_is_found_by_the_next_query_and_gone_when_removed(library: Path, tmp_path: Path) -> None:
    async def test(server: Running, client: AsyncClient) -> None:
        for name in ("etude", "waltz"):
            added = await client.add(f"{name}.played", library / f"{name}.flac", title=name)
            assert (added["status"], added["snippets"]) == ("added", 32)
        await client.add("sonata", library / "sonata", composer="Mozart")
        answer = await client.query(library / "waltz.flac", among="recording", start_s=5.0, end_s=15.0, top=1)
        (match,) = answer["matches"]
        assert (match["id"], match["title"], answer["direction"]) == ("waltz.played", "waltz", "A2A")
        assert match["start_s"] == pytest.approx(5.0, abs=0.6)
        assert answer["collection"]["generation"] == 4
        pages = await client.query(library / "sonata", among="score", path=True, top=1)
        assert (pages["matches"][0]["id"], pages["matches"][0]["composer"]) == ("sonata", "Mozart")
        assert pages["matches"][0]["path"][0]["query"]["page"] == 1
        assert {"decode", "embed", "align", "locate", "total"} <= pages["timings_ms"].keys()
        assert (await client.remove("waltz.played", "sonata"))["removed"] == 2
        listed = await client.info(list=True)
        assert sorted(listed["ids"]) == ["etude.played", "s0", "s1", "s2"]

    within(tmp_path / "c", test)


def test_many_requests_are_in_flight_on_one_connection(tmp_path: Path) -> None:
    async def test(server: Running, client: AsyncClient) -> None:
        answers = await asyncio.gather(*(ask(client, number % 3, top=1) for number in range(30)))
        assert [answer["matches"][0]["id"] for answer in answers] == [f"s{number % 3}" for number in range(30)]
        assert (await client.stats())["connections"] == 1

    within(tmp_path / "c", test)


def test_a_stream_tells_more_as_it_is_heard(library: Path, tmp_path: Path) -> None:
    async def test(server: Running, client: AsyncClient) -> None:
        for name in ("etude", "waltz"):
            await client.add(name, library / f"{name}.flac")
        samples = read_audio(library / "waltz.flac")
        stream = await client.stream(22050, among="recording", top=1)
        begun = await stream.push(samples[: 2 * 22050])
        assert (begun["matches"], begun["heard_s"]) == ([], 2.0)
        assert (await stream.push(samples[2 * 22050 : 8 * 22050], answer=False))["matches"] == []
        heard = await stream.push((samples[8 * 22050 : 12 * 22050] * 32767).astype(np.int16))
        assert heard["matches"][0]["id"] == "waltz"
        whole = await client.query(library / "waltz.flac", among="recording", end_s=12.0, top=1)
        assert heard["matches"][0]["cost"] == pytest.approx(whole["matches"][0]["cost"], abs=0.01)
        await stream.close()
        with pytest.raises(RequestError, match=r"stream: expected one of the open streams \[\], got 1"):
            await stream.push(samples)

    within(tmp_path / "c", test)


def test_of_a_long_stream_the_latest_part_is_asked_for(library: Path, tmp_path: Path) -> None:
    async def test(server: Running, client: AsyncClient) -> None:
        for name in ("etude", "waltz"):
            await client.add(name, library / f"{name}.flac")
        stream = await client.stream(22050, among="recording", top=1)
        for name in ("etude", "waltz"):
            answer = await stream.push(read_audio(library / f"{name}.flac"))
            assert answer["matches"][0]["id"] == name
        assert answer["heard_s"] == 40.0

    within(tmp_path / "c", test, Limits(stream_s=8.0))


def test_a_client_has_so_many_streams_and_no_more(tmp_path: Path) -> None:
    async def test(server: Running, client: AsyncClient) -> None:
        first, _ = await client.stream(44100), await client.stream(44100)
        with pytest.raises(TooMany, match="2 streams are open"):
            await client.stream(44100)
        await first.close()
        await client.stream(44100)
        with pytest.raises(RequestError, match="expected a sampling rate of 2000"):
            await (await AsyncClient(server.address).stream(8)).close()

    within(tmp_path / "c", test, Limits(streams_per_client=2))


def test_embeddings_of_another_network_are_refused_naming_both(tmp_path: Path) -> None:
    async def test(server: Running, client: AsyncClient) -> None:
        with pytest.raises(QueryRefused, match=f"embedded by {NETWORK.hash}, the query by other"):
            await client.query_embeddings(np.eye(3, 32, dtype=np.float32), "score", "other")

    within(tmp_path / "c", test)


def test_a_file_that_is_not_there_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    async def test(server: Running, client: AsyncClient) -> None:
        with pytest.raises(MediaError, match=r"none\.flac: no such file or folder"):
            await client.query(tmp_path / "none.flac")
        (tmp_path / "empty").mkdir()
        with pytest.raises(MediaError, match="expected a folder of page images"):
            await client.query(tmp_path / "empty")

    within(tmp_path / "c", test)


def test_a_client_connects_anew_when_the_server_comes_back(tmp_path: Path) -> None:
    collection, socket = fill(tmp_path / "c", 0, 1), Address(unix=tmp_path / "s")

    async def test() -> None:
        async with AsyncClient(socket) as client:
            for _ in range(2):
                async with running(collection, address=socket):
                    assert (await ask(client, 1, top=1))["matches"][0]["id"] == "s1"
            with pytest.raises(ConnectionLost, match="no server at"):
                await client.ping()

    asyncio.run(test())


def test_a_reply_that_never_comes_ends_with_the_deadline() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, AsyncClient(f"127.0.0.1:{port}", deadline_s=0.01) as client:
            with pytest.raises(DeadlineExceeded, match=rf"ping: no reply from 127\.0\.0\.1:{port} within 0\.01 s"):
                await client.ping()

    asyncio.run(test())


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Address of a server that runs in its own thread."""
    started, stop, found = threading.Event(), threading.Event(), []
    fill(tmp_path / "c", 0, 1, 2)

    async def serve() -> None:
        async with running(tmp_path / "c") as server:
            found.append(str(server.address))
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(20)
    yield found[0]
    stop.set()
    thread.join()


def test_the_blocking_client_does_the_same(address: str, library: Path) -> None:
    with Client(address, token=TOKEN) as client:
        assert client.ping() == {}
        assert client.info()["documents"] == 3
        assert client.add("waltz", library / "waltz.flac")["status"] == "added"
        data = (library / "waltz.flac").read_bytes()
        assert client.query([("a.flac", data)], among="recording")["matches"][0]["id"] == "waltz"
        rows = FakeEncoder().recording(np.random.default_rng(0).random((5, 92, 84), dtype=np.float32))
        assert client.query_embeddings(rows, "recording", NETWORK.hash, top=2)["direction"] == "A2S"
        samples, rate = soundfile.read(library / "waltz.flac", dtype="float32")
        stream = client.stream(rate, among="recording")
        assert stream.push(samples[: 10 * rate])["matches"][0]["id"] == "waltz"
        stream.close()
        assert client.remove("waltz") == {"removed": 1, "generation": 3}
        assert client.reload() == {"changed": False}
        assert client.stats()["requests"]["query"] == {"ok": 2.0}


PUBLIC = sorted(name for name in vars(AsyncClient) if name[0] != "_" and name not in ("close", "request"))


@pytest.mark.parametrize("name", PUBLIC)
def test_the_blocking_client_takes_the_same_arguments(name: str) -> None:
    blocking, waiting = (inspect.signature(getattr(client, name)).parameters for client in (Client, AsyncClient))
    assert list(blocking.values()) == list(waiting.values())


@pytest.mark.parametrize(
    ("text", "host", "port", "unix"),
    [
        ("example.org:80", "example.org", 80, None),
        ("localhost", "localhost", 7700, None),
        ("[::1]:81", "::1", 81, None),
        ("./socket", "127.0.0.1", 7700, Path("socket")),
    ],
)
def test_addresses_are_read(text: str, host: str, port: int, unix: Path | None) -> None:
    assert Address.parse(text) == Address(host=host, port=port, unix=unix)


@pytest.mark.parametrize("text", [":80", "host:", "host:http", "host:65536", "host:" + 5000 * "1", ""])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(AddressError, match=r"expected HOST:PORT or the path of a Unix socket, got"):
        Address.parse(text)


def test_a_host_that_cannot_be_looked_up_is_refused() -> None:
    with pytest.raises(AddressError, match=r"expected the name of a host, got 'a\.\.b'"):
        Address.parse("a..b:80")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.2", False),
        ("a.b", False),
    ],
)
def test_it_is_known_which_addresses_only_this_machine_reaches(address: str, local: bool) -> None:
    assert Address(host=address).is_local is local
    assert Address(unix=Path("s"), host=address).is_local


def test_an_unknown_code_of_a_newer_server_is_told() -> None:
    assert str(from_code("too_new", "why")) == "too_new: why"


async def _browsed(client: AsyncClient) -> None:
    found = await client.documents("s1")
    assert (found["total"], [one["id"] for one in found["documents"]]) == (1, ["s1"])
    assert (await client.document("s1"))["systems"][0]["system"] == 1
    with pytest.raises(DocumentMissing):
        await client.document("s9")


def test_documents_are_browsed(tmp_path: Path) -> None:
    async def go() -> None:
        async with running(fill(tmp_path / "c", 0, 1)) as here, here.client() as client:
            await _browsed(client)

    asyncio.run(go())
