"""The judges find the faults that are planted in a made-up history, and nothing in a clean one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from .case import Evidence, Verdict
from .history import Event, History, read_history
from .judges import judge
from .ledger import Entry, Ledger, read_ledger
from .load import CHAIN, CHORD, plan
from .planned import Planned
from .trees import SHAPES
from .upstream import fate_of
from .watch import Seen

WORKER, CHILD = 10, 11
TASK = Planned("order", "plain", late=True)
EARLY = replace(TASK, late=False)


def event(at: float, what: str, *, pid: int = CHILD, **fields: Any) -> Event:
    return Event(at=at, what=what, pid=pid, task=fields.pop("task", TASK.id), **fields)


def blow(at: float, *pids: int, victim: str = "child", signal: str = "SIGKILL") -> Event:
    return Event(at=at, what="struck", pid=1, victim=victim, signal=signal, pids=pids)


def paid(at: float, what: str = "executed", *, key: str = "order/0", run: str = "first", **fields: Any) -> Entry:
    given = {"payment": "order/0", "status": 200, "direct": False, **fields}
    return Entry(at=at, what=what, key=key, run=run, **given)


SUSPENDED = [
    event(1, "sent", pid=1),
    event(2, "received", pid=WORKER),
    event(3, "body", run="first"),
    event(4, "ended", run="first", state="HTTPError"),
    event(5, "reached", point="suspend.stored"),
    event(6, "left", run="first", state="IGNORED"),
    event(7, "acked", pid=WORKER, state="ack"),
]
RESUMED = [
    event(10, "received", pid=WORKER, resumed="c"),
    event(11, "reached", point="resume.started"),
    event(12, "body", run="second", resumed="c"),
    event(13, "ended", run="second", state="returned"),
    event(14, "left", run="second", state="SUCCESS"),
    event(15, "acked", pid=WORKER, state="ack"),
]
AGAIN = [
    event(22, "body", run="third", resumed="c", pid=12),
    event(23, "ended", run="third", state="returned", pid=12),
    event(24, "left", run="third", state="SUCCESS", pid=12),
]


def judged(
    events: list[Event], ledger: list[Entry], state: str, planned: tuple[Planned, ...] = (TASK,), **fields: Any
) -> Verdict:
    seen = {} if state == "PENDING" else {TASK.id: Seen(state, deadline=100.0)}
    evidence = {"in_broker": frozenset[str](), "now": 200.0, "seen": seen, **fields}
    return judge(Evidence(planned=planned, events=events, ledger=ledger, **evidence))


def test_a_clean_history_has_no_faults() -> None:
    verdict = judged(SUSPENDED + RESUMED, [paid(9)], "SUCCESS")

    assert verdict.finished == [TASK.id]
    assert verdict.faults == {}
    assert (verdict.forwarded, verdict.resumed, verdict.raw_repeats) == (1, 1, [])


@pytest.mark.parametrize(
    ("events", "ledger", "state"),
    [
        pytest.param(SUSPENDED[:2], [], "PENDING", id="received, and nothing more"),
        pytest.param(SUSPENDED + RESUMED, [], "SUCCESS", id="a success without its payment"),
        pytest.param(SUSPENDED + RESUMED[:2], [paid(9)], "SUCCESS", id="a success whose function never returned"),
        pytest.param([*SUSPENDED[:3], blow(3.5, CHILD)], [], "PENDING", id="killed, acknowledged late"),
        pytest.param([*SUSPENDED[:1], blow(2, WORKER, victim="worker0"), SUSPENDED[-1]], [], "PENDING", id="given up"),
        pytest.param([], [], "PENDING", id="never sent"),
    ],
)
def test_a_lost_task(events: list[Event], ledger: list[Entry], state: str) -> None:
    assert judged(events, ledger, state).faults == {"lost": [TASK.id]}


def test_a_broken_chain() -> None:
    after = Planned("after", "chain", late=True, needs=(TASK.id,))

    verdict = judged(SUSPENDED + RESUMED, [paid(9)], "SUCCESS", (TASK, after))

    assert verdict.faults == {"lost": ["after"]}


def test_what_follows_a_failure_is_skipped() -> None:
    after = Planned("after", "chain", late=True, needs=(TASK.id,))

    verdict = judged(SUSPENDED + RESUMED, [], "FAILURE", (TASK, after))

    assert (verdict.failed_visibly, verdict.skipped, verdict.faults) == ([TASK.id], ["after"], {})


def test_a_task_that_is_stuck() -> None:
    assert judged(SUSPENDED, [], "FORWARDED").faults == {"stuck": [TASK.id]}
    assert judged(SUSPENDED, [], "FORWARDED", now=99.0).faults == {"lost": [TASK.id]}


def test_early_acknowledgement_excuses_a_kill_where_stock_celery_loses_a_task_too() -> None:
    begun = [*SUSPENDED[:2], event(2.5, "acked", pid=WORKER, state="ack")]

    for events in (
        [*begun, SUSPENDED[2], blow(3.5, CHILD)],
        [*begun, blow(2.6, WORKER, CHILD, victim="worker0")],
        [*SUSPENDED, *RESUMED[:3], blow(12.5, CHILD)],
        [*SUSPENDED, *RESUMED[:2], blow(11.5, CHILD)],
    ):
        state = "FORWARDED" if events[-1].at > 5 else "PENDING"
        verdict = judged(events, [], state, (EARLY,))
        assert (verdict.lost_as_stock, verdict.faults) == ([TASK.id], {})


def test_a_copy_that_was_refused_does_not_hide_who_died() -> None:
    begun = [*SUSPENDED, event(10, "acked", pid=WORKER, state="ack"), event(10.1, "reached", point="resume.begin")]
    copy = [event(20, "acked", pid=20), event(20.1, "reached", pid=21, point="resume.begin")]
    refused = [*copy, event(20.2, "left", pid=21, state="IGNORED")]

    verdict = judged([*begun, blow(10.2, CHILD), *refused], [], "FORWARDED", (EARLY,))
    assert (verdict.lost_as_stock, verdict.faults) == ([TASK.id], {})
    assert judged([*begun, *refused, blow(21, 99)], [], "FORWARDED", (EARLY,)).faults == {"stuck": [TASK.id]}


def test_nothing_excuses_the_loss_of_a_suspended_task() -> None:
    events = [*SUSPENDED, blow(8, CHILD), blow(8.1, WORKER, CHILD, victim="worker0")]

    assert judged(events, [], "FORWARDED", (EARLY,)).faults == {"stuck": [TASK.id]}


def test_no_kill_no_excuse() -> None:
    begun = [*SUSPENDED[:3], event(3.1, "acked", pid=WORKER, state="ack")]

    assert judged([*begun, blow(3.5, 99)], [], "PENDING", (EARLY,)).faults == {"lost": [TASK.id]}
    assert judged([*begun, blow(2.4, CHILD)], [], "PENDING", (EARLY,)).faults == {"lost": [TASK.id]}
    assert judged([*begun, blow(3.5, CHILD, signal="SIGSTOP")], [], "PENDING", (EARLY,)).faults == {"lost": [TASK.id]}


def test_a_message_that_the_broker_lost() -> None:
    cut = blow(2, victim="connections to broker", signal="cut")

    assert judged([SUSPENDED[0], cut], [], "PENDING").lost_by_broker == [TASK.id]
    assert judged([SUSPENDED[0]], [], "PENDING").faults == {"lost": [TASK.id]}
    assert judged([SUSPENDED[0], cut], [], "PENDING", in_broker={TASK.id}).faults == {"lost": [TASK.id]}


def test_a_duplicate_resume() -> None:
    assert judged(SUSPENDED + RESUMED + AGAIN, [paid(9)], "SUCCESS").faults == {"duplicate_resumes": ["c"]}


@pytest.mark.parametrize("parks", [False, True])
def test_a_run_that_is_ignored_may_be_taken_over_unless_it_has_suspended_its_task(parks: bool) -> None:
    given_up = [*RESUMED[:4], event(14, "left", run="second", state="IGNORED"), RESUMED[5]]
    events = SUSPENDED + given_up + [event(13.5, "reached", point="suspend.stored")] * parks + AGAIN
    faults = {"duplicate_resumes": ["c"]} if parks else {}
    assert judged(events, [paid(9)], "SUCCESS").faults == faults


def test_a_resume_after_a_kill_is_none() -> None:
    events = [*SUSPENDED, *RESUMED[:3], blow(12.5, CHILD), *AGAIN]

    assert judged(events, [paid(9)], "SUCCESS").faults == {}


def test_a_kill_after_the_end_is_no_excuse_for_a_second_resume() -> None:
    events = [*SUSPENDED, *RESUMED, blow(20, CHILD), *AGAIN]

    assert judged(events, [paid(9)], "SUCCESS").faults == {"duplicate_resumes": ["c"]}


def test_a_final_state_that_was_not() -> None:
    assert judged(SUSPENDED + RESUMED, [paid(9)], "SUCCESS", changed={TASK.id}).faults == {"contradictions": [TASK.id]}
    never_suspended = [event for event in SUSPENDED + RESUMED if event.what != "reached"]
    assert judged(never_suspended, [paid(9)], "SUCCESS", changed={TASK.id}).faults == {}


def test_the_final_state_of_a_copy_and_of_the_rest_of_its_chain_is_celerys() -> None:
    after = Planned("after", "chain", late=True, needs=(TASK.id,))
    done = [
        replace(each, task=after.id, run=f"{each.run} after", resumed=each.resumed and "d")
        for each in SUSPENDED + RESUMED
    ]
    ledger = [paid(9), paid(9.5, key="after/0", payment="after/0", run="first after")]
    seen = {task: Seen("SUCCESS") for task in (TASK.id, after.id)}
    given: dict[str, Any] = {"seen": seen, "changed": {after.id}}

    once = judged(SUSPENDED + RESUMED + done, ledger, "SUCCESS", (TASK, after), **given)
    assert once.faults == {"contradictions": [after.id]}
    assert judged([SUSPENDED[0], *SUSPENDED, *RESUMED, *done], ledger, "SUCCESS", (TASK, after), **given).faults == {}


def test_a_duplicate_execution() -> None:
    ledger = [paid(9), paid(9.5, key="another")]

    assert judged(SUSPENDED + RESUMED, ledger, "SUCCESS").faults == {"duplicate_executions": ["order/0"]}


def test_a_repeat_that_the_upstream_has_absorbed() -> None:
    verdict = judged(SUSPENDED + RESUMED, [paid(8, status=0), paid(9, "repeated")], "SUCCESS")

    assert (verdict.raw_repeats, verdict.faults) == (["order/0"], {})


def test_a_repeat_of_an_answered_call() -> None:
    ledger = [paid(9), paid(12.5, "repeated", run="second", direct=True)]

    verdict = judged(SUSPENDED + RESUMED, ledger, "SUCCESS")
    assert verdict.faults == {"answered_repeats": ["order/0"]}

    sent_twice = [SUSPENDED[0], *SUSPENDED, *RESUMED]
    verdict = judged(sent_twice, ledger, "SUCCESS")
    assert (verdict.copies, verdict.faults) == (["order/0"], {})

    # Its sender was killed before it could write that down. A message that comes again was not acknowledged.
    copy = [event(8, "received", pid=WORKER), event(8.5, "acked", pid=WORKER, state="ack")]
    assert judged([*SUSPENDED, *copy, *RESUMED], ledger, "SUCCESS").copies == ["order/0"]
    again = [*SUSPENDED[:-1], event(6.5, "acked", pid=WORKER, state="requeue"), *copy, *RESUMED]
    assert judged(again, ledger, "SUCCESS").faults == {"answered_repeats": ["order/0"]}


@pytest.mark.parametrize("left", ["SUCCESS", "IGNORED"])
def test_another_run_of_the_message_of_the_suspended_one_keeps_nothing_for_it(left: str) -> None:
    """Nor does one that would suspend the task too, and is refused."""
    beside = [event(3.5, "body", run="beside", pid=12), event(5.5, "left", run="beside", state=left, pid=12)]
    of_beside = [paid(4.5, run="beside", direct=True), paid(12.5, "repeated", run="second", direct=True)]
    verdict = judged([*SUSPENDED, *beside, *RESUMED], of_beside, "SUCCESS")
    assert (verdict.copies, verdict.faults) == (["order/0"], {})

    of_first = [paid(3.5, run="first", direct=True), of_beside[1]]
    assert judged([*SUSPENDED, *beside, *RESUMED], of_first, "SUCCESS").faults == {"answered_repeats": ["order/0"]}
    # Its worker was killed after the end, and before it could acknowledge.
    before = [event(2.2, "body", run="beside", pid=12), event(2.4, "left", run="beside", state="SUCCESS", pid=12)]
    of_before = [paid(2.3, run="beside", direct=True), of_beside[1]]
    assert judged([*before, *SUSPENDED, *RESUMED], of_before, "SUCCESS").faults == {}

    later = [event(8.5, "body", run="beside", pid=12), event(9.5, "left", run="beside", state="SUCCESS", pid=12)]
    of_beside[0] = paid(9, run="beside", direct=True)
    assert judged([*SUSPENDED, *later, *RESUMED], of_beside, "SUCCESS").faults == {"answered_repeats": ["order/0"]}


def test_a_resumed_run_that_takes_over_repeats_nothing_that_its_predecessor_kept() -> None:
    events = [*SUSPENDED, *RESUMED[:4], blow(13.5, CHILD), *AGAIN]
    ledger = [paid(12.5, run="second", direct=True), paid(22.5, "repeated", run="third", direct=True)]

    assert judged(events, ledger, "SUCCESS").faults == {"answered_repeats": ["order/0"]}
    early = judged(events, ledger, "SUCCESS", (EARLY,))
    assert (early.raw_repeats, early.faults) == (["order/0"], {})


def test_history_and_ledger_are_read_as_they_were_written(tmp_path: Any) -> None:
    history, ledger = History(tmp_path / "history"), Ledger(tmp_path / "ledger")
    noted = [history.note("body", task="order", run="a"), history.note("struck", victim="redis", pids=(1, 2))]
    requests = [
        ledger.request("p", "k", "a", direct=True, refuse=429, silent=False),
        ledger.request("p", "k", "a", direct=False, refuse=None, silent=True),
        ledger.request("p", "k", "a", direct=False, refuse=None, silent=False),
    ]
    with history.path.open("a") as torn:
        torn.write('{"at": 1')
    history.close()
    ledger.close()

    assert list(read_history(tmp_path / "history")) == noted
    assert list(read_ledger(tmp_path / "ledger")) == requests
    assert [(entry.what, entry.status) for entry in requests] == [("refused", 429), ("executed", 0), ("repeated", 200)]


def test_the_load_is_what_was_asked_for() -> None:
    units = plan(1000, 7)
    tasks = [planned for unit in units for planned in unit if not planned.is_spare]
    kinds = Counter(planned.kind for planned in tasks)

    assert len({planned.id for planned in tasks}) == 1000
    assert kinds == {"chain": 500, "chord": 100, "tree": 100, "plain": 300}
    assert {len(unit) for unit in units if unit[0].step is None} == {1, CHAIN, CHORD}
    assert {planned.step.shape for planned in tasks if planned.step} == set(SHAPES)
    assert 400 < sum(planned.late for planned in tasks) < 600
    assert plan(1000, 7) == units
    assert plan(1000, 8) != units
    assert Counter(unit[0].kind for unit in plan(1000, 7, trees=False))["plain"] == 400
    fates = [fate_of(payment, 7) for planned in tasks for payment in planned.payments]
    assert {(429,), (503, 503), (0,), (-1,), ()} == set(fates)
