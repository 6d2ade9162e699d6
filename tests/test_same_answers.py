"""The command line and a server give the same answer to the same query, bit for bit, with the shipped network."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scorefind
from collection_samples import document
from engine.collection import CollectionWriter
from engine.embedding.encoder import DEFAULT_WEIGHTS, Encoder
from engine.finder import Engine
from media import write_recording
from running_server import score
from server.access import Access
from server.address import Address
from server.client import AsyncClient
from server.config import ServerSettings
from server.server import serving

QUERIES = 30


@pytest.mark.skipif(not DEFAULT_WEIGHTS.exists(), reason="the network is not trained yet")
def test_thirty_queries_in_batches_of_a_server_have_the_answers_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Among random scores every cost hangs on all embeddings of the query."""
    encoder = Encoder.load(device="cpu")
    with CollectionWriter(tmp_path / "collection", encoder.identity) as writer:
        for number in range(8):
            writer.put(document(f"s{number}", content_hash=str(number)), score(number))
        writer.commit()
    lengths_s = np.random.default_rng(0).uniform(5, 15, QUERIES)
    files = [write_recording(tmp_path / f"{i}.flac", i, float(seconds)) for i, seconds in enumerate(lengths_s)]

    async def served() -> list[dict[str, Any]]:
        engine = Engine.load(encoder=encoder, backend="cpu")
        async with (
            serving(tmp_path / "collection", engine, ServerSettings(), Access()) as server,
            AsyncClient(await server.listen(Address(port=0))) as client,
        ):
            return await asyncio.gather(*(client.query(file) for file in files))

    together = asyncio.run(served())
    monkeypatch.setattr(scorefind, "encoder_loader", lambda *_: lambda: encoder)
    capfd.readouterr()
    for file, answer in zip(files, together, strict=True):
        assert scorefind.main(["query", str(tmp_path / "collection"), str(file), "--json"]) == 0
        alone = json.loads(capfd.readouterr().out)
        assert alone.pop("query") == str(file)
        del alone["timings_ms"], answer["timings_ms"]
        assert alone == answer
