"""What a cluster would do that is larger than any machine here, from what was measured here.

The model adds up measured times, and says what it assumes. Everything else than the measured figures is in ASSUMED.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

MACHINES, CORES, SHARDS_A_MACHINE, REPLICAS, SNIPPETS = 16, 8, 4, 2, 10**9
NETWORK_MS = 0.5
"""Time on the network for a call and its answer, in addition to what a call takes on one machine."""
DISK_BYTES, INDEX_BYTES, DOCUMENT_BYTES, LENGTH = 100, 41, 150, 300
"""Bytes of a snippet on disk without its index, of a snippet in an index, and of a document at the front; snippets of a
document."""
ASSUMED = f"""
Model of {MACHINES} machines with {CORES} cores each: {SNIPPETS:.0e} snippets in {MACHINES * SHARDS_A_MACHINE} shards,
{SHARDS_A_MACHINE} a machine, each with {REPLICAS} replicas, so a machine has {SHARDS_A_MACHINE * REPLICAS}. It assumes
- that a shard takes as long as one of its size took here among the fewest shards, interpolated in the logarithm of its
  size. That is too long: among more shards it aligns fewer documents of the shortlist and searches no more cells;
- that the time to merge is a + b x shards, fitted at the largest size at which most numbers of shards were measured;
- that the calls of a stage go out at the same time, and that a stage takes one call of Ray and {NETWORK_MS} ms more;
- that a query costs every shard the processor time that the slowest shard took, and the front the merge;
- that nothing else runs: a time counts by the share of it in which this process had a processor (cpu_ms / p50_ms);
- that the cores of this machine are those of the machines, and that the page cache holds what queries read.
"""


def rows(sizes: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields a row for each form of query. sizes: the rows of `bench.lib.shard_sizes`."""
    shards, shard_size = MACHINES * SHARDS_A_MACHINE, SNIPPETS / (MACHINES * SHARDS_A_MACHINE)
    divided = [_alone(row) for row in sizes if row["shards"].isdigit() and int(row["shards"]) > 1]
    for form in dict.fromkeys(row["form"] for row in divided):
        of_form = [row for row in divided if row["form"] == form]
        fewest = min(int(row["shards"]) for row in of_form)
        points = sorted(
            (row["snippets"] / fewest, row["slowest_ms"]) for row in of_form if int(row["shards"]) == fewest
        )
        slowest_ms = float(
            np.interp(np.log(shard_size), [np.log(size) for size, _ in points], [ms for _, ms in points])
        )
        largest = max(of_form, key=lambda row: row["snippets"])
        merge_ms = largest["merge_ms"] + (shards - int(largest["shards"])) * _merge_slope(of_form)
        trip_ms = largest["trips"] * (largest["round_trip_ms"] + NETWORK_MS)
        yield {
            "form": form,
            "shard_size": int(shard_size),
            "measured to": int(points[-1][0]),
            "slowest_ms": slowest_ms,
            "merge_ms": merge_ms,
            "trips_ms": trip_ms,
            "latency_ms": slowest_ms + merge_ms + trip_ms,
            "machines_q/s": MACHINES * CORES * 1000 / (shards * slowest_ms),
            "front_q/s_core": 1000 / merge_ms,
        }


def bytes_told() -> dict[str, Any]:
    """Returns what each machine and the front need."""
    a_machine = SNIPPETS / MACHINES * REPLICAS
    return {
        "disk a machine, GB": a_machine * (DISK_BYTES + INDEX_BYTES) / 1e9,
        "of it the indexes, GB": a_machine * INDEX_BYTES / 1e9,
        "memory of the front for documents, GB": SNIPPETS / LENGTH * DOCUMENT_BYTES / 1e9,
    }


def _alone(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row with the times that a process with a processor of its own would take."""
    share = min(1.0, row["cpu_ms"] / row["p50_ms"])
    return row | {name: row[name] * share for name in ("slowest_ms", "merge_ms")}


def _merge_slope(of_form: Sequence[dict[str, Any]]) -> float:
    """Returns by how many ms a further shard lengthens the merge, at the largest size with most numbers of shards."""
    by_size: dict[int, dict[int, float]] = {}
    for row in of_form:
        by_size.setdefault(row["snippets"], {})[int(row["shards"])] = row["merge_ms"]
    _, points = max(by_size.items(), key=lambda one: (len(one[1]), one[0]))
    if len(points) == 1:
        ((shards, merge_ms),) = points.items()
        return merge_ms / shards  # as if all of it grew with the shards
    slope, _ = np.polyfit(list(points), list(points.values()), 1)
    return max(0.0, float(slope))
