"""An app for which no service is configured has the route "workers", and needs nothing but Redis."""

from __future__ import annotations

from dataclasses import replace

from tests.support import plain_project
from tests.support.lab import PATIENCE, Lab
from tests.support.upstream import Answer

#: An empty variable is one that is not set.
NOTHING = dict.fromkeys(
    ("EZTHROTTLE_API_KEY", "EZTHROTTLE_URL", "EZTHROTTLE_WEBHOOK_URL", "EZTHROTTLE_WEBHOOK_SECRET"), ""
)


def test_a_limited_task_needs_only_redis(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 503, Answer(429, headers={"Retry-After": "1"}))
    plain_project.app.conf.update(
        broker_url=lab.environment["TEST_BROKER"], result_backend=lab.environment["TEST_REDIS"]
    )
    here = replace(lab, project="tests.support.plain_project")
    with here.worker("plain", "-P", "threads", "-c", "2", **NOTHING) as worker:
        assert plain_project.fetch.delay(path).get(timeout=PATIENCE) == path
    assert lab.upstream.by_worker(path) == 3
    assert 'so the route is "workers"' in worker.output
    assert "it waits for its turn" in worker.output
    [warning] = [line for line in worker.output.splitlines() if "WARNING" in line]
    assert "Redis keeps nothing on disk" in warning


def test_half_of_a_service_is_an_error(lab: Lab) -> None:
    here = replace(lab, project="tests.support.plain_project")
    given = {**NOTHING, "EZTHROTTLE_API_KEY": "key"}
    with here.process("half", "worker", ready="settings need attention", **given) as process:
        process.popen.wait(PATIENCE)
    assert process.popen.returncode == 2
    assert "ezthrottle_webhook_url is not set" in process.output
