"""Calls in threads, executors and greenlets that a body starts are calls of its run."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import anyio
import pytest

from celery_ezthrottle.errors import ReplayMismatch
from celery_ezthrottle.http import threads
from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.recorder import Recorder, current, recording
from tests.support.lab import PATIENCE, wait_until
from tests.support.libraries import SYNC, HttpLibrary
from tests.support.recorded_body import recorded, recorder, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream

threads.install()

Do = Callable[[int], Any]
ITEMS = range(3)


def joined(made: list[threading.Thread]) -> None:
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()


def in_threads(do: Do) -> None:
    joined([threading.Thread(target=do, args=(n,)) for n in ITEMS])


def in_threads_of_their_own_class(do: Do) -> None:
    class Worker(threading.Thread):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.n = n

        def run(self) -> None:
            do(self.n)

    joined([Worker(n) for n in ITEMS])


def in_timers(do: Do) -> None:
    joined([threading.Timer(0, do, [n]) for n in ITEMS])


def in_an_executor(do: Do) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(do, ITEMS))


LASTING = ThreadPoolExecutor(2)


def in_an_executor_that_lasts(do: Do) -> None:
    for future in [LASTING.submit(do, n) for n in ITEMS]:
        future.result()


def in_a_thread_pool(do: Do) -> None:
    with ThreadPool(2) as pool:
        pool.apply(do, (0,))
        pool.apply_async(do, (1,)).get()
        pool.map(do, [2])


def in_a_thread_pool_lazily(do: Do) -> None:
    with ThreadPool(2) as pool:
        list(pool.imap(do, [0]))
        list(pool.imap_unordered(do, [1]))
        pool.starmap(do, [(2,)])


def by_asyncio(do: Do) -> None:
    async def gather() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            asyncio.to_thread(do, 0), loop.run_in_executor(None, do, 1), loop.run_in_executor(LASTING, do, 2)
        )

    asyncio.run(gather())


def by_anyio(do: Do) -> None:
    async def each() -> None:
        for n in ITEMS:
            await anyio.to_thread.run_sync(do, n)

    anyio.run(each)


def nested(do: Do) -> None:
    joined([threading.Thread(target=in_an_executor, args=(do,))])


@pytest.mark.parametrize(
    "start",
    [
        in_threads,
        in_threads_of_their_own_class,
        in_timers,
        in_an_executor,
        in_an_executor_that_lasts,
        in_a_thread_pool,
        in_a_thread_pool_lazily,
        by_asyncio,
        by_anyio,
        nested,
    ],
)
def test_calls_of_threads_are_recorded_and_answered_once_each(
    upstream: Upstream, library: HttpLibrary, start: Callable[[Do], None]
) -> None:
    answers: dict[int, Any] = {}

    def charge(n: int) -> None:
        answers[n] = library.post(f"{upstream.url}/charges/{n}", json={"n": n}).json()["path"]

    def body() -> Any:
        start(charge)
        return library.get(f"{upstream.url}/limited").status_code

    upstream.plan("/limited", 429)
    first = recorded(body)
    assert first.last is not None
    assert first.last.last_sent.url == f"{upstream.url}/limited"
    assert first.obstacle(first.last) is None
    answers.clear()
    second = resumed(first)
    with recording(second):
        assert body() == 200
    assert answers == {n: f"/charges/{n}" for n in ITEMS}
    assert [len(upstream.received(f"/charges/{n}")) for n in ITEMS] == [1] * 3
    assert [call.source for call in second.calls] == [Source.JOURNAL] * 3 + [Source.SERVICE]


def test_a_thread_of_a_pool_keeps_no_recorder(upstream: Upstream, library: HttpLibrary) -> None:
    for start in (in_an_executor_that_lasts, in_an_executor, in_a_thread_pool):
        recorded(lambda start=start: start(lambda _: library.get(f"{upstream.url}/a")))  # type: ignore[misc]
        found: list[Recorder | None] = []
        start(lambda _, found=found: found.append(current()))  # type: ignore[misc]
        assert found == [None] * 3


@pytest.mark.parametrize("how", ["thread", "daemon that called", "future", "async result"])
def test_a_thread_that_goes_on_is_an_obstacle_and_is_recorded_no_more(
    upstream: Upstream, library: HttpLibrary, how: str
) -> None:
    gate, called = threading.Event(), threading.Event()

    def work() -> None:
        if how == "daemon that called":
            library.post(f"{upstream.url}/early")
        called.set()
        assert gate.wait(30)
        library.post(f"{upstream.url}/late")

    def body() -> None:
        started: Any
        if how == "future":
            started = LASTING.submit(work)
            waits.append(started.result)
        elif how == "async result":
            pool = ThreadPool(1)
            started = pool.apply_async(work)
            waits.extend([started.get, pool.terminate])
        else:
            started = threading.Thread(target=work, daemon=how != "thread")
            started.start()
            waits.append(started.join)
        assert called.wait(30)
        library.get(f"{upstream.url}/limited")

    waits: list[Callable[[], Any]] = []
    run = recorded(body)
    calls = len(run.calls)
    assert run.last is not None
    run.close()
    assert "had not ended when the body ended" in (run.obstacle(run.last) or "")
    gate.set()
    for wait in waits:
        wait()
    assert len(upstream.received("/late")) == 1
    assert len(run.calls) == calls


def test_a_daemon_thread_that_makes_no_call_is_no_obstacle(upstream: Upstream, library: HttpLibrary) -> None:
    gate = threading.Event()

    def body() -> None:
        threading.Thread(target=gate.wait, args=(30,), daemon=True).start()
        library.get(f"{upstream.url}/limited")

    run = recorded(body)
    assert run.last is not None
    assert run.obstacle(run.last) is None
    gate.set()


def test_a_call_that_is_still_sent_is_an_obstacle(upstream: Upstream, library: HttpLibrary) -> None:
    gate = threading.Event()
    upstream.plan("/slow", Reply(wait_for=gate))
    run = recorder()
    with recording(run):
        thread = threading.Thread(target=library.post, args=(f"{upstream.url}/slow",), daemon=True)
        thread.start()
        wait_until(lambda: upstream.received("/slow"), "the call of the thread")
        library.get(f"{upstream.url}/limited")
    run.close()
    assert run.last is not None
    assert "had not ended" in (run.obstacle(run.calls[-1]) or "")
    gate.set()
    thread.join()


def test_what_is_watched_is_bounded() -> None:
    run = recorder()
    for _ in range(5000):
        run.watch(lambda: False)
    assert len(run._working) <= 1000


def test_errors_and_arguments_of_what_is_wrapped_are_the_librarys_own() -> None:
    with recording(recorder()):
        with pytest.raises(TypeError):
            LASTING.submit()  # type: ignore[call-arg]
        assert LASTING.submit(int, "11", base=2).result() == 3
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        assert "run" not in vars(thread)


def test_a_thread_that_outlives_its_run_does_not_hold_it() -> None:
    """As one that runs an event loop for all tasks."""
    may_end = threading.Event()
    seen: list[Recorder | None] = []

    def work() -> None:
        seen.append(current())
        assert may_end.wait(PATIENCE)
        seen.append(current())

    thread = threading.Thread(target=work, daemon=True)
    run = recorder()
    with recording(run):
        thread.start()
    wait_until(lambda: len(seen) == 1, "the thread runs")
    assert seen.pop() is run
    run.close()
    held = weakref.ref(run)
    del run
    gc.collect()
    assert held() is None
    may_end.set()
    thread.join(PATIENCE)
    assert seen == [None]


_GREENLETS = """
import sys
from celery_ezthrottle import frugal  # noqa: F401 -- installs the adapter
from celery_ezthrottle.errors import ReplayMismatch
from celery_ezthrottle.http import threads
from celery_ezthrottle.http.recorder import recording
from tests.support.recorded_body import recorder

