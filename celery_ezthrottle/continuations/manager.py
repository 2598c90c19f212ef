"""Continuations: suspend, submit, deliver, publish, cancel. What is due later is done by :mod:`.sweeping`.

Each act is one atomic step in the store, then the I/O it stands for. Whatever is lost in between – an answer, a process –
is found by a sweep and done again, under the same idempotency key or against the same claim.
"""

from __future__ import annotations

import os
import random
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.broker import parked_message
from celery_ezthrottle.broker.confirmed_publish import NotPublished
from celery_ezthrottle.errors import EZThrottleError, ServiceUnavailable, StoreError, SubmitRefused
from celery_ezthrottle.http import journal
from celery_ezthrottle.service.client import EZThrottle
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.load import load_settings
from celery_ezthrottle.store.finish_batch import FinishBatch
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import Claim, StartOutcome, SuspendOutcome, Suspension, Verdict
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.retrying import retry_briefly
from celery_ezthrottle.store.states import State

from . import job_result

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Continuations", "back_off", "flush_finish_batches"]

#: Leases until a published message that did not start is published again; doubled each time.
REPUBLISH_AFTER = 5
REPUBLISH_AT_MOST_EVERY = 6 * 3600.0  # seconds
MAX_BACKOFF = 60.0


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
    def finish_batch(self) -> FinishBatch:
        return FinishBatch(self.store.finish_all)

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

    def suspend(self, suspension: Suspension, job: Job) -> tuple[SuspendOutcome, EZThrottleError | None]:
        """Suspend the task of a run: store its continuation, and submit ``job``, which is what ``suspension.job`` stores.

        Gives SUSPENDED and None when the task is suspended; STALE or ALREADY and None when this run has no say any
        more; FULL and None when too many tasks are suspended; SUSPENDED and the refusal when the service refused the job
        for good: then, as with FULL, nothing is stored any more, and the run goes on.

        Raises:
            StoreError: the store is out of reach. Nothing was submitted; ``close_run`` tells whether the continuation is stored.
        """
        reach("suspend.begin")
        outcome = retry_briefly(lambda: self.store.suspend(suspension, self.settings.max_suspended))
        if outcome is not SuspendOutcome.SUSPENDED:
            return outcome, None
        reach("suspend.stored")
        try:
            self.submit(suspension.id, job, attempts=0, submit_deadline=suspension.submit_deadline)
        except SubmitRefused as refusal:
            if retry_briefly(lambda: self.store.withdraw(suspension.id)):
                return outcome, refusal
            # A sweep is submitting it too. It decides; this attempt has ended.
            self.store.postpone(suspension.id, time.time(), maybe_accepted=False)
        except StoreError:
            # It is stored: a sweep submits it, again if need be, under the same key.
            logger.warning("Task %s is suspended; the store was lost while its job was submitted.", suspension.task_id)
        return outcome, None

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
            self.publish(claim)
        return delivery.verdict

    def cancel(self, task_id: str) -> bool:
        """Revoke a suspended task: it does not run again. False when it is not suspended.

        A worker announces it as it does any revoked task: state, chord, signal and event. The state is there at once.

        Raises:
            StoreError: the store is out of reach; nothing was cancelled, unless its answer was lost.
        """
        continuation_id = self.store.cancel(task_id, job_result.cancelled(), time.time())
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
            result = job_result.read(
                found.result, found.failure, elapsed=max(0.0, found.delivered_at - found.suspended_at)
            )
            entries = journal.for_resume(journal.load_entries(found.journal), result.answer)
            self.store.save_journal(task_id, run, continuation_id, journal.dump_entries(entries))

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
            self.publish(claim)

    def submit(self, continuation_id: str, job: Job, attempts: int, submit_deadline: float) -> None:
        """Submit, then bind or postpone.

        Raises:
            SubmitRefused: the service refused the job for good.
            StoreError: what became of the submission could not be stored.
        """
        try:
            submitted = self.client.submit(job)
        except ServiceUnavailable as exc:
            now = time.time()
            due = max(now + back_off(attempts), exc.retry_at or 0.0)
            self.store.postpone(continuation_id, min(due, submit_deadline), maybe_accepted=exc.maybe_accepted)
            logger.warning("Continuation %s will be submitted again in %.0f s: %s", continuation_id, due - now, exc)
            return
        self.bind(continuation_id, submitted.job_id)

    def bind(self, continuation_id: str, job_id: str) -> None:
        """The service has taken the job. Publishes, if its result is there already.

        Raises:
            StoreError: the store is out of reach.
        """
        reach("submit.answered")
        state = self.store.bind(continuation_id, job_id, time.time())
        reach("submit.bound")
        if state is State.DELIVERED:  # the result was there before the answer to the submission
            self.publish_now(continuation_id)

    def publish(self, claim: Claim) -> None:
        """Publish what is claimed; failing that, a sweep does when the claim is over."""
        try:
            parked_message.publish(self.app, claim.message, claim.envelope, claim.id)
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


def back_off(attempts: int) -> float:
    """Seconds until a job that was not taken is submitted again."""
    return min(MAX_BACKOFF, 2.0 ** min(attempts, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret


def flush_finish_batches(**_: Any) -> None:
    """Handler of the signals by which a worker, and a process of its pool, says that it ends."""
    with _lock:
        used = [
            continuations.finish_batch for continuations in _instances.values() if "finish_batch" in vars(continuations)
        ]
    for finish_batch in used:
        finish_batch.flush()


_lock = threading.Lock()
_instances: WeakKeyDictionary[Celery, Continuations] = WeakKeyDictionary()


def _start_anew() -> None:
    """In a forked child: connections are the parent's, and the lock may have been held by another of its threads."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _instances.clear()


os.register_at_fork(after_in_child=_start_anew)
