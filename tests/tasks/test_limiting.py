"""Workers keep the limit of an API together: a call has its turn, waits for it, or its task is suspended until then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from celery_ezthrottle.errors import LimitReached
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.turns import Status
from celery_ezthrottle.settings.limit import Limit, Window
from tests.support import limited_tasks
from tests.support.http_clients import CLIENTS
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer

QUEUE = "limited"
PREFIX = f"{{{QUEUE}}}:"
#: What a call may lose on its way, from the store's time to the upstream's.
ON_THE_WAY = 0.15


@pytest.fixture(scope="module")
def _workers(shared_lab: Lab) -> Iterator[None]:
    host = shared_lab.upstream.url.split("/")[2]
    limits = "\n".join(
        [
            f"{host}/fast/* = 5/s",
            f"{host}/slow/* = 2/2s",
            f"{host}/single/* = 100/s; concurrency=1",
            f"{host}/cooling/* = 100/s",
            f"{host}/quiet/* = 100/s",
            f"{host}/within/* = 2/h; concurrency=1",
            f"{host}/leased/* = 2/3s; concurrency=2",
        ]
    )
    environment = {
        "EZTHROTTLE_ROUTE": "workers",
        "EZTHROTTLE_LIMITS": limits,
        "EZTHROTTLE_KEY_PREFIX": PREFIX,
        "TEST_QUEUE": QUEUE,
    }
    with ExitStack() as stack:
        for name in ("limited-1", "limited-2"):
            stack.enter_context(shared_lab.worker(name, "-P", "threads", "-c", "3", "-Q", QUEUE, **environment))
        yield


@pytest.fixture
def limited(lab: Lab, _workers: None) -> Lab:
    return lab


def bucket_of(key: str, rate: str, concurrency: int) -> Bucket:
    return Bucket(key, Limit(rate).windows, None, concurrency)


def send(task: Any, *args: Any) -> Any:
    return task.apply_async(args, queue=QUEUE)


def test_no_window_is_over_and_no_slot_waits(limited: Lab, path: str) -> None:
    """Twenty tasks in two workers, of a limit of five in a second."""
    began = time.monotonic()
    results = [send(limited_tasks.looks, f"/fast{path}/{number}") for number in range(20)]
    # A slot is free while most of them wait.
    assert send(limited_tasks.looks, f"{path}/unlimited").get(timeout=PATIENCE) == f"{path}/unlimited"
    assert time.monotonic() < began + 3
    assert [result.get(timeout=PATIENCE) for result in results] == [f"/fast{path}/{number}" for number in range(20)]
    assert time.monotonic() >= began + 3 - ON_THE_WAY
    assert all(limited.upstream.by_worker(f"/fast{path}/{number}") == 1 for number in range(20))


@pytest.mark.slow
@pytest.mark.parametrize("library", CLIENTS)
def test_each_library_alike(limited: Lab, path: str, library: str) -> None:
    began = time.monotonic()
    results = [send(limited_tasks.looks, f"/fast{path}/{number}", library) for number in range(11)]
    assert all(result.get(timeout=PATIENCE) for result in results)
    assert time.monotonic() >= began + 2 - ON_THE_WAY


@pytest.mark.slow
def test_a_task_that_waits_is_seen_and_can_be_revoked(limited: Lab, path: str) -> None:
    results = [send(limited_tasks.looks, f"/slow{path}/{number}") for number in range(9)]
    waiting = wait_until(lambda: [result for result in results if result.state == "FORWARDED"], "one that waits")
    assert "has no turn" in waiting[-1].info["reason"]
    last = waiting[-1]
    last.revoke()
    wait_until(lambda: last.state == "REVOKED", "the revocation")
    for result in results:
        if result is not last:
            result.get(timeout=PATIENCE)


@pytest.mark.slow
def test_an_urgent_call_overtakes(limited: Lab, path: str) -> None:
    results = [send(limited_tasks.looks, f"/slow{path}/{number}") for number in range(10)]
    wait_until(lambda: sum(result.state == "FORWARDED" for result in results) >= 6, "most to wait")
    urgent = send(limited_tasks.looks_urgently, f"/slow{path}/urgent")
    urgent.get(timeout=PATIENCE)
    assert sum(result.state != "SUCCESS" for result in results) >= 3
    for result in results:
        result.get(timeout=PATIENCE)


@pytest.mark.slow
def test_a_call_that_keeps_a_slot_overtakes(limited: Lab, path: str) -> None:
    """Those that are suspended need a slot when they are called."""
    results = [send(limited_tasks.looks, f"/slow{path}/{number}") for number in range(10)]
    wait_until(lambda: sum(result.state == "FORWARDED" for result in results) >= 6, "most to wait")
    send(limited_tasks.looks_elsewhere_first, f"/fast{path}", f"/slow{path}/later").get(timeout=PATIENCE)
    assert sum(result.state != "SUCCESS" for result in results) >= 3
    for result in results:
        result.get(timeout=PATIENCE)


@pytest.mark.slow
def test_later_calls_wait_in_the_slot(limited: Lab, path: str) -> None:
    began = time.monotonic()
    assert send(limited_tasks.looks_often, f"/fast{path}", 12).get(timeout=PATIENCE) == 12
    assert time.monotonic() >= began + 2 - ON_THE_WAY
    assert limited.effects(f"/fast{path}") == ["start"]
    assert limited.upstream.by_worker(f"/fast{path}") == 12


def test_later_calls_can_raise(limited: Lab, path: str) -> None:
    made = send(limited_tasks.looks_as_often_as_it_may, f"/slow{path}", 12).get(timeout=PATIENCE)
    assert 1 <= made < 12
    assert limited.upstream.by_worker(f"/slow{path}") == made


@pytest.mark.slow
def test_later_calls_can_suspend_and_none_is_repeated(limited: Lab, path: str) -> None:
    assert send(limited_tasks.looks_often_and_frees_its_slot, f"/slow{path}", 6).get(timeout=PATIENCE) == 6
    assert [limited.upstream.by_worker(f"/slow{path}/{number}") for number in range(6)] == [1] * 6
    assert len(limited.effects(f"/slow{path}")) > 1


def test_the_error_of_a_limit_is_the_tasks_own(limited: Lab, path: str) -> None:
    result = send(limited_tasks.leaves_with_the_limit, f"/slow{path}", 12)
    with pytest.raises(LimitReached, match="has no turn"):
        result.get(timeout=PATIENCE)
    assert limited.upstream.by_service(f"/slow{path}") == 0


@pytest.mark.slow
def test_later_calls_can_be_forwarded(limited: Lab, path: str) -> None:
    send(limited_tasks.forwards_what_has_no_turn, f"/slow{path}", 12)
    paths = [f"/slow{path}/{number}" for number in range(12)]
    wait_until(lambda: sum(map(limited.upstream.by_service, paths)) == 1, "the service")
    made = sum(map(limited.upstream.by_worker, paths))
    assert made < 12
    assert limited.upstream.by_service(paths[made]) == 1


@pytest.mark.slow
def test_a_call_that_is_cancelled_while_it_waits_leaves_nothing(limited: Lab, path: str) -> None:
    host = limited.upstream.url.split("/")[2]
    bucket = bucket_of(f"{host}/leased/*", "2/3s", 2)
    made = send(limited_tasks.cancels_a_call_that_waits, f"/leased{path}", 12).get(timeout=PATIENCE)
    assert made == limited.upstream.by_worker(f"/leased{path}") == 2
    with closing(Limiter.from_url(limited.environment["TEST_REDIS"], prefix=PREFIX)) as limiter:
        status = limiter.status(bucket)
        assert (status.waiting, status.leases) == (0, 0)


@pytest.mark.slow
def test_calls_in_an_event_loop_wait_without_blocking_it(limited: Lab, path: str) -> None:
    began = time.monotonic()
    assert send(limited_tasks.gathers, f"/fast{path}", 11).get(timeout=PATIENCE) == 11
    assert time.monotonic() >= began + 2 - ON_THE_WAY


@pytest.mark.slow
def test_calls_that_are_on_their_way_are_counted(limited: Lab, path: str) -> None:
    results = [send(limited_tasks.looks, f"/single{path}") for _ in range(8)]
    assert all(result.get(timeout=PATIENCE) for result in results)
    assert limited.upstream.by_worker(f"/single{path}") == 8
    host = limited.upstream.url.split("/")[2]
    bucket = bucket_of(f"{host}/single/*", "100/s", 1)
    with closing(Limiter.from_url(limited.environment["TEST_REDIS"], prefix=PREFIX)) as limiter:
        wait_until(lambda: limiter.status(bucket).leases == 0, "the last lease to be given back")


def test_no_call_is_made_while_a_host_cools_down(limited: Lab, path: str) -> None:
    limited.upstream.plan(f"/cooling{path}", Answer(429, headers={"Retry-After": "2"}))
    first = send(limited_tasks.looks, f"/cooling{path}")
    wait_until(lambda: first.state == "FORWARDED", "the cool-down")
    began = time.monotonic()
    others = [send(limited_tasks.looks, f"/cooling{path}/{number}") for number in range(3)]
    assert all(result.get(timeout=PATIENCE) for result in (first, *others))
    assert time.monotonic() >= began + 1
    assert limited.upstream.by_worker(f"/cooling{path}") == 2


def status_of(lab: Lab, pattern: str, window: Window) -> Status:
    """``window`` is as the workers count it, with their margin."""
    with closing(Limiter.from_url(lab.environment["TEST_REDIS"], prefix=PREFIX)) as limiter:
        return limiter.status(Bucket(pattern, (window,), None, 1))


def test_calls_within_a_block_do_not_wait_for_it(limited: Lab, path: str) -> None:
    """The block has the only place. Of an hour's two turns it takes one, which its first call uses."""
    pattern = f"{limited.upstream.url.split('/')[2]}/within/*"
    assert send(limited_tasks.looks_within, pattern, f"/within{path}", 2).get(timeout=PATIENCE) == 200
    assert limited.upstream.by_worker(f"/within{path}") == 2
    status = status_of(limited, pattern, Window(2, 3600.025))
    assert (status.used, status.leases) == ((2,), 0)


def test_a_response_within_a_block_cools_down(limited: Lab, path: str) -> None:
    """The block does not see it, for the body does not raise."""
    limited.upstream.plan(f"/quiet{path}", Answer(429, headers={"Retry-After": "30"}))
    pattern = f"{limited.upstream.url.split('/')[2]}/quiet/*"
    assert send(limited_tasks.looks_within, pattern, f"/quiet{path}", 1).get(timeout=PATIENCE) == 429
    assert status_of(limited, pattern, Window(100, 1.025)).cooling_until is not None
