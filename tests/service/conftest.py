from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fake_proxy import FakeProxy, fake_proxy


@pytest.fixture
def proxy() -> Iterator[FakeProxy]:
    with fake_proxy() as server:
        yield server
