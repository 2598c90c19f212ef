"""The judges of steps find the faults that are planted in a made-up history of a tree, and nothing in a clean one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from celery_ezthrottle.steps.plan import plan as plan_steps
from celery_ezthrottle.steps.spec import children_first

from .case import Evidence, Verdict
from .history import Event
from .judges import judge
from .ledger import Entry
from .load import tree
from .planned import Planned, Unit
from .trees import SHAPES, frugal, performance, plan_tree, spec_of, steps_of
from .watch import Seen

GATEWAY, CHILD = 5, 11

#: A frugal step with two fallbacks, what follows it in its job, and what follows only a failure.
ROOT, AFTER, SPARE = plan_tree(
    frugal(fallbacks=((frugal(), ()), (performance(), ())), on_success=performance(by="service"), on_failure=frugal()),
    "t",
    "made up",
    late=True,
    key="own",
)
FAILED = Seen("FAILURE", error="StepFailed: HTTP 402")


def event(at: float, what: str, task: Planned = ROOT, **fields: Any) -> Event:
    return Event(at=at, what=what, pid=fields.pop("pid", CHILD), task=task.id, **fields)


def blow(at: float, pid: int, victim: str = "child") -> Event:
    return Event(at=at, what="struck", pid=1, victim=victim, signal="SIGKILL", pids=(pid,))


def run(
    at: float, name: str, task: Planned = ROOT, *, how: str = "returned", left: str = "SUCCESS", **fields: Any
) -> list[Event]:
    """A run: it begins, its function ends 1 s later, and 2 s later Celery is through with it."""
    given = {name: fields.pop(name) for name in ("resumed", "state") if name in fields}
    return [
        event(at, "body", task, run=name, **given, **fields),
        event(at + 1, "ended", task, run=name, state=how, **fields),
        event(at + 2, "left", task, run=name, state=left, **fields),
    ]


def paid(at: float, payment: str, what: str = "executed", *, by: str = "", status: int = 200) -> Entry:
    """By the run of that name, or by the service."""
    return Entry(at=at, payment=payment, key=payment, what=what, status=status, run=by, direct=bool(by))


SENT = event(1, "sent")
SUSPENDED = [*run(3, "first", how="Suspended", left="IGNORED"), event(3.5, "reached", point="suspend.stored")]
RESUMED = run(10, "second", resumed="c")
CLEAN = [SENT, *SUSPENDED, *RESUMED]
LIMITED = paid(3.2, "t/0", "refused", by="first", status=429)
#: Its own request, then what follows it.
PAID = [LIMITED, paid(8, "t/0"), paid(9, "t/3")]


def judged(events: list[Event], ledger: list[Entry], unit: Unit = (ROOT, AFTER, SPARE), **seen: Seen) -> Verdict:
    """``seen``: of the tasks by the names of these constants."""
    ids = {"root": ROOT.id, "after": AFTER.id, "spare": SPARE.id}
    found = {ids[name]: state for name, state in {"root": Seen("SUCCESS"), **seen}.items()}
    return judge(Evidence(planned=unit, events=events, ledger=ledger, seen=found, in_broker=set(), now=200.0))


def test_a_clean_tree_has_no_faults() -> None:
    verdict = judged(CLEAN, PAID)

    assert (verdict.finished, verdict.faults) == ([ROOT.id, AFTER.id], {})
    assert (verdict.forwarded, verdict.resumed, verdict.raw_repeats) == (1, 1, [])


@pytest.mark.parametrize(
    ("ledger", "lost"),
    [
        pytest.param(PAID[:2], AFTER, id="what follows was not executed"),
        pytest.param([LIMITED, PAID[2]], ROOT, id="the step itself was not"),
    ],
)
def test_a_step_that_is_not_executed_is_lost(ledger: list[Entry], lost: Planned) -> None:
    assert judged(CLEAN, ledger).faults == {"lost": [lost.id]}


def test_a_step_whose_function_never_ended_is_lost() -> None:
    assert judged([SENT, *SUSPENDED, RESUMED[0]], PAID).faults == {"lost": [ROOT.id]}


def test_one_of_its_paths_is_enough() -> None:
    assert judged(CLEAN, [LIMITED, paid(8, "t/2"), PAID[2]]).faults == {}


def test_what_follows_a_step_that_was_lost_with_its_worker_is_skipped() -> None:
    early = tuple(replace(planned, late=False) for planned in (ROOT, AFTER, SPARE))

    verdict = judged([SENT, event(3, "body", run="first"), blow(3.5, CHILD)], [], early, root=Seen("PENDING"))

    assert (verdict.lost_as_stock, verdict.skipped, verdict.faults) == ([ROOT.id], [AFTER.id], {})


def test_a_step_that_fails_visibly_must_be_followed_by_its_on_failure() -> None:
    failed = [SENT, *run(3, "first", how="StepFailed", left="FAILURE")]

    verdict = judged(failed, [LIMITED], root=FAILED)
    assert (verdict.failed_visibly, verdict.skipped, verdict.faults) == ([ROOT.id], [AFTER.id], {"lost": [SPARE.id]})

    followed = [*failed, *run(6, "spare", SPARE)]
    verdict = judged(followed, [LIMITED, paid(6.5, "t/4", by="spare")], root=FAILED, spare=Seen("SUCCESS"))
    assert verdict.faults == {}

    # It was lost with its process, and that is not a failure of the step.
    assert judged(failed[:2], [LIMITED], root=Seen("FAILURE", error="WorkerLostError: it died")).faults == {}


def test_a_step_that_succeeds_though_it_is_to_fail_is_lost() -> None:
    (declined, after) = plan_tree(frugal("declined", on_failure=frugal()), ROOT.id, "made up", late=True, key="own")
    done = [SENT, *run(3, "first"), *run(6, "after", after)]
    ledger = [paid(3.5, "t/0", "refused", by="first", status=402), paid(6.5, "t/1", by="after")]
    seen = {ROOT.id: Seen("SUCCESS"), after.id: Seen("SUCCESS")}

    def faults(**changed: Any) -> dict[str, list[str]]:
        given: dict[str, Any] = {"events": done, "ledger": ledger, "seen": seen, "in_broker": set(), "now": 200.0}
        return judge(Evidence(planned=(declined, after), **given | changed)).faults

    assert faults() == {"lost": [ROOT.id], "contradictions": [after.id]}
    failed = [SENT, *run(3, "first", how="StepFailed", left="FAILURE"), *run(6, "after", after)]
    assert faults(events=failed, seen={**seen, ROOT.id: FAILED}) == {}


def test_another_run_of_the_message_of_the_suspended_one_knows_nothing_of_it() -> None:
    beside = run(3.1, "beside", pid=12)
    events = [SENT, SUSPENDED[0], *beside, *SUSPENDED[1:], *RESUMED]
    by_beside, by_the_service = paid(3.3, "t/0", by="beside"), paid(8, "t/0", "repeated")
    verdict = judged(events, [LIMITED, by_beside, by_the_service, PAID[2]])
    assert (verdict.copies, verdict.faults) == (["t/0"], {})
    late = [LIMITED, paid(3.4, "t/0"), paid(3.5, "t/0", "repeated", by="beside"), PAID[2]]
    assert judged(events, late).copies == ["t/0"]

    acknowledged = event(3.05, "acked", state="ack")
    faults = judged(
        [SENT, SUSPENDED[0], acknowledged, *events[2:]], [LIMITED, by_beside, by_the_service, PAID[2]]
    ).faults
    assert faults == {"answered_repeats": ["t/0"]}


def test_the_other_branch_must_not_run() -> None:
    spare = [*run(14, "spare", SPARE)]
    ledger = [*PAID, paid(14.5, "t/4", by="spare")]

    assert judged([*CLEAN, *spare], ledger, spare=Seen("SUCCESS")).faults == {"contradictions": [SPARE.id]}
    # The run that has found another end is the first one of a message that came again.
    failed = [SENT, *run(2, "zeroth", how="StepFailed", left="FAILURE"), *CLEAN[1:]]
    assert judged([*failed, *spare], ledger, spare=Seen("SUCCESS")).faults == {}


def test_a_request_that_the_service_repeats_needs_the_death_of_the_gateway() -> None:
    ledger = [*PAID, paid(9.5, "t/3", "repeated")]

    assert judged([*CLEAN, blow(9.2, 9, "receiver")], ledger).faults == {"answered_repeats": ["t/3"]}
    assert judged([*CLEAN, blow(8.2, GATEWAY, "gateway")], ledger).faults == {"answered_repeats": ["t/3"]}
    verdict = judged([*CLEAN, blow(9.2, GATEWAY, "gateway")], ledger)
    assert (verdict.raw_repeats, verdict.faults) == (["t/3"], {})


def test_a_worker_does_not_send_what_the_service_was_answered() -> None:
    ledger = [*PAID, paid(11.5, "t/0", "repeated", by="second")]

    assert judged([*CLEAN, blow(8.2, GATEWAY, "gateway")], ledger).faults == {"answered_repeats": ["t/0"]}


def test_a_path_after_one_that_has_succeeded_is_executed_twice() -> None:
    assert judged(CLEAN, [*PAID, paid(11.5, "t/1", by="second")]).faults == {"duplicate_executions": ["t/1"]}


ONCE = [LIMITED, paid(3.3, "t/1", by="first"), paid(9, "t/3")]


@pytest.mark.parametrize(
    ("events", "faults"),
    [
        pytest.param([*run(3, "first")], ["t/1"], id="nothing has happened to the first run"),
        pytest.param([event(3, "body", run="first"), blow(4, CHILD)], [], id="it was killed"),
        pytest.param([event(3, "body", run="first"), blow(12, CHILD)], ["t/1"], id="it was killed later"),
        pytest.param([*run(3, "first", how="Ignore", left="IGNORED")], [], id="it has given up"),
        pytest.param([*run(3, "first", resumed="c")[:2], blow(5, CHILD)], ["t/1"], id="it has kept the answer"),
    ],
)
def test_a_call_that_a_worker_repeats(events: list[Event], faults: list[str]) -> None:
    ledger = [*ONCE, paid(10.5, "t/1", "repeated", by="second")]
    expected = {"answered_repeats": faults} if faults else {}

    assert judged([SENT, *events, *run(10, "second", pid=12)], ledger).faults == expected


def test_a_message_that_comes_again_as_with_stock_celery() -> None:
    ledger = [*ONCE, paid(10.5, "t/1", "repeated", by="second")]

    def faults(*, parked: bool, how: str, late: bool = True, sent: int = 1) -> dict[str, list[str]]:
        events = [*[SENT] * sent, *run(3, "first"), *run(10, "second", pid=12, state=how)]
        events += [event(3.5, "reached", point="suspend.stored")] * parked
        verdict = judged(events, ledger, tuple(replace(each, late=late) for each in (ROOT, AFTER, SPARE)))
        return {**verdict.faults, **({"copies": verdict.copies} if verdict.copies else {})}

    assert faults(parked=False, how="redelivered") == {}
    assert faults(parked=True, how="redelivered") == {"answered_repeats": ["t/1"]}
    # Two messages of a step: of a late-acknowledged one, the second does nothing.
    assert faults(parked=False, how="", sent=2) == {"answered_repeats": ["t/1"]}
    assert faults(parked=False, how="", sent=2, late=False) == {"copies": ["t/1"]}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_a_tree_that_can_be_run(shape: str) -> None:
    unit = tree(shape, "t", late=True, key="own")
    spec = spec_of(SHAPES[shape], "t", "own", "http://127.0.0.1")

    assert plan_steps(spec).spec is spec
    payments = [payment for planned in unit for payment in planned.payments]
    urls = [each.url.partition("/t/")[2] for each in children_first(spec)]
    assert sorted(payments) == sorted(f"t/{number}" for number in urls)
    assert 2 <= steps_of(SHAPES[shape]) < len(unit)
