"""The process in which Verovio reads a score: it dies of odd input, and nothing else dies with it.

    python -P engine/symbols/verovio_process.py

It imports no module of ours, which a confined process might not find. It reads a job from stdin: a line of JSON, then
the score. It writes frames to stdout, each 4 bytes of length, big-endian, and that many bytes: one of JSON, then a PNG
for each page, or a MIDI file. `engine.symbols.verovio` is the other side.
"""

import base64
import contextlib
import json
import os
import re
import resource
import sys
from typing import Any, BinaryIO

import resvg_py
import verovio


def main() -> None:
    """Does one job."""
    frames = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # Verovio's parsers complain to both
    os.dup2(silence, 2)
    job = json.loads(sys.stdin.buffer.readline())
    _limit(resource.RLIMIT_CPU, job["seconds"])
    with contextlib.suppress(OSError, ValueError):  # macOS knows no such limit
        _limit(resource.RLIMIT_AS, job["memory_bytes"])
    _limit(resource.RLIMIT_CORE, 0)
    text = sys.stdin.buffer.read().decode("utf-8")
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(job["options"])
    if not toolkit.loadData(text):
        _send(frames, {"fault": "Verovio cannot read it"})
    elif not any(entry.get("on") for entry in toolkit.renderToTimemap({})):
        _send(frames, {"fault": "expected a score with notes, got one without"})
    elif job["wanted"] == "midi":
        _send(frames, {})
        _write(frames, base64.b64decode(toolkit.renderToMIDI()))
    else:
        count = int(toolkit.getPageCount())
        _send(frames, {"pages": count})
        for number in range(1, 1 + min(count, job["max_pages"])):
            _write(frames, png(toolkit.renderToSVG(number), job["width_px"]))


def png(svg: str, width_px: int) -> bytes:
    """The drawing as a PNG file with white paper."""
    svg = re.sub(
        r">\s+<", "><", svg
    )  # resvg would take the blanks before a text for its start, and draw the text too far left
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width_px, background="#ffffff"))


def _send(frames: BinaryIO, values: dict[str, Any]) -> None:
    _write(frames, json.dumps(values).encode())


def _write(frames: BinaryIO, data: bytes) -> None:
    frames.write(len(data).to_bytes(4, "big") + data)
    frames.flush()


def _limit(limit: int, value: int) -> None:
    """Lowers a limit of this process, unless it is lower already."""
    now, most = resource.getrlimit(limit)
    value = min([value, *(other for other in (now, most) if other != resource.RLIM_INFINITY)])
    resource.setrlimit(limit, (value, most))


if __name__ == "__main__":
    main()
