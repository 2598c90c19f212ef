"""Tasks whose calls go to an ezthrottle-local: it tries each call once, and signs only for receivers that speak L8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from celery import Celery

from celery_ezthrottle import EZThrottle, JobFailed
from celery_ezthrottle.settings.l8_keys import new_private_key
from tests.support import local_tasks, project
from tests.support.fake_local import FakeLocal
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.servers import free_port
from tests.support.upstream import Answer, running


@dataclass
class Local:
    """A worker and a receiver of their own, and the server between them."""

    server: FakeLocal
    queue: str
    settings: dict[str, str]

    def send(self, task: Any, path: str) -> Any:
        return task.apply_async((path,), queue=self.queue)


@contextmanager
def local_world(lab: Lab, queue: str, **more: str) -> Iterator[Local]:
    server = FakeLocal()
    with running(server.respond) as url:
        bind = f"127.0.0.1:{free_port()}"
        environment = {
            "EZTHROTTLE_DIALECT": "local",
            "EZTHROTTLE_URL": url,
            "EZTHROTTLE_API_KEY": "",
            "EZTHROTTLE_USER_ID": "shop",
            "EZTHROTTLE_KEY_PREFIX": f"{{{queue}}}:",
            "EZTHROTTLE_WEBHOOK_URL": f"http://{bind}/hook",
            "TEST_QUEUE": queue,
            **more,
        }
        receiver = ("ezthrottle", "webhook", "--bind", bind)
        with (
            lab.process(f"{queue}-receiver", *receiver, ready="receiver listening on", **environment),
            lab.worker(queue, "-P", "threads", "-c", "2", "-Q", queue, **environment),
        ):
            settings = {name.lower(): value for name, value in environment.items() if name.startswith("EZTHROTTLE_")}
            yield Local(server, queue, {**settings, "ezthrottle_store": lab.environment["TEST_REDIS"]})


@pytest.fixture(scope="module")
def shared(shared_lab: Lab) -> Iterator[Local]:
    with local_world(shared_lab, "local-l8", EZTHROTTLE_L8_PRIVATE_KEY=new_private_key()) as local:
        yield local


@pytest.fixture
def local(lab: Lab, shared: Local) -> Local:
    return shared


def answers_with_its_body(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, Answer(201, json.dumps({"name": "Jörg"}, ensure_ascii=False)))


def test_a_limited_call_is_executed_there_and_its_task_resumed(lab: Lab, path: str, local: Local) -> None:
    answers_with_its_body(lab, path)
    result = local.send(local_tasks.charges_by_json, path)
    assert result.get(timeout=PATIENCE) == ["Jörg", "application/json"]
    tried, executed = lab.upstream.received(path)
    assert (executed.method, executed.body, executed.by_service) == (tried.method, tried.body, True)
    [job] = local.server.jobs(path)
    wait_until(lambda: job.webhooks, "the webhook")
    assert job.webhooks == [200]
    assert job.wire["user_id"] == "shop"


def test_a_limit_that_is_delivered_is_forwarded_again(lab: Lab, path: str, local: Local) -> None:
    lab.upstream.plan(path, 429, 503)
    assert local.send(project.fetch, path).get(timeout=PATIENCE) == path
    jobs = local.server.jobs(path)
    assert len({job.wire["idempotent_key"] for job in jobs}) == len(jobs) == 2
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 2)


def test_after_the_last_forward_the_task_has_its_error_and_no_retries(lab: Lab, path: str, local: Local) -> None:
    lab.upstream.plan(path, *[429] * 3)
    with pytest.raises(requests.HTTPError, match="429"):
        local.send(local_tasks.forwards_twice, path).get(timeout=PATIENCE)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 2)
    assert lab.effects(path) == ["0", "0", "3"]


def test_what_was_tried_once_is_left_to_the_tasks_own_retries(lab: Lab, path: str, local: Local) -> None:
    lab.upstream.plan(path, 429, 429)
    with pytest.raises(requests.HTTPError, match="429"):
        local.send(local_tasks.forwards_once, path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["0", "0"]


def test_a_server_that_reaches_no_upstream_is_tried_once_too(lab: Lab, path: str, local: Local) -> None:
    lab.upstream.plan(path, 429, Answer(hang_up=True))
    with pytest.raises(JobFailed, match="econnrefused"):
        local.send(local_tasks.forwards_twice, path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["0", "0"]


def test_a_server_that_sheds_load_is_asked_again(lab: Lab, path: str, local: Local) -> None:
    lab.upstream.plan(path, 429)
    local.server.shed = 1
    assert local.send(project.fetch, path).get(timeout=PATIENCE) == path
    assert (local.server.shed, lab.upstream.by_service(path)) == (0, 1)


def test_what_it_cannot_execute_is_not_forwarded(lab: Lab, path: str, local: Local) -> None:
    lab.upstream.plan(path, 429)
    result = local.send(local_tasks.sends_a_form, path)
    with pytest.raises(requests.HTTPError, match="429"):
        result.get(timeout=PATIENCE)
    assert local.server.jobs(path) == []
    assert "cannot express a body that is not declared as application/json" in str(result.traceback)


def test_code_outside_of_tasks_can_wait_for_an_answer(lab: Lab, path: str, local: Local) -> None:
    lab.upstream.plan(path, 404)
    with closing(Celery("outside", set_as_current=False)) as app:
        app.conf.update(local.settings)
        with EZThrottle.from_app(app) as client:
            said = [client.queue_and_wait(f"{lab.upstream.url}{path}", timeout=PATIENCE) for _ in range(2)]
    assert [each["status"] for each in said] == ["failed", "success"]
    assert [each["response"]["status_code"] for each in said] == [404, 200]


@pytest.mark.slow
def test_without_l8_the_token_is_enough(lab: Lab, path: str) -> None:
    with local_world(lab, "local-unsigned") as local:
        answers_with_its_body(lab, path)
        result = local.send(local_tasks.charges_by_json, path)
        assert result.get(timeout=PATIENCE) == ["Jörg", "application/json"]
        [job] = local.server.jobs(path)
        forged = requests.post(job.wire["webhook_url"][:-1], data=b"{}", timeout=PATIENCE)
        assert forged.status_code == 401
