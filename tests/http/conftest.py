"""The HTTP libraries, and an upstream for them to call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.libraries import library
from tests.support.upstream import Upstream, running

__all__ = ["library", "upstream"]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with running(upstream.respond) as upstream.url:
        yield upstream
