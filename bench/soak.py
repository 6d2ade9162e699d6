"""Does a server that runs for long grow? Its memory, files and threads, each second of 20 minutes of mixed traffic.

    python -m bench.soak [--minutes 20] [--data DIR] [--collection DIR] [--json FILE] [--plot FILE]

A server process runs on a copy of a collection: both forms of the dev pieces, or random snippets if there are no data.
The traffic is that of `bench.lib.traffic`, at a pace that keeps the server and its workers at 40 % of one core
(--load). Measured each second: memory of the server and of its workers, open files, threads, readers of its LMDB file,
connections and requests in flight; and once more, a second or so after all traffic has ended. --quick: one minute.

`slope` is the slope per minute of a straight line through all but the first fifth of the time. `first` and `last` are
medians of the first and the last tenth of the rest.
"""

import argparse
import asyncio
import functools
import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from bench.lib import load, pieces, random_collection, report
from bench.lib.load import Served
from bench.lib.pieces import collect
from bench.lib.traffic import Actor, Traffic
from engine import process
from engine.arguments import positive
from engine.collection.manifest import Manifest
from engine.embedding.encoder import Encoder
from server.client import AsyncClient

TOKEN = "token of the soak"
WARM_UP = 0.2
SNIPPETS = 40_000
REST_S = 2.0
PACES = 0.1, 100.0
"""Smallest and largest factor for the pauses that keeps the load."""
MEASURES = (
    "server, MB",
    "workers, MB",
    "workers",
    "open files",
    "threads",
    "LMDB readers",
    "connections",
    "in flight",
    "load, %",
)

