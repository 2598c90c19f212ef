"""The bootstep of a worker that looks after batches."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import click
from celery import bootsteps

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.batches.releasing import Batches
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.settings.load import is_configured, load_settings
from celery_ezthrottle.tasks.decorator import is_frugal

__all__ = ["BatchStep"]

#: Seconds. An error of the store is logged only when the error before it is older than this.
SAID_AGAIN = 60.0
#: Where the project of a worker has batches, it has loaded this.
_PUBLIC = "celery_ezthrottle.batches.batch"


class BatchStep(bootsteps.StartStopStep):
    """Releases members that others have left: see :meth:`Batches.look`. Each worker looks; the store lets one at a time.

    It is enabled in a worker with frugal tasks, with settings of this package, or whose modules use ``Batch``.
    """

    requires = ("celery.worker.components:Pool",)
    label = "ezthrottle-batches"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        app = worker.app
        self.enabled = _PUBLIC in sys.modules or is_configured(app) or any(map(is_frugal, app.tasks.values()))
        if self.enabled:
            try:
                self.enabled = bool(load_settings(app).store)
            except ConfigurationError as exc:
                raise click.UsageError(f"celery-ezthrottle: {exc}") from exc

    def start(self, worker: Any) -> None:
        self._thread = threading.Thread(
            target=self._keep_looking, args=(worker.app,), name="ezthrottle-batches", daemon=True
        )
        self._thread.start()

    def stop(self, worker: Any) -> None:  # noqa: ARG002 -- Celery's signature
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def _keep_looking(self, app: Any) -> None:
        batches, said_at = Batches.of(app), 0.0
        while not self._stop.wait(batches.settings.sweep_interval):
            try:
                batches.look()
            except StoreError as exc:
                if time.time() > said_at + SAID_AGAIN:
                    logger.error("Nobody looks after batches until the store is back: %s", exc)
                    said_at = time.time()
            except Exception:  # noqa: BLE001 -- logged; if the thread ended, batches would wait for ever
                logger.exception("The look at batches failed; it goes on.")
