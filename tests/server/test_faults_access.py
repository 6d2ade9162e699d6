"""Who may ask, who may write, and what is told to those who may not."""

import asyncio
import os
import signal
import ssl
import unicodedata
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import scorefind
from fake_encoder import fake_loader
from media import write_page, write_recording
from running_server import TOKEN, ask, asking, codes, fill, ping, running
from server.access import AccessFiles, tls_context, trusted
from server.address import Address
from server.client import AsyncClient
from server.config import Limits
from server.errors import AddressError, AuthorisationError, ConnectionLost

NO_DELAY = Limits(wrong_token_s=0.0)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores s0 to s3; only read."""
    return fill(tmp_path_factory.mktemp("access") / "c", 0, 1, 2, 3)


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


def wrong_tokens(token: str) -> list[str]:
    """What resembles a token, and is another one or none."""
    return [
        "",
        token[:-1],
        token[:1],
        token[1:],
        token + "x",
        token + " ",
        " " + token,
        token + token,
        token[:-1] + chr(ord(token[-1]) ^ 1),
        chr(ord(token[0]) ^ 1) + token[1:],
        token.upper(),
        token.title(),
        token[::-1],
        token.replace(" ", ""),
        token.replace("e", "é"),
        token.replace("e", "е"),  # Cyrillic
        token + "\u200b",
        unicodedata.normalize("NFD", token + "é"),
    ]


@pytest.mark.parametrize("token", [TOKEN, "sésame, ouvre-toi"])
def test_only_the_very_token_is_the_token(collection: Path, token: str) -> None:
    wrong = [guess for guess in wrong_tokens(token) if guess != token]
    assert len(set(wrong)) >= 16
    wrong.append(unicodedata.normalize("NFD", token).replace(TOKEN, "sesame"))
    requests = [{"op": op} for op in ("info", "stats", "reload")]
    requests += [{"op": "remove", "documents": ["s9"]}, {"op": "stream.open", "rate": 8000}, asking(1)]

    async def go() -> None:
        async with running(collection, NO_DELAY, token=token, open_reads=False) as here, here.raw() as raw:
            for request in requests:
                asked = {"v": 1, "id": 1, **request}
                await raw.send(asked, *[asked | {"token": guess} for guess in wrong])
                assert codes(await raw.replies(1 + len(wrong))) == ["unauthorised"] * (1 + len(wrong)), request
                await raw.send(asked | {"token": token})
                assert codes(await raw.replies(1)) == ["not_found" if request["op"] == "remove" else "ok"]

    within(go())


@pytest.mark.parametrize("token", [b"open sesame", 1, True, ["open sesame"], "open sesame\0", "x" * 1001])
def test_a_token_that_is_no_text_is_a_bad_request(collection: Path, token: object) -> None:
    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            await raw.send({"v": 1, "id": 1, "op": "reload", "token": token})
            assert codes(await raw.replies(1)) == ["bad_request"]

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
        async with running(collection, NO_DELAY, open_reads=False) as here:
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


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nodd\n"])
def test_a_file_that_holds_no_certificates_is_named(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    asked = ["--server", "127.0.0.1:1", "--tls-ca", str(file), str(write_page(tmp_path / "p.png", 1))]
    assert scorefind.main(["query", *asked]) == 1
    assert f"{file}: cannot be read as certificates: [" in capsys.readouterr().err


def test_a_client_trusts_the_certificates_of_a_file(certificate: tuple[Path, Path]) -> None:
    assert trusted(certificate[0]).get_ca_certs()[0]["subject"] == ((("commonName", "localhost"),),)


STRONG = ["0123456789abcdef" * 2, "aB3-" * 2 + "xyzXYZ019_-qwertyu", "correct horse battery staple, said the owl"]
WEAK = ["open sesame", "a" * 100, "0123456789abcdef", "0123" * 20]


def token_file(path: Path, token: str, mode: int = 0o600) -> Path:
    path.write_text(f"{token}\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("token", STRONG)
def test_outside_this_machine_a_strong_token_in_a_private_file_is_enough(tmp_path: Path, token: str) -> None:
    files = AccessFiles(address=Address(host="0.0.0.0"), token_file=token_file(tmp_path / "t", token), plain=True)
    access = files.load()
    assert (access.write_token, access.open_reads, access.tls) == (token, False, None)


@pytest.mark.parametrize("token", WEAK)
def test_outside_this_machine_a_token_that_can_be_guessed_is_refused(tmp_path: Path, token: str) -> None:
    file = token_file(tmp_path / "t", token)
    with pytest.raises(AddressError, match="expected a token of at least 128 random bits") as raised:
        AccessFiles(address=Address(host="0.0.0.0"), token_file=file, plain=True).load()
    assert token not in str(raised.value)
    assert AccessFiles(address=Address(), token_file=file).load().open_reads


def test_a_token_that_is_no_utf_8_is_refused_and_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t"
    file.write_bytes("s\xe9same".encode("latin-1"))
    asked = ["--server", "127.0.0.1:1", "--token-file", str(file), str(write_page(tmp_path / "p.png", 1))]
    assert scorefind.main(["query", *asked]) == 1
    told = capsys.readouterr().err
    assert f"{file}: expected a token in UTF-8 in the first line" in told
    assert "same" not in told
    with pytest.raises(AddressError, match="in UTF-8"):
        AccessFiles(address=Address(), read_token_file=file).load()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_outside_this_machine_a_token_that_other_users_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = token_file(tmp_path / "t", STRONG[0], mode)
    with pytest.raises(AddressError, match="other users can read the token"):
        AccessFiles(address=Address(host="0.0.0.0"), read_token_file=file, plain=True).load()


def test_outside_this_machine_nothing_is_sent_in_the_clear_unless_that_is_said(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    address, file = Address(host="0.0.0.0"), token_file(tmp_path / "t", STRONG[0])
    with pytest.raises(AddressError, match=r"give a certificate \(--tls-cert\), or say --plain"):
        AccessFiles(address=address, token_file=file).load()
    assert AccessFiles(address=address, token_file=file, cert=certificate[0], key=certificate[1]).load().tls is not None


def test_a_token_for_reading_opens_reads_and_no_changes(collection: Path, tmp_path: Path) -> None:
    take = write_recording(tmp_path / "t.flac", 1, seconds=5)

    async def go() -> None:
        async with running(collection, NO_DELAY, read_token="read", open_reads=False) as here:
            async with here.client(token="read") as client:
                assert (await ask(client, 1))["matches"][0]["id"] == "s1"
                await assert_no_writes(client, take, "expected the token, got one that only opens reads")
            async with here.client() as client:
                assert (await client.info())["documents"] == 4
                assert await client.reload() == {"changed": False}

    within(go())


def test_sighup_has_the_tokens_and_the_certificate_read_again(
    collection: Path, tmp_path: Path, certificate: tuple[Path, Path], other_certificate: tuple[Path, Path]
) -> None:
    cert, key, token = tmp_path / "cert.pem", tmp_path / "key.pem", token_file(tmp_path / "t", "first")
    files = AccessFiles(address=Address(), token_file=token, cert=cert, key=key)

    def use(pair: tuple[Path, Path]) -> ssl.SSLContext:
        for source, target in zip(pair, (cert, key), strict=True):
            target.write_bytes(source.read_bytes())
        return ssl.create_default_context(cafile=str(pair[0]))

    async def go() -> None:
        trusted = use(certificate)
        async with running(collection, NO_DELAY, token="first", tls=tls_context(cert, key)) as here:
            with here.server.signals(files.load):
                async with here.client(token="first", tls=trusted) as old:
                    assert await old.reload() == {"changed": False}
                    trusted = use(other_certificate)
                    token.write_text("second\n")
                    os.kill(os.getpid(), signal.SIGHUP)
                    await asyncio.sleep(0.1)
                    with pytest.raises(AuthorisationError):
                        await old.reload()
                    async with here.client(token="second", tls=trusted) as new:
                        assert await new.reload() == {"changed": False}
                        token.write_text("")
                        os.kill(os.getpid(), signal.SIGHUP)
                        await asyncio.sleep(0.1)
                        assert await new.reload() == {"changed": False}

    within(go())
