"""A process that reads hostile files can do little else, and what it sends is not trusted."""

import fcntl
import functools
import os
import pickle
import random
import resource
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scorefind
from engine.audio import Recording
from engine.score import Score, read_score
from engine.score.packed import PackedStrip
from engine.workers import Failure, Worker
from fake_encoder import fake_loader
from media import write_page
from server import landlock, sandbox, scratch
from server.decoded import CODEC, Decoded, packed, unpacked
from server.scratch import ScratchFolder

CONFINED = landlock.version() > 0


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def outcome(attempt: Callable[[], object]) -> str:
    """`done`, or the error of what a confined process attempts."""
    try:
        attempt()
        return "done"
    except OSError as exc:
        return type(exc).__name__


def attempts(paths: tuple[Path, Path, int]) -> dict[str, str]:
    """What a confined process can do; runs in it."""
    secret, folder, port = paths
    return {
        "read a file of the server's user": outcome(secret.read_bytes),
        "write beside it": outcome(lambda: (secret.parent / "new").write_bytes(b"")),
        "connect": outcome(lambda: socket.create_connection(("127.0.0.1", port), 5).close()),
        "read what was sent": outcome((folder / "sent").read_bytes),
        "write a little there": outcome(lambda: (folder / "little").write_bytes(bytes(1000))),
        "write much there": outcome(lambda: (folder / "much").write_bytes(bytes(2 << 20))),
        "start a program": outcome(lambda: subprocess.run(["true"], check=True)),
        "core file": str(resource.getrlimit(resource.RLIMIT_CORE)[1]),
        "no new privileges": Path("/proc/self/status").read_text().partition("NoNewPrivs:\t")[2][:1],
    }


@pytest.mark.skipif(not CONFINED, reason="this kernel has no Landlock")
def test_a_decoder_reads_what_was_sent_and_programs_and_nothing_else(tmp_path: Path) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret"
    folder.mkdir()
    for path in (folder / "sent", secret):
        path.write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        worker = Worker(attempts, enter=functools.partial(sandbox.enter, folder))
        worker.send((secret, folder, listening.getsockname()[1]))
        found = worker.receive(60)
        worker.end()
    assert not isinstance(found, Failure)
    connecting = found.pop("connect")
    assert connecting != "done"
    assert found == {
        "read a file of the server's user": "PermissionError",
        "write beside it": "PermissionError",
        "read what was sent": "done",
        "write a little there": "done",
        "write much there": "OSError",
        "start a program": "done",
        "core file": "0",
        "no new privileges": "1",
    }


def test_doctor_tells_what_confines_decoders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scorefind, "encoder_loader", fake_loader)
    assert scorefind.main(["doctor"]) == 0
    shown = capsys.readouterr().out.partition("decoders of the server:\n")[2]
    assert [line.partition(":")[0].strip() for line in shown.splitlines()] == [
        "network",
        "user",
        "no new privileges",
        "files",
        "limits",
    ]


# --- what decoders send -----------------------------------------------------------------------------------------------


def score(tmp_path: Path) -> Score:
    return read_score(write_page(tmp_path / "a.png", 1, systems=2))


def recording() -> Recording:
    spectrogram = np.random.default_rng(0).random((92, 100), dtype=np.float32)
    return Recording(spectrogram=spectrogram, start_s=1.0, duration_s=5.0)


def test_what_is_read_comes_back_unchanged(tmp_path: Path) -> None:
    sent = score(tmp_path)
    back = medium_of(unpacked(packed(Decoded(medium=sent))))
    assert isinstance(back, Score)
    assert (back.pages, back.systems) == (sent.pages, sent.systems)
    np.testing.assert_array_equal(back.strip, sent.strip)
    np.testing.assert_array_equal(back.starts_px, sent.starts_px)
    kept = {1: b"page", 2: b"other"}
    both = unpacked(packed(Decoded(medium=recording(), kept=kept)))
    assert isinstance(both, Decoded)
    assert both.kept == kept
    assert unpacked(packed(Decoded(picture=b"page"))) == Decoded(picture=b"page")
    heard = both.medium
    assert isinstance(heard, Recording)
    assert (heard.start_s, heard.duration_s) == (1.0, 5.0)
    np.testing.assert_array_equal(heard.spectrogram, recording().spectrogram)
    assert unpacked(packed(Failure(cause="no page"))) == Failure(cause="no page")


def test_one_strip_at_a_time_is_in_a_decoder_s_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent, whole = score(tmp_path), []
    original = PackedStrip.unpacked
    monkeypatch.setattr(PackedStrip, "unpacked", lambda strip: whole.append(strip) or original(strip))
    parts = packed(Decoded(medium=sent))
    next(parts)
    assert whole == []
    next(parts)
    assert whole == [sent.strips[0]]


def medium_of(result: Decoded | Failure) -> object:
    assert isinstance(result, Decoded)
    return result.medium


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("evil",)


def evil(_: object) -> object:
    return Evil()


def pickled(result: object) -> list[bytes]:
    return [pickle.dumps(result)]


def test_a_decoder_cannot_have_the_server_run_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"expected|extra data"):
        unpacked(iter([pickle.dumps(Evil())]))
    worker = Worker(evil, codec=replace(CODEC, encode=pickled))
    worker.send(None)
    result = worker.receive(60)
    assert isinstance(result, Failure)
    assert "sent no result" in result.cause
    assert not worker.alive
    assert list(tmp_path.iterdir()) == []


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    rng, refused = random.Random(0), 0
    for good in (Decoded(medium=score(tmp_path)), Decoded(medium=recording(), kept={0: b"sound"})):
        whole = list(packed(good))
        for _ in range(2000):
            parts = whole[: rng.choice([len(whole), rng.randrange(len(whole))])]
            if parts:
                changed = rng.choice([0, rng.randrange(len(parts))])
                data = bytearray(parts[changed])
                data[rng.randrange(rng.choice([min(60, len(data)), len(data)]))] = rng.randrange(256)
                parts[changed] = bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
            try:
                unpacked(iter(parts))
            except ValueError:
                refused += 1
    assert refused > 1000


# --- where files lie --------------------------------------------------------------------------------------------------


def test_folders_of_killed_servers_are_cleared_and_no_others(temporary: Path) -> None:
    alive, left = ScratchFolder(), temporary / f"{scratch.PREFIX}left"
    (left / "0").mkdir(parents=True)
    (left / "0" / "music.pdf").write_bytes(b"private")
    (temporary / "kept").mkdir()
    (temporary / f"{scratch.PREFIX}link").symlink_to(temporary / "kept")
    held = os.open(alive.path, os.O_RDONLY)
    new = ScratchFolder()
    assert not left.exists()
    assert alive.path.exists()
    assert (temporary / "kept").exists()
    with pytest.raises(BlockingIOError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(held)
    for made in (alive, new):
        made.close()
        assert not made.path.exists()


def test_a_folder_that_somebody_else_put_there_is_not_ours(temporary: Path) -> None:
    made = ScratchFolder()
    assert made.is_ours()
    made.path.rmdir()
    assert not made.is_ours()
    made.path.mkdir()
    assert not made.is_ours()
    made.close()
    assert made.path.exists()


def test_a_folder_of_another_user_is_left_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = temporary / f"{scratch.PREFIX}left"
    left.mkdir()
    monkeypatch.setattr("server.scratch.os.geteuid", lambda: 12345)
    monkeypatch.setattr("server.scratch.sandbox.user", lambda: None)
    scratch.clear()
    assert left.exists()
