"""The client against a fake proxy on 127.0.0.1."""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from celery_ezthrottle.errors import ConfigurationError, EZThrottleError, ServiceUnavailable, SubmitRefused
from celery_ezthrottle.service.client import ServiceClient, Submitted
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.settings.app_settings import Settings
from tests.support.fake_proxy import LIFE, FakeProxy, Handler

KEY = "ck_live_cust_1_s3cr3t"
JOB = Job("https://api.example.com/v1/charges", method="POST", body='{"amount": 5}', idempotent_key="order-7")
WEEK = 7 * 24 * 3600


@pytest.fixture
def client(proxy: FakeProxy) -> Iterator[ServiceClient]:
    with ServiceClient(KEY, url="https://ez.example.com/", tracktags_url=f"{proxy.url}/") as client:
        yield client


def unavailable(client: ServiceClient) -> ServiceUnavailable:
    with pytest.raises(ServiceUnavailable) as caught:
        client.submit(JOB)
    check_error(caught.value)
    return caught.value


def refused(client: ServiceClient) -> SubmitRefused:
    with pytest.raises(SubmitRefused) as caught:
        client.submit(JOB)
    check_error(caught.value)
    return caught.value


def check_error(error: EZThrottleError) -> None:
    """What holds for every error: it can be rebuilt, and neither it nor its causes show a secret or the request."""
    again = type(error)(*error.args)
    assert vars(again) == vars(error)
    assert error.__context__ is error.__cause__
    for shown in (str(error), repr(error), str(error.__cause__)):
        assert KEY not in shown
        assert "Bearer" not in shown
        assert "amount" not in shown
    assert str(error).endswith(".")


# What is sent


def test_a_job_travels_in_the_envelope_of_the_proxy(proxy: FakeProxy, client: ServiceClient) -> None:
    assert client.submit(JOB) == Submitted(job_id="job_1", status="queued", duplicate=False)
    [(path, headers, body)] = proxy.requests
    assert path == "POST /api/v1/proxy"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    envelope = json.loads(body)
    assert json.loads(envelope.pop("body")) == JOB.to_wire()
    assert envelope == {
        "scope": "customer",
        "metric_name": "",
        "target_url": "https://ez.example.com/api/v1/jobs",
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
    }


def test_an_empty_body_is_sent(proxy: FakeProxy, client: ServiceClient) -> None:
    client.submit(Job("https://api.example.com/", method="POST", body=""))
    assert json.loads(json.loads(proxy.requests[0][2])["body"])["body"] == ""


def test_submitting_twice_sends_the_same_job(proxy: FakeProxy, client: ServiceClient) -> None:
    job = Job("https://api.example.com/", webhooks=[{"url": "https://app.example.com/hook"}])  # type: ignore[arg-type]
    client.submit(job)
    client.submit(job)
    assert proxy.requests[0][2] == proxy.requests[1][2]


@pytest.mark.parametrize(
    ("answer", "submitted"),
    [
        ({"job_id": "j", "status": "racing", "more": 1}, Submitted("j", "racing", False)),
        ({"job_id": "j", "status": "duplicate"}, Submitted("j", "duplicate", True)),
        ({"job_id": "j", "status": "queued", "duplicate": True}, Submitted("j", "queued", True)),
        ({"job_id": "j"}, Submitted("j", "", False)),
        ({"job_id": "j", "status": 5, "duplicate": "no"}, Submitted("j", "", False)),
    ],
)
def test_what_a_job_was_answered(
    proxy: FakeProxy, client: ServiceClient, answer: dict[str, Any], submitted: Submitted
) -> None:
    proxy.forwards(200, answer)
    assert client.submit(JOB) == submitted


def test_a_byte_order_mark_is_no_harm(proxy: FakeProxy, client: ServiceClient) -> None:
    proxy.content = b"\xef\xbb\xbf" + proxy.content
    assert client.submit(JOB).job_id == "job_1"


