"""Keep the limits of the APIs that a task calls: at each call take a turn, wait for it, or suspend the task until then."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery_ezthrottle._common.callables import OptionFailed
from celery_ezthrottle._common.log import warn_once
from celery_ezthrottle.continuations.turns import ticket_of
from celery_ezthrottle.errors import LimitReached, StoreError
from celery_ezthrottle.http.call import Call, Source
from celery_ezthrottle.http.flow import Flow
from celery_ezthrottle.http.gate import Sleep
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.told import told
from celery_ezthrottle.limits.turns import Queued, Turn

if TYPE_CHECKING:
    from .run import Run

__all__ = ["LimitGate", "gate_of"]

#: A pattern that all hosts match. One host that is overloaded says nothing about the others.
ALL_HOSTS = "*"
#: Longest time between two looks of a call that waits in the worker slot, in seconds, when nobody knows its turn.
LOOK = 0.05
#: Seconds for which a call that waits in the slot may be away.
LIFETIME = 60.0


def gate_of(run: Run) -> LimitGate | None:
    """Return what keeps the limits for ``run``; None if none is set."""
    return LimitGate(run) if run.settings.limits else None


class LimitGate:
    """See :class:`celery_ezthrottle.http.gate.Gate`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        #: What each call that was let through holds.
        self._passed: dict[int, tuple[tuple[Bucket, ...], str]] = {}
        #: What keeps the call back for which the task is to be suspended.
        self.held: tuple[tuple[Bucket, ...], Queued] | None = None
        self._has_used_ticket = False
        self._cooling: dict[int, tuple[tuple[Bucket, ...], Queued]] = {}

    def enter(self, call: Call, sleep: Sleep) -> Flow[Exception | None]:
        buckets = self._buckets(call)
        if not buckets:
            return None
        limiter, settings, options = self._run.continuations.limiter, self._run.settings, self._run.options
        # A task that was suspended for its turn has been called by its own ticket.
        ticket = f"call:{uuid4().hex}" if self._has_used_ticket else ticket_of(self._run.task.request.id)
        self._has_used_ticket = True
        late: Turn | None = None
        began, is_waiting = time.monotonic(), False
        try:
            while True:
                answer = limiter.acquire(
                    buckets,
                    ticket=ticket,
                    max_wait=settings.max_wait,
                    margin=settings.limit_margin,
                    lease=settings.limit_lease,
                    late=late,
                )
                if isinstance(answer, Turn):
                    if answer.wait > 0:
                        yield partial(sleep, answer.wait)
                    if not answer.is_late(settings.limit_margin):
                        is_waiting = False
                        self._passed[id(call)] = buckets, ticket
                        return None
                    late = answer
                    continue
                late = None
                if self._is_over(call):
                    if options.exhaust_retries:
                        self._run.exhaust_retries()
                    raise LimitReached(f"{_why(answer)} The call was not sent: the result_timeout of the task is over.")
                if self._may_suspend(call, is_over=time.monotonic() >= began + options.limit_wait):
                    self.held = buckets, answer
                    is_waiting = False  # the task waits on, with this ticket
                    return LimitReached(f"{_why(answer)} The call was not sent, and the task could not be suspended.")
                if time.monotonic() >= began + options.limit_wait and options.on_limit in {"raise", "forward"}:
                    if options.on_limit == "forward" and not options.is_by_workers:
                        return LimitReached(f"{_why(answer)} The call was not sent, and could not be submitted.")
                    raise LimitReached(f"{_why(answer)} The call was not sent (on_limit).")
                limiter.wait_in_queue(
                    buckets,
                    ticket,
                    answer,
                    lease=settings.limit_lease,
                    lifetime=LIFETIME,
                    priority=options.priority or 0.0,
                )
                is_waiting = True
                away = LOOK if answer.at is None else answer.at - time.time()
                yield partial(sleep, min(max(away, 0.005), LOOK))
        except StoreError as exc:
            if settings.limits_required:
                raise LimitReached(
                    f"The store that keeps the limits is out of reach; the call was not sent: {exc}"
                ) from exc
            warn_once(self._run.task.name, "calls are made without their limits: the store is out of reach.")
            is_waiting = False
            return None
        finally:
            if is_waiting:
                self._leave_queue(ticket)

    def leave(self, call: Call) -> None:
        buckets, ticket = self._passed.pop(id(call), ((), ""))
        response = call.response
        if not buckets:
            return
        try:
            if any(bucket.concurrency for bucket in buckets):
                self._run.continuations.limiter.release(buckets, ticket)
            if response is not None:
                self._cool_down(call, response, buckets)
        except StoreError:
            warn_once(self._run.task.name, "what an API said about its limits is not kept: the store is out of reach.")

    def _cool_down(self, call: Call, response: Any, buckets: tuple[Bucket, ...]) -> None:
        """Let no call be made before the time that ``response`` names."""
        until = told(response.status_code, response.headers, time.time()).until
        keys = [bucket.key for bucket in buckets if bucket.key.partition("#")[0] != ALL_HOSTS]
        if until is not None and keys:
            self._run.continuations.limiter.cool_down(keys, until)
            self._cooling[id(call)] = buckets, Queued(key=keys[0], at=until)

    def cooling(self, call: Call) -> tuple[tuple[Bucket, ...], Queued] | None:
        """Where ``call``, which was limited, can wait for the end of the cool-down that it has begun; None if there is none."""
        return self._cooling.get(id(call))

    def _buckets(self, call: Call) -> tuple[Bucket, ...]:
        library, url = call.library, call.sent.url
        try:
            return self._run.continuations.matching.buckets(
                url,
                lambda: call.request,
                lambda name: library.read_request(call.request).header(name),
            )
        except OptionFailed as exc:
            warn_once(self._run.task.name, f"a call is made without a limit: {exc}.")
            return ()

    def _may_suspend(self, call: Call, *, is_over: bool) -> bool:
        """Whether the task is suspended now, because ``call`` has to wait."""
        recorder = self._run.recorder
        is_first = all(made is call or made.source is not Source.SENT for made in recorder.calls)
        if not is_first and not (is_over and self._run.options.on_limit == "suspend"):
            return False
        if call.fingerprint is None:
            return False
        return recorder.is_alone() and recorder.lost_answer(call) is None

    def _is_over(self, call: Call) -> bool:
        return bool(call.since) and call.since + self._run.options.result_timeout <= time.time()

    def _leave_queue(self, ticket: str) -> None:
        try:
            self._run.continuations.limiter.leave(ticket)
        except StoreError:
            return  # nobody is called by a store that is out of reach; the ticket ends by itself


def _why(answer: Queued) -> str:
    when = "" if answer.at is None else f" for {max(0.0, answer.at - time.time()):.1f} s"
    return f"The limit {answer.key!r} has no turn{when}."
