"""The contract of deliver: first results, waiters, deliveries that come too early, too late or again."""

from __future__ import annotations

import pytest

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import Claim, DeliverOutcome, StartOutcome, Verdict
from celery_ezthrottle.store.states import State

from .bench import (
    DEADLINE,
    EVERY_STATE,
    LATER,
    NOW,
    PAYLOAD,
    ROOM,
    Bench,
    Contract,
    deliver,
    is_due,
    park,
    reach,
    state_of,
)

FIRST, REPEATED, CONTRADICTING = Verdict
GOES_ON = [state for state in EVERY_STATE if state not in {State.STORED, State.SUBMITTED}]


class DeliverContract(Contract):
    @pytest.mark.parametrize("id_", ["c1", None])
    def test_deliver_wakes_its_waiter_and_claims_it(self, store: Store, id_: str | None) -> None:
        reach(store, State.SUBMITTED)
        assert store.deliver(id_, "j1", b"result", NOW + 5.5, NOW + 65.25) == DeliverOutcome(
            verdict=FIRST,
            claims=(
                Claim(
                    id="c1",
                    task_id="t1",
                    state=State.DELIVERED,
                    job=b"",
                    message=b"message " + PAYLOAD,
                    envelope=b"envelope",
                    failure=b"failure",
                    job_id="j1",
                    suspended_at=NOW,
                    submit_deadline=NOW + 3600,
                    deadline=DEADLINE,
                    attempts=0,
                    publications=0,
                    maybe_accepted=False,
                ),
            ),
        )
        assert state_of(store) is State.DELIVERED
        assert is_due(store, NOW + 65.25)

    def test_what_was_counted_before_is_in_the_claim(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        store.postpone("c1", NOW, maybe_accepted=True)
        (claim,) = store.deliver("c1", "j1", b"result", NOW, NOW).claims
        assert (claim.attempts, claim.maybe_accepted, claim.job) == (1, False, b"")

    @pytest.mark.parametrize("state", GOES_ON)
    @pytest.mark.parametrize("id_", ["c1", None])
    @pytest.mark.parametrize(("result", "verdict"), [(b"result", REPEATED), (b"another", CONTRADICTING)])
    def test_a_later_result_is_dropped_and_counted(
        self, store: Store, bench: Bench, state: State, id_: str | None, result: bytes, verdict: Verdict
    ) -> None:
        reach(store, state, shared=True)
        before = bench.snapshot()
        for times in (1, 2):
            assert deliver(store, id_, "j1", result, NOW + 99) == (verdict, [])
            counts = store.counts()
            assert (counts.repeated, counts.contradicting) == ((times, 0) if verdict is REPEATED else (0, times))
        assert bench.snapshot() == before

    @pytest.mark.parametrize("keep_journal", [False, True])
    @pytest.mark.parametrize(("result", "verdict"), [(b"result", REPEATED), (b"another", CONTRADICTING)])
    def test_what_comes_again_after_the_end_is_compared_too(
        self, store: Store, bench: Bench, keep_journal: bool, result: bytes, verdict: Verdict
    ) -> None:
        reach(store, State.RUNNING)
        store.finish("c1", "r2", keep_journal=keep_journal)
        before = bench.snapshot()
        assert deliver(store, "c1", "j1", result, NOW + 99) == (verdict, [])
        assert bench.snapshot() == before

    def test_and_after_the_task_was_suspended_anew(self, store: Store) -> None:
        reach(store, State.RUNNING)
        store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM)
        assert deliver(store, "c1", "j1") == (REPEATED, [])
        assert deliver(store, "c1", "j1", b"another") == (CONTRADICTING, [])

    def test_a_first_result_is_not_counted(self, store: Store) -> None:
        reach(store, State.DELIVERED)
        counts = store.counts()
        assert (counts.repeated, counts.contradicting) == (0, 0)

    def test_what_is_late_for_a_settled_continuation_is_still_a_first_result(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.settle("c1", b"given up", NOW)
        store.start("c1", "r2", NOW, lease=None)
        store.finish("c1", "r2", keep_journal=False)
        assert deliver(store, "c1", "j1") == (FIRST, [])
        assert deliver(store, "c1", "j1") == (REPEATED, [])
        assert deliver(store, "c1", "j1", b"another") == (CONTRADICTING, [])

    def test_what_came_before_the_end_of_a_settled_continuation_is_compared(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.settle("c1", b"given up", NOW)
        assert deliver(store, "c1", "j1") == (FIRST, [])
        store.start("c1", "r2", NOW, lease=None)
        store.finish("c1", "r2", keep_journal=False)
        assert deliver(store, "c1", "j1", b"given up") == (CONTRADICTING, [])
        assert deliver(store, "c1", "j1") == (REPEATED, [])

    def test_a_continuation_that_is_done_does_not_hinder_another_job(self, store: Store) -> None:
        reach(store, State.DONE)
        assert deliver(store, "c1", "j2") == (FIRST, [])
        assert deliver(store, "c1", "j2") == (REPEATED, [])

    def test_a_repeat_wakes_who_came_after_the_result_was_dropped(self, store: Store) -> None:
        reach(store, State.DONE)
        reach(store, State.SUBMITTED, "c2", task_id="t2")
        assert deliver(store, "c1", "j1") == (REPEATED, ["c2"])
        assert store.start("c2", "r3", NOW, lease=None).result == b"result"

    def test_a_repeat_keeps_the_first_result(self, store: Store) -> None:
        reach(store, State.DELIVERED)
        deliver(store, "c1", "j1", b"another", NOW + 99)
        run = store.start("c1", "r2", NOW, lease=None)
        assert (run.result, run.delivered_at) == (b"result", NOW + 5)

    def test_an_empty_result_is_a_result(self, store: Store) -> None:
        assert deliver(store, None, "j1", b"") == (FIRST, [])
        assert deliver(store, None, "j1", b"") == (REPEATED, [])
        assert deliver(store, None, "j1", b"late") == (CONTRADICTING, [])
        store.suspend(park(), ROOM)
        assert store.bind("c1", "j1", NOW) is State.DELIVERED
        assert store.start("c1", "r2", NOW, lease=None).result == b""

    def test_deliver_overtakes_bind(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        assert deliver(store, "c1", "j1", now=NOW + 1.5) == (FIRST, ["c1"])
        assert is_due(store, NOW + 61.5)
        assert store.bind("c1", "j1", NOW + 2) is State.DELIVERED
        run = store.start("c1", "r2", NOW, lease=None)
        assert (run.job_id, run.result, run.delivered_at) == ("j1", b"result", NOW + 1.5)

    def test_a_repeat_binds_too(self, store: Store) -> None:
        deliver(store, None, "j1")
        store.suspend(park(), ROOM)
        assert deliver(store, "c1", "j1", b"another") == (CONTRADICTING, ["c1"])
        assert store.start("c1", "r2", NOW, lease=None).result == b"result"

    def test_a_delivered_continuation_has_no_job_to_submit(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        deliver(store, "c1", "j1")
        claim = store.claim("c1", LATER, LATER)
        assert claim is not None
        assert claim.job == b""

    def test_all_waiters_wake(self, store: Store) -> None:
        reach(store, State.SUBMITTED, shared=True)
        reach(store, State.SUBMITTED, "c2", task_id="t2", shared=True)
        store.suspend(park("c3", task_id="t3", shared=True), ROOM)
        assert deliver(store, "c3", "j1", now=NOW) == (FIRST, ["c1", "c2", "c3"])
        for number in "123":
            assert is_due(store, NOW + 60, f"c{number}")
            assert store.start(f"c{number}", f"run {number}", NOW, lease=None).result == b"result"

    def test_only_who_waits_wakes(self, store: Store) -> None:
        reach(store, State.SUBMITTED, shared=True)
        reach(store, State.SUBMITTED, "c2", task_id="t2", shared=True)
        store.settle("c1", b"given up", NOW)
        assert deliver(store, None, "j1") == (FIRST, ["c2"])

    def test_a_late_waiter_finds_a_shared_result(self, store: Store) -> None:
        reach(store, State.DONE, shared=True)
        store.suspend(park("c2", task_id="t2", shared=True), ROOM)
        assert store.bind("c2", "j1", NOW) is State.DELIVERED
        assert store.start("c2", "r3", NOW, lease=None).result == b"result"

    def test_a_result_stays_while_somebody_waits_for_it(self, store: Store) -> None:
        reach(store, State.SUBMITTED, "c2", task_id="t2")
        store.suspend(park(), ROOM)
        store.bind("c1", "j1", NOW)
        deliver(store, None, "j1")
        store.start("c1", "r2", NOW, lease=None)
        store.finish("c1", "r2", keep_journal=False)
        assert store.start("c2", "r3", NOW, lease=None).result == b"result"

    def test_an_unknown_continuation_does_not_hinder(self, store: Store) -> None:
        assert deliver(store, "unknown", "j1") == (FIRST, [])
        store.suspend(park(), ROOM)
        assert store.bind("c1", "j1", NOW) is State.DELIVERED

    def test_a_continuation_of_an_unknown_version_stays_asleep(self, store: Store, bench: Bench) -> None:
        reach(store, State.SUBMITTED)
        bench.disown("continuation", "c1")
        assert deliver(store, "c1", "j1") == (FIRST, [])

    def test_a_job_of_an_unknown_version_is_left_alone(self, store: Store, bench: Bench) -> None:
        reach(store, State.SUBMITTED)
        bench.disown("job", "j1")
        before, counts = bench.snapshot(), store.counts()
        with pytest.raises(StoreError):
            deliver(store, "c1", "j1")
        assert bench.snapshot() == before
        assert store.counts() == counts


class RebindContract(Contract):
    """A submission whose answer was lost is sent again, and may get another job: the webhook of either is proven."""

    def test_a_continuation_bound_to_another_job_is_rebound(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        assert deliver(store, "c1", "j2") == (FIRST, ["c1"])
        run = store.start("c1", "r2", NOW, lease=None)
        assert (run.outcome, run.job_id, run.result) == (StartOutcome.STARTED, "j2", b"result")

    def test_it_waits_for_the_old_job_no_more(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        deliver(store, "c1", "j2")
        assert deliver(store, "c1", "j1", b"of the old job") == (FIRST, [])
        assert store.counts().unclaimed == 1
        assert store.start("c1", "r2", NOW, lease=None).result == b"result"

    def test_others_wait_for_the_old_job_as_before(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        reach(store, State.SUBMITTED, "c2", task_id="t2")
        deliver(store, "c1", "j2")
        assert state_of(store, "t2") is State.SUBMITTED
        assert deliver(store, None, "j1") == (FIRST, ["c2"])

    def test_others_that_wait_for_the_new_job_wake_too(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        reach(store, State.SUBMITTED, "c2", job_id="j2", task_id="t2")
        assert deliver(store, "c1", "j2") == (FIRST, ["c1", "c2"])

    def test_a_result_that_is_there_already_wakes_it(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        deliver(store, None, "j2")
        assert deliver(store, "c1", "j2") == (REPEATED, ["c1"])
        assert store.start("c1", "r2", NOW, lease=None).result == b"result"
        assert store.counts().unclaimed == 0

    @pytest.mark.parametrize("state", GOES_ON)
    def test_what_has_an_outcome_is_not_rebound(self, store: Store, state: State) -> None:
        reach(store, state)
        assert deliver(store, "c1", "j2", b"of another job") == (FIRST, [])
        assert store.counts().unclaimed == 1
        assert state_of(store) is state
        assert deliver(store, "c1", "j1") == (REPEATED, [])
