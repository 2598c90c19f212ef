"""The keys of unsafe calls, as the upstream gets them: one for each call of a task, however often the call is sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from celery_ezthrottle.http.fingerprint import fingerprint
from celery_ezthrottle.http.idempotency_keys import IdempotencyKeys
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.policy.repeating import key_header
from celery_ezthrottle.settings.options import Options
from tests.support.libraries import HttpLibrary
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream

HEADER = "Idempotency-Key"


def keys(task_id: str = "task-1", header: dict[str, str] | str = HEADER) -> IdempotencyKeys:
    options = Options(idempotency_header=header)
    return IdempotencyKeys(task_id, lambda url: key_header(url, options))


def run(body: Callable[[], object], task_id: str = "task-1", header: dict[str, str] | str = HEADER) -> Recorder:
    return recorded(body, keys=keys(task_id, header))


def got(upstream: Upstream, path: str = "/a", header: str = HEADER) -> list[str | None]:
    """The keys that came to ``path``, in their order."""
    return [received.headers.get(header) for received in upstream.received(path)]


def charges(library: HttpLibrary, upstream: Upstream, *orders: int, path: str = "/a") -> Callable[[], None]:
    def body() -> None:
        for order in orders:
            with suppress(library.hung_up):
                library.post(upstream.url + path, json={"order": order})

    return body


# Which calls have a key


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_an_unsafe_call_has_a_key_from_its_first_try_on(upstream: Upstream, library: HttpLibrary, method: str) -> None:
    run(lambda: library.call(method, f"{upstream.url}/a"))
    assert uuid.UUID(got(upstream)[0]).version == 5


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_call_has_none(library: HttpLibrary, method: str) -> None:
    request = library.request(method, "https://api.example.com/a")
    with keys().used(library.adapter, request) as (keyed, _):
        assert keyed is request


def test_a_key_of_the_tasks_own_stays(upstream: Upstream, library: HttpLibrary) -> None:
    run(lambda: library.post(f"{upstream.url}/a", headers={"idempotency-key": "mine"}))
    assert got(upstream, header="idempotency-key") == ["mine"]
    assert got(upstream) == [None]


def test_a_streamed_body_has_none(upstream: Upstream, library: HttpLibrary) -> None:
    """It cannot be recognized in another run."""
    run(lambda: library.post(f"{upstream.url}/a", data=iter([b"x"])))
    assert got(upstream) == [None]


def test_each_host_has_its_own_header(upstream: Upstream, library: HttpLibrary) -> None:
    host = upstream.url.removeprefix("http://")
    run(charges(library, upstream, 1), header={"public": HEADER, host: "X-Request-Id", "127.0.0.1": "X-Other"})
    (received,) = upstream.received("/a")
    assert "X-Request-Id" in received.headers
    assert {HEADER, "X-Other"}.isdisjoint(received.headers)
    run(charges(library, upstream, 1, path="/b"), header={"public": HEADER})
    assert got(upstream, "/b") == [None]


# Which calls have the same key


def test_equal_calls_of_a_run_are_several_calls(upstream: Upstream, library: HttpLibrary) -> None:
    run(charges(library, upstream, 1, 1, 2))
    assert len(set(got(upstream))) == 3


def test_each_run_of_a_task_has_the_same_keys_and_another_task_has_others(
    upstream: Upstream, library: HttpLibrary
) -> None:
    for task_id in ("task-1", "task-1", "task-2"):
        run(charges(library, upstream, 1, 1), task_id)
    one, again, other = got(upstream)[:2], got(upstream)[2:4], got(upstream)[4:]
    assert one == again
    assert set(one).isdisjoint(other)


@pytest.mark.parametrize("orders", [(3, 2, 1), (2, 3), (3,)])
def test_a_run_in_another_order_or_without_finished_items_has_the_same_keys(
    upstream: Upstream, library: HttpLibrary, orders: tuple[int, ...]
) -> None:
    run(charges(library, upstream, 1, 2, 3))
    run(charges(library, upstream, *orders))
    first = dict(zip((1, 2, 3), got(upstream), strict=False))
    assert got(upstream)[3:] == [first[order] for order in orders]


def test_items_that_differ_in_a_uuid_have_their_own_keys(upstream: Upstream, library: HttpLibrary) -> None:
    """In a retry the first of them may be finished: the second must not get its key."""
    one, two = ({"item": str(uuid.UUID(int=n))} for n in (1, 2))
    run(lambda: [library.post(f"{upstream.url}/a", json=item) for item in (one, two)])
    run(lambda: library.post(f"{upstream.url}/a", json=two))
    first, second, again = got(upstream)
    assert first != second == again


@pytest.mark.parametrize("failure", [429, 503, 504, 409, Reply(hang_up=True)])
def test_a_call_that_is_tried_again_keeps_its_key(
    upstream: Upstream, library: HttpLibrary, failure: int | Reply
) -> None:
    upstream.plan("/a", failure, failure)
    run(charges(library, upstream, 1, 1, 1, 1))
    one, two, three, four = got(upstream)
    assert one == two == three != four


@pytest.mark.parametrize("status", [200, 400, 402, 422])
def test_a_call_that_was_answered_is_over(upstream: Upstream, library: HttpLibrary, status: int) -> None:
    upstream.plan("/a", status)
    run(charges(library, upstream, 1, 1))
    assert len(set(got(upstream))) == 2


def test_a_hook_that_raises_for_a_status_changes_nothing(upstream: Upstream, library: HttpLibrary) -> None:
    def raises(response: Any) -> None:
        response.raise_for_status()

    def body() -> None:
        for _ in range(3):
            with suppress(library.status_error):
                library.post(f"{upstream.url}/a", hook=raises)

    upstream.plan("/a", 503, 402)
    run(body)
    one, two, three = got(upstream)
    assert one == two != three


def test_equal_calls_at_the_same_time_have_their_own_keys(library: HttpLibrary) -> None:
    """As threads make them. The one that fails leaves its key to the next call."""
    made = keys()
    request = library.request("POST", "https://api.example.com/a")
    with made.used(library.adapter, request) as (one, _), made.used(library.adapter, request) as (two, used):
        used.call = library.made(two, response=library.response(200, two))
    with made.used(library.adapter, request) as (three, _), made.used(library.adapter, request) as (four, _):
        pass
    one, two, three, four = (keyed.headers[HEADER] for keyed in (one, two, three, four))
    assert len({one, two, four}) == 3
    assert one == three


def test_a_call_whose_large_answer_was_let_go_keeps_its_key(library: HttpLibrary) -> None:
    """As beside other calls. Else the API would take the next equal call for another try of this one."""
    made = keys()
    request = library.request("POST", "https://api.example.com/a")
    with made.used(library.adapter, request) as (one, used):
        used.call = library.made(one, response=library.response(200, one), status=200)
        used.call.forget()
    with made.used(library.adapter, request) as (two, _):
        pass
    assert one.headers[HEADER] != two.headers[HEADER]


def test_a_request_that_is_sent_twice_stays_as_the_task_made_it(upstream: Upstream, library: HttpLibrary) -> None:
    request = library.request("POST", f"{upstream.url}/a", data="x")
    client = library.client()
    made = run(lambda: (client.send(request), client.send(request)))
    assert HEADER not in request.headers
    assert len(set(got(upstream))) == 2
    plain = fingerprint("POST", f"{upstream.url}/a", b"x")
    assert [call.fingerprint for call in made.calls] == [plain, plain]


# Resumed runs


def test_a_resumed_run_counts_on(upstream: Upstream, library: HttpLibrary) -> None:
    """Its first two calls are answered, and the third is sent: it is a third call."""
    second = resumed(run(charges(library, upstream, 1, 1)), keys=keys())
    with recording(second):
        charges(library, upstream, 1, 1, 1)()
    assert len(set(got(upstream))) == len(got(upstream)) == 3


def test_a_redirect_carries_the_key_on(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", Reply(307, headers={"Location": "/b"}))
    run(charges(library, upstream, 1))
    assert got(upstream) == got(upstream, "/b") != [None]
