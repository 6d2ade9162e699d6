"""Counters and timings of the server, for Prometheus and `stats`, and the HTTP server that publishes them."""

import json
import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.collection import AnyCollection, ShardHealth

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


QUEUES = ("queries", "changes", "evenings")
"""The queues of requests, each with a limit of its own."""


class Metrics:
    """Counters, gauges and histograms of one server."""

    def __init__(self, shards: Callable[[], tuple[ShardHealth, ...]] = lambda: ()) -> None:
        """shards: returns the health of the collection's shards."""
        self.registry = CollectorRegistry()
        self._started = time.monotonic()
        registry: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("scorefind_requests", "Requests answered", ["op", "outcome"], **registry)
        self.seconds = Histogram(
            "scorefind_request_seconds", "From a request to its reply", ["op"], buckets=SECONDS, **registry
        )
        self.stages = Histogram("scorefind_stage_seconds", "Stages of queries", ["stage"], buckets=SECONDS, **registry)
        self.batches = Histogram(
            "scorefind_batch_queries", "Queries answered together", buckets=(1, 2, 4, 8, 16, 32), **registry
        )
        self.connections = Gauge("scorefind_connections", "Open connections", **registry)
        self.in_flight = Gauge("scorefind_in_flight", "Requests in the queue or at work", ["queue"], **registry)
        self.decoders_lost = Counter("scorefind_decoders_lost", "Decoders that died or had to be killed", **registry)
        self.wrong_tokens = Counter("scorefind_wrong_tokens", "Requests with a wrong token", **registry)
        self.cuts = Counter("scorefind_connections_cut", "Connections ended with an error", ["code"], **registry)
        self.held = Gauge("scorefind_collection", "What the generation in force holds", ["of"], **registry)
        ProcessCollector(registry=self.registry)
        self.registry.register(_Replicas(shards))

    def holds(self, collection: AnyCollection) -> None:
        """Records the number and the size of the generation that answers now."""
        self.held.labels("generation").set(collection.generation)
        self.held.labels("snippets").set(collection.snippets)
        for kind, held in collection.kinds.items():
            self.held.labels(f"{kind}s").set(held.documents)

    def finished(self, op: str, outcome: str, took_s: float) -> None:
        """Counts and times a request. outcome: `ok` or the code of an error."""
        self.requests.labels(op, outcome).inc()
        self.seconds.labels(op).observe(took_s)

    def refused(self, code: str) -> None:
        """Counts a request that is refused with an error of this code before it is known what it asks for."""
        self.requests.labels("none", code).inc()

    def cut_off(self, code: str) -> None:
        """Counts a connection that the server ends with an error of this code."""
        self.cuts.labels(code).inc()

    def told(self) -> dict[str, Any]:
        """Returns the metrics as plain values, for the reply to `stats`."""
        requests: dict[str, dict[str, float]] = {}
        for metric in self.requests.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    requests.setdefault(sample.labels["op"], {})[sample.labels["outcome"]] = sample.value
        return {
            "uptime_s": time.monotonic() - self._started,
            "requests": requests,
            "connections": self._value("scorefind_connections"),
            "in_flight": {queue: self._value("scorefind_in_flight", queue=queue) for queue in QUEUES},
            "batches": self._value("scorefind_batch_queries_count"),
            "batched": self._value("scorefind_batch_queries_sum"),
            "wrong_tokens": self._value("scorefind_wrong_tokens_total"),
            "decoders_lost": self._value("scorefind_decoders_lost_total"),
            "memory_bytes": memory_bytes(),
            "open_files": _open_files(),
        }

    def _value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


class _Replicas(Collector):
    """How many replicas of each shard answer, and how often each was passed over, when somebody asks."""

    def __init__(self, shards: Callable[[], tuple[ShardHealth, ...]]) -> None:
        self._shards = shards

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics; they have no samples where a collection has no replicas."""
        replicas = GaugeMetricFamily("scorefind_replicas", "Replicas of a shard", labels=["shard", "state"])
        passed = CounterMetricFamily("scorefind_replica_passed_over", "Failures of a replica", labels=["shard", "of"])
        for shard in self._shards():
            replicas.add_metric([shard.name, "known"], shard.replicas)
            replicas.add_metric([shard.name, "answering"], shard.answering)
            for name, count in shard.passed_over.items():
                passed.add_metric([shard.name, name], count)
        yield from (replicas, passed)


def memory_bytes() -> int:
    """Resident memory of this process; on systems without /proc, its peak."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _open_files() -> int | None:
    """Number of open files of this process; None on systems without /proc."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitored:
    """What operators see at /metrics and /healthz."""

    metrics: Metrics
    health: Callable[[], dict[str, Any]]
    """Returns the body of /healthz; the status is 200 if its `ok` is true, else 503."""

    def at(self, path: str) -> tuple[int, str, bytes]:
        """Returns the status, the media type and the content of the reply to GET for a path."""
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(self.metrics.registry)
        if path == "/healthz":
            facts = self.health()
            return 200 if facts["ok"] else 503, "application/json", json.dumps(facts).encode()
        return 404, "text/plain", b"expected /metrics or /healthz\n"


class Monitor:
    """Answers GET /metrics and GET /healthz over HTTP, in a thread of its own."""

    def __init__(self, host: str, port: int, monitored: Monitored) -> None:
        """Starts to listen. port: 0 chooses a free port. Raises OSError if the port cannot be used."""

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0

            def do_GET(self) -> None:
                self._send(*monitored.at(self.path))

            def _send(self, status: int, content_type: str, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                logging.getLogger(__name__).debug(format, *args)

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, name="monitor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and waits for the thread to end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
