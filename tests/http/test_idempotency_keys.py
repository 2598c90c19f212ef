"""The keys of unsafe calls, as the upstream gets them: one for each call of a task, however often the call is sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import requests

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.fingerprint import fingerprint
from celery_ezthrottle.http.idempotency_keys import IdempotencyKeys
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.repeating import key_header
from celery_ezthrottle.settings.options import Options
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream, running

HEADER = "Idempotency-Key"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with running(upstream.respond) as upstream.url:
        yield upstream


def keys(task_id: str = "task-1", header: dict[str, str] | str = HEADER) -> IdempotencyKeys:
    options = Options(idempotency_header=header)
    return IdempotencyKeys(task_id, lambda url: key_header(url, options))


def run(body: Callable[[], object], task_id: str = "task-1", header: dict[str, str] | str = HEADER) -> Recorder:
    return recorded(body, keys=keys(task_id, header))


def got(upstream: Upstream, path: str = "/a", header: str = HEADER) -> list[str | None]:
    """The keys that came to ``path``, in their order."""
    return [received.headers.get(header) for received in upstream.received(path)]


def charges(upstream: Upstream, *orders: int, path: str = "/a") -> Callable[[], None]:
    def body() -> None:
        for order in orders:
            with suppress(requests.ConnectionError):
                requests.post(upstream.url + path, json={"order": order})

    return body


# Which calls have a key


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_an_unsafe_call_has_a_key_from_its_first_try_on(upstream: Upstream, method: str) -> None:
    run(lambda: requests.request(method, f"{upstream.url}/a"))
    assert uuid.UUID(got(upstream)[0]).version == 5


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_call_has_none(method: str) -> None:
    request = requests.Request(method, "https://api.example.com/a").prepare()
    with keys().used(REQUESTS, request) as (keyed, _):
        assert keyed is request


def test_a_key_of_the_tasks_own_stays(upstream: Upstream) -> None:
    run(lambda: requests.post(f"{upstream.url}/a", headers={"idempotency-key": "mine"}))
    assert got(upstream, header="idempotency-key") == ["mine"]
    assert got(upstream) == [None]


def test_a_streamed_body_has_none(upstream: Upstream) -> None:
    """It cannot be recognized in another run."""
    run(lambda: requests.post(f"{upstream.url}/a", data=iter([b"x"])))
    assert got(upstream) == [None]


def test_each_host_has_its_own_header(upstream: Upstream) -> None:
    host = upstream.url.removeprefix("http://")
    run(charges(upstream, 1), header={"public": HEADER, host: "X-Request-Id", "127.0.0.1": "X-Other"})
    (received,) = upstream.received("/a")
    assert "X-Request-Id" in received.headers
    assert {HEADER, "X-Other"}.isdisjoint(received.headers)
    run(charges(upstream, 1, path="/b"), header={"public": HEADER})
    assert got(upstream, "/b") == [None]


# Which calls have the same key


def test_equal_calls_of_a_run_are_several_calls(upstream: Upstream) -> None:
    run(charges(upstream, 1, 1, 2))
    assert len(set(got(upstream))) == 3


def test_each_run_of_a_task_has_the_same_keys_and_another_task_has_others(upstream: Upstream) -> None:
    for task_id in ("task-1", "task-1", "task-2"):
        run(charges(upstream, 1, 1), task_id)
    one, again, other = got(upstream)[:2], got(upstream)[2:4], got(upstream)[4:]
    assert one == again
    assert set(one).isdisjoint(other)


@pytest.mark.parametrize("orders", [(3, 2, 1), (2, 3), (3,)])
def test_a_run_in_another_order_or_without_finished_items_has_the_same_keys(
    upstream: Upstream, orders: tuple[int, ...]
) -> None:
    run(charges(upstream, 1, 2, 3))
    run(charges(upstream, *orders))
    first = dict(zip((1, 2, 3), got(upstream), strict=False))
    assert got(upstream)[3:] == [first[order] for order in orders]


def test_items_that_differ_in_a_uuid_have_their_own_keys(upstream: Upstream) -> None:
    """In a retry the first of them may be finished: the second must not get its key."""
    one, two = ({"item": str(uuid.UUID(int=n))} for n in (1, 2))
    run(lambda: [requests.post(f"{upstream.url}/a", json=item) for item in (one, two)])
    run(lambda: requests.post(f"{upstream.url}/a", json=two))
    first, second, again = got(upstream)
    assert first != second == again


@pytest.mark.parametrize("failure", [429, 503, 504, 409, Reply(hang_up=True)])
def test_a_call_that_is_tried_again_keeps_its_key(upstream: Upstream, failure: int | Reply) -> None:
    upstream.plan("/a", failure, failure)
    run(charges(upstream, 1, 1, 1, 1))
    one, two, three, four = got(upstream)
    assert one == two == three != four


@pytest.mark.parametrize("status", [200, 400, 402, 422])
def test_a_call_that_was_answered_is_over(upstream: Upstream, status: int) -> None:
    upstream.plan("/a", status)
    run(charges(upstream, 1, 1))
    assert len(set(got(upstream))) == 2


def test_a_hook_that_raises_for_a_status_changes_nothing(upstream: Upstream) -> None:
    def raises(response: requests.Response, **_: object) -> None:
        response.raise_for_status()

    def body() -> None:
        for _ in range(3):
            with suppress(requests.HTTPError):
                requests.post(f"{upstream.url}/a", hooks={"response": raises})

    upstream.plan("/a", 503, 402)
    run(body)
    one, two, three = got(upstream)
    assert one == two != three


def test_equal_calls_at_the_same_time_have_their_own_keys() -> None:
    """As threads make them. The one that fails leaves its key to the next call."""
    made = keys()
    request = requests.Request("POST", "https://api.example.com/a").prepare()
    with made.used(REQUESTS, request) as (one, _), made.used(REQUESTS, request) as (two, used):
        response = requests.Response()
        response.status_code = 200
        used.call = Call(REQUESTS, two, {}, response=response)
    with made.used(REQUESTS, request) as (three, _), made.used(REQUESTS, request) as (four, _):
        pass
    one, two, three, four = (keyed.headers[HEADER] for keyed in (one, two, three, four))
    assert len({one, two, four}) == 3
    assert one == three


def test_a_request_that_is_sent_twice_stays_as_the_task_made_it(upstream: Upstream) -> None:
    request = requests.Request("POST", f"{upstream.url}/a", data="x").prepare()
    with requests.Session() as session:
        made = run(lambda: (session.send(request), session.send(request)))
    assert HEADER not in request.headers
    assert len(set(got(upstream))) == 2
    plain = fingerprint("POST", f"{upstream.url}/a", b"x")
    assert [call.fingerprint for call in made.calls] == [plain, plain]


# Resumed runs


def test_a_resumed_run_counts_on(upstream: Upstream) -> None:
    """Its first two calls are answered, and the third is sent: it is a third call."""
    second = resumed(run(charges(upstream, 1, 1)), keys=keys())
    with recording(second):
        charges(upstream, 1, 1, 1)()
    assert len(set(got(upstream))) == len(got(upstream)) == 3


def test_a_redirect_carries_the_key_on(upstream: Upstream) -> None:
    upstream.plan("/a", Reply(307, headers={"Location": "/b"}))
    run(charges(upstream, 1))
    assert got(upstream) == got(upstream, "/b") != [None]
