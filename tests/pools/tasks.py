"""Tasks that would take each other's answers if the journals of a pool's runs were not apart."""

from __future__ import annotations

from typing import Any

from celery_ezthrottle import EZThrottleTask, frugal
from celery_ezthrottle.http.recorder import _current as recorder_of_this_context
from tests.support.project import app, note, post

__all__ = ["KINDS", "plain"]


def body(base: str, name: str) -> Any:
    """The first call is the same in every task, to the letter; its answer is not."""
    ticket = post(f"{base}/tickets", json={"wanted": 1})["n"]
    answer = post(f"{base}/{name}", json={"wanted": 1})["path"]
    note(f"{base}/{name}", "end")
    return [ticket, answer]


@app.task(name="pools.plain", shared=False)
def plain(base: str, name: str) -> Any:
    note(f"{base}/{name}", "untouched" if recorder_of_this_context.get() is None else "recorded")
    return body(base, name)


KINDS: dict[str, Any] = {
    "frugal": app.task(name="pools.frugal", shared=False)(frugal(body)),
    "base": app.task(name="pools.by_base", shared=False, base=EZThrottleTask)(body),
}
