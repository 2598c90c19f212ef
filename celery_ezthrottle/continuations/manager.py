"""Continuations: suspend, submit, deliver, publish. :mod:`.cancel` cancels; :mod:`.sweep` does what is due later.

Each act is one atomic step in the store, followed by its I/O. When an answer or a process is lost in between, a sweep finds that
and does the I/O again: a submission under the same idempotency key, a publication for the same continuation.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.broker import parked_message
from celery_ezthrottle.broker.confirmed_publish import NotPublished
from celery_ezthrottle.deduplication.calls_on_their_way import CallsOnTheirWay
from celery_ezthrottle.errors import ServiceUnavailable, StoreError
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.live import LiveLimits
from celery_ezthrottle.limits.seen_hosts import SeenHosts
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.load import load_settings
from celery_ezthrottle.store.finish_batch import FinishBatch
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import Claim, SuspendOutcome, Suspension, Verdict
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.retrying import retry_briefly
from celery_ezthrottle.store.states import State

from .back_off import back_off, until_republished
from .submissions import Submissions
from .tickets import Ticket
from .waiters import resume_waiters
from .watches import is_watch, watch_of

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Continuations", "finish_work"]

T = TypeVar("T")

#: Longest wait for the jobs that are not submitted yet, in seconds, when a process ends.
DRAIN = 5.0


#: Where an app keeps its continuations. Not in a table of ours: they know their app, and would keep it alive.
_OF_APP = "_ezthrottle_continuations"


class Continuations:
    """The continuations of one app, in this process.

    Get it with :meth:`of`. Connections are made when they are first used, and made anew after a fork.
    """

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    @cached_property
    def store(self) -> Store:
        settings = self.settings
        bounds = {"max_unclaimed": settings.max_unclaimed, "max_unclaimed_bytes": settings.max_unclaimed_bytes}
        return self._connected(RedisStore.from_url, **bounds)

    @cached_property
    def finish_batch(self) -> FinishBatch:
        return FinishBatch(self.store.finish_all)

    @cached_property
    def submissions(self) -> Submissions:
        return Submissions(self)

    @cached_property
    def client(self) -> ServiceClient:
        return ServiceClient.from_settings(self.settings)

    @cached_property
    def limiter(self) -> Limiter:
        return self._connected(Limiter.from_url)

    @cached_property
    def calls_on_their_way(self) -> CallsOnTheirWay:
        return self._connected(CallsOnTheirWay.from_url)

    def _connected(self, from_url: Callable[..., T], **bounds: int) -> T:
        """What keeps keys on the server of the store, by connections of its own."""
        settings = self.settings
        return from_url(settings.store, prefix=settings.key_prefix, **bounds, **settings.store_options)

    @cached_property
    def matching(self) -> LiveLimits:
        settings = self.settings
        read = self.limiter.changes.read if settings.store else dict[str, str]
        return LiveLimits(settings.limits, read, margin=settings.limit_margin)

    @cached_property
    def seen_hosts(self) -> SeenHosts:
        return SeenHosts()

    @classmethod
    def of(cls, app: Celery) -> Continuations:
        """The instance for ``app`` in this process.

        Raises:
            ConfigurationError: a setting has the wrong type.
        """
        with _lock:
            found: Continuations | None = vars(app).get(_OF_APP)
            if found is None:
                found = vars(app)[_OF_APP] = cls(app, load_settings(app))
                _apps.add(app)
            return found

    def suspend(
        self,
        suspension: Suspension,
        job: Job | None,
        task_name: str,
        *,
        not_before: float | None = None,
        ticket: Ticket | None = None,
    ) -> SuspendOutcome:
        """Suspend the task of a run: store its continuation. Soon, a thread submits ``job``, which ``suspension.job`` holds in
        stored form. If the service refuses it, the task is resumed with its own error. If ``job`` is None, ``suspension.job`` is
        a watch (see :mod:`.watches`): the task waits for that.

        Args:
            not_before: a sweep submits the job at that time, in Unix seconds; None = a thread submits it now.
            ticket: the task waits in the queue of a limit; or None.

        Returns:
            - SUSPENDED: the task is suspended.
            - STALE or ALREADY: another run has the task, and this run must end.
            - FULL: too many tasks are suspended. Nothing is stored, and the run goes on.

        Raises:
            StoreError: the store is out of reach. The service does not get the job from this run; ``close_run`` tells whether
                the continuation is stored.
        """
        reach("suspend.begin")
        outcome = retry_briefly(lambda: self.store.suspend(suspension, self.settings.max_suspended))
        if outcome is SuspendOutcome.SUSPENDED:
            reach("suspend.stored")
            if ticket is not None:
                self._queue(ticket)
            elif (watch := watch_of(suspension.job)) is not None:
                self._bind_soon(suspension.id, watch)
            elif not_before is not None:  # until then, the continuation is as after a submission that was not taken
                due = min(not_before, suspension.submit_deadline)
                self.store.postpone(suspension.id, due, maybe_accepted=False)
            elif job is not None:
                self.submissions.add(suspension, job, task_name)
        return outcome

    def _queue(self, ticket: Ticket) -> None:
        try:
            ticket.wait(self.limiter)
        except StoreError as exc:
            logger.warning(
                "%s does not wait in the queue of its limit, and comes at a later time: %s", ticket.name, exc
            )

    def _bind_soon(self, continuation_id: str, watch: str) -> None:
        try:
            self.bind(continuation_id, watch)
        except StoreError as exc:
            logger.warning("Continuation %s is bound to what it watches by a sweep: %s", continuation_id, exc)

    def deliver(self, continuation_id: str | None, job_id: str, result: bytes) -> Verdict:
        """Keep the result of a job, then resume the tasks that wait for it, for up to 5 s.

        The result is durable once this returns: a sweep resumes the tasks that are left, and publishes the messages that could
        not be published here.

        Args:
            continuation_id: the id that the webhook's URL proves: of a continuation, or of a watch (:mod:`.watches`); or None.

        Raises:
            StoreError: nothing was kept.
        """
        reach("deliver.begin")
        now = time.time()
        named, kept_as = (None, continuation_id) if is_watch(continuation_id) else (continuation_id, job_id)
        delivery = self.store.deliver(named, kept_as, result, now, now + self.settings.lease)
        reach("deliver.stored")
        if delivery.verdict is Verdict.CONTRADICTING:
            logger.warning("Job %s was delivered again with another result; the first one stays.", job_id)
        resume_waiters(self, kept_as, delivery)
        return delivery.verdict

    def finish_soon(self, continuation_id: str, run_id: str) -> None:
        """Report, together with others, that a run whose message was acknowledged early has ended the task."""
        self.finish_batch.add(continuation_id, run_id)

    def publish_now(self, continuation_id: str) -> None:
        """Publish the parked message of a delivered continuation. If that fails, a sweep publishes it."""
        try:
            now = time.time()
            claim = self.store.claim(continuation_id, now, now + self.settings.lease)
        except StoreError as exc:
            logger.warning("Continuation %s is not published yet: %s", continuation_id, exc)
            return
        if claim is not None:
            self.publish(claim)

    def submit(self, continuation_id: str, job: Job, attempts: int, submit_deadline: float) -> None:
        """Submit the job of a continuation, then bind or postpone the continuation.

        Args:
            attempts: number of postponed submissions so far.
            submit_deadline: Unix seconds; the next attempt is not later than that.

        Raises:
            SubmitRefused: the service refused the job for good.
            StoreError: the outcome of the submission could not be stored.
        """
        try:
            submitted = self.client.submit(job)
        except ServiceUnavailable as exc:
            now = time.time()
            due = max(now + back_off(attempts), (exc.retry_at or 0) / 1000)
            self.store.postpone(continuation_id, min(due, submit_deadline), maybe_accepted=exc.maybe_accepted)
            logger.warning("Continuation %s will be submitted again in %.0f s: %s", continuation_id, due - now, exc)
            return
        self.bind(continuation_id, submitted.job_id)

    def bind(self, continuation_id: str, job_id: str) -> None:
        """Store that the service has taken the job. If the result is already there, publish the parked message.

        Raises:
            StoreError: the store is out of reach.
        """
        reach("submit.answered")
        state = self.store.bind(continuation_id, job_id, time.time())
        reach("submit.bound")
        if state is State.DELIVERED:  # the result came before the answer to the submission
            self.publish_now(continuation_id)

    def settle(self, continuation_id: str, result: bytes) -> None:
        """Give a waiting continuation an outcome of our own, and publish its message. No-op in other states.

        Raises:
            StoreError: the store is out of reach.
        """
        if self.store.settle(continuation_id, result, time.time()):
            reach("settle.stored")
            self.publish_now(continuation_id)

    def publish(self, claim: Claim) -> None:
        """Publish the message of a claim. If that fails, a sweep publishes it when the claim is over."""
        try:
            parked_message.publish(self.app, claim.message, claim.envelope, claim.id)
            reach("publish.sent")
            wait = until_republished(claim.publications, self.settings.lease)
            self.store.published(claim.id, time.time() + wait)
            reach("publish.noted")
        except StoreError as exc:
            logger.warning("Continuation %s may be published twice: %s", claim.id, exc)
        except NotPublished as exc:
            logger.warning("Continuation %s is not published yet: %s", claim.id, exc)


def finish_work(**_: Any) -> None:
    """Signal handler: a worker, or a process of its pool, ends. Report the ended runs, and submit the jobs that wait."""
    with _lock:
        known = [vars(vars(app)[_OF_APP]) for app in _apps]
    for parts in known:
        if "finish_batch" in parts:
            parts["finish_batch"].flush()
        if "submissions" in parts:
            parts["submissions"].drain(DRAIN)


_lock = threading.Lock()
#: The apps that have continuations in this process.
_apps: WeakSet[Celery] = WeakSet()


def _start_anew() -> None:
    """In a forked child: the connections are the parent's, and another thread of the parent may have held the lock."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    for app in list(_apps):
        vars(app).pop(_OF_APP, None)
    _apps.clear()


os.register_at_fork(after_in_child=_start_anew)
