"""A laboratory whose service is the gateway, with three regions. Everything is a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from tests.support.fake_service import FakeService
from tests.support.gateway_process import API_KEY, SECRET, Gateway
from tests.support.lab import Lab
from tests.support.servers import free_port, valkey_server
from tests.support.upstream import Upstream, running

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)


@pytest.fixture(scope="session")
def flows_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("flows")
    with ExitStack() as stack:
        redis_url = stack.enter_context(valkey_server())
        upstream = Upstream()
        upstream.url = stack.enter_context(running(upstream.respond))
        settings = {"regions": ["iad", "lax", "ord"], "default_rate": 500.0, "max_attempts": 1}
        gateway = stack.enter_context(Gateway(folder, **settings).running())
        url = f"http://127.0.0.1:{gateway.port}"
        environment = {
            "TEST_REDIS": f"{redis_url}/0",
            "TEST_BROKER": f"{redis_url}/0",
            "TEST_UPSTREAM": upstream.url,
            "EZTHROTTLE_API_KEY": API_KEY,
            "EZTHROTTLE_URL": url,
            "EZTHROTTLE_TRACKTAGS_URL": url,
            "EZTHROTTLE_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/ezthrottle/webhook",
            "EZTHROTTLE_WEBHOOK_SECRET": SECRET,
        }
        client = stack.enter_context(redis.Redis.from_url(f"{redis_url}/0"))
        lab = Lab(redis_url, upstream, FakeService(), environment, folder, client, "tests.acceptance.project")
        stack.enter_context(lab.receiver())
        stack.enter_context(lab.worker("flows", "-P", "prefork", "-c", "2"))
        yield lab


@pytest.fixture
def flows(flows_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The laboratory; ``tests.acceptance.project.app`` sends to it, and is the current app."""
    from .project import app

    for name, value in flows_lab.environment.items():
        monkeypatch.setenv(name, value)
    app.conf.update(broker_url=flows_lab.environment["TEST_BROKER"], result_backend=flows_lab.environment["TEST_REDIS"])
    app.set_current()
    return flows_lab
