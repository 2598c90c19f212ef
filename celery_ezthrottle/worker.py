"""The worker's part: refuse to start on wrong settings, adopt the frugal tasks, sweep, and hold what its runs hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import click
from celery import bootsteps, signals

from .cancellation import extend_revoke
from .checks import warn_at_start
from .client import EZThrottle
from .conf import validate
from .continuation import Continuations
from .errors import ConfigurationError, StoreError
from .execution import end_of_run
from .log import logger
from .message import remember_queues
from .options import resolve
from .request import renew_leases
from .task import adopt, given_to, is_frugal

__all__ = ["Sweeper", "install"]


class Sweeper(bootsteps.StartStopStep):
    """Does in the workers what is due: submits, publishes, expires. A worker without frugal tasks has none.

    One worker at a time sweeps for all; each renews the leases of its own runs.
    """

    requires = ("celery.worker.components:Pool",)
    label = "ezthrottle"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._name = uuid4().hex
        tasks = [task for task in worker.app.tasks.values() if is_frugal(task)]
        self.enabled = bool(tasks)
        if self.enabled:
            try:
                self.continuations = Continuations.of(worker.app)
                validate(self.continuations.settings, worker.app)
                EZThrottle.from_settings(self.continuations.settings)  # refuses what no submission could be made with
                for task in tasks:
                    resolve(given_to(task), self.continuations.settings)
                warn_at_start(self.continuations, worker.app)
            except ConfigurationError as exc:
                # Celery's command line prints this and exits with 2, before anything is consumed.
                raise click.UsageError(f"celery-ezthrottle: {exc}") from exc
            remember_queues()
            extend_revoke()
        for task in tasks:
            adopt(task)

    def start(self, worker: Any) -> None:  # noqa: ARG002 -- Celery's signature
        # Threads: what is due may take as long as the service takes to answer, and neither the worker's loop nor the leases
        # must wait for that.
        settings = self.continuations.settings
        self._threads = [
            self._every(settings.sweep_interval, self._sweep, "ezthrottle-sweeper"),
            self._every(settings.lease / 3, lambda: renew_leases(self.continuations), "ezthrottle-leases"),
        ]

    def stop(self, worker: Any) -> None:  # noqa: ARG002
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5.0)
        if self._threads:
            self._threads = []
            try:
                self.continuations.store.resign(self._name)
            except StoreError as exc:
                logger.warning("Another worker sweeps only once this one's time is up: %s", exc)

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def _sweep(self) -> None:
        now, settings = time.time(), self.continuations.settings
        if self.continuations.store.lead(self._name, now, now + max(settings.lease / 2, 3 * settings.sweep_interval)):
            self.continuations.sweep()

    def _every(self, interval: float, act: Callable[[], object], name: str) -> threading.Thread:
        thread = threading.Thread(target=self._repeat, args=(interval, act), name=name, daemon=True)
        thread.start()
        return thread

    def _repeat(self, interval: float, act: Callable[[], object]) -> None:
        store_was_lost = False
        while not self._stop.wait(interval):
            try:
                act()
                store_was_lost = False
            except StoreError as exc:
                if not store_was_lost:
                    logger.error("Nothing is swept until the store is back: %s", exc)
                store_was_lost = True
            except Exception:  # noqa: BLE001 -- logged; a thread that ends would leave tasks waiting for ever
                logger.exception("%s failed; it goes on.", threading.current_thread().name)


def install() -> None:
    """Connect to Celery. Called once, when the package is imported."""
    signals.worker_init.connect(_add_sweeper, weak=False, dispatch_uid="celery_ezthrottle")
    signals.task_postrun.connect(end_of_run, weak=False, dispatch_uid="celery_ezthrottle")


def _add_sweeper(sender: Any = None, **_: Any) -> None:
    # The tasks are imported by now, and the worker has not looked at the steps yet.
    sender.app.steps["worker"].add(Sweeper)
