"""What must not happen while a task waits: it expires, its results end early, somebody opens its arguments."""

from __future__ import annotations

import json
import time
from typing import Any

from celery import Celery

from tests.support.lab import PATIENCE, Lab, Process, wait_until

from .conftest import StartWorker
from .observe import resume, suspend
from .tasks import Opened, app, call


def test_a_suspended_task_does_not_expire(lab: Lab, worker: Process, path: str) -> None:
    result, job = suspend(lab, path, lambda: call.apply_async((path,), expires=1))
    expires_at = time.time() + 1
    wait_until(lambda: time.time() > expires_at, "the time when it would expire")

    resume(lab, path, result, job)

    assert result.get(timeout=PATIENCE) == path


def test_nobody_but_the_worker_opens_a_pickle(lab: Lab, worker: Process, path: str) -> None:
    key = f"opened:{path}"
    options = {"serializer": "pickle", "compression": "zlib"}
    result, job = suspend(lab, path, lambda: call.apply_async((path, Opened(key)), **options))
    resume(lab, path, result, job)
    assert result.get(timeout=PATIENCE) == path

    found: Any = lab.client.lrange(key, 0, -1)
    by = [json.loads(each) for each in found]
    assert len(by) >= 2
    assert all(worker.popen.pid in {each["pid"], each["parent"]} for each in by)


def test_results_ignored_by_setting(lab: Lab, path: str, start: StartWorker) -> None:
    def send() -> Any:
        # What the sender says would come first.
        return call.apply_async((path,), queue="ignoring", ignore_result=None)

    settings = json.dumps({"task_ignore_result": True})
    with start("ignoring", "-P", "solo", "-Q", "ignoring", FIDELITY_SETTINGS=settings) as process:
        result, job = suspend(lab, path, send)
        assert result.state == "PENDING"
        first, resumed = resume(lab, path, result, job)
        process.wait_for(f"[{result.id}] succeeded")
        assert result.state == "PENDING"
    assert (first.run["ignore_result"], resumed.run["ignore_result"]) == (None, None)


def test_a_result_by_rpc(lab: Lab, path: str, start: StartWorker) -> None:
    """The results come as messages to the caller, the suspension among them."""
    settings = {
        "FIDELITY_SETTINGS": json.dumps({"result_backend": "rpc://"}),
        "EZTHROTTLE_STORE": lab.environment["TEST_REDIS"],
    }
    with (
        start("rpc", "-P", "solo", "-Q", "by-rpc", **settings),
        Celery("sender", broker=app.conf.broker_url, backend="rpc://", set_as_current=False) as sender,
    ):
        result, job = suspend(lab, path, lambda: sender.send_task(call.name, (path,), queue="by-rpc"))
        wait_until(lambda: result.state == "FORWARDED", "the news of the suspension")

        first, resumed = resume(lab, path, result, job)

        assert result.get(timeout=PATIENCE) == path
        result.backend.result_consumer.stop()
    reply_to = first.wire["properties"]["reply_to"]
    assert reply_to
    assert resumed.wire["properties"]["reply_to"] == reply_to


def test_extended_results(lab: Lab, worker: Process, path: str) -> None:
    """All that is stored of a resumed task is what is stored of one that was never suspended."""
    plain = call.apply_async((path, 1), {"word": "a"}, queue="keyed")
    assert plain.get(timeout=PATIENCE) == path
    other = f"{path}/limited"
    result, job = suspend(lab, other, lambda: call.apply_async((other, 1), {"word": "a"}, queue="keyed"))
    waiting = app.backend.get_task_meta(result.id)
    resume(lab, other, result, job)
    assert result.get(timeout=PATIENCE) == other

    expected, found = (_of_any_task(app.backend.get_task_meta(each.id)) for each in (plain, result))
    assert found == expected
    assert found["name"] == call.name
    assert found["kwargs"] == {"word": "a"}
    assert {name: waiting[name] for name in ("name", "queue", "kwargs", "worker")} == {
        name: found[name] for name in ("name", "queue", "kwargs", "worker")
    }


def _of_any_task(meta: dict[str, Any]) -> dict[str, Any]:
    """Without what is of this task alone."""
    of_its_own = {"task_id", "date_done", "date_created", "date_started", "result", "args"}
    return {name: value for name, value in meta.items() if name not in of_its_own}
