"""What the body of a resumed task sees is what the upstream sent: bytes and cookies. Or the task asks for it again itself."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest
import requests

from celery_ezthrottle import OutcomeUnknown
from tests.support.answered_tasks import Read, jar, logs_in, read, reads
from tests.support.each_library import each_library
from tests.support.fake_service import API_KEY, SECRET
from tests.support.gateway_process import Gateway
from tests.support.http_clients import ASYNC, CLIENTS
from tests.support.lab import PATIENCE, Lab
from tests.support.upstream import Answer

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\xff\xfe"
XML = '<?xml version="1.0" encoding="ISO-8859-1"?><größe>é</größe>'.encode("latin-1")
ITEM = json.dumps({"name": "Zoë 🦊"}, ensure_ascii=False)
PAGE = "<title>Größe</title><p>“zwölf” – 12 €"

#: What the upstream sends, and whether its bytes can be told from the text alone.
BODIES = {
    "image": ("image/png", PNG, False),
    "PDF": ("application/pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", False),
    "Latin-1 page": ("text/html; charset=iso-8859-1", "<title>Größe</title>".encode("latin-1"), True),
    "Latin-1 text": ("text/plain", "Größe".encode("latin-1"), True),
    "cp1252 page": ("text/html; charset=windows-1252", PAGE.encode("cp1252"), True),
    "UTF-8 page": ("text/html", PAGE.encode(), True),
    "Latin-1 XML": ("application/xml; charset=iso-8859-1", XML, True),
    "JSON": ("application/json", ITEM.encode(), True),
    "JSON with a BOM": ("application/json", b"\xef\xbb\xbf" + ITEM.encode(), True),
    "JSON in UTF-16": ("application/json", ITEM.encode("utf-16"), False),
    "JSON with U+FFFD": ("application/json", '"\ufffd"'.encode(), True),
    "JSON that is broken": ("application/json", b'"\xff"', False),
    "image that is empty": ("image/png", b"", True),
}
bodies = pytest.mark.parametrize(("kind", "body", "is_told"), BODIES.values(), ids=BODIES)


def sent(kind: str, body: bytes) -> Answer:
    return Answer(200, body, {"Content-Type": kind} if kind else {})


def stock(lab: Lab, path: str, answer: Answer, library: str = "requests") -> Read:
    """What the body sees without this package."""
    lab.upstream.plan(f"{path}/stock", answer)
    return read(CLIENTS[library].get(f"{lab.upstream.url}{path}/stock"))


@bodies
@each_library(slow=("httpx", ASYNC))
def test_through_a_service_that_sends_text(
    lab: Lab, path: str, kind: str, body: bytes, is_told: bool, library: str
) -> None:
    answer = sent(kind, body)
    lab.upstream.plan(path, 429, answer, *([] if is_told else [answer]))

    assert reads.delay(path, library=library).get(timeout=PATIENCE) == stock(lab, path, answer, library)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1 if is_told else 2, 1)


@pytest.fixture(scope="module")
def exact(shared_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The queue of a worker whose service is our gateway."""
    for extra in ("httpx2", "starlette", "uvicorn"):
        pytest.importorskip(extra)
    made = Gateway(tmp_path_factory.mktemp("gateway"), api_key=API_KEY, webhook_secret=SECRET, default_rate=1000.0)
    with made.running() as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        with shared_lab.worker(
            "exact", "-c", "2", TEST_QUEUE="exact", EZTHROTTLE_URL=url, EZTHROTTLE_TRACKTAGS_URL=url
        ):
            yield "exact"


@bodies
@pytest.mark.parametrize(
    ("method", "library"),
    [("GET", "requests"), ("POST", "requests"), ("GET", "httpx2"), pytest.param("POST", ASYNC, marks=pytest.mark.slow)],
)
def test_through_our_gateway(
    lab: Lab, exact: str, path: str, method: str, library: str, kind: str, body: bytes, is_told: bool
) -> None:
    answer = sent(kind, body)
    lab.upstream.plan(path, 429, answer)

    found = reads.apply_async((path, method, library), queue=exact).get(timeout=PATIENCE)

    assert found == stock(lab, path, answer, library)
    assert len(lab.upstream.received(path)) == 2


