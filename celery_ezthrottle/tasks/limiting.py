"""Keep the limits of the APIs that a task calls: at each call take a turn, wait for it, or suspend the task until then."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from celery_ezthrottle._common.callables import OptionFailed
from celery_ezthrottle._common.log import warn_once
from celery_ezthrottle.continuations.tickets import ticket_of
from celery_ezthrottle.errors import LimitReached, StoreError
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.flow import Flow
from celery_ezthrottle.http.gate import Sleep
from celery_ezthrottle.http.stored_answer import StoredAnswer
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.held import still_to_take
from celery_ezthrottle.limits.told import told
from celery_ezthrottle.limits.turns import Queued, Turn
from celery_ezthrottle.policy import decision

from .learning import Learning, Passed, is_learned
from .stalling import no_progress

if TYPE_CHECKING:
    from .run import Run

__all__ = ["LimitGate"]

#: Longest time between two looks of a call that waits in the worker slot, in seconds, when nobody knows its turn.
LOOK = 0.05
#: Seconds for which a call that waits in the slot may be away.
LIFETIME = 60.0
#: By so much its priority is higher than that of a suspended task: it keeps the slot from the very tasks that are called.
AHEAD = 6.0
#: The statuses at which a limit is learned.
LIMITED = frozenset({429, 503})
#: What the ticket of a call begins with that waits in the worker slot.
_CALL = "call:"


class LimitGate:
    """See :class:`celery_ezthrottle.http.gate.Gate`. Each run has one: a limit may be set at run time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._learning = Learning(run)
        #: What each call holds that was let through, or waits for it.
        self._passed: dict[int, Passed] = {}
        #: What keeps the call back for which the task is to be suspended.
        self.held: tuple[tuple[Bucket, ...], Queued] | None = None
        self._has_used_ticket = False
        self._cooling: dict[int, tuple[tuple[Bucket, ...], Queued]] = {}

    def enter(self, call: Call, sleep: Sleep) -> Flow[StoredAnswer | Exception | None]:
        buckets = self._buckets(call)
        learns = self._learning.covers(buckets)
        if learns and (learned := self._learning.bucket(call, may_be_called=self._may_have_ticket)) is not None:
            buckets = (*buckets, learned)
        if not buckets:
            if learns:
                self._passed[id(call)] = Passed((), "", time.time())
            return None
        taken = still_to_take(buckets)
        keys = {bucket.key for bucket in taken}
        around = tuple(bucket for bucket in buckets if bucket.key not in keys)
        if not taken:
            self._passed[id(call)] = Passed((), "", time.time(), around)
            return None
        try:
            return (yield from self._wait(call, taken, around, sleep))
        except StoreError as exc:
            self._passed.pop(id(call), None)
            if self._run.settings.limits_required:
                raise LimitReached(
                    f"The store that keeps the limits is out of reach; the call was not sent: {exc}"
                ) from exc
            warn_once(self._run.task.name, "calls are made without their limits: the store is out of reach.")
            return None
        except BaseException:  # also that the call is cancelled, or that the time of the task is over
            self._give_up(call)
            raise

    def _wait(
        self, call: Call, buckets: tuple[Bucket, ...], around: tuple[Bucket, ...], sleep: Sleep
    ) -> Flow[Exception | None]:
        limiter, settings, options = self._run.continuations.limiter, self._run.settings, self._run.options
        ticket, began = self._first_ticket(), time.monotonic()
        # The rest of the margin is for the way to the API.
        margin = settings.limit_margin / 2
        late: Turn | None = None
        while True:
            self._passed[id(call)] = Passed(buckets, ticket, time.time(), around)
            answer = limiter.acquire(
                buckets,
                ticket=ticket,
                max_wait=settings.max_wait,
                margin=margin,
                lease=settings.limit_lease,
                late=late,
            )
            if isinstance(answer, Turn):
                if answer.wait > 0:
                    yield partial(sleep, answer.wait)
                if not answer.is_late(margin):
                    self._passed[id(call)] = Passed(buckets, ticket, answer.at, around, holds=answer.holds)
                    return None
                late = answer
                continue
            late = None
            if is_learned(answer.key) and not self._may_hold(call):
                # Nobody has set this limit. Without it the call would be made now; if it is limited, it is seen then.
                buckets = tuple(bucket for bucket in buckets if not is_learned(bucket.key))
                if not buckets:
                    return None
                continue
            has_waited = time.monotonic() >= began + options.limit_wait
            if (refusal := self._refusal(call, answer, has_waited=has_waited)) is not None:
                raise refusal
            if is_learned(answer.key) or self._may_suspend(call, has_waited=has_waited):
                self.held = self._passed.pop(id(call)).buckets, answer  # the task waits on, by its ticket
                return LimitReached(f"{answer} The call was not sent, and the task could not be suspended.")
            if has_waited and options.on_limit == "forward":
                self._give_up(call)
                return LimitReached(f"{answer} The call was not sent, and could not be submitted.")
            if not ticket.startswith(_CALL):
                # The ticket of the task is for suspended tasks: who calls it would find none, and give its turn to the next.
                limiter.leave(ticket)
                ticket = _new_ticket()
            limiter.wait_in_queue(
                buckets,
                ticket,
                answer,
                lease=settings.limit_lease,
                lifetime=LIFETIME,
                priority=(options.priority or 0.0) + AHEAD,
            )
            away = LOOK if answer.at is None else answer.at - time.time()
            yield partial(sleep, min(max(away, 0.005), LOOK))

    def _first_ticket(self) -> str:
        """The ticket of a call. A task that was suspended for its turn is called by its own one."""
        if self._has_used_ticket:
            return _new_ticket()
        self._has_used_ticket = True
        return ticket_of(self._run.task_id)

    @property
    def _may_have_ticket(self) -> bool:
        """Whether the task may have been resumed for its turn, which no call has used yet."""
        return self._run.resumed_from is not None and not self._has_used_ticket

    def give_back_turn(self) -> None:
        """The call for which the task was called is not sent: its turn is for the next."""
        if self._may_have_ticket:
            self._has_used_ticket = True
            self._run.continuations.limiter.leave(ticket_of(self._run.task_id))

    def _refusal(self, call: Call, answer: Queued, *, has_waited: bool) -> LimitReached | None:
        """Why ``call`` gets an error instead of waiting, or None."""
        options = self._run.options
        if call.since and call.since + options.result_timeout <= time.time():
            if options.exhaust_retries:
                self._run.exhaust_retries()
            return LimitReached(f"{answer} The call was not sent: the result_timeout of the task is over.")
        cannot_forward = options.on_limit == "forward" and options.is_by_workers
        if has_waited and (options.on_limit == "raise" or cannot_forward):
            return LimitReached(f"{answer} The call was not sent (on_limit).")
        return None

    def _give_up(self, call: Call) -> None:
        """``call`` is not made: what it waits for, or holds, is for others."""
        passed = self._passed.pop(id(call), None)
        if passed is None or not passed.buckets:
            return
        buckets, ticket, limiter = passed.buckets, passed.ticket, self._run.continuations.limiter
        with contextlib.suppress(StoreError):  # then it ends by itself: its lease and its lifetime are short
            if not limiter.leave(ticket):
                limiter.release(buckets, ticket)

    def leave(self, call: Call) -> None:
        passed = self._passed.pop(id(call), None)
        if passed is None:
            return
        try:
            if passed.holds:
                self._run.continuations.limiter.release(passed.buckets, passed.ticket)
            queued = self._learning.learn(call, passed) or self._cool_down(call, passed.buckets + passed.around)
        except StoreError:
            warn_once(self._run.task.name, "what an API said about its limits is not kept: the store is out of reach.")
            return
        if queued is not None:
            known = {bucket.key for bucket in passed.buckets}
            learned = () if queued.key in known else (Bucket(queued.key, learns=True),)
            self._cooling[id(call)] = (*passed.buckets, *learned), queued

    def _cool_down(self, call: Call, buckets: tuple[Bucket, ...]) -> Queued | None:
        """Let no call be made before the time that the response names. Returns where ``call`` can wait for that."""
        if call.response is None or not buckets:
            return None
        until = told(call.response.status_code, call.response.headers, time.time()).until
        keys = [bucket.key for bucket in buckets if not bucket.learns and not bucket.is_of_all_hosts]
        if until is None or not keys:
            return None
        self._run.continuations.limiter.cool_down(keys, until)
        return Queued(key=keys[0], at=until)

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

    def _may_suspend(self, call: Call, *, has_waited: bool) -> bool:
        """Whether the task is suspended now, because ``call`` has to wait."""
        recorder = self._run.recorder
        is_first = all(made is call or not made.is_of_this_run for made in recorder.calls)
        if not is_first and not (has_waited and self._run.options.on_limit == "suspend"):
            return False
        return self._can_suspend(call)

    def _can_suspend(self, call: Call) -> bool:
        recorder = self._run.recorder
        return call.fingerprint is not None and recorder.is_alone() and recorder.lost_answer(call) is None

    def _may_hold(self, call: Call) -> bool:
        """Whether the task is suspended because of a limit that was learned. If ``call`` is not the first one, that costs the
        task no more than being limited would. So the task must be one that is suspended then."""
        run, options = self._run, self._run.options
        if not LIMITED.issubset(options.statuses(safe=call.is_safe)) or not self._can_suspend(call):
            return False
        try:
            why = decision.obstacle(call, options, max_request_body=run.settings.max_request_body)
        except OptionFailed:  # it is told when the call is limited
            return False
        return why is None and no_progress(run, call) is None


def _new_ticket() -> str:
    return f"{_CALL}{uuid4().hex}"
