"""The worker's part: it refuses wrong settings, and sweeps, alone or with others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import Celery

from tests.support import shapes
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app, fetch
from tests.support.servers import free_port
from tests.support.upstream import Answer, running


def run_celery(lab: Lab, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, **lab.environment, **environment}
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tests.support.project", *command],
        check=False,
        env=settings,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_a_worker_refuses_settings_before_it_consumes(lab: Lab) -> None:
    queue = "refused"
    app.send_task(fetch.name, ("/never",), queue=queue)

    wrong = {"EZTHROTTLE_API_KEY": "", "EZTHROTTLE_WEBHOOK_SECRET": "short"}
    done = run_celery(lab, "worker", "-P", "solo", "-Q", queue, **wrong)

    assert done.returncode == 2
    assert "ezthrottle_api_key is not set" in done.stderr
    assert "ezthrottle_webhook_secret is shorter than 16" in done.stderr
    assert "short" not in done.stderr.replace("shorter", "")
    assert lab.client.llen(queue) == 1


def test_a_worker_refuses_a_wrong_default_of_an_option(lab: Lab) -> None:
    done = run_celery(lab, "worker", "-P", "solo", "-Q", "refused", EZTHROTTLE_FORWARD_ON="4290")

    assert done.returncode == 2
    assert "EZTHROTTLE_FORWARD_ON must be a collection of HTTP error statuses" in done.stderr


@pytest.mark.parametrize("name", ["WEBHOOK_SECRET", "WEBHOOK_URL"])
def test_a_receiver_refuses_to_start_without_a_setting(lab: Lab, name: str) -> None:
    done = run_celery(lab, "ezthrottle", "webhook", "--bind", "127.0.0.1:0", **{f"EZTHROTTLE_{name}": ""})

    assert done.returncode == 2
    assert f"ezthrottle_{name.lower()} is not set" in done.stderr


def test_a_worker_without_frugal_tasks_needs_no_settings(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        "import celery_ezthrottle\nfrom celery import Celery\napp = Celery('bare')\n@app.task\ndef add(x, y):\n    return x + y\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EZTHROTTLE_")}
    url = f"{lab.redis_url}/7"
    environment |= {"PYTHONPATH": str(tmp_path), "CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
    words = ["celery", "-A", "bare", "worker", "-P", "solo", "-n", "bare@test", "-l", "INFO"]
    with lab.command("bare", words, ready="bare@test ready", environment=environment):
        pass


def test_the_service_is_down_then_up(lab: Lab, path: str) -> None:
    """Refused connections first, then a service that answers. Apart from the shared worker, which would sweep too."""
    port = free_port()
    redis_url = f"{lab.redis_url}/8"
    environment = {
        "TEST_REDIS": redis_url,
        "TEST_BROKER": redis_url,
        "EZTHROTTLE_TRACKTAGS_URL": f"http://127.0.0.1:{port}",
        "EZTHROTTLE_STORE": lab.environment["TEST_REDIS"],
        "EZTHROTTLE_KEY_PREFIX": "{down}:",
    }
    lab.upstream.plan(path, 429)
    with lab.worker("down", "-P", "solo", "-Q", "down", **environment) as worker:
        client = Celery("client", broker=redis_url, backend=redis_url)
        result = client.send_task(fetch.name, (path,), queue="down")
        worker.wait_for("will be submitted again")
        assert lab.service.jobs(path) == []
        with running(lab.service.respond, port=port):
            lab.service.hold(path)
            (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
            assert job.wire["idempotent_key"].startswith(f"celery-{result.id}-1-")
        client.close()


@pytest.mark.slow
def test_several_sweepers_act_once(lab: Lab, path: str) -> None:
    paths = [f"{path}/{i}" for i in range(20)]
    for each in paths:
        lab.upstream.plan(each, 429)
        lab.service.refuse(each, Answer(503))

    with lab.worker("second", "-P", "threads", "-c", "2"), lab.worker("third", "-P", "solo"):
        results = [fetch.delay(each) for each in paths]
        assert [result.get(timeout=PATIENCE) for result in results] == paths

    for each in paths:
        assert [job.submissions for job in lab.service.jobs(each)] == [1]
        assert lab.effects(each) == ["start", "start", "end"]


def test_the_store_is_down_when_a_task_would_be_suspended(lab: Lab, path: str) -> None:
    """Then it is as without the plugin: the original error, or Celery's retry. Nothing is submitted."""
    environment = {"EZTHROTTLE_STORE": f"redis://127.0.0.1:{free_port()}/0"}
    paths = [f"{path}/{name}" for name in ("error", "retry")]
    for each in paths:
        lab.upstream.plan(each, 429)
    with lab.worker("storeless", "-P", "solo", "-Q", "storeless", **environment):
        failed: Any = app.send_task(fetch.name, paths[:1], queue="storeless")
        retried: Any = app.send_task(shapes.retries_by_status.name, paths[1:], queue="storeless")

        with pytest.raises(requests.HTTPError, match="429"):
            failed.get(timeout=PATIENCE)
        assert "Not forwarded: The continuation store" in str(failed.traceback)
        wait_until(lambda: retried.state == "RETRY", "Celery's retry")
    assert [lab.service.jobs(each) for each in paths] == [[], []]
