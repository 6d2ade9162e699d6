"""How does `scorefind add` scale with the number of processes: for many files, and for one long score?

    python -m bench.bulk [--pages N] [--recordings N] [--jobs N ...] [--cores N ...] [--json FILE]

The same pages, engraved and damaged like scans, lie in files of their own, and in one folder, which is one long score.
Recordings are a minute of made tones each. Each set is added to a new collection with each number of processes. A
process has one thread.

- wall: seconds from the start to the commit, on this machine and beside whatever else it does.
- alone: processor seconds of the parent, which decides, stores and commits. This is the serial part, counted in full,
  though most of it passes while the others work.
- shared: processor seconds of all other processes, the starts of these processes included.
- on N cores: seconds that `alone + shared / N` predicts, and in brackets how many times one core's that is. So memory
  and disk are taken to be as fast as they are here, and cores to have nothing else to do.
"""

import argparse
import functools
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.ingest import made_pages, made_recordings
from bench.lib import report
from engine import process
from engine.arguments import positive
from engine.embedding.encoder import Encoder
from indexer.ingest import Summary, add
from indexer.sources import discover


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of `add` took."""

    summary: Summary
    wall_s: float
    alone_s: float
    """Processor time of the parent."""
    shared_s: float
    """Processor time of all other processes."""

    def predicted_s(self, cores: int) -> float:
        """Returns the seconds that a machine with this many cores needs."""
        return self.alone_s + self.shared_s / cores


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    environment = report.environment()
    print(report.heading(environment))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, library in _libraries(folder, options.pages, options.recordings).items():
            for jobs in options.jobs:
                run = measured(library, folder / f"{what}-{jobs}", jobs)
                rows.append(_row(what, jobs, run, options.cores))
                print(f"{what}, {jobs} processes: done in {run.wall_s:.0f} s", flush=True)
    print("", report.table(rows), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, rows=rows)


def measured(library: Path, collection: Path, jobs: int) -> Run:
    """Adds all files of a folder to a new collection, and returns what that took."""
    load = functools.partial(Encoder.load, None, threads=1)
    sources = discover([library]).sources
    started_s, before_s = time.monotonic(), _processor_s()
    summary = add(collection, sources, load, jobs=jobs)
    assert not summary.failed, summary.failed
    alone_s, shared_s = (after - before for after, before in zip(_processor_s(), before_s, strict=True))
    return Run(summary=summary, wall_s=time.monotonic() - started_s, alone_s=alone_s, shared_s=shared_s)


def _processor_s() -> tuple[float, float]:
    """Returns the processor seconds of this process, and of those that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return used[0].ru_utime + used[0].ru_stime, used[1].ru_utime + used[1].ru_stime


def _row(what: str, jobs: int, run: Run, cores: Sequence[int]) -> dict[str, Any]:
    """Returns the table row of a run."""
    shown: dict[str, Any] = {"set": what, "processes": jobs, "pages": run.summary.pages}
    shown |= {"minutes": run.summary.sound_s / 60, "wall s": run.wall_s}
    shown |= {"alone s": run.alone_s, "shared s": run.shared_s}
    for count in cores:
        predicted = run.predicted_s(count)
        shown[f"on {count} cores"] = f"{predicted:.2f} ({run.predicted_s(1) / predicted:.1f})"
    return shown


def _libraries(folder: Path, pages: int, recordings: int) -> dict[str, Path]:
    """Returns folders with the files of each set, made in `folder`."""
    drawn = made_pages(_made(folder / "drawn"), every=18)
    played = made_recordings(_made(folder / "played"), seconds=60)
    files, volume = _made(folder / "many files"), _made(folder / "one long score")
    (volume / "volume").mkdir()
    for number in range(pages):
        original = drawn[number % len(drawn)]
        own = _made(files / str(number))  # a folder of images only would be one score
        os.link(original, own / f"page{number}.jpg")
        os.link(original, volume / "volume" / f"{number}.jpg")
    for number in range(recordings):
        os.link(played[number % len(played)], files / f"take{number}.flac")
    return {"many files": files, "one long score": volume}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=96, metavar="N", help="pages of each set (default: 96)")
    parser.add_argument("--recordings", type=int, default=32, metavar="N", help="of a minute each (default: 32)")
    parser.add_argument(
        "--jobs", type=positive, nargs="+", default=[1, 2], metavar="N", help="processes (default: 1 2)"
    )
    parser.add_argument("--cores", type=int, nargs="+", default=[4, 16], metavar="N", help="cores to predict for")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
