"""What the gateway makes of the answers of real servers."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator

import pytest

httpx = pytest.importorskip("httpx")

from celery_ezthrottle.gateway.exchange import NoResponse, UpstreamResponse, exchange, make_client  # noqa: E402 (needs httpx)
from tests.support.gateway_process import Reply, Site  # noqa: E402


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
    ("headers", "body", "text"),
    [
        ({}, b"\xc3\xa9\xff", "é\ufffd"),
        ({"Content-Type": "text/plain; charset=latin-1"}, b"\xe9", "é"),
        ({"Content-Type": "text/plain; charset=nonsense"}, b"\xc3\xa9", "é"),
        ({"Content-Type": "text/plain; charset=zlib"}, b"\xc3\xa9", "é"),
        ({"Content-Type": "text/plain; charset=idna"}, b"\xc3\xa9", "é"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"packed"), "packed"),
    ],
)
def test_a_body_becomes_text(site: Site, headers: dict[str, str], body: bytes, text: str) -> None:
    site.answer = lambda seen, index: Reply(200, headers, body)
    answer = ask(site.url)
    assert answer.body == text
    assert not answer.headers.keys() & {"content-encoding", "content-length"}


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
