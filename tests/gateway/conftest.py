"""A gateway, an upstream and a receiver of webhooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateway_process import Gateway, Site

MakeGateway = Callable[..., Gateway]


@pytest.fixture
def upstream() -> Iterator[Site]:
    with Site().running() as site:
        yield site


@pytest.fixture
def sink() -> Iterator[Site]:
    with Site().running() as site:
        yield site


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[MakeGateway]:
    with ExitStack() as gateways:
        yield lambda **settings: gateways.enter_context(Gateway(tmp_path, **settings).running())


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    return make_gateway()
