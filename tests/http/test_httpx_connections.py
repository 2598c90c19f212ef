"""How a client of httpx connects: what the service cannot do in the same way, and errors that come before a response."""

from __future__ import annotations

import pickle
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.httpx_responses import is_tls_error
from celery_ezthrottle.http.recorder import recording
from celery_ezthrottle.policy.decision import failure_of, obstacle
from celery_ezthrottle.settings.options import Options
from tests.support.libraries import HTTPX, Client, HttpLibrary
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Handler, Upstream

#: A key and a certificate that nobody trusts, made for these tests.
SELF_SIGNED = Path(__file__).parents[1] / "support" / "self_signed.pem"
URL = "https://api.example.com/charges"
PROXY = "http://127.0.0.1:3128"

each_kind = pytest.mark.parametrize("library", HTTPX, indirect=True)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def transport(library: HttpLibrary, *args: Any, **kwargs: Any) -> Any:
    cls = library.module.AsyncHTTPTransport if library.is_async else library.module.HTTPTransport
    return cls(*args, **kwargs)


def call_of(library: HttpLibrary, client: Client, url: str = URL) -> Call:
    return library.made(library.request("POST", url, json={}), client=client)


def why_not(library: HttpLibrary, client: Client, url: str = URL) -> str | None:
    return obstacle(call_of(library, client, url), Options(forward_hosts=("public", "*.internal")), max_request_body=99)


Make = Callable[[HttpLibrary], Client]


@each_kind
@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda library: library.client(), None, id="plain"),
        pytest.param(lambda library: library.client(verify=True), None, id="verify=True"),
        pytest.param(lambda library: library.client(verify=False), "verify=False", id="verify=False"),
        pytest.param(lambda library: library.client(verify=unverified()), "verify=False", id="CERT_NONE"),
        pytest.param(
            lambda library: library.client(transport=transport(library, verify=False)), "verify=False", id="transport"
        ),
        pytest.param(
            lambda library: library.client(transport=transport(library, False)), "verify=False", id="positional"
        ),
        pytest.param(lambda library: library.client(proxy=PROXY), "proxy", id="proxy"),
        pytest.param(
            lambda library: library.client(mounts={"https://": transport(library, proxy=PROXY)}), "proxy", id="mount"
        ),
        pytest.param(
            lambda library: library.client(mounts={"http://": transport(library, proxy=PROXY)}), None, id="other mount"
        ),
        pytest.param(
            lambda library: library.client(transport=transport(library, uds="/run/api.sock")), "Unix domain", id="uds"
        ),
        pytest.param(
            lambda library: library.client(transport=library.module.MockTransport(lambda request: None)),
            None,
            id="a transport of the task's own",
        ),
    ],
)
def test_what_the_service_cannot_do_is_not_forwarded(library: HttpLibrary, make: Make, said: str | None) -> None:
    why = why_not(library, make(library))
    assert said in why if said and why else said is why


@each_kind
@pytest.mark.filterwarnings("ignore:.*cert:DeprecationWarning")
def test_a_client_certificate_is_not_forwarded(library: HttpLibrary) -> None:
    client = library.client(verify=ssl.create_default_context(), cert=str(SELF_SIGNED))
    assert "client certificate" in (why_not(library, client) or "")


