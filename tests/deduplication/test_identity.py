"""Which calls are the same call. A doubt makes them different ones: nobody may get what only another may see."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import requests
from requests.auth import HTTPDigestAuth

from celery_ezthrottle.http import httpx_install, requests_adapter
from celery_ezthrottle.http.recorder import Recorder, recording
from tests.support.seen_identities import SeenIdentities, seen_identities
from tests.support.upstream import Answer, Handler, Received, running

HTTPX = pytest.mark.parametrize("library", [httpx, httpx2])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    requests_adapter.install()
    for library in (httpx, httpx2):
        httpx_install.install(library)

    def respond(_: Received) -> Answer:
        return Answer(200, "{}")

    with running(respond) as base:
        yield f"{base}/v1/items?n=1"


class Seen:
    """Makes calls, and takes their identities as they were before they were sent."""

    def __init__(self, url: str) -> None:
        self.url = url

    def of(self, make: Any) -> str | None:
        """The identity of the one call that ``make`` makes."""
        with seen_identities() as identities:
            make()
        (found,) = identities
        return found

    def get(self, **arguments: Any) -> str | None:
        """That of ``requests.get()``."""
        arguments = {"url": self.url, **arguments}
        return self.of(lambda: requests.get(timeout=5, **arguments))

    def get_by(self, library: Any, client: dict[str, Any] | None = None, **arguments: Any) -> str | None:
        """That of ``get()`` of a client of httpx."""

        def make() -> None:
            with library.Client(**(client or {})) as made:
                made.get(self.url, **arguments)

        return self.of(make)


@pytest.fixture
def seen(url: str) -> Seen:
    return Seen(url)


@contextmanager
def served(path: Path) -> Iterator[None]:
    """A server on a Unix domain socket."""
    made = {"respond": staticmethod(lambda _: Answer(200, "{}")), "disable_nagle_algorithm": False}  # it knows none
    handler = type("BoundHandler", (Handler,), made)
    with socketserver.ThreadingUnixStreamServer(str(path), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def all_differ(found: Iterable[str | None]) -> bool:
    listed = list(found)
    return None not in listed and len(set(listed)) == len(listed)


def test_the_same_call_is_the_same(seen: Seen) -> None:
    assert seen.get() == seen.get() == seen.get(url=f"{seen.url}#fragment") is not None


def test_what_makes_calls_of_requests_differ(seen: Seen, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    variants: list[dict[str, Any]] = [
        {},
        {"url": seen.url + "1"},
        {"data": "body"},
        {"headers": {"Authorization": "Bearer a"}},
        {"headers": {"Authorization": "Bearer b"}},
        {"headers": {"X-Api-Key": "a"}},
        {"headers": {"Accept-Language": "de"}},
        {"auth": ("user", "password")},
        {"cookies": {"session": "a"}},
        {"allow_redirects": False},
        {"verify": False},
        {"verify": str(bundle)},
    ]
    assert all_differ([*(seen.get(**each) for each in variants), seen.of(lambda: requests.head(seen.url, timeout=5))])


def test_what_tells_single_requests_apart_does_not_matter(seen: Seen) -> None:
    first, second = (
        {
            "traceparent": f"00-{n:032x}-{n:016x}-01",
            "X-Request-ID": str(n),
            "x-b3-traceid": str(n),
            "X-Datadog-Trace-Id": str(n),
            "X-Stripe-Client-Telemetry": str(n),
        }
        for n in (1, 2)
    )
    assert seen.get(headers=first) == seen.get(headers=second) == seen.get()


def test_calls_that_are_never_the_same(seen: Seen, tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.touch()
    post = lambda: requests.post(seen.url, timeout=5)  # noqa: E731
    assert seen.of(post) is None
    assert seen.get(stream=True) is None
    assert seen.get(data=iter([b"piece"])) is None
    assert seen.get(cert=str(certificate)) is None
    assert seen.get(auth=HTTPDigestAuth("user", "password")) is None


@HTTPX
def test_what_makes_calls_of_httpx_differ(seen: Seen, library: Any) -> None:
    variants: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({}, {"params": {"n": 2}}),
        ({}, {"headers": {"Authorization": "Bearer a"}}),
        ({"headers": {"Authorization": "Bearer b"}}, {}),
        ({"auth": ("user", "password")}, {}),
        ({}, {"auth": ("user", "other")}),
        ({"cookies": {"session": "a"}}, {}),
        ({"follow_redirects": True}, {}),
        ({"verify": False}, {}),
    ]
    assert all_differ([seen.get_by(library, *each[:1], **each[1]) for each in variants])


@HTTPX
def test_where_credentials_stand_does_not_matter(seen: Seen, library: Any) -> None:
    by_client = seen.get_by(library, {"auth": ("user", "password"), "follow_redirects": True})
    assert by_client == seen.get_by(library, {}, auth=("user", "password"), follow_redirects=True)
    assert by_client == seen.get_by(library, {}, auth=library.BasicAuth("user", "password"), follow_redirects=True)


@HTTPX
def test_sockets_with_one_url_are_different_servers(seen: Seen, library: Any, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for name in ("a", "b"):
            stack.enter_context(served(tmp_path / name))
        first, second, again = (
            seen.get_by(library, {"transport": library.HTTPTransport(uds=str(tmp_path / name))}) for name in "aba"
        )
    assert all_differ([first, second, seen.get_by(library)])
    assert first == again


@HTTPX
def test_calls_of_httpx_that_are_never_the_same(seen: Seen, library: Any) -> None:
    def sign(request: Any) -> Any:
        request.headers["Authorization"] = "Bearer secret"
        return request

    class Signing(library.HTTPTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            return super().handle_request(sign(request))

    assert seen.get_by(library, {"auth": sign}) is None
    assert seen.get_by(library, {"auth": library.DigestAuth("user", "password")}) is None
    assert seen.get_by(library, {"event_hooks": {"request": [sign]}}) is None
    assert seen.get_by(library, {"transport": Signing()}) is None
    assert seen.get_by(library, {"verify": ssl.create_default_context()}) is None
    with library.Client() as client:
        assert seen.of(lambda: client.post(seen.url)) is None


def test_the_response_of_another_library_is_another(seen: Seen) -> None:
    headers = {"User-Agent": "a", "Accept": "*/*", "Accept-Encoding": "gzip", "Connection": "keep-alive"}
    found = [seen.get_by(library, {"follow_redirects": True}, headers=headers) for library in (httpx, httpx2)]
    assert all_differ([seen.get(headers=headers), *found])


@HTTPX
def test_the_request_is_not_changed(seen: Seen, library: Any) -> None:
    with library.Client(auth=("user", "password")) as client:
        request = client.build_request("GET", seen.url)
        with recording(Recorder(max_response=10**6, max_journal=10**6, gates=(ByClient(),))):
            client.send(request, auth=None)
    assert "Authorization" not in request.headers


class ByClient(SeenIdentities):
    """Asks for the identity by the client's own authentication."""

    def enter(self, call: Any, _: Any) -> Any:
        del call.arguments["auth"]
        yield from super().enter(call, _)
        assert self.identities[-1] is not None