@each_library()
@pytest.mark.parametrize("queue", ["celery", "exact"])
def test_a_packed_body_is_unpacked_and_its_headers_say_so(
    lab: Lab, exact: str, path: str, queue: str, library: str
) -> None:
    answer = Answer(200, gzip.compress(ITEM.encode()), {"Content-Type": "application/json", "Content-Encoding": "gzip"})
    lab.upstream.plan(path, 429, answer)

    found = reads.apply_async((path, "GET", library), queue=queue).get(timeout=PATIENCE)

    assert found[:3] == stock(lab, path, answer, library)[:3]
    assert "content-encoding" not in found[3]
    assert found[3].get("content-length", str(len(ITEM.encode()))) == str(len(ITEM.encode()))
    assert len(lab.upstream.received(path)) == 2


@each_library()
@pytest.mark.parametrize("status", [200, 201])
def test_an_unsafe_call_whose_bytes_are_lost_is_not_sent_again(lab: Lab, path: str, status: int, library: str) -> None:
    lab.upstream.plan(path, 429, Answer(status, PNG, {"Content-Type": "image/png"}))

    with pytest.raises(OutcomeUnknown, match=f"body of the {status} .* binary type image/png.* look it up upstream"):
        reads.delay(path, "POST", library).get(timeout=PATIENCE)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@each_library()
def test_an_error_of_an_unsafe_call_is_that_error_whatever_its_body(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429, Answer(422, b"zw\xf6lf", {"Content-Type": "application/json"}))

    result = reads.delay(path, "POST", library)

    with pytest.raises(CLIENTS[library].AnyError, match="422"):
        result.get(timeout=PATIENCE)
    assert "is not exact" in str(result.traceback)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_a_call_that_is_still_limited_is_not_made_again_for_its_body(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, Answer(503, b"\xff", {"Content-Type": "text/html; charset=utf-8"}))

    result = reads.delay(path)

    with pytest.raises(requests.HTTPError, match="503"):
        result.get(timeout=PATIENCE)
    assert "is not exact" in str(result.traceback)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@each_library()
def test_a_call_that_is_made_again_is_not_forwarded_again(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429, Answer(200, PNG, {"Content-Type": "image/png"}), 429)

    result = reads.delay(path, library=library)

    with pytest.raises(CLIENTS[library].AnyError, match="429"):
        result.get(timeout=PATIENCE)
    assert "is not exact" in str(result.traceback)
    assert len(lab.service.jobs(path)) == 1
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 1)


def test_what_the_gateway_cannot_take_was_executed_all_the_same(lab: Lab, exact: str, path: str) -> None:
    """An error that Celery retries would execute it again."""
    lab.upstream.plan(path, 429, Answer(200, b" " * (8 * 1024 * 1024 + 1)))

    with pytest.raises(OutcomeUnknown, match="larger than 8,388,608 bytes"):
        reads.apply_async((path, "POST"), queue=exact).get(timeout=PATIENCE)
    assert len(lab.upstream.received(path)) == 2


COOKIES = (
    "a=1; Expires=Wed, 01 Jan 2200 00:00:00 GMT; Path=/",
    "b=2; Path=/",
    "c=x,y; expires=Thu, 02-Jan-2200 00:00:00 GMT",
)


@each_library()
@pytest.mark.parametrize("queue", ["celery", "exact"])
def test_every_cookie_reaches_response_and_session(lab: Lab, exact: str, path: str, queue: str, library: str) -> None:
    lab.upstream.plan(path, Answer(429, cookies=["z=0"]), Answer(cookies=COOKIES), Answer(cookies=COOKIES))

    found = logs_in.apply_async((path, library), queue=queue).get(timeout=PATIENCE)

    with CLIENTS[library].session() as session:
        answer = session.get(lab.upstream.url + path, timeout=5)
        assert found == [jar(answer.cookies), jar(session.cookies)]
    assert [cookie[0] for cookie in found[1]] == ["a", "b", "c"]
    assert lab.upstream.received(f"{path}/next")[0].headers["Cookie"] == "a=1; b=2; c=x,y"
