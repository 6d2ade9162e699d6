"""What may happen to a server and its collection, and that it goes on, or comes back, with all it has acknowledged."""

import asyncio
import os
import resource
import signal
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import scorefind
from engine.collection import Collection, CollectionWriter, opening
from engine.errors import CollectionLockedError
from engine.values import Embeddings
from fake_encoder import FakeEncoder, fake_loader
from media import write_page, write_recording
from running_server import (
    NETWORK,
    TOKEN,
    Gate,
    Process,
    Running,
    ask,
    asking,
    codes,
    fill,
    open_files,
    ping,
    running,
    serving_process,
)
from server.address import Address
from server.client import AsyncClient
from server.config import Limits
from server.errors import (
    AddressError,
    CollectionLocked,
    CollectionRefused,
    ConnectionLost,
    RequestError,
    ServerError,
    Stopping,
)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Scores s0 to s3."""
    return fill(tmp_path / "c", 0, 1, 2, 3)


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("takes")
    return [write_recording(folder / f"t{seed}.flac", seed, seconds=5) for seed in range(12)]


def within(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it hangs."""
    asyncio.run(asyncio.wait_for(work, 60))


async def held_ids(client: AsyncClient) -> set[str]:
    return set((await client.info(list=True))["ids"])


def damage(path: Path) -> Path:
    """Changes a byte of the index in force; returns its path."""
    file = max(path.glob("*.faiss"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    return file


# --- killed and stopped -----------------------------------------------------------------------------------------------


def test_a_server_killed_while_it_adds_has_all_that_it_acknowledged_when_it_is_back(
    collection: Path, takes: list[Path]
) -> None:
    acknowledged: set[str] = set()

    async def add(client: AsyncClient, numbers: range, process: Process) -> None:
        for number in numbers:
            await client.add(f"t{number}", takes[number])
            acknowledged.add(f"t{number}")
            if len(acknowledged) == 4:
                process.send(signal.SIGKILL)

    async def until_killed(process: Process) -> None:
        async with AsyncClient(process.address, token=TOKEN) as one, AsyncClient(process.address, token=TOKEN) as two:
            adding = [add(one, range(6), process), add(two, range(6, 12), process)]
            ends = await asyncio.gather(*adding, return_exceptions=True)
        assert [type(end) for end in ends] == [ConnectionLost] * 2

    async def afterwards(process: Process) -> None:
        async with AsyncClient(process.address, token=TOKEN) as client:
            assert await held_ids(client) >= acknowledged | {"s0", "s1", "s2", "s3"}
            for number, take in enumerate(takes):
                await client.add(f"t{number}", take)
            assert await held_ids(client) == {f"t{n}" for n in range(12)} | {"s0", "s1", "s2", "s3"}

    with serving_process(collection) as process:
        within(until_killed(process))
    with Collection.open(collection) as opened:
        opened.check()
        assert {document.id for document in opened.documents} >= acknowledged
    with serving_process(collection) as process:
        within(afterwards(process))


def test_sigterm_ends_a_server_well_and_takes_its_socket_away(collection: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving_process(collection, "--unix", path) as process:
        assert path.is_socket()
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        assert not path.exists()


def test_a_server_that_stops_answers_what_it_has_begun_and_takes_nothing_new(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, backend=gate.backend) as here, here.client() as client, here.raw() as raw:
            gate.shut()
            begun = asyncio.create_task(ask(client, 2))
            await raw.send(asking(1, 3))
            await here.until(in_flight=2)
            stopping = asyncio.create_task(here.server.stop())
            await asyncio.sleep(0.05)
            with pytest.raises(Stopping):
                await client.ping()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(here.address.host, here.address.port)
            gate.open()
            assert (await begun)["matches"][0]["id"] == "s2"
            assert codes(await raw.replies()) == ["ok"]
            await stopping

    within(go())


def test_a_server_stops_though_a_client_takes_no_replies(collection: Path, tmp_path: Path) -> None:
    async def go() -> None:
        limits, address = Limits(drain_s=0.2, frame_s=600.0), Address(unix=tmp_path / "socket")
        async with running(collection, limits, address=address) as here, here.raw() as raw:
            await here.until(sessions=1)
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            sending = asyncio.create_task(raw.send(*[ping(id) for id in range(5_000)]))
            await asyncio.sleep(0.5)
            await here.server.stop()
            await sending

    within(go())


def test_clients_that_ask_on_while_a_server_stops_cause_no_error_in_it(
    collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def hammer(here: Running) -> None:
        async with here.raw() as raw:
            answered = True
            while answered:
                await raw.send(*[asking(id) for id in range(10)])
                answered = len(await raw.replies(10)) == 10

    async def go() -> None:
        async with running(collection) as here:
            hammering = [asyncio.create_task(hammer(here)) for _ in range(8)]
            await here.until(sessions=8)
            await asyncio.sleep(0.2)
            await here.server.stop()
            await asyncio.gather(*hammering)

    within(go())
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


# --- reloading --------------------------------------------------------------------------------------------------------


async def asked_until(done: asyncio.Event, client: AsyncClient) -> list[int]:
    """Asks on and on; the generations that answered."""
    generations = []
    while not done.is_set():
        answer = await ask(client, 1, top=1)
        assert answer["matches"][0]["id"] == "s1"
        generations.append(answer["collection"]["generation"])
    return generations


def test_no_query_fails_while_one_generation_follows_the_other(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.client() as client, here.client() as other:
            await asyncio.gather(ask(client), ask(other))
            done = asyncio.Event()
            asking = [asyncio.create_task(asked_until(done, one)) for one in (client, client, other, other)]
            files = open_files()
            for number in range(4, 16):
                await asyncio.to_thread(fill, collection, number)
                assert (await client.reload()) == {"changed": True}
            done.set()
            answered = await asyncio.gather(*asking)
            for generations in answered:
                assert generations == sorted(generations)
            assert len(set().union(*answered)) > 6
            assert (await ask(client, 15, top=1))["matches"][0]["id"] == "s15"
            assert open_files() <= files + 4
            assert await client.reload() == {"changed": False}

    within(go())


def test_sighup_has_a_server_take_up_what_another_process_committed(collection: Path) -> None:
    async def go(process: Process) -> None:
        async with AsyncClient(process.address) as client:
            assert (await client.info())["generation"] == 1
            fill(collection, 4)
            process.send(signal.SIGHUP)
            while (await ask(client, 4, top=1))["matches"][0]["id"] != "s4":
                await asyncio.sleep(0.01)
            assert (await client.info())["generation"] == 2

    with serving_process(collection) as process:
        within(go(process))


@pytest.mark.usefixtures("indexed")
def test_a_newer_generation_that_is_damaged_is_not_taken_up(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            fill(collection, 4)
            damage(collection)
            await client.ping()
            before, files = here.held(), open_files()
            for _ in range(5):
                with pytest.raises(CollectionRefused, match=r"\.faiss does not match its checksum"):
                    await client.reload()
            answer = await ask(client, 3, top=1)
            assert (answer["matches"][0]["id"], answer["collection"]["generation"]) == ("s3", 1)
            assert here.held() == before
            assert open_files() < files + 5  # fewer than one for each generation that was refused: decoders come and go

    within(go())


@pytest.mark.usefixtures("indexed")
def test_a_damaged_collection_is_not_served(
    collection: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scorefind, "encoder_loader", fake_loader)
    file = damage(collection)
    assert scorefind.main(["serve", str(collection), "--port", "0"]) == 1
    assert f"{collection}: {file.name} does not match its checksum" in capsys.readouterr().err


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_server_leaves_a_collection_alone_while_another_writes_to_it(collection: Path, takes: list[Path]) -> None:
    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            with CollectionWriter(collection, NETWORK):
                with pytest.raises(CollectionLocked, match=rf"process {os.getpid()} is writing to it; wait"):
                    await client.add("t", takes[0])
                with pytest.raises(CollectionLocked):
                    await client.remove("s0")
                assert (await ask(client, 1))["matches"][0]["id"] == "s1"
            assert (await client.add("t", takes[0]))["status"] == "added"

    within(go())


def test_others_leave_a_collection_alone_while_the_server_writes_to_it(
    collection: Path, takes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class SlowWriter(CollectionWriter):
        def commit(self) -> int:
            begun.set()
            go_on.wait(20)
            return super().commit()

    monkeypatch.setattr(opening, "CollectionWriter", SlowWriter)

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            adding = asyncio.create_task(client.add("t", takes[0]))
            await asyncio.to_thread(begun.wait, 20)
            with pytest.raises(CollectionLockedError, match=f"process {os.getpid()} is writing"):
                fill(collection, 4)
            assert (await ask(client, 1))["matches"][0]["id"] == "s1"
            go_on.set()
            assert (await adding)["status"] == "added"
            await asyncio.to_thread(fill, collection, 4)
            await client.reload()
            assert await held_ids(client) == {"s0", "s1", "s2", "s3", "s4", "t"}

    within(go())


def test_a_full_disk_fails_an_addition_and_nothing_else(collection: Path, tmp_path: Path) -> None:
    """No file of the server may grow beyond so many bytes, for a while."""
    fill(collection, *range(4, 40))
    page = write_page(tmp_path / "page.png", 1, systems=1)
    most = (collection / "sequences.lmdb").stat().st_size // 2
    assert page.stat().st_size < most

    async def go(process: Process) -> None:
        pid, free = process.process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
        async with AsyncClient(process.address, token=TOKEN) as client:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, free[1]))
            for _ in range(3):
                with pytest.raises(CollectionRefused):
                    await client.add("page", page)
            answer = await ask(client, 3, top=1)
            assert (answer["matches"][0]["id"], answer["collection"]["generation"]) == ("s3", 2)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, free)
            assert (await client.add("page", page))["generation"] > 2
            assert "page" in await held_ids(client)

    with serving_process(collection) as process:
        within(go(process))
    with Collection.open(collection) as opened:
        opened.check()


@pytest.mark.usefixtures("indexed")
def test_an_id_of_which_nothing_was_acknowledged_is_free(
    collection: Path, takes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed commit has left on disk is no document."""

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            with monkeypatch.context() as patch:
                patch.setattr("engine.collection.writer.save", fails)
                with pytest.raises(CollectionRefused, match="No space left"):
                    await client.add("t", takes[0])
            assert (await client.add("t", takes[1]))["status"] == "added"

    within(go())


def test_a_document_without_an_id_is_refused_as_a_bad_request(collection: Path, takes: list[Path]) -> None:
    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            with pytest.raises(RequestError, match="document: expected an id"):
                await client.add("", takes[0])

    within(go())


# --- working ----------------------------------------------------------------------------------------------------------


class Fragile(FakeEncoder):
    """Fails at more than twenty excerpts."""

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        if len(excerpts) > 20:
            raise MemoryError
        return super().recording(excerpts)


def noise(seconds: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, seconds * 22050).astype(np.float32)


def test_a_stream_hears_its_samples_once_though_another_question_of_its_batch_fails(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, encoder=Fragile(), backend=gate.backend) as here, here.client() as client:
            good, bad = await client.stream(22050), await client.stream(22050)
            gate.shut()
            first = asyncio.create_task(ask(client))
            await here.until(in_flight=1)
            pushes = [asyncio.create_task(stream.push(noise(s))) for stream, s in ((good, 6), (bad, 20))]
            await here.until(in_flight=3)
            gate.open()
            await first
            heard, failed = await asyncio.gather(*pushes, return_exceptions=True)
            assert isinstance(failed, ServerError)
            assert isinstance(heard, dict)
            assert heard["heard_s"] == 6.0

    within(go())


def test_two_pushes_of_one_batch_tell_what_each_has_heard(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, backend=gate.backend) as here, here.client() as client:
            stream = await client.stream(22050, among="score")
            gate.shut()
            first = asyncio.create_task(ask(client))
            await here.until(in_flight=1)
            pushes = [asyncio.create_task(stream.push(noise(seconds))) for seconds in (5, 6)]
            await here.until(in_flight=3)
            gate.open()
            await first
            assert [(await push)["heard_s"] for push in pushes] == [5.0, 11.0]
            got = await stream.get()
            assert (got["heard_s"], len(got["matches"])) == (11.0, 4)

    within(go())


# --- addresses --------------------------------------------------------------------------------------------------------


def test_of_two_servers_on_one_unix_socket_the_second_refuses(collection: Path, tmp_path: Path) -> None:
    address = Address(unix=tmp_path / "socket")

    async def go() -> None:
        async with running(collection, address=address) as here, here.client() as client:
            with pytest.raises(AddressError, match=f"{address}: another server listens there"):
                async with running(collection, address=address):
                    pass
            await client.ping()
            async with here.client() as another:
                await another.ping()

    within(go())


def test_the_unix_socket_that_a_dead_server_left_is_taken_over(collection: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "socket"))

    async def go() -> None:
        async with running(collection, address=Address(unix=tmp_path / "socket")) as here, here.client() as client:
            await client.ping()

    within(go())
    assert not (tmp_path / "socket").exists()


def test_a_file_in_the_place_of_a_unix_socket_is_left_alone(collection: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")

    async def go() -> None:
        with pytest.raises(ServerError, match="exists already and is not a socket"):
            async with running(collection, address=Address(unix=tmp_path / "notes")):
                pass

    within(go())
    assert (tmp_path / "notes").read_text() == "mine"