library, http, url = sys.argv[1:]
http = __import__(http)
if library == "gevent":
    import gevent
    from gevent.pool import Pool

    def run(do):
        gevent.joinall([gevent.spawn(do, 0), gevent.spawn_later(0, do, 1)])
        list(Pool(1).imap_unordered(do, [2]))
        gevent.get_hub().threadpool.spawn(do, 3).get()
    def unjoined():
        gevent.spawn(do, 4)
else:
    import eventlet

    def run(do):
        eventlet.spawn(do, 0).wait()
        list(eventlet.GreenPool(1).imap(do, [1, 2]))
        pool = eventlet.GreenPool(1)
        pool.spawn_n(do, 3)
        pool.waitall()
    def unjoined():
        eventlet.spawn(do, 4)

threads.install()
def do(n):
    http.post(f"{url}/charges/{n}")
made = recorder()
with recording(made):
    run(do)
    http.get(f"{url}/limited")
print(len(made.calls), made.obstacle(made.last))
with recording(made):
    unjoined()
print(made.obstacle(made.last))
"""


@pytest.mark.parametrize("greenlets", ["gevent", "eventlet"])
@pytest.mark.parametrize("library", SYNC, indirect=True)
def test_calls_of_greenlets_are_recorded(upstream: Upstream, library: HttpLibrary, greenlets: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _GREENLETS, greenlets, library.name, upstream.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert first == "5 None"
    assert "had not ended" in second


def test_the_answer_to_one_item_is_not_given_to_another_one_whose_thread_comes_first(
    library: HttpLibrary, upstream: Upstream
) -> None:
    """What the threads do besides HTTP may take longer in one run than in another."""
    upstream.plan("/ship", 429)

    def body(first: str, second: str) -> None:
        def ship(item: str) -> None:
            library.call("POST", f"{upstream.url}/ship", json=item).raise_for_status()

        with ThreadPoolExecutor(2) as pool:
            pool.submit(ship, first).result()
            pool.submit(ship, second).result()

    def failing() -> None:
        with pytest.raises(library.status_error):
            body("two", "one")

    second = resumed(recorded(failing))
    with recording(second), pytest.raises(ReplayMismatch, match="another body"):
        body("one", "two")
    assert [received.body for received in upstream.received("/ship")] == ['"two"']
