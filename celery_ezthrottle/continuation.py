"""Continuations: suspend, submit, deliver, publish, expire, cancel.

Each act is one atomic step in the store, then the I/O it stands for. Whatever is lost in between – an answer, a process –
is found by a sweep and done again, under the same idempotency key or against the same claim.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from . import journal, message, outcome
from .client import EZThrottle
from .conf import Settings, load_settings
from .errors import EZThrottleError, ServiceUnavailable, StoreError, SubmitRefused
from .failpoints import reach
from .insisting import insist
from .job import Job
from .log import logger
from .publisher import NotPublished
from .stores.base import Claim, Parked, StartOutcome, State, Store, SuspendOutcome, Verdict
from .stores.redis import RedisStore

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Continuations"]

#: Leases until a published message that did not start is published again; doubled each time.
REPUBLISH_AFTER = 5
REPUBLISH_AT_MOST_EVERY = 6 * 3600.0  # seconds
MAX_BACKOFF = 60.0
#: Seconds after which each part of a pass begins nothing more, or a twelfth of the lease if that is less: with the last attempt
#: at a service that hangs (some 20 s), a pass is over before a worker's time to lead is.
PATIENCE = 5.0


class Continuations:
    """The continuations of one app, in this process.

    Get it with :meth:`of`: connections are made when they are first used, and anew after a fork.
    """

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    @cached_property
    def store(self) -> Store:
        settings = self.settings
        return RedisStore.from_url(
            settings.store,
            prefix=settings.key_prefix,
            max_unclaimed=settings.max_unclaimed,
            max_unclaimed_bytes=settings.max_unclaimed_bytes,
            **settings.store_options,
        )

    @cached_property
    def client(self) -> EZThrottle:
        return EZThrottle.from_settings(self.settings)

    @classmethod
    def of(cls, app: Celery) -> Continuations:
        """The one of ``app`` in this process.

        Raises:
            ConfigurationError: when a setting has the wrong type.
        """
        with _lock:
            found = _instances.get(app)
            if found is None:
                found = _instances[app] = cls(app, load_settings(app))
            return found

    def suspend(self, parked: Parked) -> tuple[SuspendOutcome, EZThrottleError | None]:
        """Park a run, and submit its job.

        Gives SUSPENDED and None when the task is suspended; STALE or ALREADY and None when this run has no say any
        more; FULL and None when too many tasks are suspended; SUSPENDED and the refusal when the service refused the job
        for good: then, as with FULL, nothing is parked any more, and the run goes on.

        Raises:
            StoreError: what was parked, if anything, was not submitted; ``close_run`` tells whether it is parked.
        """
        reach("suspend.begin")
        parked_as = self.store.suspend(parked, self.settings.max_suspended)
        if parked_as is not SuspendOutcome.SUSPENDED:
            return parked_as, None
        reach("suspend.stored")
        try:
            self._submit(parked.id, parked.job, attempts=0, submit_deadline=parked.submit_deadline)
        except SubmitRefused as refusal:
            if insist(lambda: self.store.withdraw(parked.id)):
                return parked_as, refusal
            # A sweep is submitting it too. It decides; this attempt has ended.
            self.store.postpone(parked.id, time.time(), maybe_accepted=False)
        except StoreError:
            # Parked is parked: a sweep submits it, if need be again, under the same key.
            logger.warning("Task %s is suspended; the store was lost while its job was submitted.", parked.task_id)
        return parked_as, None

    def deliver(self, continuation_id: str | None, job_id: str, result: bytes) -> Verdict:
        """Keep the result of a job, then resume who waits for it.

        Durable once this returns: what could not be published is published by a sweep.

        Raises:
            StoreError: nothing was kept.
        """
        reach("deliver.begin")
        now = time.time()
        delivery = self.store.deliver(continuation_id, job_id, result, now, now + self.settings.lease)
        reach("deliver.stored")
        if delivery.verdict is Verdict.CONTRADICTING:
            logger.warning("Job %s was delivered again with another result; the first one stays.", job_id)
        for claim in delivery.claims:
            self._publish_or_leave(claim)
        return delivery.verdict

    def cancel(self, task_id: str) -> bool:
        """Revoke a suspended task: it does not run again. False when it is not suspended.

        A worker announces it as it does any revoked task: state, chord, signal and event. The state is there at once.

        Raises:
            StoreError: the store is out of reach; nothing was cancelled, unless its answer was lost.
        """
        continuation_id = self.store.cancel(task_id, outcome.cancelled(), time.time())
        if continuation_id is None:
            return False
        reach("cancel.stored")
        try:
            self.app.backend.mark_as_revoked(task_id, "revoked", store_result=True)
        except Exception as exc:  # noqa: BLE001 -- logged; the worker that announces it stores the state again
            logger.warning("Task %s is revoked; its state is not stored yet: %s", task_id, type(exc).__name__)
        self.publish_now(continuation_id)
        return True

    def keep_answer(self, continuation_id: str, run: str, task_id: str) -> None:
        """Put the answer that a run was resumed with into its task's journal, for a retry that the run cannot prepare.

        Raises:
            StoreError: the store is out of reach.
        """
        now = time.time()
        found = self.store.start(continuation_id, run, now, lease=now + self.settings.lease)
        if found.outcome is StartOutcome.STARTED:
            result = outcome.read(
                found.result, found.failure, elapsed=max(0.0, found.delivered_at - found.suspended_at)
            )
            entries = journal.with_answer(journal.load_entries(found.journal), result.answer)
            kept = journal.dump_entries(journal.for_retry((), entries))
            self.store.save_journal(task_id, run, continuation_id, kept)

    def end_unbegun(self, continuation_id: str, run: str, task_id: str, *, runs_again: bool) -> None:
        """End what ``run`` was to resume: it has ended without having begun. Does nothing to what another run holds.

        Args:
            run: has not held it before, or holds it.
            runs_again: the task comes again, as a retry: it will be given the answer.

        Raises:
            StoreError: the store is out of reach.
        """
        if runs_again:
            self.keep_answer(continuation_id, run, task_id)
        else:
            self.store.start(continuation_id, run, time.time(), lease=None)
        self.store.finish(continuation_id, run, keep_journal=runs_again)

    def publish_now(self, continuation_id: str) -> None:
        """Publish the parked message of a delivered continuation; failing that, leave it to a sweep."""
        try:
            now = time.time()
            claim = self.store.claim(continuation_id, now, now + self.settings.lease)
        except StoreError as exc:
            logger.warning("Continuation %s is not published yet: %s", continuation_id, exc)
            return
        if claim is not None:
            self._publish_or_leave(claim)

    def sweep(self, limit: int = 50) -> int:
        """One pass over what is due when it begins. Gives how many continuations were acted on.

        What needs no service goes first, whatever is due before it: it is published, taken over, settled. Then jobs are
        submitted, the longest due first, ``limit`` at most. Each of the two begins nothing more after 5 s, or after a twelfth
        of ``ezthrottle_lease`` if that is less. Jobs that are left are put off without asking, as when the service does not take
        them; so one that hangs costs a pass one attempt.

        Raises:
            StoreError: the store is out of reach.
        """
        began, lease = time.time(), self.settings.lease
        patience = min(PATIENCE, lease / 12)
        acted, put_off = 0, 0
        waiting: list[Claim] = []
        ends = time.monotonic() + patience
        # A few at a time: a process that dies leaves only these, and the jobs, to wait for their lease to end. And by the time at
        # which the pass began: nothing comes twice in one.
        while claims := self.store.claim_due(began, time.time() + lease, 10):
            for claim in claims:
                reach("sweep.claimed")
                if not _needs_service(claim):
                    if time.monotonic() < ends:  # else it is due again when its claim is over
                        self._try(claim)
                        acted += 1
                elif len(waiting) < limit:
                    waiting.append(claim)
                else:
                    self._put_off(claim)
                    put_off += 1
            if time.monotonic() >= ends:
                break
        ends = time.monotonic() + patience
        for number, claim in enumerate(waiting):
            if number == 0 or time.monotonic() < ends:
                self._try(claim)
                acted += 1
            else:
                self._put_off(claim)
                put_off += 1
        if put_off:
            logger.warning("More jobs are due than can be submitted now: %d wait for a later sweep.", put_off)
        return acted

    def _try(self, claim: Claim) -> None:
        try:
            self._act(claim)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 -- logged; one that cannot be acted on must not keep the others waiting
            logger.exception("Continuation %s could not be swept; it is due again.", claim.id)

    def _put_off(self, claim: Claim) -> None:
        """A job that was claimed is not submitted now: nothing of it went out in this attempt, which so has ended."""
        now = time.time()
        last = claim.submit_deadline if now < claim.submit_deadline else claim.deadline
        self.store.postpone(claim.id, min(now + _back_off(claim.attempts), last), maybe_accepted=False)

    def _act(self, claim: Claim) -> None:
        now = time.time()
        if claim.state in {State.DELIVERED, State.PUBLISHED}:
            self._publish_or_leave(claim)
        elif claim.state is State.SUBMITTED and now >= claim.deadline:
            self._settle_unknown(claim, now)
        elif claim.state is State.STORED and now >= claim.submit_deadline:
            if not claim.maybe_accepted:
                waited = now - claim.suspended_at
                note = f"EZThrottle did not take the request within {waited:.0f} s; the call is as it was before."
                self._settle(claim, outcome.never_taken(note), now)
            elif now >= claim.deadline or not self._is_taken(claim):
                self._settle_unknown(claim, now)
        elif claim.state is State.STORED:
            try:
                self._submit(claim.id, claim.job, claim.attempts, claim.submit_deadline)
            except SubmitRefused as refusal:
                if claim.maybe_accepted:
                    self._settle_unknown(
                        claim, now, f"EZThrottle refused the request after it may have taken it: {refusal}"
                    )
                else:
                    self._settle(claim, outcome.never_taken(f"EZThrottle refused the request: {refusal}"), now)

    def _is_taken(self, claim: Claim) -> bool:
        """Ask the service whether it has a job, which it may have: by submitting it once more, under the same key."""
        try:
            submitted = self.client.submit(Job.from_wire(json.loads(claim.job)))
        except (ServiceUnavailable, SubmitRefused):
            return False
        self._bind(claim.id, submitted.job_id)
        return True

    def _submit(self, continuation_id: str, job: bytes, attempts: int, submit_deadline: float) -> None:
        """Submit, then bind or postpone.

        Raises:
            SubmitRefused: the service refused the job for good.
            StoreError: what became of the submission could not be stored.
        """
        try:
            submitted = self.client.submit(Job.from_wire(json.loads(job)))
        except ServiceUnavailable as exc:
            now = time.time()
            due = max(now + _back_off(attempts), exc.retry_at or 0.0)
            self.store.postpone(continuation_id, min(due, submit_deadline), maybe_accepted=exc.maybe_accepted)
            logger.warning("Continuation %s will be submitted again in %.0f s: %s", continuation_id, due - now, exc)
            return
        self._bind(continuation_id, submitted.job_id)

    def _bind(self, continuation_id: str, job_id: str) -> None:
        reach("submit.answered")
        state = self.store.bind(continuation_id, job_id, time.time())
        reach("submit.bound")
        if state is State.DELIVERED:  # the result was there before the answer to the submission
            self.publish_now(continuation_id)

    def _publish_or_leave(self, claim: Claim) -> None:
        """Publish what is claimed; failing that, a sweep does when the claim is over."""
        try:
            message.publish(self.app, claim.message, claim.envelope, claim.id)
            reach("publish.sent")
            wait = min(
                REPUBLISH_AT_MOST_EVERY, self.settings.lease * REPUBLISH_AFTER * 2.0 ** min(claim.publications, 10)
            )
            self.store.published(claim.id, time.time() + wait)
            reach("publish.noted")
        except StoreError as exc:
            logger.warning("Continuation %s may be published twice: %s", claim.id, exc)
        except NotPublished as exc:
            logger.warning("Continuation %s is not published yet: %s", claim.id, exc)

    def _settle_unknown(self, claim: Claim, now: float, why: str = "") -> None:
        job = f"job {claim.job_id}" if claim.job_id else "its job"
        why = why or f"No result of {job} came within {now - claim.suspended_at:.0f} s"
        remedy = "Look it up at the service or upstream before running the task again."
        self._settle(claim, outcome.unknown(f"{why}; whether the request was executed is not known. {remedy}"), now)

    def _settle(self, claim: Claim, result: bytes, now: float) -> None:
        if self.store.settle(claim.id, result, now):
            reach("sweep.settled")
            self.publish_now(claim.id)


def _needs_service(claim: Claim) -> bool:
    """Whether to act on it is to call the service. Once it is not, it never is again."""
    if claim.state is not State.STORED:
        return False
    return time.time() < (claim.deadline if claim.maybe_accepted else claim.submit_deadline)


def _back_off(attempts: int) -> float:
    """Seconds until a job that was not taken is submitted again."""
    return min(MAX_BACKOFF, 2.0 ** min(attempts, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret


_lock = threading.Lock()
_instances: WeakKeyDictionary[Celery, Continuations] = WeakKeyDictionary()


def _start_anew() -> None:
    """In a forked child: connections are the parent's, and the lock may have been held by another of its threads."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _instances.clear()


os.register_at_fork(after_in_child=_start_anew)
