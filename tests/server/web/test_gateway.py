"""Requests of HTTP: the same answers, errors and limits as those of the socket."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from http_client import form_of, serving_web
from media import write_page, write_recording
from running_server import NETWORK, TOKEN, Gate, ask, fill, score
from server import messages
from server.config import Limits
from server.errors import BY_CODE
from server.messages import array
from server.web.bodies import MAX_JSON_BYTES
from server.web.operations import OPERATIONS, described
from server.web.replies import STATUS


def run(test: Any) -> Any:
    return asyncio.run(test)


def embedded(number: int = 0, **more: Any) -> dict[str, Any]:
    """The JSON that asks for score `number` among scores."""
    encoded = array(score(number).embeddings)
    encoded["data"] = base64.b64encode(encoded["data"]).decode()
    return {"embeddings": encoded, "kind": "score", "network": NETWORK.hash, "among": "score"} | more


def without_times(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("timings_ms", "query")}


def test_a_query_has_the_answer_of_the_socket(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0, 1, 2)) as web, web.running.client() as client:
            reply = await web.post("/query", embedded(1, top=2))
            assert reply.status == 200
            assert reply.json["matches"][0]["id"] == "s1"
            assert without_times(reply.json) == without_times(await ask(client, 1, top=2))

    run(test())


def test_a_file_in_a_form_has_the_answer_of_the_socket(tmp_path: Path) -> None:
    async def test() -> None:
        file = write_recording(tmp_path / "take.wav", 0)
        async with serving_web(fill(tmp_path / "c", 0, 1)) as web, web.running.client() as client:
            reply = await web.form("/query", {"top": "2", "path": "true", "start_s": "1.5"}, file)
            assert reply.json["query"] == "take.wav"
            told = await client.query(file, top=2, path=True, start_s=1.5)
            assert without_times(reply.json) == without_times(told)
            assert reply.json["matches"][0]["time_map"]

    run(test())


WRONG_FIELDS = (
    ({"tops": "3"}, "tops: no such field here"),
    ({"op": "remove"}, "op: no such field here"),
    ({"token": TOKEN}, "token: no such field here"),
    ({"top": "three"}, "top: expected a number, got 'three'"),
    ({"path": "yes"}, "path: expected true or false, got 'yes'"),
    ({"top": "0"}, "top: expected a number from 1 to"),
)
WRONG_BODIES = (
    *(b"", b"{", b"[]", b'{"top": NaN', b'{"embeddings": {"data": "?"}}', b"[" * 100_000, b'{"media": [1]}', b"{}"),
    b'{"media": [' + b"{}," * 70_000 + b"{}]}",
)


def test_a_wrong_field_of_a_form_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        file = write_recording(tmp_path / "take.wav", 0, 1)
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            for fields, message in WRONG_FIELDS:
                reply = await web.form("/query", fields, file)
                assert (reply.status, reply.code) == (400, "bad_request")
                assert message in reply.json["error"]["message"]

    run(test())


def test_a_body_that_is_no_request_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            for body in WRONG_BODIES:
                for kind in (
                    "application/json",
                    "multipart/form-data; boundary=x",
                    "multipart/form-data",
                    "text/plain",
                ):
                    reply = await web.ask("POST", "/query", body, {"Content-Type": kind})
                    assert (reply.status, reply.code) == (400, "bad_request"), (kind, body[:40], reply.body)

    run(test())


def test_every_code_that_a_reply_can_have_has_a_status() -> None:
    assert set(STATUS) == set(BY_CODE) - {"address", "connection_lost"}


def test_every_operation_is_there_and_described() -> None:
    streamed = {"stream.open", "stream.push", "stream.get", "stream.close"}
    assert {operation.op for operation in OPERATIONS} | streamed == set(messages._BODIES)
    paths = described()["paths"]
    names = [paths[operation.path][operation.method.lower()]["operationId"] for operation in OPERATIONS]
    assert [name.partition("_")[0] for name in names] == [operation.op for operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_each_described_operation_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            paths = (await web.get("/openapi.json")).json["paths"]
            for path, methods in paths.items():
                for method in methods:
                    concrete = path.replace("{document}", "s0").replace("{page}", "1")
                    reply = await web.ask(method.upper(), concrete)
                    assert path == "/stream" or b"no such address" not in reply.body, path

    run(test())


def test_changes_need_the_token_and_are_served_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        page, fields = write_page(tmp_path / "new.png", 3), {"document": "A/ö 1", "title": "<b>bold</b>"}
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            refused = [await web.form("/documents", fields, page), await web.ask("DELETE", "/documents/s0")]
            refused.append(await web.ask("DELETE", "/documents/s0", token="guess"))
            assert [(reply.status, reply.code) for reply in refused] == [(401, "unauthorised")] * 3
            added = await web.form("/documents", fields, page, token=TOKEN)
            assert added.json["status"] == "added"
            facts = (await web.get("/documents/A%2F%C3%B6%201")).json
            assert (facts["id"], facts["title"], len(facts["systems"])) == ("A/ö 1", "<b>bold</b>", 3)
            assert (await web.form("/documents", fields, write_page(page, 4), token=TOKEN)).code == "exists"
            assert (await web.ask("DELETE", "/documents/A%2F%C3%B6%201", token=TOKEN)).json["removed"] == 1
            assert (await web.get("/documents/A%2F%C3%B6%201")).status == 404

    run(test())


def test_where_reads_need_a_token_only_the_page_and_the_health_are_open(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0), open_reads=False, read_token="reader") as web:
            for path in ("/", "/page/main.js", "/healthz", "/openapi.json", "/ping"):
                assert (await web.get(path)).status == 200, path
            for path in ("/documents", "/documents/s0", "/info", "/stats", "/metrics", "/documents/s0/pages/1"):
                assert (await web.get(path)).status == 401, path
            assert (await web.get("/documents", token="reader")).status == 200
            assert (await web.get("/metrics", token="reader")).status == 200
            assert (await web.ask("DELETE", "/documents/s0", token="reader")).status == 401

    run(test())


def test_a_stranger_may_not_send_much(tmp_path: Path) -> None:
    async def test() -> None:
        body, kind = form_of({"top": "1" * 70_000})
        async with serving_web(fill(tmp_path / "c", 0), open_reads=False) as web:
            reply = await web.ask("POST", "/query", body, {"Content-Type": kind})
            assert (reply.status, reply.code) == (401, "unauthorised")
            assert "more than 65536 bytes" in reply.json["error"]["message"]

    run(test())


def test_a_body_that_is_too_large_is_refused_before_and_while_it_comes(tmp_path: Path) -> None:
    async def test() -> None:
        head = b"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        limits = Limits(frame_bytes=100_000, frame_s=1)
        async with serving_web(fill(tmp_path / "c", 0), limits) as web:
            announced = await web.raw(head + b"Content-Length: 999999999999\r\n\r\n")
            assert b" 413 " in announced.splitlines()[0]
            chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
            unannounced = await web.raw(head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 30)
            assert b" 413 " in unannounced.splitlines()[0]
            assert web.running.server._memory.requests._left == limits.buffered_bytes

    run(test())


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "APPLICATION/JSON; charset=utf-8"])
def test_json_is_refused_when_it_is_too_large_whatever_the_case_of_its_type(tmp_path: Path, kind: str) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0), Limits(frame_s=1)) as web:
            head = f"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            reply = await web.raw(f"{head}Content-Length: {MAX_JSON_BYTES + 1}\r\n\r\n".encode())
            assert b" 413 " in reply.splitlines()[0]

    run(test())


def test_requests_that_do_not_end_are_ended(tmp_path: Path) -> None:
    async def test() -> None:
        limits = Limits(frame_s=0.3)
        async with serving_web(fill(tmp_path / "c", 0), limits) as web:
            started = asyncio.get_running_loop().time()
            assert await web.raw(b"GET / HT") == b""
            assert await web.raw() == b""
            late = await web.raw(
                b"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\n\r\n{"
            )
            assert b" 504 " in late.splitlines()[0]
            assert asyncio.get_running_loop().time() - started < 5
            assert len(web.running.server._door) == 0

    run(test())


def test_connections_of_both_kinds_pass_one_door(tmp_path: Path) -> None:
    async def test() -> None:
        limits = Limits(connections=2, spare_s=60)
        async with serving_web(fill(tmp_path / "c", 0), limits) as web, web.running.raw(), web.running.raw():
            await asyncio.sleep(0.1)
            with pytest.raises(ConnectionError):
                await web.get("/ping")

    run(test())


def test_a_client_that_leaves_gives_its_place_free(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with serving_web(fill(tmp_path / "c", 0), backend=gate.backend) as web:
            gate.shut()
            _, writer = await asyncio.open_connection(web.address.host, web.address.port)
            body = json.dumps(embedded()).encode()
            head = "POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await web.running.until(in_flight=1)
            writer.transport.abort()
            await web.running.until(in_flight=0)
            gate.open()

    run(test())


def test_a_full_queue_is_told_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with serving_web(fill(tmp_path / "c", 0), Limits(queue=1), backend=gate.backend) as web:
            gate.shut()
            first = asyncio.create_task(web.post("/query", embedded()))
            await web.running.until(in_flight=1)
            second = await web.post("/query", embedded())
            assert (second.status, second.code, second.headers["retry-after"]) == (503, "overloaded", "1")
            gate.open()
            assert (await first).status == 200

    run(test())


def test_a_deadline_holds(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with serving_web(fill(tmp_path / "c", 0), backend=gate.backend) as web:
            gate.shut()
            reply = await web.post("/query", embedded(deadline_s=0.2))
            assert (reply.status, reply.code) == (504, "deadline_exceeded")
            gate.open()

    run(test())


def test_a_gateway_that_stops_answers_what_it_has_begun(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with serving_web(fill(tmp_path / "c", 0), backend=gate.backend) as web:
            gate.shut()
            asked = asyncio.create_task(web.post("/query", embedded()))
            await web.running.until(in_flight=1)
            asyncio.get_running_loop().call_later(0.3, gate.open)
        assert (await asked).status == 200
        with pytest.raises(OSError, match="refused"):
            await web.get("/ping")

    run(test())


def test_a_reply_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        limits = replace(Limits(), client_reply_bytes=10)
        async with serving_web(fill(tmp_path / "c", 0), limits) as web:
            assert (await web.get("/info")).code == "bad_request"

    run(test())


def test_health_and_metrics_are_those_of_the_monitor(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            health = await web.get("/healthz")
            assert (health.status, health.json) == (200, web.running.server._health())
            assert "scorefind_requests" in (await web.get("/metrics")).body.decode()

    run(test())
