"""The user's project that is put under fire: an app, and one payment task in several families.

``frugal.late`` and ``frugal.early`` are suspended when the upstream is at its limit; ``stock.late`` and ``stock.early`` are the
same without the plugin, retried by Celery. ``strict.*`` are frugal and have no retries: nothing of Celery's helps them.
``hasty.*`` are strict and give up soon. ``steps.*`` run the steps of a tree; what they send is named as they are.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import requests
from celery import Celery, Task

from celery_ezthrottle import StepFailed, frugal
from celery_ezthrottle.tasks.decorator import mark_frugal
from celery_ezthrottle.tasks.handoff import handoff_of
from celery_ezthrottle.workflows.task import _run_step

from .history import History

__all__ = ["FAMILIES", "STEPS", "BoundTask", "Settings", "build", "run_of"]

BoundTask: TypeAlias = "Task[Any, Any]"  # not subscriptable before Celery 5.7

#: Options of the frugal ones.
FAMILIES: dict[str, dict[str, Any]] = {
    "frugal": {}, "strict": {}, "hasty": {"submit_timeout": 1.0, "result_timeout": 3.0}, "stock": {},
}  # fmt: skip

#: Names of the tasks that run steps.
STEPS = ("steps.late", "steps.early")

RETRIES: dict[str, Any] = {
    "autoretry_for": (requests.RequestException,), "retry_backoff": True, "retry_backoff_max": 8, "max_retries": 8,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the processes are told, by CHAOS_* environment variables of these names.

    Attributes:
        upstream: URL of the payments API.
        limits: ``ezthrottle_limits`` as text; "" = none.
        limit_lease: for how long a call of a dead process counts under them.
        route: by which a limited call of the tasks is made again. Steps take the service.
        fresh_keys: a new Idempotency-Key for each attempt, as naive code has it, instead of the payment's name.
        visibility: seconds after which Redis delivers again what was not acknowledged.
        deadline: ``result_timeout`` of the tasks; ``submit_deadline`` their ``submit_timeout``.
        lease: of the plugin. It must be longer than anything stops; after five of them a message is published again.
        lost_wait: seconds from the death of a pool child to WorkerLostError.
    """

    broker: str
    redis: str
    upstream: str
    history: str
    limits: str = ""
    limit_lease: float = 120.0
    route: str = "service"
    fresh_keys: bool = False
    visibility: float = 25.0
    lease: float = 15.0
    sweep_interval: float = 0.5
    deadline: float = 150.0
    submit_deadline: float = 120.0
    lost_wait: float = 1.0
    striker: str = ""

    def environment(self) -> dict[str, str]:
        return {f"CHAOS_{name.upper()}": str(value) for name, value in vars(self).items()}

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        found: dict[str, Any] = {}
        for name, kind in cls.__annotations__.items():
            text = environment[f"CHAOS_{name.upper()}"]
            found[name] = {"bool": text == "True", "float": float(text) if kind == "float" else 0}.get(kind, text)
        return cls(**found)


def build(settings: Settings, history: History) -> Celery:
    """The app. ``history`` is where its tasks write."""
    app = Celery("chaos", broker=settings.broker, backend=settings.redis, set_as_current=False)
    of_redis = {
        "visibility_timeout": settings.visibility,
        # kombu looks once in 100 s, and for 300 s after a worker has died while it looked nobody does.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 5,
    }
    app.conf.update(
        broker_transport_options=of_redis if settings.broker.startswith("redis") else {"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry_policy={"max_retries": 30, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1},
        task_reject_on_worker_lost=True,
        task_default_queue="chaos",
        result_backend_always_retry=True,
        result_backend_max_retries=60,
        result_backend_base_sleep_between_retries_ms=100,
        result_backend_max_sleep_between_retries_ms=1000,
        worker_prefetch_multiplier=1,
        worker_lost_wait=settings.lost_wait,
        worker_proc_alive_timeout=30,
        worker_send_task_events=False,
        ezthrottle_forward_hosts=["127.0.0.1"],
        ezthrottle_route=settings.route,
        ezthrottle_limits=settings.limits,
        ezthrottle_limit_lease=settings.limit_lease,
        ezthrottle_lease=settings.lease,
        ezthrottle_sweep_interval=settings.sweep_interval,
        ezthrottle_result_timeout=settings.deadline,
        ezthrottle_submit_timeout=settings.submit_deadline,
        ezthrottle_retry_policy={"max_retries": 60},
    )
    body = _body(settings, history)
    for family, given in FAMILIES.items():
        for acks in ("late", "early"):
            options = RETRIES if family in {"frugal", "stock"} else {}
            decorate: Any = app.task
            decorate(
                name=f"{family}.{acks}",
                shared=False,
                bind=True,
                acks_late=acks == "late",
                ignore_result=False,
                **options,
            )(body if family == "stock" else frugal(**given)(body))
    for name in STEPS:
        # As the package's own task, which has one way to be acknowledged.
        run_step = app.task(name=name, shared=False, bind=True, acks_late=name == "steps.late", throws=(StepFailed,))
        run_step(mark_frugal(_run_step, {}))
    return app


def run_of(task: Any) -> str:
    """The run of a task's current request, if its function has begun."""
    return str(vars(task.request).get("chaos_run", ""))


def _resumed(task: Any) -> str:
    return str((handoff_of(task.request) or {}).get("resume") or "")


def _body(settings: Settings, history: History) -> Any:
    def pay(self: Any, *earlier: Any, order: str, calls: int, path: str, threaded: bool = False) -> str:
        run = self.request.chaos_run = uuid.uuid4().hex[:16]
        history.note("body", task=self.request.id, run=run, resumed=_resumed(self), state=str(self.request.retries))
        how = "returned"

        def pay_one(number: int) -> None:
            payment = f"{order}/{number}"
            key = uuid.uuid4().hex if settings.fresh_keys else payment
            headers = {"Idempotency-Key": key, "X-Run": run}
            response = requests.post(f"{settings.upstream}/{path}/{payment}", headers=headers, timeout=20)
            response.raise_for_status()

        try:
            if threaded:
                with ThreadPoolExecutor(calls) as pool:
                    list(pool.map(pay_one, range(calls)))
            else:
                for number in range(calls):
                    pay_one(number)
        except BaseException as exc:
            how = type(exc).__name__
            raise
        finally:
            history.note("ended", task=self.request.id, run=run, state=how)
        return order

    return pay
