"""Who may ask, who may write, and what is told to those who may not."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import scorefind
from fake_encoder import fake_loader
from media import write_recording
from running_server import TOKEN, ask, codes, fill, ping, running
from server.client import AsyncClient
from server.config import Limits
from server.errors import AddressError, AuthorisationError, ConnectionLost
from server.server import tls_context


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores s0 to s3; only read."""
    return fill(tmp_path_factory.mktemp("access") / "c", 0, 1, 2, 3)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl program, which makes the certificate, is not on the PATH")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split()
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([openssl, *made, *named], check=True, capture_output=True)
    return cert, key


def within(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it hangs."""
    asyncio.run(asyncio.wait_for(work, 30))


async def assert_no_writes(client: AsyncClient, take: Path, why: str) -> None:
    for write in (client.add("t", take), client.remove("s0"), client.reload()):
        with pytest.raises(AuthorisationError, match=why):
            await write


def test_writes_need_the_token_and_reads_of_a_local_server_none(collection: Path, tmp_path: Path) -> None:
    take = write_recording(tmp_path / "t.flac", 1, seconds=5)

    async def go() -> None:
        async with running(collection) as here:
            async with here.client(token="") as client:
                await assert_no_writes(client, take, "expected the token, got none")
                assert (await ask(client, 1))["matches"][0]["id"] == "s1"
            async with here.client(token="sésame") as client:
                await assert_no_writes(client, take, "expected the token, got another")
            async with here.client(token=TOKEN) as client:
                assert await client.reload() == {"changed": False}

    within(go())


@pytest.mark.parametrize(
    "wrong",
    [
        TOKEN[:-1],
        TOKEN[:1],
        TOKEN + "x",
        TOKEN + " ",
        TOKEN.swapcase(),
        TOKEN[:-1] + chr(ord(TOKEN[-1]) ^ 1),
    ],
    ids=["prefix", "first", "longer", "space", "case", "last"],
)
def test_what_resembles_the_token_is_not_the_token(collection: Path, tmp_path: Path, wrong: str) -> None:
    take = write_recording(tmp_path / "t.flac", 1, seconds=5)

    async def go() -> None:
        async with running(collection, open_reads=False) as here, here.client(token=wrong) as client:
            await assert_no_writes(client, take, "expected the token, got another")
            with pytest.raises(AuthorisationError, match="expected the token, got another"):
                await client.info()

    within(go())


def test_a_server_without_a_token_takes_no_writes(collection: Path, tmp_path: Path) -> None:
    take = write_recording(tmp_path / "t.flac", 1, seconds=5)

    async def go() -> None:
        async with running(collection, token="") as here:
            for token in ("", "guess"):
                async with here.client(token=token) as client:
                    await assert_no_writes(client, take, "accepts no changes; it was started without a token")

    within(go())


def test_reads_of_a_server_that_others_reach_need_the_token(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, open_reads=False) as here:
            async with here.client(token="guess") as client:
                for read in (ask(client), client.info(), client.stats(), client.stream(22050)):
                    with pytest.raises(AuthorisationError, match="expected the token, got another"):
                        await read
                await client.ping()
            async with here.client() as client:
                assert (await ask(client, 1))["matches"][0]["id"] == "s1"

    within(go())


def test_a_server_that_others_reach_does_not_start_without_a_token(
    collection: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scorefind, "encoder_loader", fake_loader)
    assert scorefind.main(["serve", str(collection), "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "can be reached from other machines: give a token" in capsys.readouterr().err


def test_an_encrypted_server_is_asked_by_those_who_trust_its_certificate_alone(
    collection: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.client.FIRST_PAUSE_S", 0.01)

    async def go() -> None:
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        async with running(collection, tls=tls_context(*certificate)) as here, here.client(tls=trusting) as client:
            assert (await ask(client, 1))["matches"][0]["id"] == "s1"
            async with here.client() as plain:
                with pytest.raises(ConnectionLost):
                    await plain.ping()
            async with here.client(tls=ssl.create_default_context()) as stranger:
                with pytest.raises(AddressError, match="its certificate is not trusted: self-signed certificate"):
                    await stranger.ping()
            assert (await ask(client, 2))["matches"][0]["id"] == "s2"

    within(go())


def test_connections_that_begin_no_encryption_are_cut_off(collection: Path, certificate: tuple[Path, Path]) -> None:
    async def go() -> None:
        started = running(collection, Limits(frame_s=0.3), tls=tls_context(*certificate))
        async with started as here, here.raw() as silent, here.raw() as plain:
            await plain.send(ping(1))
            assert codes(await plain.replies()) == []
            assert codes(await silent.replies()) == []

    within(go())
