"""Measuring how long the stages of an operation take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopwatch:
    """Measures the time of stages: `with stopwatch("read"): ...`."""

    times_ms: dict[str, float] = field(default_factory=dict)
    """Time of each stage in ms, by the stage's name. A stage that ended with an error is left out."""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measures the block as the stage of this name."""
        started = time.perf_counter()
        yield
        self.times_ms[stage] = (time.perf_counter() - started) * 1000