Look = dict[str, float]
"""One observation of the server: the minute, and the value of each of MEASURES."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    encoder = Encoder.load(options.weights, threads=1)
    with tempfile.TemporaryDirectory(prefix="scorefind-soak-") as folder:
        asked, path = _prepared(options, encoder, Path(folder))
        log, token = Path(folder) / "server.log", Path(folder) / "token"
        token.write_text(TOKEN)
        environment = report.environment()
        print(report.heading(environment), flush=True)
        flags = ["--token-file", str(token), "--metrics-port", "0"]
        flags += ["--weights", str(options.weights)] if options.weights else []
        with load.served(path, log, *flags) as server:
            traffic = Traffic(server, TOKEN, asked)
            looks = asyncio.run(soak(server, path, traffic, options.minutes, options.load / 100))
        logged = logged_rows(log)
    growth, outcomes = growth_rows(looks), outcome_rows(traffic.outcomes, traffic.actors)
    print("", f"{options.minutes:g} minutes, {len(looks)} looks", report.table(growth), sep="\n")
    print("", "Outcomes by actor", report.table(outcomes), sep="\n")
    print("", "Warnings and errors in the log of the server", report.table(logged), sep="\n")
    unexpected = sum(row["unexpected"] for row in outcomes)
    print(f"\n{sum(row['n'] for row in outcomes)} things done, {unexpected} with an outcome that was not expected")
    if options.json:
        content = {"network": report.label(encoder.identity), "minutes": options.minutes, "load": options.load}
        rows = {"growth": growth, "outcomes": outcomes, "logged": logged, "looks": looks}
        report.save(options.json, environment=environment, **content, **rows)
    if options.plot:
        draw(looks, options.plot)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="length of the traffic (default: 20)")
    parser.add_argument(
        "--load",
        type=float,
        default=40.0,
        metavar="PERCENT",
        help="load that the pace keeps, in per cent of one core (default: 40)",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--collection", type=Path, help="collection to copy and serve (default: the dev pieces)")
    parser.add_argument("--quick", action="store_true", help="one minute, few random snippets and synthesised files")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the measures to this file; needs matplotlib")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed")
    parser.add_argument(
        "--retrieval", type=Path, default=Path("runs/retrieval"), help="folder that keeps the collections of the sets"
    )
    options = parser.parse_args(arguments)
    options.minutes = options.minutes or (0.75 if options.quick else 20.0)
    return options


def _prepared(options: argparse.Namespace, encoder: Encoder, folder: Path) -> tuple[load.Examples, Path]:
    """The example queries, and a copy of the collection."""
    found, work, copy = [], options.retrieval / "dev", folder / "collection"
    if not options.quick:
        with suppress(FileNotFoundError):
            found = pieces.pieces(options.data, "dev")
    if options.collection:
        shutil.copytree(options.collection, copy)
    elif found:
        loading = functools.partial(Encoder.load, options.weights, threads=1)
        path, _ = collect(found, work, encoder.identity, loading, options.jobs, fresh=False)
        shutil.copytree(path, copy)
    else:
        random_collection.made(copy, encoder.identity, SNIPPETS)
    return load.material(found, work, copy, encoder.identity), copy


# --- looking at the server --------------------------------------------------------------------------------------------


async def soak(server: Served, path: Path, traffic: Traffic, minutes: float, share: float) -> list[Look]:
    """The observations: one each second while there is traffic, and one after the traffic has ended.

    path: the collection. share: share of one core that the pace of the traffic keeps busy.
    """
    looks: list[Look] = []
    started, before, busy = time.monotonic(), (time.monotonic(), _cpu_s(server.pid)), share
    running = asyncio.create_task(traffic.run())
    with lmdb.open(str(path / Manifest.read(path).lmdb), subdir=False, readonly=True, create=False) as store:
        async with AsyncClient(server.address) as client:
            while (minute := (time.monotonic() - started) / 60) < minutes and not running.done():
                await asyncio.sleep(1.0)
                now = time.monotonic(), _cpu_s(server.pid)
                took = max(0.0, now[1] - before[1]) / (now[0] - before[0])
                busy, before = 0.9 * busy + 0.1 * took, now
                traffic.pace = float(np.clip(traffic.pace * (busy / share) ** 0.1, *PACES))
                looks.append({"minute": minute, **await _look(server, store, client), "load, %": 100 * took})
            running.cancel()
            ended = (await asyncio.gather(running, return_exceptions=True))[0]
            if not isinstance(ended, asyncio.CancelledError):
                raise RuntimeError("the traffic ended early") from ended
            await asyncio.sleep(REST_S)
            looks.append({"minute": minutes, **await _look(server, store, client), "load, %": 0.0})
    return looks


async def _look(server: Served, store: Any, client: AsyncClient) -> Look:
    stats = await client.stats()
    workers = _children(server.pid)
    return {
        "server, MB": _memory_mb(server.pid),
        "workers, MB": sum(map(_memory_mb, workers)),
        "workers": len(workers),
        "open files": len(os.listdir(f"/proc/{server.pid}/fd")),
        "threads": len(os.listdir(f"/proc/{server.pid}/task")),
        "LMDB readers": max(0, len(store.readers().strip().splitlines()) - 1),  # under a heading, if there are any
        "connections": stats["connections"],
        "in flight": sum(stats["in_flight"].values()),
    }


def _memory_mb(pid: int) -> float:
    """Resident memory of a process in MB; 0 if the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def _children(pid: int) -> list[int]:
    """The processes that any thread of a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # the thread has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def _cpu_s(pid: int) -> float:
    """Processor time in seconds of a process and of its children, ended ones included."""
    ticks = 0
    for one in (pid, *_children(pid)):
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


# --- tables and pictures ----------------------------------------------------------------------------------------------


def growth_rows(looks: Sequence[Look]) -> list[dict[str, Any]]:
    """The table rows, one for each measure. The last observation is the one at rest."""
    *looks, rest = looks
    warm = [look for look in looks if look["minute"] >= WARM_UP * looks[-1]["minute"]]
    tenth = max(1, len(warm) // 10)
    rows = []
    for name in MEASURES:
        values, minutes = [np.array([look[key] for look in warm]) for key in (name, "minute")]
        slope = float(np.polyfit(minutes, values, 1)[0]) if len(warm) > 1 else None
        rows.append(
            {
                "": name,
                "first": float(np.median(values[:tenth])),
                "last": float(np.median(values[-tenth:])),
                "slope": slope,
                "least": float(values.min()),
                "most": float(values.max()),
                "at rest": float(rest[name]),
            }
        )
    return rows


def outcome_rows(outcomes: Mapping[tuple[str, str], int], actors: Mapping[str, Actor]) -> list[dict[str, Any]]:
    """The table rows of outcomes, one for each actor."""
    rows = []
    for name, actor in actors.items():
        mine = {outcome: count for (who, outcome), count in sorted(outcomes.items()) if who == name}
        unexpected = sum(count for outcome, count in mine.items() if outcome not in actor.expected)
        counts = ", ".join(f"{outcome} {count}" for outcome, count in mine.items())
        rows.append({"what": name, "n": sum(mine.values()), "unexpected": unexpected, "outcomes": counts})
    return rows


def logged_rows(log: Path) -> list[dict[str, Any]]:
    """The table rows of the log: how often each warning, error and unformatted line occurs, whatever its numbers."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"level": "(no log line)", "message": line}
        if entry["level"] != "INFO":
            counts[entry["level"], re.sub(r"[0-9][0-9a-fx.]*", "#", entry["message"])[:100]] += 1
    return [{"level": level, "n": n, "message": words} for (level, words), n in counts.most_common(20)]


def draw(looks: Sequence[Look], path: Path) -> None:
    """Draws all measures against time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 3, figsize=(12, 7), sharex=True)
    for axis, name in zip(axes.flat, MEASURES, strict=True):
        axis.plot([look["minute"] for look in looks], [look[name] for look in looks], linewidth=0.8)
        axis.set(title=name, ylim=(0, None))
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("minutes")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
