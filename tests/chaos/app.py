"""The app in a process under test: ``celery -A tests.chaos.app …``. What happens in it is written to the history."""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

from celery import signals
from celery._state import get_current_task
from kombu.message import Message

from celery_ezthrottle._common import failpoints

from .grants import note_grants
from .history import History
from .project import Settings, build, run_of
from .step_runs import note_steps
from .striker import reaching
from .zygote import children_of

__all__ = ["app"]

SETTINGS = Settings.of(os.environ)
HISTORY = History(Path(SETTINGS.history))
#: Points that are written to the history: from the first to the last, an early-acknowledged task is not on its own. The
#: other is there since who is killed between an act of the store and the next point has no time to say that it was done.
NOTED = {"suspend.stored", "resume.begin", "resume.started"}

#: Seconds that a worker which cannot go on has to end by itself.
ENDS_WITHIN = 10.0

app = build(SETTINGS, HISTORY)
note_steps(HISTORY)
note_grants(HISTORY)


def _task_id() -> str:
    task: Any = get_current_task()
    return "" if task is None else str(task.request.id or "")


def _reach(name: str) -> None:
    if name in NOTED:
        HISTORY.note("reached", point=name, task=_task_id())
    if SETTINGS.striker:
        # The role is that of this process now: this module was imported before the process was forked.
        reaching(SETTINGS.striker, os.environ.get("CHAOS_ROLE", ""), _task_id)(name)


failpoints.handler = _reach


@signals.after_task_publish.connect(weak=False)
def _sent(headers: Any = None, **_: Any) -> None:
    HISTORY.note("sent", task=headers["id"])


@signals.task_received.connect(weak=False)
def _received(request: Any = None, **_: Any) -> None:
    handoff = (request.request_dict.get("properties") or {}).get("ezthrottle") or {}
    HISTORY.note("received", task=request.id, resumed=handoff.get("resume") or "")


@signals.task_postrun.connect(weak=False)
def _left(task: Any = None, task_id: str = "", state: str | None = None, **_: Any) -> None:
    HISTORY.note("left", task=task_id, run=run_of(task), state=state or "")


@signals.worker_process_init.connect(weak=False)
def _child(**_: Any) -> None:
    HISTORY.note("up", victim="child")


@signals.worker_ready.connect(weak=False)
def _ready(**_: Any) -> None:
    HISTORY.note("up", victim=os.environ.get("CHAOS_ROLE", "worker"), state="ready")


class _Supervisor(logging.Handler):
    """Kills a worker that says that it cannot go on, and then cannot end either.

    Celery drops what it has read of a child's answer when its connection to the broker is lost; what comes next makes no sense
    to it. (``celery.concurrency.asynpool``, seen with 5.7.)
    """

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Unrecoverable error"):
            timer = threading.Timer(ENDS_WITHIN, self._kill)
            timer.daemon = True
            timer.start()

    def _kill(self) -> None:
        pids = (os.getpid(), *children_of(os.getpid()))
        HISTORY.note("struck", victim=os.environ.get("CHAOS_ROLE", "worker"), signal="SIGKILL", pids=pids)
        os.kill(os.getpid(), signal.SIGKILL)


logging.getLogger("celery.worker").addHandler(_Supervisor(logging.CRITICAL))


def _noting(act: str) -> None:
    """Write down each message that a worker gives up: only what was never given up can the broker have lost."""
    stock: Any = getattr(Message, act)

    @functools.wraps(stock)
    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        again = any(args) or kwargs.get("requeue")
        HISTORY.note("acked", task=(self.headers or {}).get("id", ""), state="requeue" if again else act)
        return stock(self, *args, **kwargs)

    setattr(Message, act, noted)


_noting("ack")
_noting("reject")
