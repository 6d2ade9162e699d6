"""How long the stages of something take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopwatch:
    """Measures stages: `with stopwatch("read"): ...`."""

    times_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds of each stage that has ended without an error, by its name."""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.times_ms[stage] = (time.perf_counter() - started) * 1000
