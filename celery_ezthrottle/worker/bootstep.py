"""The bootstep of the worker: refuse to start with wrong settings, adopt the frugal tasks, sweep, and renew leases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import click
from celery import bootsteps

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.broker.parked_message import remember_queues
from celery_ezthrottle.checks.runtime import warn_at_start
from celery_ezthrottle.checks.setup import NO_SERVICE
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.continuations.sweep import sweep
from celery_ezthrottle.continuations.turns import take_turns
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.settings.load import is_configured
from celery_ezthrottle.settings.options import resolve
from celery_ezthrottle.settings.validate import needs_service, validate
from celery_ezthrottle.tasks.adopt import adopt
from celery_ezthrottle.tasks.decorator import given_to, is_frugal
from celery_ezthrottle.tasks.worker_request import renew_leases

from .revoke_commands import extend_revoke

__all__ = ["EZThrottleStep"]

T = TypeVar("T")

#: Seconds. An error of the store is logged only when the error before it is older than this.
SAID_AGAIN = 60.0
#: Seconds after which the worker that sweeps looks for new turns. A turn that is further away than this is met exactly.
LOOK = 0.25


class EZThrottleStep(bootsteps.StartStopStep):
    """Sweeps and renews leases in a worker. The step is not enabled in a worker without frugal tasks.

    A sweep submits, publishes and expires what is due. One worker at a time sweeps for all workers. Each worker renews the
    leases of its own runs.
    """

    requires = ("celery.worker.components:Pool",)
    label = "ezthrottle"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._name = uuid4().hex
        self._store_was_lost_at = 0.0
        self._leads_until = 0.0
        _register_steps(worker.app)
        tasks = [task for task in worker.app.tasks.values() if is_frugal(task)]
        self.enabled = bool(tasks)
        if self.enabled:
            try:
                self.continuations = Continuations.of(worker.app)
                settings = self.continuations.settings
                routes = [resolve(given_to(task), settings).route for task in tasks]
                validate(settings, worker.app, routes=routes)
                if needs_service(settings, routes):
                    ServiceClient.from_settings(settings)  # raises when the client cannot be made
                elif not settings.has_service:
                    logger.info(NO_SERVICE)
                warn_at_start(self.continuations, worker.app)
            except ConfigurationError as exc:
                # Celery's command line prints this and exits with 2, before anything is consumed.
                raise click.UsageError(f"celery-ezthrottle: {exc}") from exc
            remember_queues()
            extend_revoke()
        for task in tasks:
            adopt(task)

    def start(self, worker: Any) -> None:  # noqa: ARG002 -- Celery's signature
        # A sweep may have to wait for the service. Neither the worker's event loop, nor the turns, nor the renewal of leases may
        # wait for that.
        acts = {
            "ezthrottle-sweeper": self._keep_sweeping,
            "ezthrottle-turns": self._keep_taking_turns,
            "ezthrottle-leases": self._keep_leases,
        }
        for name, act in acts.items():
            thread = threading.Thread(target=act, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, worker: Any) -> None:  # noqa: ARG002
        self._stop.set()
        if self._threads:
            for thread in self._threads[:2]:
                thread.join(timeout=5.0)
            self._threads.clear()  # the thread for leases goes on until the runs have ended
            try:
                self.continuations.store.resign(self._name)
            except StoreError as exc:
                logger.warning("Another worker sweeps only once this one's time is up: %s", exc)

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def _sweep(self) -> None:
        now, settings = time.time(), self.continuations.settings
        if now < self._store_was_lost_at + settings.lease / 2:
            return  # during the outage no lease was renewed; wait, so that live runs are not taken for dead
        until = now + max(settings.lease / 2, 3 * settings.sweep_interval)
        if self.continuations.store.lead(self._name, now, until):
            self._leads_until = until
            sweep(self.continuations)

    def _keep_sweeping(self) -> None:
        while not self._stop.wait(self.continuations.settings.sweep_interval):
            self._try(self._sweep, "Nothing is swept")

    def _keep_taking_turns(self) -> None:
        """Resume tasks at their turns, as long as this worker sweeps."""
        wait = LOOK
        while not self._stop.wait(wait):
            following, now = None, time.time()
            if now < self._leads_until:
                following = self._try(lambda: take_turns(self.continuations), "No turn is taken")
            wait = LOOK if following is None else min(LOOK, max(0.0, following - time.time()))

    def _keep_leases(self) -> None:
        lease, pause = self.continuations.settings.lease, self._stop
        held: int | None = 0
        while True:
            if pause.wait(lease / 30 if held is None else lease / 3):
                pause = threading.Event()  # during a warm shutdown, go on for the runs that still execute
            held = self._try(lambda: renew_leases(self.continuations), "Leases are not renewed")
            if self._stop.is_set() and held == 0:
                return

    def _try(self, act: Callable[[], T], without: str) -> T | None:
        try:
            return act()
        except StoreError as exc:
            now = time.time()
            if now > self._store_was_lost_at + SAID_AGAIN:
                logger.error("%s until the store is back: %s", without, exc)
            self._store_was_lost_at = now
        except Exception:  # noqa: BLE001 -- logged; if the thread ended, tasks would wait for ever
            logger.exception("%s failed; it goes on.", threading.current_thread().name)
        return None


def _register_steps(app: Any) -> None:
    """Register the task that runs steps: another process may send steps, and the modules of this worker need not name any.

    Not in a worker that has nothing to do with this package: it has no settings of it, and no frugal task.
    """
    if any(map(is_frugal, app.tasks.values())) or is_configured(app):
        from celery_ezthrottle.workflows import task

        app.tasks.setdefault(task.TASK_NAME, task.run_step)
