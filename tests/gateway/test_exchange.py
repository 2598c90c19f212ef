"""What the gateway makes of the answers of real servers."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)

from celery_ezthrottle.gateway.exchange import NoResponse, UpstreamResponse, exchange, make_client  # noqa: E402 (needs httpx2)
from tests.support.gateway_process import Gateway, Reply, Site  # noqa: E402


@pytest.fixture
def site() -> Iterator[Site]:
    with Site().running() as site:
        yield site


def ask(url: str, method: str = "GET", *, limit: int = 1000, headers: dict[str, str] | None = None) -> UpstreamResponse:
    async def run() -> UpstreamResponse:
        async with make_client() as client:
            return await exchange(client, method, url, headers or {}, None, timeout=10.0, limit=limit)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "body", "text", "encoded"),
    [
        ({}, b"\xc3\xa9\xff", "é\ufffd", "w6n/"),
        ({"Content-Type": "text/plain; charset=latin-1"}, b"\xe9", "é", "6Q=="),
        ({"Content-Type": "text/plain; charset=latin-1"}, b"\xc3\xa9", "Ã©", "w6k="),
        ({"Content-Type": "text/plain; charset=latin-1"}, b"e", "e", None),
        ({"Content-Type": "text/plain; charset=nonsense"}, b"\xc3\xa9", "é", None),
        ({"Content-Type": "text/plain; charset=zlib"}, b"\xc3\xa9", "é", None),
        ({"Content-Type": "text/plain; charset=idna"}, b"\xc3\xa9", "é", None),
        ({"Content-Type": "application/json"}, b"\xef\xbb\xbf{}", "\ufeff{}", None),
        ({"Content-Type": "application/json"}, b"\xff\xfe{\0", "\ufffd\ufffd{\0", "//57AA=="),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"packed"), "packed", None),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"\xff"), "\ufffd", "/w=="),
    ],
)
def test_a_body_becomes_text_and_what_is_not_in_utf_8_comes_beside_it(
    site: Site, headers: dict[str, str], body: bytes, text: str, encoded: str | None
) -> None:
    site.answer = lambda seen, index: Reply(200, headers, body)
    answer = ask(site.url)
    assert (answer.body, answer.body_base64) == (text, encoded)
    is_decoded = "Content-Encoding" in headers
    assert ("content-length" in answer.headers) is not is_decoded
    assert "content-encoding" not in answer.headers


def test_the_headers_of_head_tell_what_get_would_get(site: Site) -> None:
    site.answer = lambda seen, index: Reply(200, {"Content-Encoding": "gzip"}, b"x" * 30)
    answer = ask(site.url, "HEAD")
    assert answer.body == ""
    assert (answer.headers["content-encoding"], answer.headers["content-length"]) == ("gzip", "30")


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [("gzip, deflate, nope;q=0.5, x", "gzip, deflate"), ("nope", "identity"), ("gzip;q=0, *", "gzip;q=0")],
)
def test_no_coding_is_asked_for_that_cannot_be_decoded(site: Site, accepted: str, asked: str) -> None:
    ask(site.url, headers={"accept-encoding": accepted})
    assert site.seen[0].headers["accept-encoding"] == asked


@pytest.mark.parametrize(
    ("parameters", "asked"), [("self, data", "gzip"), ("self, data, output_buffer_limit", "gzip, br")]
)
def test_br_is_asked_for_when_the_brotli_that_is_installed_serves_httpx2(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: str, asked: str
) -> None:
    brotli = f"class error(Exception): ...\nclass Decompressor:\n    def process({parameters}): return data\n"
    (tmp_path / "brotli.py").write_text(brotli)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    with Gateway(tmp_path).running() as gateway:
        gateway.submit(url=site.url, headers={"Accept-Encoding": "gzip, br"})
        assert site.wait_for(1)[0].headers["accept-encoding"] == asked


@pytest.mark.parametrize(
    "location", ["http://[::1/", "http://127.0.0.1:port/", "mailto:a@example.com", "http://xn--a/"]
)
def test_a_redirect_is_an_answer_wherever_it_leads(site: Site, location: str) -> None:
    site.answer = lambda seen, index: Reply(302, {"Location": location}, b"over there")
    answer = ask(site.url)
    assert (answer.status_code, answer.headers["location"], answer.body) == (302, location, "over there")


def test_an_answer_without_a_body(site: Site) -> None:
    site.answer = lambda seen, index: Reply(204, {"Content-Encoding": "gzip"})
    answer = ask(site.url)
    assert (answer.status_code, answer.body) == (204, "")
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, b"x" * 1001, "larger than 1,000 bytes"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"x" * 1001), "larger than 1,000 bytes"),
        ({"Content-Encoding": "gzip"}, b"not packed", "could not be decoded"),
        ({"Content-Encoding": "nope"}, b"packed", "could not be decoded"),
        ({"Content-Encoding": ", ".join(["gzip"] * 6)}, gzip.compress(b""), "could not be decoded"),
    ],
)
def test_a_body_that_is_of_no_use_is_not_asked_for_again(
    site: Site, headers: dict[str, str], body: bytes, reason: str
) -> None:
    site.answer = lambda seen, index: Reply(200, headers, body)
    with pytest.raises(NoResponse, match=reason) as caught:
        ask(site.url)
    assert caught.value.final
    assert caught.value.status_code == 200


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://[::1/", {}),
        ("ftp://127.0.0.1/", {}),
        ("http://127.0.0.1:9/", {"X": "secret\r\nY: b"}),
        ("http://127.0.0.1:9/", {"é": "secret"}),
    ],
)
def test_a_request_that_cannot_be_sent(site: Site, url: str, headers: dict[str, str]) -> None:
    with pytest.raises(NoResponse, match="cannot be sent") as caught:
        ask(url.replace("127.0.0.1:9", site.host), headers=headers)
    assert caught.value.final
    assert "secret" not in str(caught.value)
    assert site.seen == []
