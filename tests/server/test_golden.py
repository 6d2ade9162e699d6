"""Frames for clients in other languages say what the protocol says, and the client in JavaScript keeps to them."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from media import write_recording
from running_server import TOKEN, fill, running
from server import messages
from server.frames import HEADER, Decoder, encode

ROOT = Path(__file__).parent.parent.parent
FRAMES = ROOT / "docs" / "frames.json"
EXAMPLE = ROOT / "examples" / "query.mjs"


def own(value: Any) -> Any:
    """A value of the file as the message has it."""
    if isinstance(value, list):
        return [own(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return bytes.fromhex(value["$bytes"])
    return value["$float"] if "$float" in value else {name: own(field) for name, field in value.items()}


def golden(sort: str) -> list[Any]:
    return [pytest.param(entry, id=entry["name"]) for entry in json.loads(FRAMES.read_text())[sort]]


@pytest.mark.parametrize("entry", [*golden("requests"), *golden("replies")])
def test_a_frame_of_the_file_is_that_of_its_message(entry: dict[str, Any]) -> None:
    frame, message = bytes.fromhex(entry["frame"]), own(entry["message"])
    assert encode(message) == frame
    assert list(Decoder(len(frame) - HEADER.size).feed(frame)) == [message]


@pytest.mark.parametrize("entry", golden("requests"))
def test_a_request_of_the_file_is_taken(entry: dict[str, Any]) -> None:
    message = own(entry["message"])
    assert messages.parse(message).op == message["op"]


def test_the_file_has_each_operation() -> None:
    entries = json.loads(FRAMES.read_text())["requests"]
    assert {entry["message"]["op"] for entry in entries} == set(messages._BODIES)


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not on the PATH")
    return found


def test_the_client_in_javascript_sends_and_takes_these_frames(node: str) -> None:
    check = Path(__file__).with_name("golden.mjs")
    done = subprocess.run([node, check, EXAMPLE, FRAMES], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("open_reads", [True, False])
def test_the_client_in_javascript_finds_a_recording(node: str, tmp_path: Path, open_reads: bool) -> None:
    take = write_recording(tmp_path / "take.flac", 1, seconds=8)

    async def go() -> tuple[bytes, bytes]:
        async with running(fill(tmp_path / "c", 0, 1), open_reads=open_reads) as here:
            command = [node, EXAMPLE, str(here.address), take, TOKEN]
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*map(str, command), stdout=pipe, stderr=pipe)
            async with asyncio.timeout(60):
                return await process.communicate()

    out, err = asyncio.run(go())
    assert err == b""
    assert {line.split()[1] for line in out.decode().splitlines()} == {"s0", "s1"}
