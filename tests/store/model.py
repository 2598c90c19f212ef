"""The contract in dictionaries: a second store, in which each act is what the table of states says and little else.

It passes the contract's own tests, and predicts the answers of a real store in ``test_model.py``. Nothing expires in it but
results that nobody waits for, and those when another is added.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.records import (
    UNCLAIMED_FOR,
    Claim,
    Counts,
    DeliverOutcome,
    Health,
    Resumption,
    StartOutcome,
    SuspendOutcome,
    Suspension,
    TaskRecord,
    Turns,
    Verdict,
    Woken,
)
from celery_ezthrottle.store.states import PARKED, WAITING, Act, State, after

from .bench import Kind
from .records import Continuation, Data, Job

P = ParamSpec("P")
T = TypeVar("T")

CROWD = 50
NOT_STARTED = {State.STORED: StartOutcome.WAITING, State.SUBMITTED: StartOutcome.WAITING, State.DONE: StartOutcome.DONE}


def atomic(act: Callable[P, T]) -> Callable[P, T]:
    @wraps(act)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        data: Data = args[0]._  # type: ignore[attr-defined]
        with data.lock:
            outermost = data.clock is None
            data.clock = data.clock or time.time()
            try:
                return act(*args, **kwargs)
            finally:
                if outermost:
                    data.clock = None

    return alone


class ModelStore:
    """A store in memory, for whoever shares its data."""

    def __init__(self, data: Data, max_unclaimed: int = 10_000, max_unclaimed_bytes: int = 2**26) -> None:
        self._ = data
        self.bounds = max_unclaimed, max_unclaimed_bytes

    def _known(self, kind: Kind, id_: str) -> Any:
        """A record, or None when it is not there for us."""
        records: dict[Kind, dict[str, Any]] = {
            "continuation": self._.continuations, "task": self._.tasks, "job": self._.jobs
        }  # fmt: skip
        return None if (kind, id_) in self._.foreign else records[kind].get(id_)

    def _one(self, id_: str | None) -> Continuation | None:
        found: Continuation | None = self._known("continuation", id_ or "")
        return found

    def _held(self, id_: str, run: str) -> Continuation | None:
        found = self._one(id_)
        return found if found and found.state is State.RUNNING and found.run == run else None

    def _is_closed(self, run: str) -> bool:
        return self._.runs.get(run) == "closed"

    @atomic
    def suspend(self, parked: Suspension, limit: int) -> SuspendOutcome:
        id_, task_id = parked.id, parked.task_id
        if self._is_closed(parked.run_id) or {("continuation", id_), ("task", task_id)} & self._.foreign:
            return SuspendOutcome.STALE
        same = self._one(id_)
        if same:
            if same.state is State.STORED and same.run == parked.run_id:
                return SuspendOutcome.SUSPENDED
            return SuspendOutcome.STALE if same.state is State.DONE else SuspendOutcome.ALREADY
        if parked.resumed_from is not None and not self._held(parked.resumed_from, parked.run_id):
            return SuspendOutcome.STALE
        before = self._.newest.get(task_id, "")
        newest = self._one(before)
        other = newest if newest and newest.state is not State.DONE and before != parked.resumed_from else None
        if other and _is_in_the_way(other, parked.retries):
            return SuspendOutcome.ALREADY
        if parked.resumed_from is None and self.counts().suspended >= limit:
            return SuspendOutcome.FULL
        self._.continuations[id_] = Continuation(parked, before, parked.run_id, due=parked.submit_at)
        if parked.turn is not None:
            self._.turns[id_] = parked.turn
        task = self._.tasks.get(task_id)
        retried = other.parked.retries if other else task.retried if task else None
        self._.tasks[task_id] = TaskRecord(forwards=parked.forward, journal=parked.journal, state=None, retried=retried)
        self._.newest[task_id] = id_
        self._.runs[parked.run_id] = "suspended"
        if other:
            self._finish(before, other)
        elif newest and newest.state is State.RUNNING:
            newest.aside = task.journal if task else b"", newest.due is not None
            newest.go(Act.FINISH, None)
        return SuspendOutcome.SUSPENDED

    @atomic
    def withdraw(self, continuation_id: str) -> bool:
        found = self._one(continuation_id)
        if not found:
            return ("continuation", continuation_id) not in self._.foreign
        if after(found.state, Act.WITHDRAW) is not None or found.open > 1 or self._.runs.get(found.run) == "told":
            return False
        del self._.continuations[continuation_id], self._.runs[found.parked.run_id]
        task_id = found.parked.task_id
        task = self._known("task", task_id)
        resumed = self._one(found.before)
        if resumed and resumed.aside:
            journal, leased = resumed.aside
            resumed.state, resumed.due, resumed.aside = State.RUNNING, found.due if leased else None, None
            task = task and replace(task, journal=journal)
        elif task and task.forwards <= 1 and not task.journal:
            del self._.tasks[task_id], self._.newest[task_id]
            return True
        if task:
            self._.tasks[task_id] = replace(task, forwards=task.forwards - 1)
            self._.newest[task_id] = found.before
        return True

    def _leave_stored(self, found: Continuation) -> None:
        """It cannot be withdrawn any more."""
        resumed = self._one(found.before)
        if resumed and resumed.aside:
            resumed.aside = None
            self._finish(found.before, resumed)

    @atomic
    def bind(self, continuation_id: str, job_id: str, now: float) -> State | None:
        found = self._one(continuation_id)
        if found and found.may(Act.BIND):
            self._bind(continuation_id, found, job_id)
            job = self._known("job", job_id)
            if job and job.result is not None:
                self._wake(found, Act.DELIVER, now)
        return found.state if found else None

    def _bind(self, id_: str, found: Continuation, job_id: str) -> None:
        stored = found.state is State.STORED
        if stored:
            found.go(Act.BIND, found.parked.deadline)
        else:
            self._unbind(id_, found)
        found.job_id = job_id
        if ("job", job_id) not in self._.foreign:
            job = self._.jobs.setdefault(job_id, Job())
            job.waiters[id_] = None
            job.unclaimed_until = None
        if stored:
            self._leave_stored(found)

    def _unbind(self, id_: str, found: Continuation) -> str:
        """Gives the digest of the job's result, or ""."""
        job = self._known("job", found.job_id)
        if not job:
            return ""
        job.waiters.pop(id_, None)
        is_settled = found.own is not None and found.own[0] is Act.SETTLE
        if not job.waiters and job.result is not None and (found.parked.shared or is_settled):
            self._add_unclaimed(found.job_id, job, self._.clock or 0.0)
        elif not job.waiters:
            del self._.jobs[found.job_id]
        return digest(job.result)

    def _wake(self, found: Continuation, act: Act, now: float, due: float | None = None) -> None:
        if found.state is State.STORED:
            self._leave_stored(found)
        found.go(act, now if due is None else due)
        found.delivered_at = now

    @atomic
    def postpone(self, continuation_id: str, due: float, *, maybe_accepted: bool) -> None:
        found = self._one(continuation_id)
        if found and found.state is State.STORED:
            found.go(Act.POSTPONE, due)
            found.attempts += 1
            found.open = found.open if maybe_accepted else max(found.open - 1, 0)

    @atomic
    def settle(self, continuation_id: str, result: bytes, now: float) -> bool:
        found = self._one(continuation_id)
        if not found or not found.may(Act.SETTLE):
            return False
        job = self._known("job", found.job_id)
        if not job or job.result is None:
            found.own = Act.SETTLE, result
        self._wake(found, Act.SETTLE, now)
        return True

    @atomic
    def take_turns(self, result: bytes, now: float, until: float, limit: int) -> Turns:
        come = sorted((turn, id_) for id_, turn in self._.turns.items() if turn <= now)[:limit]
        claims = [claim for _, id_ in come if (claim := self._take_turn(id_, result, now, until))]
        return Turns(claims=tuple(claims), next=min(self._.turns.values(), default=None))

    @atomic
    def take_turns_of(self, task_ids: Sequence[str], result: bytes, now: float, until: float) -> Sequence[Claim]:
        newest = [self._.newest.get(task_id, "") for task_id in task_ids if self._known("task", task_id)]
        return [claim for id_ in newest if (claim := self._take_turn(id_, result, now, until))]

    def _take_turn(self, id_: str, result: bytes, now: float, until: float) -> Claim | None:
        found = self._one(id_) if self._.turns.pop(id_, None) is not None else None
        if not found or found.state is not State.STORED:
            return None
        found.own = Act.SETTLE, result
        self._wake(found, Act.SETTLE, now, until)
        return _claim(found)

    @atomic
    def cancel(self, task_id: str, result: bytes, now: float) -> str | None:
        found = self._one(self._.newest.get(task_id)) if self._known("task", task_id) else None
        if not found or found.state not in PARKED or (found.own and found.own[0] is Act.CANCEL):
            return None
        found.own = Act.CANCEL, result
        self._wake(found, Act.CANCEL, now)
        return self._.newest[task_id]

    @atomic
    def cancel_all(self, task_ids: Sequence[str], result: bytes, now: float) -> Mapping[str, str]:
        return {task_id: id_ for task_id in task_ids if (id_ := self.cancel(task_id, result, now))}

    @atomic
    def deliver(
        self, continuation_id: str | None, job_id: str, result: bytes, now: float, until: float
    ) -> DeliverOutcome:
        if ("job", job_id) in self._.foreign:
            raise StoreError("The record of this job is of an unknown version.")
        named = self._one(continuation_id)
        if (
            continuation_id
            and named
            and named.state in WAITING
            and (named.state, named.job_id) != ("submitted", job_id)
        ):
            self._bind(continuation_id, named, job_id)
        job = self._.jobs.get(job_id, Job())
        first = digest(job.result)
        if not first and named and named.state is State.DONE and named.job_id == job_id:
            first = named.first
        verdict = Verdict.FIRST
        if first:
            verdict = Verdict.REPEATED if first == digest(result) else Verdict.CONTRADICTING
            self._.counted[verdict] += 1
        if job.result is None and (verdict is Verdict.FIRST or job.waiters):
            self._.jobs[job_id] = job
            job.result = result
            if not job.waiters:
                self._add_unclaimed(job_id, job, now)
        woken = self._wake_left(job, CROWD, now, until, first=continuation_id)
        return DeliverOutcome(verdict=verdict, claims=woken.claims, rest=woken.rest)

    @atomic
    def result(self, job_id: str) -> bytes | None:
        job = self._known("job", job_id)
        return job.result if job else None

    def _left(self, job: Job) -> list[str]:
        """Those that the result of a job has not reached."""
        return [id_ for id_ in job.waiters if (waiter := self._one(id_)) and waiter.state in WAITING]

    def _wake_left(self, job: Job, most: int, now: float, until: float, first: str | None = None) -> Woken:
        claims, left = [], sorted(self._left(job), key=lambda id_: id_ != first)
        for id_ in left[:most]:
            waiter = self._.continuations[id_]
            self._wake(waiter, Act.DELIVER, now, until)
            claims.append(_claim(waiter))
        return Woken(claims=tuple(claims), rest=len(left) > most)

    @atomic
    def deliver_rest(self, job_id: str, now: float, until: float) -> Woken:
        job = self._known("job", job_id)
        return self._wake_left(job, CROWD, now, until) if job and job.result is not None else Woken()

    def _unclaimed(self) -> list[tuple[float, str, int, str]]:
        """By the time at which they go; those of the same time as Redis has them."""
        return sorted(
            (job.unclaimed_until, f"{len(job.result or b'')}:{id_}", len(job.result or b""), id_)
            for id_, job in self._.jobs.items()
            if job.unclaimed_until is not None
        )

    def _add_unclaimed(self, job_id: str, job: Job, now: float) -> None:
        job.unclaimed_until = now + UNCLAIMED_FOR
        most, most_bytes = self.bounds
        if len(job.result or b"") > most_bytes:
            del self._.jobs[job_id]
            self._.counted["evicted"] += 1
            return
        for goes, _, _, id_ in self._unclaimed():
            if goes <= now:
                del self._.jobs[id_]
        while (held := self._unclaimed()) and (len(held) > most or sum(size for *_, size, _ in held) > most_bytes):
            del self._.jobs[held[0][3]]
            self._.counted["evicted"] += 1

    @atomic
    def claim(self, continuation_id: str, now: float, until: float) -> Claim | None:
        found = self._one(continuation_id)
        if not found or found.due is None or found.due > now:
            return None
        found.due = until
        if found.state is State.RUNNING:
            found.go(Act.LAPSE, until)
            found.run = ""
        claim = _claim(found)
        found.open += found.state is State.STORED
        return claim

    @atomic
    def claim_due(self, now: float, until: float, limit: int) -> Sequence[Claim]:
        claims: list[Claim] = []
        jobs = [self._known("job", id_) for id_ in self._.jobs]
        unfinished = [job for job in jobs if job and job.result is not None and self._left(job)]
        if unfinished:
            claims += self._wake_left(unfinished[0], math.ceil(limit / 2), now, until).claims
        due = sorted((found.due, id_) for id_, found in self._.continuations.items() if found.due is not None)
        ids = [id_ for at, id_ in due if at <= now and self._one(id_)]
        return [*claims, *(claim for id_ in ids[: limit - len(claims)] if (claim := self.claim(id_, now, until)))]

    @atomic
    def published(self, continuation_id: str, due: float) -> None:
        found = self._one(continuation_id)
        if found and after(found.state, Act.PUBLISHED) is State.PUBLISHED:
            found.go(Act.PUBLISHED, due)
            found.publications += 1

    @atomic
    def start(self, continuation_id: str, run: str, now: float, *, lease: float | None) -> Resumption:
        found = self._one(continuation_id)
        if not found:
            return Resumption(outcome=StartOutcome.GONE)
        lost = found.due is not None and (found.due <= now or self._is_closed(found.run))
        if self._is_closed(run) or (found.state is State.RUNNING and found.run != run and not lost):
            return Resumption(outcome=StartOutcome.TAKEN)
        if found.state in NOT_STARTED:
            return Resumption(outcome=NOT_STARTED[found.state])
        task, job = self._known("task", found.parked.task_id), self._known("job", found.job_id)
        result = found.own[1] if found.own else job and job.result
        if result is None or task is None:
            return Resumption(outcome=StartOutcome.GONE)
        found.go(Act.START, lease)
        found.run = run
        return Resumption(
            outcome=StartOutcome.STARTED,
            task_id=found.parked.task_id,
            forward=found.parked.forward,
            job_id=found.job_id,
            journal=task.journal,
            failure=found.parked.failure,
            result=result,
            suspended_at=found.parked.suspended_at,
            delivered_at=found.delivered_at,
        )

    @atomic
    def hold(self, continuation_id: str, run: str, until: float) -> bool:
        found = self._held(continuation_id, run)
        if not found or self._is_closed(run):
            return False
        if found.due is not None:
            found.due = max(found.due, until)
        return True

    @atomic
    def save_journal(
        self, task_id: str, run: str, continuation_id: str | None, journal: bytes, *, retries: int = 0
    ) -> bool:
        task, newest = self._known("task", task_id), self._one(self._.newest.get(task_id))
        if continuation_id is not None:
            lost = not self._held(continuation_id, run)
        else:
            lost = newest is not None and _is_in_the_way(newest, retries)
        if not task or task.ended is not None or self._is_closed(run) or lost:
            return False
        self._.tasks[task_id] = replace(task, journal=journal)
        return True

    @atomic
    def finish(self, continuation_id: str, run: str, *, keep_journal: bool) -> bool:
        found = self._held(continuation_id, run)
        if not found:
            return False
        task_id, retries = found.parked.task_id, found.parked.retries
        if not keep_journal:
            self._end(task_id, retries)
        elif task := self._known("task", task_id):
            self._.tasks[task_id] = replace(task, retried=retries)
        self._finish(continuation_id, found)
        return True

    @atomic
    def finish_all(self, ended: Sequence[tuple[str, str]]) -> None:
        for continuation_id, run in ended:
            self.finish(continuation_id, run, keep_journal=False)

    def _finish(self, id_: str, found: Continuation) -> None:
        found.first = self._unbind(id_, found)
        if found.state is not State.DONE:  # set aside
            found.go(Act.FINISH, None)
        found.own = None
        found.parked = replace(found.parked, retries=0, message=b"", envelope=b"", journal=b"", job=b"", failure=b"")

    def _end(self, task_id: str, retries: int) -> None:
        task = self._known("task", task_id)
        if task:
            self._.tasks[task_id] = replace(task, journal=b"", ended=retries, retried=None)

    @atomic
    def end(self, task_id: str, retries: int) -> None:
        newest = self._one(self._.newest.get(task_id))
        if not newest or newest.state is State.DONE:
            self._end(task_id, retries)

    @atomic
    def task(self, task_id: str) -> TaskRecord | None:
        task: TaskRecord | None = self._known("task", task_id)
        newest = self._one(self._.newest.get(task_id))
        if task is None or newest is None:
            return task
        return replace(task, state=newest.state, retries=newest.parked.retries)

    @atomic
    def close_run(self, run: str) -> bool:
        self._.runs[run] = "told" if self._.runs.get(run, "closed") != "closed" else "closed"
        return self._.runs[run] == "told"

    @atomic
    def lead(self, owner: str, now: float, until: float) -> bool:
        if self._.leader and self._.leader[0] != owner and self._.leader[1] > now:
            return False
        self._.leader = owner, until
        return True

    @atomic
    def resign(self, owner: str) -> None:
        if self._.leader and self._.leader[0] == owner:
            self._.leader = None

    def note_receiver(self, now: float) -> None:
        self._.receiver_clock = now - time.time()

    @atomic
    def take_nonce(self, nonce: str, holder: str, until: float) -> str:
        return self._.nonces.setdefault(nonce, (holder, until))[0]

    def health(self) -> Health:
        return Health(clock=time.time(), receiver_clock=self._.receiver_clock)

    @atomic
    def counts(self) -> Counts:
        unclaimed = self._unclaimed()
        return Counts(
            suspended=sum(found.due is not None for found in self._.continuations.values()),
            unclaimed=len(unclaimed),
            unclaimed_bytes=sum(size for *_, size, _ in unclaimed),
            **self._.counted,
        )

    def close(self) -> None:
        """Nothing to give back."""


def _is_in_the_way(found: Continuation, retries: int) -> bool:
    """Of a run that holds nothing, but not of one that Celery retried this one's by."""
    return found.state is not State.DONE and (found.state is not State.RUNNING or found.parked.retries >= retries)


def digest(result: bytes | None) -> str:
    return "" if result is None else hashlib.sha256(result).hexdigest()


def _claim(found: Continuation) -> Claim:
    parked, delivered = found.parked, found.state not in WAITING
    return Claim(
        id=parked.id,
        task_id=parked.task_id,
        state=found.state,
        job=parked.job if found.state is State.STORED else b"",
        message=parked.message if delivered else b"",
        envelope=parked.envelope if delivered else b"",
        failure=parked.failure,
        job_id=found.job_id,
        suspended_at=parked.suspended_at,
        submit_deadline=parked.submit_deadline,
        deadline=parked.deadline,
        attempts=found.attempts,
        publications=found.publications,
        maybe_accepted=found.state is State.STORED and found.open > 0,
    )
