"""Make a dump of what suspended tasks leave in Redis: ``python -m tests.upgrade.dump FILE``.

Run it on the last commit before the form of a record changes, and keep the file: ``test_upgrade.py`` resumes every task in it.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import redis

from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.manager import Continuations
from tests.support.lab import wait_until
from tests.support.servers import end_process, valkey_server
from tests.support.upstream import Answer, Received, running

#: What was done with the continuation of each order before the dump.
ORDERS = {
    "stored": 1,  # the service has not taken the job
    "submitted": 2,
    "delivered": 3,  # not published
    "published": 4,  # and the message is lost
    "running": 5,  # the lease of the resumed run has lapsed
    "cancelled": 6,
    "early": 7,  # stored, and the result of its job came already
}


def _upstream(received: Received) -> Answer:
    if received.path.startswith("/customers/"):
        name = f"customer {received.path.rpartition('/')[2]}"
        return Answer(200, json.dumps({"name": name}), {"Content-Type": "application/json"})
    return Answer(429, "{}", {"Retry-After": "3"})


def _service(received: Received) -> Answer:
    wire = json.loads(json.loads(received.body)["body"])
    number = json.loads(wire["body"])["order"]
    if number in {ORDERS["stored"], ORDERS["early"]}:
        return Answer(503, "{}")
    inner = {"status_code": 201, "body": json.dumps({"job_id": f"job-{number}", "status": "queued"})}
    return Answer(200, json.dumps({"status": "allowed", "forwarded_response": inner}))


def result_of(number: int) -> bytes:
    """A delivered result as the store keeps it."""
    response = {"status_code": 201, "headers": {"content-type": "application/json"}, "body": f'{{"id": "ch_{number}"}}'}
    return job_result.of_job(f"job-{number}", "success", response, None)


def _act(continuations: Continuations, ids: dict[str, str]) -> None:
    """Bring each continuation to where its name says, as a process that died right after would leave it."""
    store, now = continuations.store, time.time()
    for name in ("delivered", "published", "running"):
        store.deliver(ids[name], f"job-{ORDERS[name]}", result_of(ORDERS[name]), now, now)
    store.claim(ids["published"], now, now)
    store.published(ids["published"], now + 1)
    store.start(ids["running"], "f" * 32, now, lease=now)
    store.cancel(f"task-{ORDERS['cancelled']}", job_result.cancelled(), now)
    store.deliver(None, f"job-{ORDERS['early']}", result_of(ORDERS["early"]), now, now)


def _dumped(client: redis.Redis) -> dict[str, Any]:
    def text(value: bytes) -> str:
        return base64.b64encode(value).decode()

    found: dict[str, Any] = {}
    raw: Any = client  # which gives bytes
    for key in sorted(raw.scan_iter(match="*")):
        name, kind = key.decode(), raw.type(key).decode()
        if not name.startswith(("{ezthrottle:upgrade}:", "celery-task-meta-task-")):
            continue
        if kind == "hash":
            value: Any = {text(field): text(content) for field, content in raw.hgetall(key).items()}
        elif kind == "zset":
            value = {text(member): score for member, score in raw.zrange(key, 0, -1, withscores=True)}
        else:
            value = text(raw.get(key))
        found[name] = {"type": kind, "value": value}
    return found


def main(file: Path) -> None:
    with valkey_server() as url, running(_upstream, 18429), running(_service) as service:
        environment = {**os.environ, "TEST_REDIS": f"{url}/0"}
        environment |= {"EZTHROTTLE_URL": service, "EZTHROTTLE_TRACKTAGS_URL": service}
        os.environ |= environment
        from .project import app, order, record

        command = [sys.executable, "-m", "celery", "-A", "tests.upgrade.project", "worker", "-P", "solo"]
        worker = subprocess.Popen(command, env=environment)
        client: Any = redis.Redis.from_url(f"{url}/0")
        continuations = Continuations.of(app)
        try:
            for number in ORDERS.values():
                chain = order.si(number).set(task_id=f"task-{number}") | record.s().set(task_id=f"after-{number}")
                chain.apply_async()
            wait_until(lambda: _states(continuations), "every task to be suspended")
        finally:
            end_process(worker)
        prefix = b"{ezthrottle:upgrade}:t:"
        ids = {name: client.hget(prefix + f"task-{number}".encode(), "c").decode() for name, number in ORDERS.items()}
        _act(continuations, ids)
        dump = {"continuations": ids, "keys": _dumped(client)}
    file.write_text(json.dumps(dump, indent=1) + "\n")


def _states(continuations: Continuations) -> dict[str, str] | None:
    """The state of each order's continuation, once the service has had its say on all."""
    found = {name: continuations.store.task(f"task-{number}") for name, number in ORDERS.items()}
    states = {name: str(record.state) for name, record in found.items() if record is not None}
    settled = [state for name, state in states.items() if name not in {"stored", "early"}]
    return states if len(states) == len(ORDERS) and "stored" not in settled else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
