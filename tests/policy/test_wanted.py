"""Which of a run's calls the task wants again: the error that leaves tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import requests

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.wanted import candidates

BODY, OTHER = 1, 2  # threads


class Own(Exception):
    """An error of the task's own."""


def call(name: str, *, fails: bool = True, thread: int = BODY, until: int = 0) -> Call:
    """A call that had ended before the next one began, or when the run had begun ``until`` calls."""
    request = requests.Request("GET", f"https://api.example.com/{name}").prepare()
    made = Call(REQUESTS, request, {}, thread=thread, until=until)
    if fails:
        made.error = requests.ConnectionError(name)
    else:
        made.response = requests.Response()
    return made


def caused_by(error: BaseException) -> Exception:
    own = Own()
    own.__cause__ = error
    return own


def while_handling(error: BaseException) -> Exception:
    own = Own()
    own.__context__ = error
    return own


def grouped(error: BaseException) -> Exception:
    return ExceptionGroup("two", [Own(), error])  # type: ignore[type-var]


def about(made: Call) -> Exception:
    return requests.HTTPError(response=made.response)


def names(calls: Sequence[Call], error: BaseException | None) -> list[str]:
    return [made.request.path_url[1:] for made in candidates(calls, error, thread=BODY)]


@pytest.mark.parametrize("wrapped", [lambda error: error, caused_by, grouped, lambda error: caused_by(grouped(error))])
def test_the_call_whose_error_leaves(wrapped: Callable[[BaseException], Exception]) -> None:
    first, second, third = call("first"), call("second"), call("third", fails=False)
    assert first.error is not None
    assert names([first, second, third], wrapped(first.error)) == ["first"]


def test_an_error_about_a_response_is_that_of_its_call() -> None:
    first, second = call("first", fails=False), call("second", fails=False)
    assert names([first, second], about(first)) == ["first"]
    assert names([first, second], caused_by(about(first))) == ["first"]


def test_without_an_error_of_a_call_it_is_the_last_one() -> None:
    calls = [call("first"), call("second", fails=False)]
    assert names(calls, Own()) == ["second"]
    assert names(calls, None) == ["second"]
    assert names([], Own()) == []


def test_the_last_call_comes_before_one_whose_error_was_being_handled() -> None:
    first, second = call("first"), call("second")
    assert first.error is not None
    assert names([first, second], while_handling(first.error)) == ["second", "first"]


def test_calls_of_other_threads_since_the_last_one_of_the_body_are_as_likely() -> None:
    calls = [call("before", thread=OTHER), call("body"), call("a", thread=OTHER), call("b", thread=3)]
    assert names(calls, Own()) == ["b", "a", "body"]


def test_calls_that_had_not_ended_when_the_last_one_began_are_as_likely() -> None:
    """As those of ``asyncio.gather()``, which are made in one thread."""
    before = call("before", until=1)
    beside = [call("one", until=3), call("two", until=4), call("three", until=4), call("last", fails=False, until=4)]
    assert names([before, *beside[1:]], Own()) == ["last", "three", "two"]
    assert names(beside, Own()) == ["last", "three", "two"]


def test_errors_that_refer_to_each_other_come_to_an_end() -> None:
    first, own = call("first"), Own()
    assert first.error is not None
    own.__cause__, first.error.__cause__ = first.error, own
    assert names([first], own) == ["first"]
    own.__cause__ = own
    assert names([first], own) == ["first"]


def test_an_error_whose_response_cannot_be_read_is_not_about_a_call() -> None:
    class Unreadable(Exception):
        @property
        def response(self) -> object:
            return self.args[1]

    assert names([call("first", fails=False), call("second", fails=False)], Unreadable("no response")) == ["second"]
