"""Protection against other web sites, and against what names and paths may hold."""

import asyncio
from pathlib import Path
from typing import Any

from http_client import serving_web
from running_server import fill
from server.config import WebSettings
from server.web.static import assets


def run(test: Any) -> Any:
    return asyncio.run(test)


FOREIGN = (
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": "["},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
)


def test_requests_of_other_sites_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            for headers in FOREIGN:
                assert (await web.get("/documents", headers=headers)).status == 403, headers

    run(test())


def test_requests_of_the_page_and_of_programs_are_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0), settings=WebSettings(hosts=("music.example",))) as web:
            own = {"Origin": f"http://localhost:{web.address.port}", "Host": f"localhost:{web.address.port}"}
            for headers in (
                {},
                {"Host": "[::1]:80"},
                {"Host": "music.example"},
                own | {"Sec-Fetch-Site": "same-origin"},
            ):
                assert (await web.get("/documents", headers=headers)).status == 200, headers
            link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
            assert (await web.get("/", headers=link)).status == 200

    run(test())


def test_any_name_reaches_a_server_that_needs_a_token(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0), open_reads=False) as web:
            headers = {"Host": "anything.example"}
            assert (await web.get("/documents", headers=headers)).status == 401
            assert (await web.get("/", headers=headers)).status == 200

    run(test())


def test_every_reply_is_protected(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            for path in ("/", "/page/style.css", "/documents", "/nothing", "/healthz", "/documents/s0/pages/1"):
                headers = (await web.get(path)).headers
                policy = headers["content-security-policy"]
                assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
                assert "unsafe" not in policy
                assert headers["x-content-type-options"] == "nosniff"

    run(test())


TRICKS = (
    "/page/../app.py",
    "/page/%2e%2e/app.py",
    "/page/..%2fapp.py",
    "/page//etc/passwd",
    "/page/",
    "/../../etc/passwd",
    "/documents/s0/pages/../../../etc/passwd",
    "/documents/..%2f..%2fetc%2fpasswd/sound",
    "/documents/%2fetc%2fpasswd/pages/1",
    "/documents/s0/pages/1%00",
    "/page/main.js%00.html",
)


def test_no_path_leads_to_another_file(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            for path in TRICKS:
                reply = await web.get(path)
                assert reply.status in (400, 404), path
                assert b"root:" not in reply.body, path
                assert b"import" not in reply.body, path

    run(test())


def test_the_page_has_no_script_or_style_in_its_markup() -> None:
    """The policy would block them; a browser would then show a page without its looks."""
    found = assets()
    markup = found["/"].content.decode()
    assert "style=" not in markup
    assert "onclick" not in markup
    assert "<script>" not in markup
    for path, asset in found.items():
        text = asset.content.decode()
        assert "innerHTML" not in text, path
        addresses = text.replace("http://www.w3.org/2000/svg", "")  # a name, which nothing is loaded from
        assert "http://" not in addresses, path
        assert "https://" not in addresses, path


def test_the_page_is_sent_again_only_when_it_has_changed(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving_web(fill(tmp_path / "c", 0)) as web:
            tag = (await web.get("/page/main.js")).headers["etag"]
            assert (await web.get("/page/main.js", headers={"If-None-Match": tag})).status == 304

    run(test())
