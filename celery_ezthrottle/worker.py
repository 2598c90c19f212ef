"""The worker's part: refuse to start on wrong settings, adopt the frugal tasks, and sweep."""

from __future__ import annotations

import threading
from typing import Any

import click
from celery import bootsteps, signals

from .conf import validate
from .continuation import Continuations
from .errors import ConfigurationError, StoreError
from .execution import end_of_run
from .log import logger
from .message import remember_queues
from .options import resolve
from .task import adopt, given_to, is_frugal

__all__ = ["Sweeper", "install"]


class Sweeper(bootsteps.StartStopStep):
    """Does in each worker what is due: submits, publishes, expires. A worker without frugal tasks has none."""

    requires = ("celery.worker.components:Pool",)
    label = "ezthrottle"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        tasks = [task for task in worker.app.tasks.values() if is_frugal(task)]
        self.enabled = bool(tasks)
        if self.enabled:
            try:
                self.continuations = Continuations.of(worker.app)
                validate(self.continuations.settings, worker.app)
                for task in tasks:
                    resolve(given_to(task), self.continuations.settings)
            except ConfigurationError as exc:
                # Celery's command line prints this and exits with 2, before anything is consumed.
                raise click.UsageError(f"celery-ezthrottle: {exc}") from exc
            remember_queues()
        for task in tasks:
            adopt(task)

    def start(self, worker: Any) -> None:  # noqa: ARG002 -- Celery's signature
        # A thread: what is due may take as long as the service takes to answer, and the worker's loop must not wait.
        self._thread = threading.Thread(target=self._run, name="ezthrottle-sweeper", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:  # noqa: ARG002
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def _run(self) -> None:
        store_was_lost = False
        while not self._stop.wait(self.continuations.settings.sweep_interval):
            try:
                self.continuations.sweep()
                store_was_lost = False
            except StoreError as exc:
                if not store_was_lost:
                    logger.error("Nothing is swept until the store is back: %s", exc)
                store_was_lost = True


def install() -> None:
    """Connect to Celery. Called once, when the package is imported."""
    signals.worker_init.connect(_add_sweeper, weak=False, dispatch_uid="celery_ezthrottle")
    signals.task_postrun.connect(end_of_run, weak=False, dispatch_uid="celery_ezthrottle")


def _add_sweeper(sender: Any = None, **_: Any) -> None:
    # The tasks are imported by now, and the worker has not looked at the steps yet.
    sender.app.steps["worker"].add(Sweeper)
