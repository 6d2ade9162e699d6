"""The command `segment`: the set list of a file, here or by a server, or of what is played into the standard input."""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.finder import Finder
    from server.client import Client

    Samples = NDArray[np.float32]
    Told = Callable[[Samples | None], dict[str, Any]]
    """Hears further samples, None at the end, and returns the passages so far, see `setlist.live_as_dict`."""

STDIN = Path("-")
"""The path that means the standard input."""
RATE = 44100
"""Sampling rate of the standard input, Hz, unless `--rate` says another."""
BLOCKS_PER_S = 2
"""Blocks of samples in a second of the standard input."""


def of_finder(finder: "Finder", options: argparse.Namespace, show: Callable[[str], None]) -> dict[str, Any]:
    """Returns the set list that a finder finds. show: takes the lines that are printed while an evening goes on."""
    if options.path != STDIN:
        return finder.segment(
            options.path,
            kind=options.kind,
            start_s=options.start,
            end_s=options.end,
            among=options.among,
            transpose=options.transpose,
            speed=options.speed or 1.0,
        )
    evening = finder.evening(options.rate or RATE, among=options.among or "score")

    def told(samples: "Samples | None") -> dict[str, Any]:
        if samples is not None:
            evening.hear(samples)
        return finder.found_in(evening, all=samples is None)

    return _listened(told, options, show)


def of_server(client: "Client", options: argparse.Namespace, show: Callable[[str], None]) -> dict[str, Any]:
    """Returns the set list that a server finds. show: see `of_finder`."""
    if options.path != STDIN:
        return client.segment(
            options.path,
            kind=options.kind,
            among=options.among,
            start_s=options.start,
            end_s=options.end,
            transpose=options.transpose,
        )
    stream = client.stream(options.rate or RATE, among=options.among, passages=True)
    return _listened(
        lambda samples: stream.get() if samples is None else stream.push(samples),
        options,
        show,
    )


def named_in(sheet: Path, recording: Path) -> str:
    """Returns the name of a recording in a CUE sheet: its path from the folder of the sheet, with forward slashes.

    It is the mere name where the sheet goes to a pipe or to stdout, because such a sheet has no folder.
    """
    from engine.files import is_stream

    if is_stream(sheet):
        return recording.name
    # `..` leads from the real folder, not from a link to the folder; the recording itself keeps the name of its link
    folder = os.path.realpath(recording.parent)
    return Path(os.path.relpath(folder, os.path.realpath(sheet.parent)), recording.name).as_posix()


def _listened(told: "Told", options: argparse.Namespace, show: Callable[[str], None]) -> dict[str, Any]:
    """Returns the set list of what is played into the standard input, after showing each change of it on the way."""
    from engine.search import tidings

    passages: dict[int, dict[str, Any]] = {}
    live: dict[str, Any] = {}
    for samples in itertools.chain(_blocks(sys.stdin.buffer, options.rate or RATE), [None]):
        live = told(samples)
        news = tidings.news(passages, live)
        passages = tidings.after(passages, live)
        if news and options.json:
            show(json.dumps(live, ensure_ascii=False, default=float))
        elif not options.json:
            for line in news:
                show(line)
    return tidings.set_list(passages, live)


def _blocks(source: BinaryIO, rate: int) -> "Iterator[Samples]":
    """Yields the samples of a source, signed 16-bit little-endian and mono, some at a time."""
    import numpy as np

    while data := source.read(2 * (rate // BLOCKS_PER_S)):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)
