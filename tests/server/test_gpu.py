"""A server that aligns on a GPU gives the answers of a server that aligns on the CPU."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine import alignment
from engine.alignment import Backend
from engine.alignment.gpu import TOLERANCE
from engine.errors import DeviceError
from media import write_recording
from running_server import fill, running

SCORES = 12


async def answers_of(folder: Path, files: list[Path], backend: Backend) -> list[dict[str, Any]]:
    """The answers to queries that wait together."""
    async with running(folder, backend=backend) as server, server.client() as client:
        return await asyncio.gather(*(client.query(file, top=SCORES) for file in files))


def test_a_server_on_a_gpu_gives_the_costs_of_one_on_the_cpu(tmp_path: Path) -> None:
    try:
        gpu = alignment.choose("gpu")
    except DeviceError as exc:
        pytest.skip(str(exc))
    folder = fill(tmp_path / "collection", *range(SCORES))
    files = [write_recording(tmp_path / f"{seconds}.flac", seconds, seconds) for seconds in (6, 9, 20)]
    answers = {one.name: asyncio.run(answers_of(folder, files, one)) for one in (gpu, alignment.choose("cpu"))}
    for found, expected in zip(answers["gpu"], answers["cpu"], strict=True):
        assert (found["plan"]["backend"], expected["plan"]["backend"]) == ("gpu", "cpu")
        costs, wanted = ({match["id"]: match["cost"] for match in answer["matches"]} for answer in (found, expected))
        assert len(wanted) == SCORES
        assert costs == pytest.approx(wanted, abs=TOLERANCE)
    assert not gpu.fell_back()
