"""What ``limited()`` wraps stays as it is, and which names it knows."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle import limited
from celery_ezthrottle.errors import ConfigurationError
from tests.client.limited.conftest import add, add_soon, status


class Adder:
    async def __call__(self, one: int, *, to: int) -> int:
        return await add_soon(one, to=to)


@functools.wraps(add_soon)
def checked(*args: Any, **kwargs: Any) -> Any:
    """As openai wraps the methods of its clients."""
    return add_soon(*args, **kwargs)


def test_a_function_stays_as_it_is(app: Celery) -> None:
    wrapped = limited("plain", app=app)(add)
    assert (wrapped(1, to=2), wrapped.__name__, wrapped.__doc__) == (3, "add", "Adds.")
    assert status(app, "plain").used == (1,)
    assert status(app, "*").used == (1,)


@pytest.mark.parametrize("function", [add_soon, functools.partial(add_soon), Adder(), checked])
def test_what_is_awaited_stays_so(app: Celery, function: Callable[..., Awaitable[int]]) -> None:
    assert asyncio.run(limited("plain", app=app)(function)(1, to=2)) == 3  # type: ignore[arg-type]
    assert status(app, "plain").used == (1,)


def test_a_decorator_and_blocks(app: Celery) -> None:
    plain = limited("plain", app=app)

    @plain
    def search() -> str:
        return "found"

    async def asked() -> str:
        async with plain:
            return "asked"

    with plain:
        pass
    assert (search(), asyncio.run(asked())) == ("found", "asked")
    assert status(app, "plain").used == (3,)


def test_the_current_app_is_the_default(app: Celery) -> None:
    app.set_current()
    assert limited("plain")(add)(1, to=2) == 3
    assert status(app, "plain").used == (1,)


def test_a_block_can_be_left_in_another_context(app: Celery) -> None:
    single = limited("single", app=app)

    async def lends() -> AsyncGenerator[None]:
        async with single:
            yield

    async def use() -> None:
        lender = lends()
        await asyncio.create_task(anext(lender))
        assert status(app, "single").leases == 1
        await asyncio.create_task(lender.aclose())

    asyncio.run(use())
    assert status(app, "single").leases == 0


def numbers() -> Iterator[int]:
    yield 1


async def more_numbers() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "said"), [(numbers, "generators"), (more_numbers, "generators"), ("a response", "got str")]
)
def test_what_cannot_be_wrapped(function: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        limited("plain")(function)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": ""}, "needs the name of a limit"),
        ({"name": "https://user:secret@api.example.com"}, "and no URL"),
        ({"name": 5}, "needs the name of a limit"),
        ({"context": 5}, "context must be a string"),
        ({"per": 5}, "per must be a string"),
        ({"priority": "high"}, "priority must be a number"),
        ({"wait": -1}, "wait must be a number of seconds from 0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        limited(**{"name": "plain", **arguments})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "spotfiy"}, r"has no such limit. It has: 'plain', 'five', .*'\*'"),
        ({"name": "*.shops.com"}, "is split"),
        ({"name": "plain", "per": "token"}, "is not split"),
    ],
)
def test_names_are_looked_up_at_the_first_call(app: Celery, arguments: dict[str, Any], said: str) -> None:
    wrapped = limited(**arguments, app=app)(add)
    with pytest.raises(ConfigurationError, match=said):
        wrapped(1, to=2)


def test_a_pattern_of_hosts_counts_with_all_that_match_it(app: Celery) -> None:
    limited("API.example.com", app=app)(add)(1, to=2)
    used = {name: status(app, name).used for name in ("api.example.com", "*.example.com", "api.example.com/v1/*", "*")}
    assert used == {"api.example.com": (1,), "*.example.com": (1,), "api.example.com/v1/*": (0,), "*": (1,)}


def test_a_limit_that_is_split(app: Celery) -> None:
    limited("*.shops.com", per="shop 1", app=app)(add)(1, to=2)
    assert (status(app, "*.shops.com", "shop 1").used, status(app, "*.shops.com", "shop 2").used) == ((1,), (0,))
