"""The judges of limits find what is over a limit or left of one, and nothing else."""

from __future__ import annotations

import pytest

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.settings.limit import Window

from .case import Evidence, Verdict
from .grants import LimitLeft
from .history import Event
from .judges import judge

CHILD = 11
LIMIT = Bucket("api", windows=(Window(2, 1.0),), concurrency=2)


def judged_limits(events: list[Event], *, leases: int = 0, waiting: int = 0) -> Verdict:
    limits = [LimitLeft(bucket=LIMIT, leases=leases, waiting=waiting)]
    return judge(
        Evidence(planned=[], events=events, ledger=[], seen={}, in_broker=frozenset(), now=200.0, limits=limits)
    )


def turn(at: float, ticket: str, when: float, *, what: str = "granted", key: str = "api", pid: int = CHILD) -> Event:
    return Event(at=at, what=what, pid=pid, run=ticket, state=f"{when:.6f}", point=f"* {key}")


def struck(at: float, pid: int) -> Event:
    return Event(at=at, what="struck", pid=1, victim="child", signal="SIGKILL", pids=(pid,))


def released(at: float, ticket: str, *, pid: int = CHILD) -> Event:
    return Event(at=at, what="released", pid=pid, run=ticket)


def test_limits_that_all_kept_have_no_faults() -> None:
    granted = [turn(1, "a", 1000.0), turn(1, "b", 1000.5), turn(2, "c", 1001.0), turn(2, "other", 1001.0, key="api/v2")]
    verdict = judged_limits([*granted, struck(3, 99), *(released(4, ticket) for ticket in ("a", "b", "c", "other"))])

    assert verdict.faults == {}
    assert verdict.killed_holding == []


@pytest.mark.parametrize(
    ("left", "faults"),
    [({"leases": 2}, {"leaked_leases": ["api", "api"]}), ({"waiting": 1}, {"left_waiting": ["api"]})],
)
def test_what_the_dead_have_left_of_a_limit(left: dict[str, int], faults: dict[str, list[str]]) -> None:
    assert judged_limits([], **left).faults == faults


def test_a_turn_too_many() -> None:
    granted = [turn(1, "a", 1000.0), turn(1, "b", 1000.5), turn(1, "c", 1000.999)]

    assert judged_limits(granted).faults == {"overruns": ["api"]}
    given_back = turn(2, "b", 1000.5, what="given back")
    assert judged_limits([*granted, given_back, turn(2, "b", 1001.1)]).faults == {}


def test_who_was_killed_while_a_call_counted() -> None:
    holding = [turn(1, "a", 1000.0), turn(1, "b", 1000.5), released(1.5, "b")]

    assert judged_limits([*holding, struck(2, CHILD)]).killed_holding == ["a"]
    assert judged_limits([*holding, struck(2, 99)]).killed_holding == []
    assert judged_limits([*holding, released(3, "a"), struck(4, CHILD)]).killed_holding == []
    assert judged_limits([turn(1, "a", 1000.0, key="learned"), struck(2, CHILD)]).killed_holding == []
    # Another process has gone on with the ticket.
    assert judged_limits([*holding, released(3, "a", pid=99), struck(4, CHILD)]).killed_holding == ["a"]
