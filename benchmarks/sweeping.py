"""Measure the cost of a pass of the sweeper: with and without due continuations, and with few and many waiting tasks.

Each number of waiting tasks has its own store in the same server. The passes over the stores take turns.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from uuid import uuid4

from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.continuations.sweep import sweep
from celery_ezthrottle.store.records import StartOutcome

from .laboratory import Laboratory
from .parking import Parking, result_of
from .project import app, charge
from .report import Report

__all__ = ["measure_sweeps"]

QUEUE = "swept"
#: Numbers of due continuations in a pass.
DUE = (10, 100)


def measure_sweeps(
    laboratory: Laboratory, report: Report, stores: Mapping[int, Continuations], *, passes: int, due_passes: int
) -> None:
    """Measure and report ``sweep_us_idle_<waiting>`` and ``sweep_us_due_<due>_waiting_<waiting>``, in microseconds.

    Args:
        stores: continuations by the number of tasks that wait in their store. Nobody else may sweep these stores.
        passes: number of measured passes with nothing due.
        due_passes: number of measured passes for each number of due continuations.
    """
    idle: defaultdict[int, list[float]] = defaultdict(list)
    for number in range(passes + 1):
        for waiting, continuations in stores.items():
            took = _time_pass(continuations, expect=0)
            if number:  # skip the first pass, which makes connections
                idle[waiting].append(took)
    report.say(f"A pass of the sweeper, medians of {passes}:")
    for waiting, took_all in idle.items():
        median = statistics.median(took_all)
        report.put(f"  {waiting} waiting, nothing due: {median:.0f} µs", **{f"sweep_us_idle_{waiting}": median})
    for due in DUE:
        took_due: defaultdict[int, list[float]] = defaultdict(list)
        for _ in range(due_passes):
            for waiting, continuations in stores.items():
                took_due[waiting].append(_time_due(laboratory, continuations, due))
        for waiting, took_all in took_due.items():
            median = statistics.median(took_all)
            report.put(
                f"  {waiting} waiting, {due} due to be published: {median:.0f} µs, {median / due:.0f} µs each",
                **{f"sweep_us_due_{due}_waiting_{waiting}": median},
            )


def _time_due(laboratory: Laboratory, continuations: Continuations, due: int) -> float:
    """Time a pass over ``due`` continuations that wait to be published, in microseconds.

    Adds tasks whose results were delivered and whose publisher has died, sweeps, and removes the tasks again.
    """
    store = continuations.store
    parking = Parking(app, continuations.settings, store, charge, QUEUE)
    added = [parking.park(order_id) for order_id in range(due)]
    for waiting in added:
        now = time.time()
        store.deliver(waiting.id, waiting.job_id, result_of(waiting), now, now)
    took = _time_pass(continuations, expect=due)
    for waiting in added:
        run = uuid4().hex
        started = store.start(waiting.id, run, time.time(), lease=None)
        if started.outcome is not StartOutcome.STARTED or not store.finish(waiting.id, run, keep_journal=False):
            raise RuntimeError("A published task could not be resumed.")
    laboratory.broker.delete(QUEUE)
    return took


def _time_pass(continuations: Continuations, *, expect: int) -> float:
    began = time.perf_counter()
    acted = sweep(continuations)
    took = (time.perf_counter() - began) * 1e6
    if acted != expect:
        raise RuntimeError(f"A pass acted on {acted} continuations where {expect} were due.")
    return took
