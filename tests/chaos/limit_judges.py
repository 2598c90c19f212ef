"""The judges of limits. Pure. :mod:`.judges` says what the words mean."""

from __future__ import annotations

from collections.abc import Iterator

from tests.limits.over import overruns

from .case import Case, Verdict

__all__ = ["judge_limits"]


def judge_limits(case: Case, verdict: Verdict) -> None:
    for limit in case.evidence.limits:
        key = limit.bucket.key
        verdict.leaked_leases += [key] * limit.leases
        verdict.left_waiting += [key] * limit.waiting
        verdict.overruns += [key] * overruns(limit.bucket, list(_grants(case, key)))
    verdict.killed_holding = sorted(_killed_holding(case))


def _grants(case: Case, key: str) -> Iterator[float]:
    """The times of the turns that were taken and not given back."""
    back = {(event.run, event.state) for event in case.evidence.events if event.what == "given back"}
    for event in case.evidence.events:
        if event.what == "granted" and key in event.point.split() and (event.run, event.state) not in back:
            yield float(event.state)


def _killed_holding(case: Case) -> set[str]:
    """Tickets whose calls counted for a concurrency, and had not ended when their process was killed."""
    keys = {limit.bucket.key for limit in case.evidence.limits if limit.bucket.concurrency}
    released = {(event.pid, event.run) for event in case.evidence.events if event.what == "released"}
    return {
        event.run
        for event in case.evidence.events
        if event.what == "granted"
        and keys.intersection(event.point.split())
        and (event.pid, event.run) not in released
        and case.killed(event.pid, event.at)
    }
