"""Tasks that would take each other's answers if the journals of a pool's runs were not apart."""

from __future__ import annotations

from typing import Any

from celery_ezthrottle import EZThrottleTask, frugal
from celery_ezthrottle.http.recorder import _current as recorder_of_this_context
from tests.support.http_clients import CLIENTS
from tests.support.project import app, note

__all__ = ["KINDS", "plain"]


def body(base: str, name: str, library: str = "requests") -> Any:
    """The first call is the same in every task, to the letter; its answer is not."""
    http = CLIENTS[library]
    ticket = http.post_json(f"{base}/tickets", json={"wanted": 1})["n"]
    answer = http.post_json(f"{base}/{name}", json={"wanted": 1})["path"]
    note(f"{base}/{name}", "end")
    return [ticket, answer]


def _with_httpx2(base: str, name: str) -> Any:
    return body(base, name, "httpx2")


@app.task(name="pools.plain", shared=False)
def plain(base: str, name: str) -> Any:
    note(f"{base}/{name}", "untouched" if recorder_of_this_context.get() is None else "recorded")
    return body(base, name)


KINDS: dict[str, Any] = {
    "frugal": app.task(name="pools.frugal", shared=False)(frugal(body)),
    "base": app.task(name="pools.by_base", shared=False, base=EZThrottleTask)(body),
    # Not asynchronous: gevent has one event loop for all tasks.
    "httpx2": app.task(name="pools.httpx2", shared=False)(frugal(_with_httpx2)),
}
