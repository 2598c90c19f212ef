"""The HTTP libraries that the package knows, each behind the same few functions, so that one test holds for all of them.

What only one library has or calls otherwise is said here, and not in the tests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import httpx2
import pytest

import celery_ezthrottle  # noqa: F401 -- installs the adapters

from .base import Client, HttpLibrary
from .of_httpx import TRUST, HttpxLibrary
from .of_requests import RequestsLibrary

__all__ = ["ALL", "HTTPX", "SYNC", "TRUST", "Client", "HttpLibrary", "HttpxLibrary", "RequestsLibrary", "library", "of"]

#: Each makes a library for one test.
ALL: Mapping[str, Callable[[], HttpLibrary]] = {
    "requests": RequestsLibrary,
    "httpx": functools.partial(HttpxLibrary, httpx),
    "httpx2": functools.partial(HttpxLibrary, httpx2),
    "httpx-async": functools.partial(HttpxLibrary, httpx, is_async=True),
    "httpx2-async": functools.partial(HttpxLibrary, httpx2, is_async=True),
}
#: The names of those that are not asynchronous, and of the kinds of httpx.
SYNC = [name for name in ALL if not name.endswith("-async")]
HTTPX = [name for name in ALL if name != "requests"]


def of(name: str) -> HttpLibrary:
    return ALL[name]()


@pytest.fixture(params=list(ALL))
def library(request: pytest.FixtureRequest) -> Any:
    """Each library in turn. Choose some with ``@pytest.mark.parametrize("library", HTTPX, indirect=True)``."""
    with of(request.param) as library:
        yield library
