"""Asynchronous clients in ``asyncio.run()``: each call of a gather or a TaskGroup is recorded, and answered once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from celery_ezthrottle.errors import ReplayMismatch
from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.journal import Entry, for_resume, for_suspension
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.policy.wanted import candidates
from tests.support.libraries import ALL, TRUST, HttpLibrary, of
from tests.support.recorded_body import DELIVERED, recorded, recorder, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream

#: Seconds that nothing here takes.
PATIENCE = 30


@pytest.fixture(params=[name for name in ALL if of(name).is_async])
def library(request: pytest.FixtureRequest) -> Iterator[HttpLibrary]:
    with of(request.param) as library:
        yield library


async def post(client: Any, url: str) -> Any:
    response = await client.post(url)
    response.raise_for_status()
    return response.json().get("path", "by service")


async def gathered(calls: list[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*calls))


async def grouped(calls: list[Any]) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


Together = Callable[[list[Any]], Awaitable[list[Any]]]
together = pytest.mark.parametrize("run_together", [gathered, grouped])


def body_of(library: HttpLibrary, upstream: Upstream, run_together: Together, *paths: str) -> Callable[[], Any]:
    async def main() -> Any:
        async with library.module.AsyncClient(verify=TRUST) as client:
            return await run_together([post(client, f"{upstream.url}{path}") for path in paths])

    return lambda: asyncio.run(main())


def wanted(run: Recorder, error: BaseException) -> Any:
    return next(candidates(run.calls, error, thread=threading.get_ident()))


def resumed_after(run: Recorder, call: Any) -> Recorder:
    """The recorder of the run that follows when ``call`` was forwarded."""
    assert call.fingerprint is not None
    forwarded = Entry(fingerprint=call.fingerprint, answer=None, forwards=1)
    return recorder(for_resume(for_suspension(run.earlier(call), run.entries(without=call), forwarded), DELIVERED))


def paths(run: Recorder) -> list[tuple[str, Source]]:
    return sorted(("/" + call.sent.url.rpartition("/")[2], call.source) for call in run.calls)


@together
def test_each_call_is_recorded_and_answered_once(
    upstream: Upstream, library: HttpLibrary, run_together: Together
) -> None:
    body = body_of(library, upstream, run_together, "/a", "/b", "/c")

    def whole() -> Any:
        body()
        return library.get(f"{upstream.url}/last").json()

    second = resumed(recorded(whole))
    with recording(second):
        assert whole() == {"by": "service"}
    assert paths(second) == [
        ("/a", Source.JOURNAL),
        ("/b", Source.JOURNAL),
        ("/c", Source.JOURNAL),
        ("/last", Source.SERVICE),
    ]
    assert all(len(upstream.received(path)) == 1 for path in ("/a", "/b", "/c", "/last"))


@pytest.mark.parametrize("limited", ["/a", "/b", "/c"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_call_whose_error_leaves_a_gather_is_the_wanted_one(
    upstream: Upstream, library: HttpLibrary, method: str, limited: str
) -> None:
    """The others have ended too, and are answered in the resumed run, whichever was first."""
    upstream.plan(limited, 429)
    places = ("/a", "/b", "/c")

    async def main() -> Any:
        done = {path: asyncio.Event() for path in places}

        async def one(client: Any, path: str) -> Any:
            try:
                response = await client.request(method, f"{upstream.url}{path}")
            finally:
                done[path].set()
            for event in done.values():  # so that the error does not overtake the others
                await asyncio.wait_for(event.wait(), PATIENCE)
            response.raise_for_status()
            return response.json().get("path", "by service")

        async with library.module.AsyncClient(verify=TRUST) as client:
            return await asyncio.gather(*(one(client, path) for path in places))

    left: list[Exception] = []

    def body() -> None:
        with pytest.raises(library.status_error) as caught:
            asyncio.run(main())
        left.append(caught.value)

    first = recorded(body)
    call = wanted(first, left[0])
    assert call.sent.url == f"{upstream.url}{limited}"
    assert first.obstacle(call) is None
    second = resumed_after(first, call)
    with recording(second):
        answers = asyncio.run(main())
    assert answers == ["by service" if path == limited else path for path in places]
    assert all(len(upstream.received(path)) == 1 for path in places)


def test_the_call_whose_error_leaves_a_task_group_is_the_wanted_one(upstream: Upstream, library: HttpLibrary) -> None:
    """One more has ended before, and is answered. The error is in a group."""
    upstream.plan("/limited", 429)

    async def main() -> Any:
        async with library.module.AsyncClient(verify=TRUST) as client:
            before = await post(client, f"{upstream.url}/before")
            return [before, *await grouped([post(client, f"{upstream.url}/limited")])]

    left: list[BaseException] = []

    def body() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            asyncio.run(main())
        left.append(caught.value)

    first = recorded(body)
    call = wanted(first, left[0])
    assert (call.sent.url, first.obstacle(call)) == (f"{upstream.url}/limited", None)
    second = resumed_after(first, call)
    with recording(second):
        assert asyncio.run(main()) == ["/before", "by service"]
    assert len(upstream.received("/before")) == len(upstream.received("/limited")) == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_sibling_that_was_cancelled(upstream: Upstream, library: HttpLibrary, method: str) -> None:
    """Nobody knows whether an unsafe one was executed, so nothing is forwarded. A safe one is sent again."""
    gate = threading.Event()
    upstream.plan("/limited", 429)
    upstream.plan("/slow", Reply(wait_for=gate))

    async def main() -> Any:
        async def slow() -> Any:
            return (await client.request(method, f"{upstream.url}/slow")).status_code

        async def limited() -> Any:
            while not upstream.received("/slow"):
                await asyncio.sleep(0)
            response = await client.post(f"{upstream.url}/limited")
            response.raise_for_status()
            return response.status_code

        async with library.module.AsyncClient(verify=TRUST) as client:
            return await grouped([slow(), limited()])

    left: list[BaseException] = []

    def body() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            asyncio.run(main())
        left.append(caught.value)

    first = recorded(body)
    gate.set()
    call = wanted(first, left[0])
    assert call.sent.url == f"{upstream.url}/limited"
    if method == "POST":
        assert "cannot be kept for a resumed run" in (first.obstacle(call) or "")
        return
    assert first.obstacle(call) is None
    second = resumed_after(first, call)
    with recording(second):
        assert asyncio.run(main()) == [200, 200]
    assert (len(upstream.received("/slow")), len(upstream.received("/limited"))) == (2, 1)


def test_tasks_of_one_client_keep_their_answers_and_hops_apart(upstream: Upstream, library: HttpLibrary) -> None:
    for n in range(5):
        upstream.plan(f"/r{n}", Reply(302, headers={"Location": f"/end{n}"}))

    async def main() -> Any:
        async with library.module.AsyncClient(verify=TRUST, follow_redirects=True) as client:
            responses = await asyncio.gather(*(client.get(f"{upstream.url}/r{n}") for n in range(5)))
        return [(response.url.path, [hop.url.path for hop in response.history]) for response in responses]

    def body() -> Any:
        found = asyncio.run(main())
        library.get(f"{upstream.url}/last")
        return found

    expected = [(f"/end{n}", [f"/r{n}"]) for n in range(5)]
    second = resumed(recorded(body))
    with recording(second):
        assert body() == expected
    assert all(len(upstream.received(f"/{name}{n}")) == 1 for name in ("r", "end") for n in range(5))


def test_calls_of_threads_of_a_loop_are_recorded(upstream: Upstream, library: HttpLibrary) -> None:
    """The client of the same module that waits, in asyncio.to_thread()."""
    module = library.module

    def one(path: str) -> str:
        with module.Client(verify=TRUST) as client:
            return str(client.post(f"{upstream.url}{path}").json().get("path", "by service"))

    async def main() -> Any:
        return await asyncio.gather(*(asyncio.to_thread(one, path) for path in ("/a", "/b")))

    def body() -> Any:
        found = asyncio.run(main())
        return [*found, library.get(f"{upstream.url}/last").json()]

    second = resumed(recorded(body))
    with recording(second):
        assert body() == ["/a", "/b", {"by": "service"}]
    assert len(upstream.received("/a")) == len(upstream.received("/b")) == 1


def test_a_call_that_is_cancelled_by_a_time_limit_has_no_answer(upstream: Upstream, library: HttpLibrary) -> None:
    gate = threading.Event()
    upstream.plan("/slow", Reply(wait_for=gate))

    async def main() -> None:
        async with library.module.AsyncClient(verify=TRUST) as client, asyncio.timeout(PATIENCE) as limit:
            request = asyncio.ensure_future(client.get(f"{upstream.url}/slow"))
            while not upstream.received("/slow"):
                await asyncio.sleep(0)
            limit.reschedule(0)
            await request

    def body() -> None:
        with pytest.raises(TimeoutError):
            asyncio.run(main())

    (call,) = recorded(body).calls
    gate.set()
    assert isinstance(call.error, asyncio.CancelledError)
    assert (call.can_be_kept, call.ended, call.library.is_network_error(call.error)) == (False, True, False)


def test_a_call_that_nobody_waits_for_ends_wherever_it_is_collected(library: HttpLibrary, upstream: Upstream) -> None:
    """Also in the middle of another call. Its loop has gone, so it is closed in a context that is not its own."""
    module = library.module

    class Suspended:
        def __await__(self) -> Generator[None, None, None]:
            yield

    class Transport(module.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        async def handle_async_request(self, request: object) -> None:
            await Suspended()

    dated = {"url": f"{upstream.url}/a", "content": "at 2024-01-01T00:00:00"}
    begun: list[Any] = []
    closed: list[str] = []

    def stable() -> frozenset[bytes]:
        while begun:
            closed.append("closed")
            begun.pop().close()
        return frozenset()

    def body() -> None:
        begun.append(module.AsyncClient(transport=Transport()).post("http://127.0.0.1/b"))
        copy_context().run(begun[0].send, None)
        module.post(**dated)

    run = resumed(recorded(lambda: module.post(**dated)), stable=stable)

    def recorded_body() -> None:
        with recording(run):
            body()

    thread = threading.Thread(target=recorded_body, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert closed == ["closed"]
    assert [(call.ended, type(call.error)) for call in run.calls] == [(True, GeneratorExit), (True, type(None))]


def test_the_answer_to_one_item_is_not_given_to_another_one_that_comes_first(
    library: HttpLibrary, upstream: Upstream
) -> None:
    """What the tasks of a loop do besides HTTP may take longer in one run than in another."""

    async def ship(client: Any, item: str, ready: asyncio.Event, then: asyncio.Event) -> str:
        await ready.wait()
        answer = await client.post(f"{upstream.url}/ship", content=item)
        answer.raise_for_status()
        then.set()
        return f"{item}: {answer.text}"

    async def main(first: str, second: str) -> list[str]:
        begun, done = {first: asyncio.Event(), second: asyncio.Event()}, asyncio.Event()
        begun[first].set()
        async with library.module.AsyncClient(verify=TRUST) as client:
            shipped = [ship(client, item, begun[item], begun[second] if item == first else done) for item in begun]
            return await asyncio.gather(*shipped)

    upstream.plan("/ship", 429)

    def body() -> None:
        with pytest.raises(library.status_error):
            asyncio.run(main("two", "one"))

    second = resumed(recorded(body))
    with recording(second), pytest.raises(ReplayMismatch, match="another body"):
        asyncio.run(main("one", "two"))
    assert [received.body for received in upstream.received("/ship")] == ["two"]


def test_an_only_call_with_another_body_is_the_forwarded_one(library: HttpLibrary, upstream: Upstream) -> None:
    async def main(content: str) -> str:
        async with library.module.AsyncClient(verify=TRUST) as client:
            return str((await client.post(f"{upstream.url}/a", content=content)).text)

    second = resumed(recorded(lambda: asyncio.run(main("one"))))
    with recording(second):
        assert asyncio.run(main("another")) == DELIVERED.content.decode()
