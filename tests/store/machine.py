"""Random lives of a few tasks on a real store, each answer predicted by the model.

Time is a logical clock that only goes forward; it starts near the real time, because a server drops keys by its own. It is half a
minute ahead or behind: some acts of a store go by its own clock, and which of the two is later must not depend on how fast this
machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celery_ezthrottle.store.records import Claim, DeliverOutcome, Resumption, StartOutcome, Suspension
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.states import PARKED, WAITING, State

from .bench import park
from .model import ModelStore
from .records import DAY, Continuation, Data, lifetimes

LEASE = 60.0
BOUNDS = {"max_unclaimed": 2, "max_unclaimed_bytes": 10}

TASKS = st.sampled_from(["t1", "t2", "t3"])
JOBS = st.sampled_from(["j1", "j2", "j3", "j4"])
RESULTS = st.sampled_from([b"one", b"other", b"a long one"])
LEASES = st.sampled_from([None, 100.0])
JOURNALS = st.sampled_from([b"", b"journal", b"longer"])
#: Seconds from now; None = the run waits for a job.
TURNS = st.sampled_from([None, 1.0, 90.0])
#: Seconds by which the logical clock is ahead of the real one.
AHEAD = st.sampled_from([30.0, -30.0])
INDEX = st.integers(0, 5)  # of something, the newest first
RETRIES = st.integers(0, 2)


class Machine(RuleBasedStateMachine):
    """Derive a class with a client and a prefix."""

    client: ClassVar[redis.Redis]
    prefix: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.client.flushdb()
        self.store = RedisStore(self.client, prefix=self.prefix, **BOUNDS)
        self.data = Data()
        self.model = ModelStore(self.data, **BOUNDS)
        self.now = float(int(time.time())) + 0.1234567
        self.names = 0
        self.parked: list[Suspension] = []  # all suspensions that were tried
        self.runs: list[tuple[str, str]] = []  # all that ever started, with what they resumed
        self.webhooks: list[tuple[str | None, str, bytes]] = []
        self.dead: set[str] = set()
        self.ended: set[str] = set()
        self.withdrawn: list[str] = []

    # What the rules need ------------------------------------------------------------------------------------------

    def both(self, act: str, *args: Any, **kwargs: Any) -> Any:
        """The answer to an act, which is the one predicted."""
        predicted = in_order(getattr(self.model, act)(*args, **kwargs))
        answer = in_order(getattr(self.store, act)(*args, **kwargs))
        assert answer == predicted, f"{act}{args}{kwargs}: {answer}, not {predicted}"
        return answer

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def ids(self, *states: State) -> list[str]:
        """Continuations in these states, or in any; the newest first."""
        return [id_ for id_, one in reversed(self.data.continuations.items()) if not states or one.state in states]

    def living(self) -> list[tuple[str, str]]:
        return [pair for pair in reversed(self.runs) if pair[1] not in self.dead]

    def idle(self) -> list[str]:
        """Tasks without a continuation that goes on."""
        records = {task_id: self.model.task(task_id) for task_id in ("t1", "t2", "t3")}
        return [task_id for task_id, record in records.items() if not record or record.state in {None, State.DONE}]

    def one(self, id_: str) -> Continuation:
        return self.data.continuations[id_]

    def suspend(self, parked: Suspension, limit: int = 9) -> None:
        self.parked.append(parked)
        self.both("suspend", parked, limit)

    def draft(self, task_id: str, run: str, retries: int, shared: bool, **changes: Any) -> Suspension:
        record = self.model.task(task_id)
        return park(
            self.name("c"),
            task_id=task_id,
            run_id=run,
            retries=retries,
            shared=shared,
            forward=(record.forwards if record else 0) + 1,
            suspended_at=self.now,
            submit_at=self.now + LEASE,
            submit_deadline=self.now + 3600,
            deadline=self.now + 12 * 3600,
            **changes,
        )

    # A task's first run, and the one that submits for it --------------------------------------------------------------

    @initialize(
        states=st.lists(st.sampled_from(State), min_size=3, max_size=3), shared=st.booleans(), lease=LEASES, ahead=AHEAD
    )
    def tasks_are_somewhere(self, states: list[State], shared: bool, lease: float | None, ahead: float) -> None:
        self.now += ahead
        for number, state in enumerate(states, 1):
            self.a_task_comes_to(f"t{number}", state, f"j{number}", shared, lease)

    @precondition(lambda self: self.idle())
    @rule(index=INDEX, state=st.sampled_from(State), job_id=JOBS, shared=st.booleans(), lease=LEASES)
    def another_task_comes(self, index: int, state: State, job_id: str, shared: bool, lease: float | None) -> None:
        self.a_task_comes_to(pick(self.idle(), index), state, job_id, shared, lease)

    def a_task_comes_to(self, task_id: str, state: State, job_id: str, shared: bool, lease: float | None) -> None:
        """The way of most tasks; it ends early where the store is full, or the job's result is there already."""
        self.suspend(self.draft(task_id, self.name("r"), 0, shared), 4)
        id_ = self.parked[-1].id
        acts: dict[State, Callable[[], object]] = {
            State.SUBMITTED: lambda: self.both("bind", id_, job_id, self.now),
            State.DELIVERED: lambda: self.webhook(id_, job_id, b"one"),
            State.PUBLISHED: lambda: self.both("published", id_, self.now + 300),
            State.RUNNING: lambda: self.start(id_, self.name("r"), lease),
            State.DONE: lambda: self.both("finish", *self.runs[-1], keep_journal=bool(lease)),
        }
        for reached, act in acts.items():
            if self.model.task(task_id) is not None and list(State).index(reached) <= list(State).index(state):
                act()

    @precondition(lambda self: self.idle())
    @rule(
        index=INDEX, retries=RETRIES, shared=st.booleans(), limit=st.sampled_from([1, 4]), journal=JOURNALS, turn=TURNS
    )
    def a_run_suspends(
        self, index: int, retries: int, shared: bool, limit: int, journal: bytes, turn: float | None
    ) -> None:
        """Also one that comes after the end of its task."""
        task_id = pick(self.idle(), index)
        turn = turn and self.now + turn
        self.suspend(self.draft(task_id, self.name("r"), retries, shared, journal=journal, turn=turn), limit)

    @rule(task_ids=st.lists(TASKS, max_size=3, unique=True))
    def turns_of_tasks_come(self, task_ids: list[str]) -> None:
        self.both("take_turns_of", task_ids, b"its turn", self.now, self.now + LEASE)

    @rule(limit=st.sampled_from([1, 10]))
    def turns_come(self, limit: int) -> None:
        self.both("take_turns", b"its turn", self.now, self.now + LEASE, limit)

    @rule(task_id=TASKS, retries=RETRIES, shared=st.booleans())
    def another_run_suspends(self, task_id: str, retries: int, shared: bool) -> None:
        """One that Celery retries, or whose message was delivered twice."""
        self.suspend(self.draft(task_id, self.name("r"), retries, shared))

    @precondition(lambda self: self.parked)
    @rule(index=INDEX)
    def a_suspension_comes_again(self, index: int) -> None:
        """Its answer was lost."""
        self.both("suspend", pick(self.parked[::-1], index), 1)

    @precondition(lambda self: self.ids())
    @rule(index=INDEX, job_id=JOBS, stored=st.booleans())
    def bind(self, index: int, job_id: str, stored: bool) -> None:
        """Before the webhook or after, under this job or another."""
        self.both("bind", pick(self.ids(State.STORED) * stored or self.ids(), index), job_id, self.now)

    @precondition(lambda self: self.ids())
    @rule(index=INDEX, maybe_accepted=st.booleans())
    def postpone(self, index: int, maybe_accepted: bool) -> None:
        self.both("postpone", pick(self.ids(), index), self.now + 10, maybe_accepted=maybe_accepted)

    @precondition(lambda self: self.ids())
    @rule(index=INDEX, stored=st.booleans())
    def withdraw(self, index: int, stored: bool) -> None:
        self.withdraw_one(pick(self.ids(State.STORED) * stored or self.ids(), index))

    @precondition(lambda self: any(one.aside for one in self.data.continuations.values()))
    @rule(index=INDEX)
    def withdraw_what_a_resumed_run_has_parked(self, index: int) -> None:
        """The run holds again what it was resumed from, unless somebody else is submitting, too."""
        aside = {id_ for id_ in self.ids() if self.one(id_).aside}
        id_ = pick([id_ for id_ in self.ids(State.STORED) if self.one(id_).before in aside], index)
        before, run = self.one(id_).before, self.one(id_).run
        if self.withdraw_one(id_) and not self.model._is_closed(run):
            assert self.both("hold", before, run, 0.0)

    @precondition(lambda self: self.ids(State.STORED))
    @rule(index=INDEX)
    def withdraw_what_its_worker_knows_to_be_suspended(self, index: int) -> None:
        """The process that submits is about to be ended."""
        id_ = pick(self.ids(State.STORED), index)
        self.both("postpone", id_, self.now, maybe_accepted=False)
        assert self.both("close_run", self.one(id_).run)
        assert not self.withdraw_one(id_)

    def withdraw_one(self, id_: str) -> bool:
        done = bool(self.both("withdraw", id_))
        self.withdrawn += [id_] * done
        return done

    @precondition(lambda self: self.withdrawn)
    @rule(index=INDEX)
    def a_withdrawal_comes_again(self, index: int) -> None:
        """Its answer was lost."""
        id_ = pick(self.withdrawn[::-1], index)
        assert self.both("withdraw", id_) or id_ in self.data.continuations  # a suspension came again, late

    @rule(job_id=JOBS)
    def result(self, job_id: str) -> None:
        self.both("result", job_id)

    # Outcomes -----------------------------------------------------------------------------------------------------

    @rule(index=INDEX, job_id=JOBS, result=RESULTS, named=st.booleans())
    def deliver(self, index: int, job_id: str, result: bytes, named: bool) -> None:
        """Early, late, or for somebody else's job."""
        self.webhook(pick(self.ids(), index) if named and self.ids() else None, job_id, result)

    @precondition(lambda self: self.webhooks)
    @rule(index=INDEX, result=RESULTS, same=st.booleans(), proven=st.booleans())
    def a_webhook_comes_again(self, index: int, result: bytes, same: bool, proven: bool) -> None:
        """Or contradicts the first."""
        id_, job_id, first = pick(self.webhooks[::-1], index)
        self.webhook(id_ if proven else None, job_id, first if same else result)

    @precondition(lambda self: self.ids(*WAITING))
    @rule(index=INDEX, job_id=JOBS, result=RESULTS)
    def deliver_to_who_waits(self, index: int, job_id: str, result: bytes) -> None:
        id_ = pick(self.ids(*WAITING), index)
        job_id = self.one(id_).job_id or job_id
        assert id_ in {claim.id for claim in self.webhook(id_, job_id, result).claims}

    def webhook(self, id_: str | None, job_id: str, result: bytes) -> DeliverOutcome:
        self.webhooks.append((id_, job_id, result))
        delivery = self.both("deliver", id_, job_id, result, self.now, self.now + LEASE)
        assert isinstance(delivery, DeliverOutcome)
        return delivery

    @precondition(lambda self: self.ids(State.SUBMITTED))
    @rule(index=INDEX, result=RESULTS, resume=st.booleans(), keep_journal=st.booleans())
    def a_webhook_comes_for_what_was_settled(self, index: int, result: bytes, resume: bool, keep_journal: bool) -> None:
        """Before the resumed run has ended."""
        id_ = pick(self.ids(State.SUBMITTED), index)
        assert self.both("settle", id_, b"given up", self.now)
        self.webhook(id_, self.one(id_).job_id, result)
        if resume:
            self.start(id_, self.name("r"), None)
            self.both("finish", *self.runs[-1], keep_journal=keep_journal)

    @precondition(lambda self: self.ids(*PARKED))
    @rule(task_id=TASKS, result=RESULTS)
    def cancel(self, task_id: str, result: bytes) -> None:
        self.both("cancel", task_id, result, self.now)

    @precondition(lambda self: self.ids(*PARKED))
    @rule(task_ids=st.lists(TASKS, max_size=3), result=RESULTS)
    def cancel_all(self, task_ids: list[str], result: bytes) -> None:
        self.both("cancel_all", task_ids, result, self.now)

    @precondition(lambda self: self.ids())
    @rule(index=INDEX)
    def settle(self, index: int) -> None:
        self.both("settle", pick(self.ids(), index), b"given up", self.now)

    @precondition(lambda self: self.ids())
    @rule(index=INDEX)
    def published(self, index: int) -> None:
        self.both("published", pick(self.ids(), index), self.now + 300)

    # Resumed runs ---------------------------------------------------------------------------------------------------

    def start(self, id_: str, run: str, lease: float | None) -> None:
        found = self.both("start", id_, run, self.now, lease=None if lease is None else self.now + lease)
        assert isinstance(found, Resumption)
        if found.outcome is StartOutcome.STARTED and (id_, run) not in self.runs:
            self.runs.append((id_, run))

    @precondition(lambda self: self.ids(State.DELIVERED, State.PUBLISHED))
    @rule(index=INDEX, lease=LEASES)
    def a_message_arrives(self, index: int, lease: float | None) -> None:
        self.start(pick(self.ids(State.DELIVERED, State.PUBLISHED), index), self.name("r"), lease)

    @precondition(lambda self: self.ids())
    @rule(index=INDEX, lease=LEASES)
    def a_message_is_delivered_again(self, index: int, lease: float | None) -> None:
        """Whatever became of the continuation."""
        self.start(pick(self.ids(), index), self.name("r"), lease)

    @precondition(lambda self: self.ids(State.RUNNING))
    @rule(index=INDEX, lease=LEASES)
    def a_worker_is_lost(self, index: int, lease: float | None) -> None:
        """Its run is given up, and the message comes again."""
        id_ = pick(self.ids(State.RUNNING), index)
        self.both("close_run", self.one(id_).run)
        self.start(id_, self.name("r"), lease)

    @precondition(lambda self: self.runs)
    @rule(index=INDEX, lease=st.sampled_from([None, 10.0, 100.0]))
    def start_again(self, index: int, lease: float | None) -> None:
        """Its answer was lost; or the run has lost it."""
        id_, run = pick(self.runs[::-1], index)
        self.start(id_, run, lease)

    @precondition(lambda self: self.living())
    @rule(index=INDEX)
    def a_run_dies(self, index: int) -> None:
        self.dead.add(pick(self.living(), index)[1])

    @precondition(lambda self: self.living())
    @rule(index=INDEX, seconds=st.sampled_from([10.0, 200.0]))
    def hold(self, index: int, seconds: float) -> None:
        self.both("hold", *pick(self.living(), index), self.now + seconds)

    @precondition(lambda self: self.living())
    @rule(index=INDEX, keep_journal=st.booleans())
    def finish(self, index: int, keep_journal: bool) -> None:
        self.both("finish", *pick(self.living(), index), keep_journal=keep_journal)

    @precondition(lambda self: self.living())
    @rule(indices=st.lists(INDEX, min_size=1, max_size=4))
    def finish_all(self, indices: list[int]) -> None:
        """Also one twice: the answer to the first time was lost."""
        self.both("finish_all", [pick(self.living(), index) for index in indices])

    @precondition(lambda self: self.living())
    @rule(index=INDEX, shared=st.booleans(), retries=RETRIES, journal=JOURNALS)
    def a_resumed_run_suspends(self, index: int, shared: bool, retries: int, journal: bytes) -> None:
        id_, run = pick(self.living(), index)
        task_id = self.one(id_).parked.task_id
        self.suspend(self.draft(task_id, run, retries, shared, resumed_from=id_, journal=journal), 0)

    @precondition(lambda self: self.runs)
    @rule(index=INDEX, journal=JOURNALS, resumed=st.booleans(), retries=RETRIES)
    def save_journal(self, index: int, journal: bytes, resumed: bool, retries: int) -> None:
        id_, run = pick(self.runs[::-1], index)
        task_id = self.one(id_).parked.task_id
        self.both("save_journal", task_id, run, id_ if resumed else None, journal, retries=retries)

    @precondition(lambda self: self.runs or self.parked)
    @rule(index=INDEX, resumed=st.booleans())
    def a_run_is_given_up(self, index: int, resumed: bool) -> None:
        runs = [run for _, run in self.runs[::-1]] if resumed else [parked.run_id for parked in self.parked[::-1]]
        self.both("close_run", pick(runs or [self.name("r")], index))

    @precondition(lambda self: self.ids(State.DONE))
    @rule(task_id=TASKS, retries=RETRIES)
    def end(self, task_id: str, retries: int) -> None:
        self.both("end", task_id, retries)

    # Time, and who sweeps -------------------------------------------------------------------------------------------

    @rule(nonce=st.sampled_from(["n1", "n2"]), holder=st.sampled_from(["a", "b"]))
    def a_nonce_is_taken(self, nonce: str, holder: str) -> None:
        self.both("take_nonce", nonce, holder, self.now + 600)

    @rule(seconds=st.sampled_from([1, 61, 301, 3600, 13 * 3600, DAY]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: any(self.one(id_).due for id_ in self.ids(State.RUNNING)))
    @rule(index=INDEX, sweep=st.booleans())
    def a_lease_lapses(self, index: int, sweep: bool) -> None:
        """Found by who sweeps, or by who starts."""
        id_ = pick([id_ for id_ in self.ids(State.RUNNING) if self.one(id_).due], index)
        self.now = max(self.now, self.one(id_).due or 0.0)
        if sweep:
            assert self.both("claim", id_, self.now, self.now + LEASE).state is State.DELIVERED
        else:
            self.start(id_, self.name("r"), 100.0)
            assert self.one(id_).run == f"r{self.names}"

    @precondition(lambda self: self.ids())
    @rule(index=INDEX)
    def claim(self, index: int) -> None:
        self.both("claim", pick(self.ids(), index), self.now, self.now + LEASE)

    @precondition(lambda self: self.ids(*PARKED))
    @rule(limit=st.integers(0, 3))
    def a_sweeper_dies(self, limit: int) -> None:
        self.both("claim_due", self.now, self.now + LEASE, limit)

    @precondition(lambda self: self.ids(*PARKED))
    @rule(job_id=JOBS, expire=st.booleans())
    def sweep(self, job_id: str, expire: bool) -> None:
        """Until nothing is due."""
        if expire:
            self.now = max([self.now, *(self.one(id_).parked.deadline for id_ in self.ids(*WAITING))])
        while claims := self.both("claim_due", self.now, self.now + LEASE, 2):
            for claim in claims:
                self.act_on(claim, job_id)
        for id_ in self.ids(*WAITING):
            parked = self.one(id_).parked
            deadline = parked.submit_deadline if self.one(id_).state is State.STORED else parked.deadline
            # Unless it was claimed by one that died, or postponed, for a moment.
            assert self.now < deadline or self.now < (self.one(id_).due or 0.0) <= self.now + LEASE

    def act_on(self, claim: Claim, job_id: str) -> None:
        deadline = claim.submit_deadline if claim.state is State.STORED else claim.deadline
        if claim.state not in WAITING:
            self.both("published", claim.id, self.now + 300)
        elif self.now >= deadline:
            assert self.both("settle", claim.id, b"given up", self.now)
        elif claim.state is State.STORED:
            self.both("bind", claim.id, job_id, self.now)

    # What always holds ----------------------------------------------------------------------------------------------

    @invariant()
    def what_is_kept_is_what_is_predicted(self) -> None:
        for task_id in ("t1", "t2", "t3"):
            self.both("task", task_id)
        self.both("counts")

    @invariant()
    def at_most_one_run_holds_a_continuation(self) -> None:
        for id_ in {id_ for id_, _ in self.runs[-2:]}:
            holders = [run for of, run in self.runs[-6:] if of == id_ and self.both("hold", id_, run, 0.0)]
            assert len(holders) <= (self.one(id_).state is State.RUNNING)

    @invariant()
    def what_is_done_stays_done(self) -> None:
        self.ended |= {id_ for id_ in self.ids(State.DONE) if not self.one(id_).aside}
        for id_ in self.ended:
            assert self.client.hget(f"{self.prefix}c:{id_}", "state") == b"done"

    @invariant()
    def every_key_outlives_its_purpose(self) -> None:
        keys = sorted(key.decode() for key in self.client.scan_iter(count=1000))
        with self.client.pipeline(transaction=False) as pipe:
            pipe.time()
            for key in keys:
                pipe.pttl(key)
            (seconds, microseconds), *lefts = pipe.execute()
        clock = seconds + microseconds / 1e6
        goes = {key.removeprefix(self.prefix): clock + left / 1e3 for key, left in zip(keys, lefts, strict=True)}
        assert min(lefts, default=1) > 0, goes
        purposes = lifetimes(self.data, clock)
        assert goes.keys() - {"counters"} == purposes.keys()
        short = {key: goes[key] - until for key, until in purposes.items() if goes[key] < until - 0.5}
        assert not short


def in_order(answer: Any) -> Any:
    """Waiters wake in any order."""
    if isinstance(answer, DeliverOutcome):
        return replace(answer, claims=tuple(sorted(answer.claims, key=lambda claim: claim.id)))
    return answer


def pick(items: list[Any], index: int) -> Any:
    return items[index % len(items)]
