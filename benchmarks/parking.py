"""Make suspended tasks without a worker. The package's own functions make every value, as in a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import requests
from celery import Celery
from kombu import Queue

from celery_ezthrottle.broker.parked_message import capture
from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.build_job import build_job
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.recorder import Recorder
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.options import Options, resolve
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import SuspendOutcome, Suspension
from celery_ezthrottle.store.states import State
from celery_ezthrottle.tasks.suspend import suspension_of

from .project import CHARGES, PREPARED, charge_prepared

__all__ = ["Parking", "Waiting", "response_to", "result_of"]

#: First order id of the copies. All their order ids have seven digits, so that one id can replace another.
SEVEN_DIGITS = 1_000_000

_LIMITED = {
    "Date": "Mon, 01 Jan 2024 00:00:00 GMT",
    "Content-Type": "application/json",
    "Content-Length": "40",
    "Connection": "keep-alive",
    "X-RateLimit-Limit": "100",
    "X-RateLimit-Remaining": "0",
}


@dataclass
class _FirstRun:
    """Replaces a :class:`celery_ezthrottle.tasks.run.Run` that has made one call. Has the attributes that a suspension reads."""

    settings: Settings
    options: Options
    handoff: Mapping[str, Any]
    task_id: str
    resumed_from: str | None = None
    order: int = 0
    forwards: int = 0

    def __post_init__(self) -> None:
        self.id = uuid4().hex
        self.task = SimpleNamespace(request=SimpleNamespace(id=self.task_id))
        self.continuations = SimpleNamespace(settings=self.settings)
        self.recorder = Recorder(max_response=self.settings.max_response, max_journal=self.settings.max_journal)


@dataclass(frozen=True)
class Waiting:
    """A suspended task whose job the service has taken.

    Attributes:
        webhook_url: URL to which its result must be sent.
    """

    id: str
    task_id: str
    order_id: int
    job_id: str
    webhook_url: str


class Parking:
    """Suspends runs of one task.

    Args:
        task: ``charge``, ``charge_prepared`` or ``timed_charge``.
        queue: the queue that the messages of the runs came from. A resume publishes them to this queue.
    """

    def __init__(self, app: Celery, settings: Settings, store: Store, task: Any, queue: str) -> None:
        self._settings = settings
        self._store = store
        self._options = resolve({}, settings)
        self._session = requests.Session()
        self._prepared = task.name == charge_prepared.name
        self._captured = {**_message_of(app, task), "routing_key": queue}
        self._body = json.loads(self._captured["body"])

    def park(self, order_id: int) -> Waiting:
        """Suspend a run as a worker does, and bind its job as after a successful submission."""
        parked = self.suspend(order_id)
        url = json.loads(parked.job)["webhooks"][-1]["url"]
        return Waiting(parked.id, parked.task_id, order_id, self.bind(parked.id), url)

    def suspend(self, order_id: int) -> Suspension:
        """Do the first half of ``park``: suspend a run, and return what was parked. Its job is not bound yet."""
        parked = self.parked(order_id)
        self._suspend(parked)
        return parked

    def suspend_many(self, first: int, count: int) -> Iterator[Suspension]:
        """Do the same for many orders, faster. All are copies of one suspension with their own ids. Do not resume them."""
        first += SEVEN_DIGITS
        copied = self.parked(first)
        for order_id in range(first, first + count):
            ids = {
                copied.id: uuid4().hex,
                copied.task_id: str(uuid4()),
                copied.run_id: uuid4().hex,
                str(first): str(order_id),
            }
            texts = {name: getattr(copied, name) for name in ("id", "task_id", "run_id")}
            payload = {name: getattr(copied, name) for name in ("message", "envelope", "journal", "job", "failure")}
            for old, new in ids.items():
                texts = {name: text.replace(old, new) for name, text in texts.items()}
                payload = {name: part.replace(old.encode(), new.encode()) for name, part in payload.items()}
            parked = replace(copied, **texts, **payload)
            self._suspend(parked)
            yield parked

    def _suspend(self, parked: Suspension) -> None:
        suspended = self._store.suspend(parked, self._settings.max_suspended)
        if suspended is not SuspendOutcome.SUSPENDED:
            raise RuntimeError(f"The store would not suspend a task: {suspended}.")

    def bind(self, continuation_id: str) -> str:
        """Do the second half of ``park``: bind the job, and return the id of the job."""
        job_id = f"job_{continuation_id}"
        if self._store.bind(continuation_id, job_id, time.time()) is not State.SUBMITTED:
            raise RuntimeError("The store would not bind a job.")
        return job_id

    def parked(self, order_id: int) -> Suspension:
        """Return what a run parks after its call met a 429."""
        task_id, call = str(uuid4()), self._limited_call(order_id)
        run = _FirstRun(self._settings, self._options, {"message": self._message(task_id, order_id)}, task_id)
        run.recorder.calls.append(call)
        continuation_id, now = uuid4().hex, time.time()
        job = build_job(
            call,
            self._options,
            self._settings,
            continuation_id=continuation_id,
            task_id=task_id,
            forward=1,
            arguments={"order_id": order_id},
            now=now,
        )
        first_run: Any = run
        parked = suspension_of(first_run, call, job, continuation_id)
        # A worker sets one lease from now. The later time keeps a sweeper from submitting while the benchmark is still parking.
        return replace(parked, submit_at=parked.submit_deadline)

    def _message(self, task_id: str, order_id: int) -> Mapping[str, Any]:
        """Return the message that a worker would have captured for this task."""
        captured = deepcopy(self._captured)
        captured["headers"] |= {"id": task_id, "root_id": task_id, "argsrepr": repr((order_id,))}
        captured["properties"]["correlation_id"] = task_id
        captured["body"] = json.dumps([[order_id], *self._body[1:]])
        return captured

    def _limited_call(self, order_id: int) -> Call:
        request = PREPARED if self._prepared else self._session.prepare_request(_request_for(order_id))
        response = requests.Response()
        response.status_code, response.reason, response.url, response.request = (
            429,
            "Too Many Requests",
            CHARGES,
            request,
        )
        response.headers.update(_LIMITED)
        response._content = b'{"error": "rate limited", "limit": 100.0}'
        return Call(
            library=REQUESTS,
            request=request,
            arguments={"stream": False},
            response=response,
            raised=True,
        )


def _request_for(order_id: int) -> requests.Request:
    return requests.Request("POST", CHARGES, json={"order": order_id})


def result_of(waiting: Waiting) -> bytes:
    """Return the result that a delivered webhook leaves in the store."""
    return job_result.of_job(waiting.job_id, "success", response_to(waiting.order_id), None)


def response_to(order_id: int) -> dict[str, Any]:
    """Return the upstream's answer in the form in which the service reports it."""
    body = json.dumps(
        {"id": f"ch_{order_id}", "object": "charge", "amount": 1999, "currency": "usd", "order": order_id}
    )
    return {"status_code": 201, "headers": {"content-type": "application/json"}, "body": body}


def _message_of(app: Celery, task: Any) -> dict[str, Any]:
    """Return a message of ``task`` as the broker delivers it: send one to a new queue, and get it from there at once."""
    queue = f"scratch-{uuid4().hex}"
    task.apply_async((0,), queue=queue, ignore_result=True)
    with app.connection_for_read() as connection:
        message = Queue(queue)(connection.default_channel).get(no_ack=True)
    captured = capture(message) if message else None
    if captured is None:
        raise RuntimeError("The message that was sent did not come back.")
    captured["headers"]["ignore_result"] = False
    return captured
