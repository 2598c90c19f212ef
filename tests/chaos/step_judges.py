"""The judges of steps. Pure. :mod:`.judges` says what the words mean."""

from __future__ import annotations

from collections import defaultdict

from .case import Case, Verdict
from .ledger import Entry
from .planned import Planned

__all__ = ["judge_steps"]

#: Seconds from the answer that a gateway gets to the blow that kept it from storing that. It may have been stopped meanwhile.
STORING = 15.0


def judge_steps(case: Case, verdict: Verdict) -> None:
    by_payment: dict[str, list[Entry]] = defaultdict(list)
    for entry in case.evidence.ledger:
        by_payment[entry.payment].append(entry)
    by_id = {planned.id: planned for planned in case.evidence.planned}
    for planned in by_id.values():
        if planned.step is None:
            continue
        requests = [entry for payment in planned.payments for entry in by_payment[payment]]
        _judge_requests(planned, sorted(requests, key=lambda entry: entry.at), case, verdict)
        for need in planned.needs:
            if _ran_in_vain(planned, by_id[need], case):
                verdict.contradictions.append(planned.id)


def _judge_requests(planned: Planned, requests: list[Entry], case: Case, verdict: Verdict) -> None:
    """Once a path of a step has been answered with a success, nothing more may be executed for the step."""
    answered: Entry | None = None
    for entry in requests:
        if entry.what == "refused":
            continue
        if entry.what == "repeated":
            verdict.raw_repeats.append(entry.payment)
        if answered is not None and not _is_excused(answered, entry, case):
            if case.has_copies(planned) or _had_one_message(answered, entry, case):
                verdict.copies.append(entry.payment)
            elif entry.payment == answered.payment:
                verdict.answered_repeats.append(entry.payment)
            else:
                verdict.duplicate_executions.append(entry.payment)
        if entry.status == 200:
            answered = entry


def _is_excused(answered: Entry, again: Entry, case: Case) -> bool:
    """Whether a blow explains that the step goes on, though a path of it was answered."""
    if not answered.direct:
        stored = min(again.at, answered.at + STORING)
        return not again.direct and case.was_struck("gateway", answered.at, stored)
    first = case.bodies.get(answered.run)
    if first is None:
        return False
    if case.was_killed_in(first, again.at):
        return not case.was_journaled(answered)
    return case.gave_up(first) or case.comes_again_as_stock(first, again.at)


def _had_one_message(answered: Entry, again: Entry, case: Case) -> bool:
    """Whether one of the two is of a run beside the one that has suspended the step: neither can know of the other."""
    runs = (case.bodies.get(entry.run) for entry in (answered, again) if entry.direct)
    return any(run is not None and case.shared_its_message_with_the_suspended(run) for run in runs)


def _ran_in_vain(planned: Planned, before: Planned, case: Case) -> bool:
    """Whether it ran, though the step before it has ended otherwise. Who runs that step anew may find another end."""
    outcome = case.outcome(before)
    if outcome in {"", planned.after}:
        return False
    ran = bool(case.all_of(planned.id, "body")) or not case.asked.isdisjoint(planned.payments)
    return ran and sum(not body.resumed for body in case.all_of(before.id, "body")) < 2