def test_the_environment_does_not_reroute_or_sign(
    proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with ServiceClient(KEY, tracktags_url=proxy.url) as client:
        client.submit(JOB)
    assert proxy.requests[0][1]["Authorization"] == f"Bearer {KEY}"


def test_cookies_are_not_kept(proxy: FakeProxy, client: ServiceClient) -> None:
    proxy.headers = {"Set-Cookie": "a=b; Path=/"}
    client.submit(JOB)
    client.submit(JOB)
    assert "Cookie" not in proxy.requests[1][1]


# Connections


def test_one_connection_serves_many_jobs(proxy: FakeProxy, client: ServiceClient) -> None:
    for _ in range(5):
        client.submit(JOB)
    proxy.answers(400, {"error": "no"})
    refused(client)
    proxy.answers(503, b"")
    unavailable(client)
    assert len(proxy.connections) == 1


def test_threads_share_a_client_but_no_connection_at_a_time(proxy: FakeProxy, client: ServiceClient) -> None:
    together = threading.Barrier(4)
    content = proxy.content

    def act(handler: Handler) -> None:
        together.wait(LIFE)  # answers nobody before all four are being asked
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    proxy.act = act
    with ThreadPoolExecutor(4) as threads:
        for _ in range(2):
            assert {done.job_id for done in threads.map(client.submit, [JOB] * 4)} == {"job_1"}
    assert len(proxy.connections) == 4


def test_a_connection_that_the_server_closed_is_replaced(proxy: FakeProxy, client: ServiceClient) -> None:
    client.submit(JOB)
    proxy.hang_up()
    client.submit(JOB)
    assert len(proxy.connections) == 2


def test_a_closed_client_opens_new_connections(proxy: FakeProxy, client: ServiceClient) -> None:
    client.submit(JOB)
    client.close()
    client.close()
    client.submit(JOB)
    assert len(proxy.connections) == 2


FORK = """
import os, sys
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.job import Job
client, job = ServiceClient("key", tracktags_url=sys.argv[1]), Job("https://api.example.com/")
client.submit(job)
child = os.fork()
client.submit(job)
client.close()
if not child:
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_forked_process_opens_its_own_connection(proxy: FakeProxy) -> None:
    # A process of its own, for forking one that has threads is not safe.
    subprocess.run([sys.executable, "-c", FORK, proxy.url], check=True, timeout=60)
    assert len(proxy.requests) == 3
    assert len(proxy.connections) == 2


# Refused for good


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422, 499])
def test_other_4xx_are_refusals(proxy: FakeProxy, client: ServiceClient, status: int) -> None:
    body = {"error": f"no thanks, {KEY}\n"}
    proxy.answers(status, body, {"Retry-After": "5"})
    outer = refused(client)
    proxy.forwards(status, body)
    inner = refused(client)
    for error in (outer, inner):
        assert error.status_code == status
        assert error.body == json.dumps({"error": "no thanks, [api key]\n"})
        assert f"(HTTP {status}) (no thanks, [api key]): nothing was submitted" in str(error)
    assert "The proxy at http://127.0.0.1" in str(outer)
    assert "EZThrottle at https://ez.example.com" in str(inner)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(proxy: FakeProxy, client: ServiceClient, status: int) -> None:
    proxy.answers(status, b"", {"Location": f"{proxy.url}/elsewhere"})
    error = refused(client)
    assert error.status_code == status
    assert f"{proxy.url} (ezthrottle_tracktags_url)" in str(error)
    assert "redirects are not followed" in str(error)
    assert len(proxy.requests) == 1
    proxy.forwards(status, "")
    assert "https://ez.example.com (ezthrottle_url)" in str(refused(client))


def test_a_proxy_that_does_not_allow_the_job(proxy: FakeProxy, client: ServiceClient) -> None:
    proxy.answers(200, {"status": "denied", "error": "plan has expired"})
    error = refused(client)
    assert error.status_code == 200
    assert "did not allow the job (plan has expired)" in str(error)
    proxy.answers(
        200, {"status": "denied", "error": {"odd": 1}, "forwarded_response": {"status_code": 403, "body": None}}
    )
    assert refused(client).status_code == 403


# Not now


@pytest.mark.parametrize(
    ("status", "maybe"), [(429, False), (425, False), (408, True), (500, True), (503, True), (599, True)]
)
def test_statuses_that_pass_by(proxy: FakeProxy, client: ServiceClient, status: int, maybe: bool) -> None:
    proxy.answers(status, {"error": "busy"})
    outer = unavailable(client)
    proxy.forwards(status, {"error": "busy"})
    inner = unavailable(client)
    for error in (outer, inner):
        assert error.status_code == status
        assert error.body == '{"error": "busy"}'
        assert error.maybe_accepted is maybe
        assert error.retry_at is None
        assert f"HTTP {status}) (busy)" in str(error)


@pytest.mark.parametrize("content", [b"", b"<html>Too many requests</html>", b"[]", b"null", b"\xff\xfe", b'"x"'])
def test_a_429_need_not_be_json(proxy: FakeProxy, client: ServiceClient, content: bytes) -> None:
    proxy.answers(429, content, {"Retry-After": "30"})
    before = time.time()
    error = unavailable(client)
    assert error.status_code == 429
    assert error.body == content.decode(errors="replace")
    assert error.retry_at is not None
    assert before + 30 <= error.retry_at / 1000 <= time.time() + 30.001


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_may_be_a_date(proxy: FakeProxy, client: ServiceClient, status: int) -> None:
    proxy.answers(status, b"", {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})
    assert unavailable(client).retry_at == 784111777_000


def test_the_header_wins_over_the_body(proxy: FakeProxy, client: ServiceClient) -> None:
    date = {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}
    proxy.answers(429, {"retry_at": 784111000500}, date)
    assert unavailable(client).retry_at == 784111777_000
    proxy.answers(429, {"retry_at": 784111000500}, {"Retry-After": "soon"})
    assert unavailable(client).retry_at == 784111000_500


def test_an_inner_429_keeps_its_retry_at(proxy: FakeProxy, client: ServiceClient) -> None:
    proxy.forwards(429, {"error": "slow down", "retry_at": 784111000500})
    assert unavailable(client).retry_at == 784111000_500
    proxy.forwards(429, {"retry_at": 784111000500}, retry_at=5)
    assert unavailable(client).retry_at == 784111000_500
    proxy.forwards(429, "", retry_at=784111000500)
    assert unavailable(client).retry_at == 784111000_500
    proxy.headers = {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert unavailable(client).retry_at == 784111777_000


@pytest.mark.parametrize("value", ["null", "true", '"5"', "-5", "0", "NaN", "-Infinity", "[]", "{}"])
def test_a_retry_at_that_is_none(proxy: FakeProxy, client: ServiceClient, value: str) -> None:
    proxy.answers(429, f'{{"retry_at": {value}}}')
    assert unavailable(client).retry_at is None


@pytest.mark.parametrize("value", ["9" * 400, "1e300", "Infinity", "99999999999999"])
def test_no_wait_is_longer_than_seven_days(proxy: FakeProxy, client: ServiceClient, value: str) -> None:
    proxy.answers(429, f'{{"retry_at": {value}}}')
    before = time.time()
    retry_at = unavailable(client).retry_at
    assert retry_at is not None
    assert before + WEEK - 1 <= retry_at / 1000 <= time.time() + WEEK + 1


@pytest.mark.parametrize(
    "envelope",
    [
        {"status": "denied", "error": "quota", "retry_at": 784111000500},
        {"status": "denied", "forwarded_response": {"status_code": 429, "body": '{"retry_at": 784111000500}'}},
    ],
)
def test_a_proxy_over_its_quota(proxy: FakeProxy, client: ServiceClient, envelope: dict[str, Any]) -> None:
    proxy.answers(200, envelope)
    error = unavailable(client)
    assert error.retry_at == 784111000_500
    assert not error.maybe_accepted
    assert "over its quota" in str(error)


# Nonsense

ALLOWED: dict[str, Any] = {"status": "allowed"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"OK",
        b"<html></html>",
        b"null",
        b"[]",
        b"5",
        b"{}",
        b'{"status": "allowed", "forwarded_response": {"status_code": 200',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        {"status": None, "error": "x"},
        {"status": 200},
        {"job_id": "j"},
        ALLOWED,
        {**ALLOWED, "forwarded_response": None},
        {**ALLOWED, "forwarded_response": []},
        {**ALLOWED, "forwarded_response": "x"},
        {**ALLOWED, "forwarded_response": {}},
        {**ALLOWED, "forwarded_response": {"body": '{"job_id": "j"}'}},
        {**ALLOWED, "forwarded_response": {"status_code": None, "body": '{"job_id": "j"}'}},
        {**ALLOWED, "forwarded_response": {"status_code": "200", "body": '{"job_id": "j"}'}},
        {**ALLOWED, "forwarded_response": {"status_code": True, "body": '{"job_id": "j"}'}},
        {**ALLOWED, "forwarded_response": {"status_code": 0, "body": '{"job_id": "j"}'}},
        {**ALLOWED, "forwarded_response": {"status_code": 10**30, "body": '{"job_id": "j"}'}},
        {**ALLOWED, "forwarded_response": {"status_code": 200}},
        *(
            {**ALLOWED, "forwarded_response": {"status_code": 200, "body": body}}
            for body in (None, 5, {}, {"job_id": "j"}, "", " ", "OK", "null", "[]", "{}", "{")
        ),
        *(
            {**ALLOWED, "forwarded_response": {"status_code": 201, "body": json.dumps({"job_id": job_id})}}
            for job_id in (None, "", 5, ["j"], "a\nb", "\ud800")
        ),
    ],
)
def test_an_answer_that_makes_no_sense(proxy: FakeProxy, client: ServiceClient, content: Any) -> None:
    proxy.answers(200, content)
    error = unavailable(client)
    assert error.maybe_accepted
    assert "may have been taken" in str(error)


def test_an_empty_success(proxy: FakeProxy, client: ServiceClient) -> None:
    proxy.answers(204, b"")
    error = unavailable(client)
    assert (error.status_code, error.body, error.maybe_accepted) == (204, "", True)


def test_a_body_in_an_error_is_short_and_without_the_key(proxy: FakeProxy, client: ServiceClient) -> None:
    proxy.answers(400, f"{'x' * 1990}{KEY}{'y' * 100_000}")
    assert refused(client).body == f"{'x' * 1990}[api key]y"
    proxy.answers(400, {"error": "x" * 10_000})
    assert len(str(refused(client))) < 500


def test_a_key_that_json_escapes_is_cut_out_too(proxy: FakeProxy) -> None:
    key = 'quote"back\\slash\u00e9'
    proxy.answers(400, {"error": f"bad key {key}"})
    with ServiceClient(key, tracktags_url=proxy.url) as client, pytest.raises(SubmitRefused) as caught:
        client.submit(JOB)
    assert caught.value.body == '{"error": "bad key [api key]"}'
    assert "slash" not in repr(caught.value)


def test_control_characters_do_not_reach_logs(proxy: FakeProxy, client: ServiceClient) -> None:
    proxy.answers(400, '{"error": "a\\u001b[31m\\nb \\ud800"}')
    assert str(refused(client)).isprintable()


def test_an_endless_answer_is_not_read_to_its_end(proxy: FakeProxy, client: ServiceClient) -> None:
    gave_up = threading.Event()

    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()  # no length: until the connection closes
        handler.wfile.write(b'{"status": "allowed", "error": "')
        try:
            while True:
                handler.wfile.write(b"x" * 65_536)
        except OSError:
            gave_up.set()
        handler.close_connection = True

    proxy.act = act
    error = unavailable(client)
    assert error.maybe_accepted
    assert len(error.body) == 2000
    assert gave_up.wait(LIFE)


# The network


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        with ServiceClient(KEY, tracktags_url=f"http://127.0.0.1:{taken.getsockname()[1]}") as client:
            error = unavailable(client)
    assert (error.status_code, error.body, error.retry_at, error.maybe_accepted) == (None, "", None, False)
    assert "could not be reached (NewConnectionError): nothing was submitted" in str(error)


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "Name or service not known"), TimeoutError("timed out")])
def test_no_name_and_no_connection_in_time(
    client: ServiceClient, monkeypatch: pytest.MonkeyPatch, failure: OSError
) -> None:
    def create_connection(*args: object, **options: object) -> socket.socket:
        raise failure

    monkeypatch.setattr("urllib3.util.connection.create_connection", create_connection)
    assert not unavailable(client).maybe_accepted


def test_an_untrusted_certificate_is_found_before_anything_is_sent(
    client: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*args: object, **options: object) -> None:
        raise certificate

    monkeypatch.setattr("urllib3.connection.HTTPConnection.connect", connect)
    certificate: ssl.SSLError = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert not unavailable(client).maybe_accepted
    certificate = ssl.SSLError(1, "bad record mac")
    assert unavailable(client).maybe_accepted


def test_no_answer_in_time(proxy: FakeProxy) -> None:
    done = threading.Event()

    def act(handler: Handler) -> None:
        done.wait(LIFE)
        handler.close_connection = True

    proxy.act = act
    with ServiceClient(KEY, tracktags_url=proxy.url, timeout=(5.0, 0.1)) as client:
        error = unavailable(client)
        done.set()
    assert (error.status_code, error.maybe_accepted) == (None, True)
    assert "gave no answer (ReadTimeoutError)" in str(error)


@pytest.mark.parametrize(
    ("begins", "status"),
    [
        (b"HTTP/1.1 200 ", None),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", None),
        (b"HTTP/1.1 100 Continue\r\nX-Long: ", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 200),
        (b"HTTP/1.1 503 Down\r\nContent-Length: 5000\r\n\r\n", 503),
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
    ],
    ids=["status line", "header", "100", "body", "body of 503", "body without end"],
)
def test_an_answer_that_comes_byte_by_byte_has_a_deadline(proxy: FakeProxy, begins: bytes, status: int | None) -> None:
    given_up = threading.Event()

    def act(handler: Handler) -> None:
        handler.wfile.write(begins)
        with suppress(OSError):
            while not given_up.wait(0.02):
                handler.wfile.write(b"x")
        handler.close_connection = True

    proxy.act = act
    with ServiceClient(KEY, tracktags_url=proxy.url, timeout=(0.2, 0.3)) as client:
        began = time.monotonic()
        error = unavailable(client)
        took = time.monotonic() - began
        given_up.set()
        proxy.act = None
        assert client.submit(JOB).job_id == "job_1"
    assert (error.status_code, error.maybe_accepted) == (status, True)
    assert 0.5 <= took < LIFE / 2


@pytest.mark.parametrize("raw", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_a_connection_that_breaks_after_sending(proxy: FakeProxy, client: ServiceClient, raw: bytes) -> None:
    def act(handler: Handler) -> None:
        handler.wfile.write(raw)
        handler.close_connection = True

    proxy.act = act
    assert unavailable(client).maybe_accepted


@pytest.mark.parametrize(
    "head", ["Content-Length: 500", "Transfer-Encoding: chunked", "Content-Length: 9\r\nContent-Encoding: gzip"]
)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_an_answer_that_breaks_off_is_judged_by_its_status(
    proxy: FakeProxy, client: ServiceClient, status: int, head: str
) -> None:
    def act(handler: Handler) -> None:
        handler.wfile.write(f'HTTP/1.1 {status} X\r\n{head}\r\n\r\n{{"status"'.encode())
        handler.close_connection = True

    proxy.act = act
    error = refused(client) if status == 400 else unavailable(client)
    assert error.status_code == status
    assert status == 400 or getattr(error, "maybe_accepted", False)


def test_a_client_recovers_from_a_broken_connection(proxy: FakeProxy, client: ServiceClient) -> None:
    proxy.act = lambda handler: setattr(handler, "close_connection", True)
    unavailable(client)
    proxy.act = None
    assert client.submit(JOB).job_id == "job_1"


# Configuration


def test_a_client_from_settings(proxy: FakeProxy) -> None:
    settings = Settings(api_key=KEY, url="https://ez.example.com", tracktags_url=proxy.url)
    with ServiceClient.from_settings(settings) as client:
        assert client.submit(JOB).job_id == "job_1"
    assert json.loads(proxy.requests[0][2])["target_url"] == "https://ez.example.com/api/v1/jobs"


def test_the_defaults() -> None:
    client = ServiceClient(KEY)
    assert repr(client) == "<ServiceClient https://ezthrottle.fly.dev via https://tracktags.fly.dev, dialect proxy>"
    assert client.timeout == (5.0, 15.0)
    assert repr(ServiceClient(KEY, dialect="direct")) == "<ServiceClient https://api.trackttags.com, dialect direct>"


@pytest.mark.parametrize("key", ["", "  ", "key\r\n", "a\nX-Other: b", "key\0", "k\u20acy"])
def test_an_api_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ezthrottle_api_key ") as caught:
        ServiceClient(key)
    assert "key\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["url", "tracktags_url"])
@pytest.mark.parametrize(
    "url",
    ["ez.example.com", "/x", "ftp://h", "http://", "http://[::1", "http://h:x", "http://u:s3cr3t@h", "http://h?s3cr3t",
     "http://h#s3cr3t", "http://a b", "http://h\n", "http://.h"],
)  # fmt: skip
def test_a_url_that_cannot_be_called(name: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^ezthrottle_{name} must be") as caught:
        ServiceClient(KEY, **{name: url})  # type: ignore[arg-type]
    assert "s3cr3t" not in str(caught.value)
