"""Tasks that tell which signals and hooks they get, and one that handles secrets."""

from __future__ import annotations

from typing import Any

import requests
from celery import Task, signals

from celery_ezthrottle import EZThrottleTask, frugal

from .project import app, get, note, post

__all__ = ["ANSWER", "CANARIES", "TASKS", "handles_secrets"]

#: In the request, and in the option, of a task; the service has to know them.
CANARIES = ("canary-in-the-header", "canary-in-the-body", "canary-in-the-query", "canary-in-the-key")
#: In what the upstream answers.
ANSWER = "canary-in-the-answer"


class _Hooks:
    """Every ``on_*`` hook of a task, noted."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note(args[0], "before_start")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        note(args[0], "on_success")

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], "on_retry")

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], "on_failure", type(exc).__name__)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], "after_return", status)


class Plain(_Hooks, Task):  # type: ignore[type-arg]
    abstract = True


class ByBase(_Hooks, EZThrottleTask):
    abstract = True


@app.task(base=Plain, name="watched.frugal", shared=False)
@frugal
def watched_frugal(path: str) -> Any:
    return get(path)["path"]


@app.task(base=ByBase, name="watched.by_base", shared=False)
def watched_by_base(path: str) -> Any:
    return get(path)["path"]


TASKS: dict[str, Any] = {"frugal": watched_frugal, "base class": watched_by_base}


@app.task(name="secrets", shared=False)
@frugal(idempotency="canary-in-the-key-{path}")
def handles_secrets(path: str) -> Any:
    header, body, query, _ = CANARIES
    try:
        answer = post(path, headers={"Authorization": f"Bearer {header}"}, json={"card": body}, params={"token": query})
    except requests.HTTPError as exc:
        # Its text has the whole URL, and Celery stores and logs that: without us, too.
        raise RuntimeError(f"answered {exc.response.status_code}") from None
    return answer["path"]


def _is_watched(task: Any) -> bool:
    return bool(task.name.startswith("watched."))


@signals.task_prerun.connect
def prerun(task: Any = None, args: Any = (), **_: Any) -> None:
    if _is_watched(task):
        note(args[0], "task_prerun")


@signals.task_postrun.connect
def postrun(task: Any = None, args: Any = (), state: str | None = None, **_: Any) -> None:
    if _is_watched(task):
        note(args[0], "task_postrun", state)


@signals.task_success.connect
def success(sender: Any = None, **_: Any) -> None:
    if _is_watched(sender):
        note(sender.request.args[0], "task_success")


@signals.task_failure.connect
def failure(sender: Any = None, args: Any = (), exception: Any = None, **_: Any) -> None:
    if _is_watched(sender):
        note(args[0], "task_failure", type(exception).__name__)


@signals.task_retry.connect
@signals.task_revoked.connect
def retried_or_revoked(sender: Any = None, request: Any = None, signal: Any = None, **_: Any) -> None:
    if _is_watched(sender):
        note(request.args[0], signal.name)
