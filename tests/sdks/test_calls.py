"""A limited call of each client package: suspended at once, resumed, and answered with the package's own result or error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer

from . import tasks
from .table import SAID, SDKS, Sdk

every_package = pytest.mark.parametrize("package", SDKS)
by_pool = pytest.mark.parametrize("pool", ["prefork", "threads"])
by_both = pytest.mark.parametrize("task", [tasks.calls, tasks.calls_by_base], ids=["decorator", "base"])
obey = pytest.mark.parametrize("package", [name for name, sdk in SDKS.items() if sdk.obeys])


@by_pool
@by_both
@every_package
def test_a_limited_call_is_forwarded_at_once_and_gives_a_typed_result(
    lab: Lab, path: str, sdk: Sdk, task: Any, pool: str, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(), sdk.success())
    lab.service.hold(endpoint)

    result = send(task, path, sdk.package, pool=pool)
    (job,) = wait_until(lambda: lab.service.jobs(endpoint), "the job")
    assert lab.upstream.by_worker(endpoint) == 1
    assert lab.effects(path) == ["start", f"{sdk.package}.{sdk.error} 429"]

    lab.service.deliver(job)
    assert result.get(timeout=PATIENCE) == [sdk.result, SAID]
    assert lab.effects(path)[2:] == ["start"]
    sent, forwarded = lab.upstream.received(endpoint)
    assert (sent.by_service, forwarded.by_service) == (False, True)
    assert (sent.method, sent.body) == (forwarded.method, forwarded.body)
    assert sent.headers["Authorization"] == forwarded.headers["Authorization"]
