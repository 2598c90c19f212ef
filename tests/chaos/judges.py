"""The judges. Pure: from what was planned, the history, the ledger and the client's view to what became of each task.

Each task gets exactly one verdict; the first that fits:

``finished``
    SUCCESS is in the result backend, its function has returned once at least, and every payment is in the ledger. Of a step one
    of its paths is there, be it that the service has executed it without any task. One that is to fail has asked for it, and
    StepFailed is in the result backend.
``failed visibly``
    FAILURE or REVOKED is in the result backend.
``skipped``
    It was never sent, since a task that it needs did not succeed: Celery's way with the rest of a chain. Or since the step before
    it has ended otherwise, or not at all.
``lost as stock``
    Acknowledged early, and a SIGKILL of the very process that ran it fell between its beginning and its end, or of the worker
    that had acknowledged it before it began. Stock Celery loses such a task too. Before it was suspended, or after its
    resumed run has started: in between there is no such excuse. Also what such a run would have sent.
``lost by the broker``
    No worker has ever given its last message back or acknowledged it, and it is not in the broker: a server or a connection was
    struck while it was popped (Redis) or published. It never was suspended, or not since that message was sent.
``stuck``
    FORWARDED, though its deadline has passed.
``lost``
    All else.

Of the whole:

``duplicate resumes``
    A continuation's function was begun by a second run, though the first had not died: no SIGKILL fell on its process between
    the two beginnings, before Celery was through with it. Nor had it given up, being ignored without having suspended its task,
    as it does when it is to do that and the store is away.
``duplicate executions``
    The ledger executed a payment more than once (under different keys: a key is executed once). Or another path of a step, after
    one of them had been answered with a 200, and no blow explains that.
``raw repeats``
    Requests with a key that was executed before. The upstream honours keys, so nothing happened; some are unavoidable, as
    when an answer is lost.
``answered repeats``
    Raw repeats that no blow explains: a resumed run itself made a call that had been answered with a 200 to the service, or to
    an earlier run that was not killed; or, acknowledged late, to an earlier resumed run whose function had ended. Of a step,
    whoever makes the call, and after whatever answer: the service may repeat what it was answered only if the gateway was killed
    before it had stored that, and a worker what it was answered only if the run was killed, or Celery has run again a step that
    never was suspended, since its message was not acknowledged.
``contradictions``
    Steps that ran though the one before them had ended otherwise: of ``on_success`` and ``on_failure`` only one may run.
    Tasks that were suspended, and whose state was final and then another one. One that never was is Celery's: an
    acknowledgement that a dying broker does not get makes any task run twice. And so is the rest of a chain behind a failure:
    Celery writes that to all of it, also when the next task has already been sent; and the body of a chord that Celery fails
    since its last member cannot reach Redis, having just sent it; and a task with ``copies``, with the rest of its chain.
``copies``
    The same, of a task whose message was sent twice, since the task before it in its chain was run twice. The second copy is
    a delivery of its own, as with stock Celery. Of steps only an early-acknowledged one has such copies. Or the answer was
    given to one of two runs of a message that was not acknowledged between them, and the other one was suspended.

Of the limits:

``leaked leases``
    Calls that still count as begun when all has come to rest and the lease of the last one is over.
``left waiting``
    Tickets that are in a queue then.
``overruns``
    Turns that were one too many in a window of a limit, by the clock of the store.
``killed holding``
    No fault, but the proof that there was something to leak: calls whose process was killed while they counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from .case import Case, Evidence, Verdict
from .history import Event
from .ledger import Entry
from .limit_judges import judge_limits
from .planned import Planned
from .step_judges import judge_steps
from .watch import Seen

__all__ = ["judge"]


def judge(evidence: Evidence) -> Verdict:
    case, verdict = Case(evidence), Verdict()
    verdicts: dict[str, str] = {}
    by_id: dict[str, Planned] = {}
    for planned in evidence.planned:  # what a task needs comes before it
        by_id[planned.id] = planned
        found = verdicts[planned.id] = _verdict_on(planned, case, by_id, verdicts)
        if not planned.is_spare or found in verdict.faults_of_a_task:
            getattr(verdict, found).append(planned.id)
    by_continuation: dict[str, list[Event]] = defaultdict(list)
    for planned in evidence.planned:
        for body in case.all_of(planned.id, "body"):
            if body.resumed:
                by_continuation[body.resumed].append(body)
        if case.was_suspended(planned.id):
            verdict.suspended.append(planned.id)
        # One that was ignored before its function began has not forwarded anything.
        verdict.forwarded += any(event.run and event.state == "IGNORED" for event in case.all_of(planned.id, "left"))
    verdict.resumed = len(by_continuation)
    for continuation, bodies in by_continuation.items():
        if not all(case.was_killed_in(first, second.at) or case.gave_up(first) for first, second in pairwise(bodies)):
            verdict.duplicate_resumes.append(continuation)
    told_by_celery: set[str] = set()
    for planned in evidence.planned:
        in_chain = planned.step is None and any(
            verdicts[need] != "finished" or need in told_by_celery for need in planned.needs
        )
        if in_chain or case.has_copies(planned):
            told_by_celery.add(planned.id)
        elif planned.id in evidence.changed and case.was_suspended(planned.id):
            verdict.contradictions.append(planned.id)
    _judge_ledger(case, verdict)
    judge_steps(case, verdict)
    judge_limits(case, verdict)
    return verdict


def _verdict_on(planned: Planned, case: Case, by_id: Mapping[str, Planned], verdicts: Mapping[str, str]) -> str:
    seen = case.evidence.seen.get(planned.id, Seen("PENDING"))
    if case.outcome(planned) == planned.as_planned and case.is_whole(planned):
        return "finished"
    if seen.state in {"FAILURE", "REVOKED"}:
        return "failed_visibly"
    if not case.all_of(planned.id, "sent", "received", "body"):
        if planned.step is not None:
            return "skipped" if any(case.outcome(by_id[need]) != planned.after for need in planned.needs) else "lost"
        if any(verdicts[need] != "finished" for need in planned.needs):
            return "skipped"
        # It was for the last run of those to send it. With early acknowledgement, whoever is killed there never does.
        if any(_was_killed_while_sending(need, case) for need in _early(planned.needs, case)):
            return "lost_as_stock"
        return "lost"
    if case.lost_as_stock(planned):
        return "lost_as_stock"
    if seen.state == "FORWARDED":
        return "stuck" if case.evidence.now > seen.deadline else "lost"
    return "lost_by_broker" if seen.state != "SUCCESS" and case.lost_by_broker(planned) else "lost"


def _early(needs: Iterable[str], case: Case) -> list[str]:
    return [need for need in needs if need not in case.late]


def _was_killed_while_sending(task: str, case: Case) -> bool:
    return any(case.was_killed_in(body) for body in case.all_of(task, "body")[-1:])


def _judge_ledger(case: Case, verdict: Verdict) -> None:
    counted = Counter(entry.payment for entry in case.evidence.ledger if entry.what == "executed")
    verdict.duplicate_executions = [payment for payment, count in counted.items() if count > 1]
    answered: dict[str, Entry] = {}
    of_steps = {payment for planned in case.evidence.planned if planned.step for payment in planned.payments}
    for entry in case.evidence.ledger:
        if entry.payment in of_steps:
            continue
        if entry.what == "repeated":
            verdict.raw_repeats.append(entry.payment)
            first, again = answered.get(entry.payment), case.bodies.get(entry.run)
            was_kept = first is not None and (not first.direct or first.run in case.left or case.was_journaled(first))
            if not (first and again and was_kept and entry.direct and again.resumed and entry.run != first.run):
                continue
            kept_by = case.bodies.get(first.run)
            if case.was_sent_twice(again.task) or (
                kept_by is not None and case.shared_its_message_with_the_suspended(kept_by)
            ):
                verdict.copies.append(entry.payment)
            else:
                verdict.answered_repeats.append(entry.payment)
        if entry.status == 200:
            answered[entry.payment] = entry
