"""What the server tells of itself."""

import asyncio
import json
import logging
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from running_server import ask, fill, running
from server.address import Address
from server.errors import AddressError, CollectionRefused
from server.logs import JsonLines


def got(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def test_counts_and_health_are_told_over_http(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0, 1)) as server, server.client() as client:
            url = f"http://{server.server.monitor(Address(port=0))}"
            await ask(client)
            status, text = await asyncio.to_thread(got, f"{url}/metrics")
            assert status == 200
            lines = text.splitlines()
            assert 'scorefind_requests_total{op="query",outcome="ok"} 1.0' in lines
            assert 'scorefind_stage_seconds_count{stage="align"} 1.0' in lines
            assert 'scorefind_collection{of="scores"} 2.0' in lines
            assert "scorefind_connections 1.0" in lines
            assert 'scorefind_in_flight{queue="queries"} 0.0' in lines
            assert await asyncio.to_thread(got, f"{url}/healthz") == (200, '{"ok": true, "generation": 1}')
            assert (await asyncio.to_thread(got, f"{url}/"))[0] == 404

    asyncio.run(test())


def test_stats_tell_the_same_to_a_client(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0)) as server, server.client() as client:
            await ask(client)
            (tmp_path / "c" / "manifest.json").write_text("{}")
            with pytest.raises(CollectionRefused):
                await client.reload()
            stats = await client.stats()
            assert stats["requests"] == {"ping": {"ok": 1.0}, "query": {"ok": 1.0}, "reload": {"collection": 1.0}}
            assert stats["memory_bytes"] > 10_000_000
            assert stats["open_files"] > 3

    asyncio.run(test())


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(fill(tmp_path / "c", 0)) as server:
            with pytest.raises(AddressError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
                server.server.monitor(server.address)

    asyncio.run(test())


def test_the_log_is_one_json_object_a_line() -> None:
    try:
        raise ValueError("no\nway")
    except ValueError:
        record = logging.LogRecord("server", logging.ERROR, "x.py", 1, "%s is gone", ("a",), sys.exc_info())
    record.op = "query"
    line = JsonLines().format(record)
    assert "\n" not in line
    event = json.loads(line)
    assert (event["level"], event["logger"], event["message"], event["op"]) == ("ERROR", "server", "a is gone", "query")
    assert event["time"].endswith("Z")
    assert event["traceback"].endswith("ValueError: no\nway")
