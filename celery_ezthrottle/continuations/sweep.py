"""One pass of a sweep: publish, take over and settle what is due, then submit jobs while there is time."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import ServiceUnavailable, StoreError, SubmitRefused
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.store.records import Claim
from celery_ezthrottle.store.states import State

from . import job_result
from .back_off import back_off
from .giving_up import can_ask, settle_unknown, unknown_result
from .turns import is_turn
from .watches import watch_of

if TYPE_CHECKING:
    from .manager import Continuations

__all__ = ["LIMIT", "sweep"]

#: Most jobs that one pass submits.
LIMIT = 50
#: Most claims taken at once. When the process dies, only these, and the jobs of the pass, wait until their claims are over.
AT_ONCE = 10
#: Seconds after which each part of a pass begins nothing more; or a twelfth of the lease, if that is less. So a pass ends before
#: the worker's time to lead is over, even if its last attempt meets a service that hangs (some 20 s).
PATIENCE = 5.0


def sweep(continuations: Continuations, limit: int = LIMIT) -> int:
    """Do one pass over what is due when it begins. Returns how many continuations were acted on.

    The pass has two parts. First it does what needs no call to the service, even if other continuations are due for longer.
    Then it submits jobs, the longest due first, at most ``limit``, and asks about jobs whose deadline is over. Each part begins
    nothing more after 5 s, or after a twelfth of ``ezthrottle_lease`` if that is less. The jobs that are left are postponed
    without a call, as if the service had not taken them; the tasks whose deadline is over end without the service being asked.
    So a service that hangs costs a pass only one attempt.

    Raises:
        StoreError: the store is out of reach.
    """
    began, lease = time.time(), continuations.settings.lease
    patience = min(PATIENCE, lease / 12)
    acted = put_off = 0
    jobs: list[Claim] = []
    over: list[Claim] = []
    ends = time.monotonic() + patience
    # What is due at ``began``, not at the current time: nothing is claimed twice in one pass.
    while claims := continuations.store.claim_due(began, time.time() + lease, AT_ONCE):
        for claim in claims:
            reach("sweep.claimed")
            if _needs_service(claim, time.time()):
                if len(jobs) < limit:
                    jobs.append(claim)
                else:
                    _put_off(continuations, claim)
                    put_off += 1
            elif _is_over(claim, time.time()) and can_ask(continuations, claim) and len(over) < limit:
                over.append(claim)
            elif time.monotonic() < ends:  # otherwise it is due again when its claim is over
                _try(continuations, claim)
                acted += 1
        if time.monotonic() >= ends:
            break
    ends = time.monotonic() + patience
    for number, claim in enumerate([*jobs, *over]):
        if number == 0 or time.monotonic() < ends:
            _try(continuations, claim, asking=True)
            acted += 1
        elif claim.state is State.STORED:
            _put_off(continuations, claim)
            put_off += 1
        else:
            _end_silently(continuations, claim)
    if put_off:
        logger.warning("More jobs are due than can be submitted now: %d wait for a later sweep.", put_off)
    return acted


def _needs_service(claim: Claim, now: float) -> bool:
    """Whether acting on the claim means to call the service. Once this is False, it stays False."""
    if claim.state is not State.STORED or watch_of(claim.job) is not None or is_turn(claim.job):
        return False
    return now < (claim.deadline if claim.maybe_accepted else claim.submit_deadline)


def _is_over(claim: Claim, now: float) -> bool:
    """Whether the service has taken the job, and the task waits no longer for its result."""
    return claim.state is State.SUBMITTED and now >= claim.deadline


def _end_silently(continuations: Continuations, claim: Claim) -> None:
    """End the wait for a result. There is no time to ask the service, and none to publish: the next pass does that."""
    now = time.time()
    continuations.store.settle(claim.id, unknown_result(claim, now - claim.suspended_at), now)


def _put_off(continuations: Continuations, claim: Claim) -> None:
    """Postpone a claimed job without submitting it. Nothing was sent, so this attempt has ended as "not taken"."""
    now = time.time()
    last = claim.submit_deadline if now < claim.submit_deadline else claim.deadline
    continuations.store.postpone(claim.id, min(now + back_off(claim.attempts), last), maybe_accepted=False)


def _try(continuations: Continuations, claim: Claim, *, asking: bool = False) -> None:
    try:
        _act(continuations, claim, time.time(), asking=asking)
    except StoreError:
        raise
    except Exception:  # noqa: BLE001 -- logged; a claim that fails must not keep the others waiting
        logger.exception("Continuation %s could not be swept; it is due again.", claim.id)


def _act(continuations: Continuations, claim: Claim, now: float, *, asking: bool) -> None:
    waited = now - claim.suspended_at
    watch = watch_of(claim.job) if claim.state is State.STORED else None
    if watch is not None:
        continuations.bind(claim.id, watch)
    elif claim.state is State.STORED and is_turn(claim.job):
        continuations.settle(claim.id, job_result.turn())
    elif _needs_service(claim, now):
        _ask_service(continuations, claim, now)
    elif claim.state in {State.DELIVERED, State.PUBLISHED}:
        continuations.publish(claim)
    elif claim.state is State.STORED and not claim.maybe_accepted:
        note = f"EZThrottle did not take the request within {waited:.0f} s; the call is as it was before."
        continuations.settle(claim.id, job_result.never_taken(note))
    elif now >= claim.deadline:
        settle_unknown(continuations, claim, waited, asking=asking)


def _ask_service(continuations: Continuations, claim: Claim, now: float) -> None:
    """Submit the job. When the time to submit is over, ask once more whether the service has taken it."""
    waited = now - claim.suspended_at
    try:
        if now < claim.submit_deadline:
            continuations.submit(claim.id, job_of(claim), claim.attempts, claim.submit_deadline)
        elif not _is_taken(continuations, claim):
            settle_unknown(continuations, claim, waited)
    except SubmitRefused as refusal:
        if claim.maybe_accepted:
            settle_unknown(continuations, claim, waited, refusal)
        else:
            continuations.settle(claim.id, job_result.refused(str(refusal)))


def job_of(claim: Claim) -> Job:
    """The job of a STORED continuation."""
    return Job.from_wire(json.loads(claim.job))


def _is_taken(continuations: Continuations, claim: Claim) -> bool:
    """Ask the service whether it has a job that it may have taken: submit the job once more, under the same key.

    Raises:
        SubmitRefused: the service does not take the job. It does not say whether it has taken it before.
    """
    try:
        submitted = continuations.client.submit(job_of(claim))
    except ServiceUnavailable:
        return False
    continuations.bind(claim.id, submitted.job_id)
    return True
