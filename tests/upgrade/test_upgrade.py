"""What an earlier version has left in Redis is resumed by this one."""

from __future__ import annotations

import base64
import functools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import states
from celery.result import AsyncResult

from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.receiver.handler import Receiver
from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, mac_token, sign
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.states import State
from tests.support.fake_service import FakeService
from tests.support.lab import Lab, wait_until
from tests.support.servers import valkey_server
from tests.support.upstream import Answer, Received, Upstream, running

from .dump import ORDERS
from .project import SECRET, app

DUMPS = sorted(Path(__file__).parent.glob("*.json"))


def restore(client: redis.Redis, dump: dict[str, Any]) -> None:
    for key, kept in dump["keys"].items():
        value = kept["value"]
        if kept["type"] == "hash":
            client.hset(key, mapping={base64.b64decode(name): base64.b64decode(each) for name, each in value.items()})
        elif kept["type"] == "zset":
            # What nobody waits for is dropped after a day: here it has just come.
            fresh = time.time() + 3600 if key.endswith(":unclaimed") else None
            client.zadd(key, {base64.b64decode(member): fresh or score for member, score in value.items()})
        else:
            client.set(key, base64.b64decode(value))


def take_job(received: Received) -> Answer:
    """A service that takes every job, and delivers nothing by itself."""
    wire = json.loads(json.loads(received.body)["body"])
    job_id = f"job-{json.loads(wire['body'])['order']}"
    inner = {"status_code": 201, "body": json.dumps({"job_id": job_id, "status": "queued"})}
    return Answer(200, json.dumps({"status": "allowed", "forwarded_response": inner}))


def deliver(receiver: Receiver, continuation_id: str, number: int) -> int:
    """Send a job's webhook to the URL that the earlier version has given to the service."""
    response = {"status_code": 201, "headers": {"content-type": "application/json"}, "body": f'{{"id": "ch_{number}"}}'}
    body = json.dumps({"job_id": f"job-{number}", "status": "success", "response": response}).encode()
    headers = {SIGNATURE_HEADER.lower(): sign(SECRET, body, int(time.time()))}
    query = f"ez={continuation_id}.{mac_token(SECRET, continuation_id)}"
    return receiver.handle("POST", "/ezthrottle/webhook", query, headers, body).status


@contextmanager
def upgraded(folder: Path, dump: dict[str, Any]) -> Iterator[Receiver]:
    """This version's worker and receiver on what is in the dump."""
    with valkey_server() as url, running(take_job) as service, redis.Redis.from_url(f"{url}/0") as client:
        restore(client, dump)
        environment = {"TEST_REDIS": f"{url}/0", "EZTHROTTLE_URL": service, "EZTHROTTLE_TRACKTAGS_URL": service}
        lab = Lab(url, Upstream(), FakeService(), environment, folder, client)
        app.conf.update(broker_url=f"{url}/0", result_backend=f"{url}/0", ezthrottle_store=f"{url}/0")
        command = ["celery", "-A", "tests.upgrade.project", "worker", "-n", "new@test", "-P", "solo", "-l", "INFO"]
        with lab.command("new", command, ready="new@test ready.", environment={**os.environ, **environment}):
            yield Receiver(Continuations.of(app))


def _is_submitted(store: Store, task_id: str) -> bool:
    record = store.task(task_id)
    return record is not None and record.state is State.SUBMITTED


@pytest.mark.parametrize("file", DUMPS, ids=lambda file: file.stem)
def test_what_an_earlier_version_has_suspended_is_resumed(file: Path, tmp_path: Path) -> None:
    dump = json.loads(file.read_text())
    ids = dump["continuations"]
    with upgraded(tmp_path, dump) as receiver:
        store = receiver._continuations.store
        for name in ("submitted", "stored"):  # the latter once the sweeper has submitted it
            task_id = f"task-{ORDERS[name]}"
            wait_until(functools.partial(_is_submitted, store, task_id), f"{task_id} to be submitted")
            assert deliver(receiver, ids[name], ORDERS[name]) == 200
        for name, number in ORDERS.items():
            wait_until(AsyncResult(f"task-{number}", app=app).ready, f"the {name} task")
            if name == "cancelled":
                assert str(AsyncResult(f"task-{number}", app=app).state) == states.REVOKED
                continue
            assert AsyncResult(f"after-{number}", app=app).get(timeout=60) == {
                "customer": f"customer {number}",
                "charge": f"ch_{number}",
            }
