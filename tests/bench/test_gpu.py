"""bench.gpu says what it lacks, and tells the figures that count."""

import pytest

from bench import gpu as bench
from engine.alignment import gpu
from engine.errors import DeviceError


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def none(fallback: object) -> gpu.Gpu:
        raise DeviceError("no GPU")

    monkeypatch.setattr(gpu, "open_gpu", none)
    bench.main(["--quick"])
    assert "nothing is measured: no GPU" in capsys.readouterr().out


def test_the_figures_are_those_of_the_largest_collection_and_of_the_usual_query() -> None:
    sweep = [
        {
            "query": query,
            "snippets": snippets,
            "tcups": snippets / 1e8,
            "cells": query * snippets,
            "share_of_limit": 0.1,
            "int8": int8,
        }
        for snippets in (10**6, 10**7)
        for int8 in (False, True)
        for query in (10, bench.USUAL)
    ]
    latency = [{"snippets": 10**6, "int8": int8, "p50 ms": 0.5 - 0.25 * int8} for int8 in (False, True)]
    assert bench.figures({"sweep": sweep, "latency": latency}) == {
        "tcups": 0.1,
        "cells": bench.USUAL * 10**7,
        "share_of_limit": 0.1,
        "latency_ms": {"1000000": 0.5},
        "tcups_int8": 0.1,
        "cells_int8": bench.USUAL * 10**7,
        "share_of_limit_int8": 0.1,
        "latency_ms_int8": {"1000000": 0.25},
    }
