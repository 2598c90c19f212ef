"""``make demo``: it passes, it leaves no process behind, and its verdict cannot be had by cheating."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from example_project.api import SlidingWindow
from example_project.evidence import Execution, Ledger, Receipt, Request, Span
from example_project.llm import products
from example_project.orders import LEAST_FORWARDED, ORDERS, RETURNED
from example_project.verdict import Evidence, judge

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0  # seconds for a run of the demo


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, with ``folder`` for its temporary files; if it still runs when the block ends, it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "example_project.demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def pids(output: str) -> list[int]:
    return [int(pid) for _, pid in processes(output)]


def processes(output: str) -> list[tuple[str, str]]:
    """The last word of the name of each process, and its pid."""
    return re.findall(r"(\w+) \(pid (\d+)\)", output)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass(frozen=True)
class Passed:
    """What a demo that passes says: its keys, the things that all come out right, and the calls that were answered."""

    keys: tuple[str, ...]
    things: tuple[str, ...]
    count: int
    least: int
    answered: int
    others: Mapping[str, int] = field(default_factory=dict)


SALE = Passed(
    keys=("orders", "charged_once", "receipts"),
    things=("orders", "charged_once", "receipts"),
    count=60,
    least=LEAST_FORWARDED,
    answered=60 + 20 + 12,  # charges, quotes, refunds
)
ENRICHMENT = Passed(
    keys=("products", "enriched_once", "texts", "chords_ended", "sdk_retries", "asked_seconds"),
    things=("products", "enriched_once", "texts"),
    count=40,
    least=products.LEAST_FORWARDED,
    answered=40 + 14,  # texts, translations
    others={"chords_ended": 1, "sdk_retries": 0},
)
PASSED = {"": SALE, "--route=workers": SALE, "--llm": ENRICHMENT, "--llm --route=workers": ENRICHMENT}
PROCESSES = {
    "service": ["valkey", "API", "gateway", "receiver", "worker"],
    "workers": ["valkey", "API", "worker"],
}


@pytest.mark.slow  # `make demo` runs it too
@pytest.mark.parametrize("arguments", PASSED)
def test_the_demo_passes(arguments: str, tmp_path: Path) -> None:
    with demo(tmp_path, *arguments.split()) as process:
        output, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, output
    result, passed = json.loads(output.splitlines()[-1]), PASSED[arguments]
    assert list(result) == [
        *("ok", *passed.keys, "upstream_calls", "rate_limited", "forwarded", "resumed", "slot_seconds", "makespan_s"),
    ]
    assert result["ok"] is True
    assert {result[key] for key in passed.things} == {passed.count}
    assert {key: result[key] for key in passed.others} == passed.others
    assert result["forwarded"] == result["resumed"] >= passed.least
    assert result["rate_limited"] > 0
    assert result["upstream_calls"] - result["rate_limited"] == passed.answered
    assert result["makespan_s"] < 60
    assert [name for name, _ in processes(output)] == PROCESSES["workers" if "workers" in arguments else "service"]
    assert not any(map(is_running, pids(output)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # `make demo` runs it too
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        started = ""
        while "charged" not in started and (line := process.stdout.readline()):
            started += line
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130, started + output
    assert len(pids(started)) == 5
    assert not any(map(is_running, pids(started)))
    assert list(tmp_path.iterdir()) == []


# The verdict, on a run of which each order met a 429, was suspended and resumed.


def charge_of(order: int) -> Execution:
    return {"kind": "charge", "id": f"charge_{order}", "order": order, "amount": 100}


def request_of(order: int, status: int, at: float, kind: str = "charge") -> Request:
    return {"call": f"POST /v1/{kind}s {kind}-{order}", "item": order, "status": status, "at": at}


def run_of(order: int, started: float, ended: float, state: str) -> Span:
    return {
        "task_id": f"task-{order}",
        "task": "charge",
        "item": order,
        "started": started,
        "ended": ended,
        "state": state,
    }


@pytest.fixture
def evidence() -> Evidence:
    executions: list[Execution] = []
    requests: list[Request] = []
    receipts: list[Receipt] = []
    spans: list[Span] = []
    for order in ORDERS:
        start = 10.0 * order
        spans.append(run_of(order, start, start + 0.5, "IGNORED"))
        requests.append(request_of(order, 429, start + 0.25))
        requests.append(request_of(order, 201, start + 5.0))
        executions.append(charge_of(order))
        spans.append(run_of(order, start + 6.0, start + 6.5, "SUCCESS"))
        receipts.append({"order": order, "charge": f"charge_{order}"})
        if order in RETURNED:
            requests.append(request_of(order, 201, start + 7.0, "refund"))
            executions.append({"kind": "refund", "id": f"refund_{order}", "order": order, "amount": 100})
    ledger: Ledger = {"executions": executions, "requests": requests}
    summary = {"orders": len(ORDERS), "charged": 100 * len(ORDERS), "refunded": 100 * len(RETURNED)}
    return Evidence(ledger=ledger, receipts=receipts, spans=spans, summary=summary, makespan=610.0)


def test_a_run_as_it_should_be(evidence: Evidence) -> None:
    verdict = judge(evidence)

    assert verdict.problems == ()
    assert (verdict.charged_once, verdict.receipts, verdict.forwarded, verdict.resumed) == (60, 60, 60, 60)
    assert (verdict.runs.upstream_calls, verdict.runs.rate_limited) == (132, 60)
    assert (verdict.runs.tasks, verdict.runs.runs) == (60, 120)
    assert verdict.runs.slot_seconds == 60 * 0.25


def test_an_order_charged_twice(evidence: Evidence) -> None:
    evidence.ledger["executions"].append(charge_of(7))

    verdict = judge(evidence)

    assert "Not charged exactly once: 7." in verdict.problems
    assert verdict.charged_once == 59


def test_an_order_never_charged(evidence: Evidence) -> None:
    evidence.ledger["executions"].remove(charge_of(7))

    assert "Not charged exactly once: 7." in judge(evidence).problems


def test_a_charge_without_an_order(evidence: Evidence) -> None:
    evidence.ledger["executions"].append(charge_of(99))

    assert "Charged or paid back without an order: 99." in judge(evidence).problems


def test_a_request_that_came_again_after_its_answer(evidence: Evidence) -> None:
    """The Idempotency-Key has kept it from charging twice; it is a repeat all the same."""
    evidence.ledger["requests"].append(request_of(7, 201, 1000.0))

    verdict = judge(evidence)

    assert verdict.problems == ("Requested again after they were answered: POST /v1/charges charge-7.",)
    assert not verdict.ok


def test_a_repeat_that_was_limited_is_a_repeat(evidence: Evidence) -> None:
    evidence.ledger["requests"].append(request_of(7, 429, 1000.0))

    assert judge(evidence).problems == ("Requested again after they were answered: POST /v1/charges charge-7.",)


@pytest.mark.parametrize(
    "receipts",
    [[], [{"order": 7, "charge": "charge_7"}] * 2, [{"order": 7, "charge": "charge_8"}]],
    ids=["none", "two", "of another charge"],
)
def test_an_order_without_its_receipt(evidence: Evidence, receipts: list[Receipt]) -> None:
    others = [receipt for receipt in evidence.receipts if receipt["order"] != 7]

    verdict = judge(replace(evidence, receipts=others + receipts))

    assert verdict.problems == ("Without exactly one receipt, of their charge: 7.",)
    assert verdict.receipts == 59


def test_a_refund_that_is_missing(evidence: Evidence) -> None:
    order = min(RETURNED)
    executions = [e for e in evidence.ledger["executions"] if (e["kind"], e["order"]) != ("refund", order)]

    verdict = judge(replace(evidence, ledger={**evidence.ledger, "executions": executions}))

    assert f"Not paid back as they should be: {order}." in verdict.problems


def test_a_task_that_was_suspended_and_never_resumed(evidence: Evidence) -> None:
    spans = [span for span in evidence.spans if (span["item"], span["state"]) != (7, "SUCCESS")]

    verdict = judge(replace(evidence, spans=spans))

    assert verdict.problems == ("Suspended and not resumed to success: 7.",)
    assert (verdict.forwarded, verdict.resumed) == (60, 59)


def test_a_run_that_left_no_result_without_a_limit_was_not_forwarded(evidence: Evidence) -> None:
    requests = [request for request in evidence.ledger["requests"] if request["status"] != 429]

    verdict = judge(replace(evidence, ledger={**evidence.ledger, "requests": requests}))

    assert verdict.forwarded == 0
    assert verdict.problems == (f"Only 0 orders were suspended; below {LEAST_FORWARDED} the run shows nothing.",)


def test_a_task_that_was_kept_back_before_its_call_was_suspended_too(evidence: Evidence) -> None:
    """On the route "workers" the limit is known once somebody has met it."""
    first = min(ORDERS)
    requests = [each for each in evidence.ledger["requests"] if each["status"] != 429 or each["item"] == first]

    verdict = judge(replace(evidence, ledger={**evidence.ledger, "requests": requests}))

    assert verdict.problems == ()
    assert (verdict.forwarded, verdict.resumed, verdict.runs.kept_back) == (60, 60, 59)
    assert (dict(verdict.runs.suspensions), verdict.runs.rate_limited) == ({"charge": 1}, 1)


def test_tasks_that_slept_in_their_slot_show(evidence: Evidence) -> None:
    spans = [run_of(order, 10.0 * order, 10.0 * order + 6.5, "SUCCESS") for order in ORDERS]

    verdict = judge(replace(evidence, spans=spans))

    assert verdict.runs.slot_seconds == 60 * 6.25
    assert not verdict.ok


def test_a_summary_that_disagrees(evidence: Evidence) -> None:
    assert evidence.summary is not None
    (problem,) = judge(replace(evidence, summary={**evidence.summary, "charged": 1})).problems

    assert problem.startswith("The summary says {'orders': 60, 'charged': 1,")


def test_a_run_that_ended_early(evidence: Evidence) -> None:
    assert judge(replace(evidence, failure="worker ended with 1")).problems == ("worker ended with 1",)


def test_nothing_at_all_is_not_ok() -> None:
    assert not judge(Evidence()).ok


# The limit of the APIs


def test_the_window_slides() -> None:
    window = SlidingWindow(limit=2, seconds=1.0)

    assert [window.wait(0.0), window.wait(0.75)] == [0.0, 0.0]
    assert window.wait(0.875) == 0.125
    assert window.wait(1.0) == 0.0
    assert window.wait(1.5) == 0.25