@each_kind
@pytest.mark.parametrize(("no_proxy", "said"), [("", "proxy"), ("api.example.com", None)])
def test_a_proxy_of_the_environment_is_seen(
    library: HttpLibrary, monkeypatch: pytest.MonkeyPatch, no_proxy: str, said: str | None
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    why = why_not(library, library.client())
    assert said in why if said and why else said is why
    assert why_not(library, library.client(trust_env=False)) is None


@each_kind
@pytest.mark.parametrize(
    ("url", "said"),
    [
        (URL, None),
        ("https://billing.internal/charges", "CA bundle"),
        ("http://billing.internal/charges", None),  # nothing is verified there
    ],
)
@pytest.mark.parametrize("how", ["context", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_bundle_is_an_obstacle_only_where_the_host_may_need_it(
    library: HttpLibrary, monkeypatch: pytest.MonkeyPatch, how: str, url: str, said: str | None
) -> None:
    if how != "context":
        monkeypatch.setenv(how, str(SELF_SIGNED if how == "SSL_CERT_FILE" else SELF_SIGNED.parent))
    client = library.client(verify=ssl.create_default_context() if how == "context" else True)
    why = why_not(library, client, url)
    assert said in why if said and why else said is why
    if how != "context":
        assert why_not(library, library.client(verify=True, trust_env=False), url) is None


@each_kind
def test_a_call_to_an_application_in_this_process_is_not_forwarded(library: HttpLibrary) -> None:
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 429, "headers": []})
        await send({"type": "http.response.body", "body": b"slow down"})

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        start_response("429 Too Many Requests", [])
        return [b"slow down"]

    module = library.module
    client = library.client(transport=module.ASGITransport(asgi) if library.is_async else module.WSGITransport(wsgi))
    first = recorded(lambda: client.call("GET", "https://api.example.com/a"))
    assert first.last is not None
    assert (first.last.status, "in this process" in (first.last.library.obstacle(first.last) or "")) == (429, True)
    with recording(resumed(first)):
        assert client.call("GET", "https://api.example.com/a").json() == {"by": "service"}


@each_kind
def test_a_transport_that_tries_to_connect_again_makes_one_call(library: HttpLibrary, upstream: Upstream) -> None:
    client = library.client(transport=transport(library, retries=2))
    upstream.plan("/a", 429)
    first = recorded(lambda: client.call("GET", f"{upstream.url}/a"))
    assert [call.status for call in first.calls] == [429]
    with recording(resumed(first)):
        assert client.call("GET", f"{upstream.url}/a").json() == {"by": "service"}
    assert len(upstream.received("/a")) == 1


# Errors that come before a response


@pytest.fixture
def tls_url() -> Iterator[str]:
    """A server whose certificate nobody trusts."""
    handler = type("BoundHandler", (Handler,), {"respond": staticmethod(lambda received: Reply(200))})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> Any:
            connection, address = super().get_request()
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # of the handshake

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/a"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_certificate_that_is_not_trusted_is_no_network_error_also_when_it_was_stored(
    upstream: Upstream, tls_url: str, library: HttpLibrary
) -> None:
    def body() -> None:
        with pytest.raises(library.any_error, match="CERTIFICATE_VERIFY_FAILED"):
            library.get(tls_url)
        library.get(f"{upstream.url}/a")

    first = recorded(body)
    second = resumed(first)
    with recording(second):
        body()
    for call in first.calls[0], second.calls[0]:
        assert failure_of(call, Options(forward_on_network_error="always")) is None
        assert not call.library.is_network_error(call.error)
    assert type(second.calls[0].error) is type(first.calls[0].error)
    again = second.calls[0].library.store_error(second.calls[0].error or Exception())
    assert again == first.calls[0].answer()


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_the_causes_of_an_error_may_form_a_circle(module: Any) -> None:
    error, own = module.ConnectError("refused"), ValueError("own")
    error.__cause__ = error  # "raise error from error"
    assert not is_tls_error(error)
    error.__cause__, own.__cause__ = own, error
    assert not is_tls_error(error)


@each_kind
def test_a_pool_that_is_exhausted_is_a_limit_of_the_clients_own(upstream: Upstream, library: HttpLibrary) -> None:
    module = library.module
    client = library.client(
        limits=module.Limits(max_connections=1), timeout=module.Timeout(5, pool=0.001), trust_env=False
    )

    def body() -> None:
        held = client.call("GET", f"{upstream.url}/a", stream=True)
        with pytest.raises(module.PoolTimeout):
            client.call("GET", f"{upstream.url}/b")
        client.chunks(held)

    call = recorded(body).calls[1]
    assert failure_of(call, Options(forward_on_network_error="always")) is None
    assert call.library.certainly_not_sent(call.error)


def test_a_connection_that_is_refused_is_a_network_error_that_was_not_sent(library: HttpLibrary) -> None:
    def body() -> None:
        with pytest.raises(library.any_error):
            library.get("http://127.0.0.1:9/a")

    (call,) = recorded(body).calls
    assert call.library.is_network_error(call.error)
    assert call.library.certainly_not_sent(call.error)
    assert call.last_sent.url == "http://127.0.0.1:9/a"


@each_kind
@pytest.mark.parametrize(
    "name", ["ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "RemoteProtocolError", "TooManyRedirects"]
)
def test_an_error_is_the_same_after_it_was_stored(library: HttpLibrary, name: str) -> None:
    adapter, request = library.adapter, library.request("GET", URL)
    error = getattr(library.module, name)("broken", request=request)
    stored = adapter.store_error(error)
    assert (stored.name, stored.text, stored.url, stored.method) == (name, "broken", URL, "GET")
    built = adapter.build_error(stored, request)
    assert (type(built), str(built), built.request) == (type(error), "broken", request)
    again = pickle.loads(pickle.dumps(built))
    assert (type(again), str(again)) == (type(error), "broken")


@each_kind
def test_an_error_of_a_class_that_is_not_the_modules_is_stored_under_its_nearest_one(library: HttpLibrary) -> None:
    class Own(library.module.ReadTimeout):  # type: ignore[misc,name-defined]
        pass

    assert library.adapter.store_error(Own("slow")).name == "ReadTimeout"
    assert library.adapter.store_error(OSError("not of the library")) is None
    assert library.adapter.store_error(library.module.InvalidURL("not of a call")) is None
