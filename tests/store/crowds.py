"""A result for many: it reaches them in several acts, and whoever has begun may die between two of them."""

from __future__ import annotations

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import Claim, DeliverOutcome, StartOutcome, Verdict
from celery_ezthrottle.store.states import State

from .bench import LATER, NOW, ROOM, Bench, Contract, deliver, park, reach, state_of

SIZE = 120


def gather(store: Store, size: int = SIZE, *, shared: bool = True) -> list[str]:
    """Tasks t0, t1 … that all wait for job j1."""
    for number in range(size):
        reach(store, State.SUBMITTED, f"c{number}", task_id=f"t{number}", run_id=f"r{number}", shared=shared)
    return [f"c{number}" for number in range(size)]


def begin(store: Store, id_: str | None = "c7") -> DeliverOutcome:
    delivery = store.deliver(id_, "j1", b"result", NOW + 5, NOW + 65)
    assert delivery.verdict is Verdict.FIRST
    assert delivery.rest
    return delivery


def go_on(store: Store) -> list[Claim]:
    claims: list[Claim] = []
    rest = True
    while rest:
        woken = store.deliver_rest("j1", NOW + 6, NOW + 66)
        claims += woken.claims
        rest = woken.rest
    return claims


def left_of(crowd: list[str], delivery: DeliverOutcome) -> list[str]:
    woken = {claim.id for claim in delivery.claims}
    return [id_ for id_ in crowd if id_ not in woken]


def start(store: Store, id_: str) -> bytes:
    resumption = store.start(id_, f"run of {id_}", NOW + 7, lease=None)
    assert resumption.outcome is StartOutcome.STARTED
    return resumption.result


def finish(store: Store, id_: str) -> None:
    assert store.finish(id_, f"run of {id_}", keep_journal=False)


class CrowdContract(Contract):
    def test_a_crowd_is_woken_part_by_part(self, store: Store) -> None:
        crowd = gather(store)
        delivery = begin(store)
        assert delivery.claims[0].id == "c7"  # whose webhook this is
        assert len(delivery.claims) < SIZE / 2
        claims = [*delivery.claims, *go_on(store)]
        assert sorted(claim.id for claim in claims) == sorted(crowd)
        assert {(claim.state, claim.job_id, claim.message) for claim in claims} == {
            (State.DELIVERED, "j1", park().message)
        }
        assert {start(store, id_) for id_ in crowd} == {b"result"}
        assert not store.deliver_rest("j1", NOW, NOW).rest

    def test_a_sweep_goes_on(self, store: Store) -> None:
        """The process that has begun died, and the service does not send its webhook again."""
        crowd = gather(store)
        left = left_of(crowd, begin(store, None))
        store.suspend(park("due", task_id="due", run_id="due", submit_at=NOW), ROOM)
        first = store.claim_due(NOW + 6, NOW + 66, 10)
        assert len(first) == 6
        assert first[-1].id == "due"  # it does not have to wait until the crowd is through
        claims = list(first[:-1])
        while found := store.claim_due(NOW + 6, NOW + 66, 10):
            claims += found
        assert sorted(claim.id for claim in claims) == sorted(left)
        assert {start(store, id_) for id_ in crowd} == {b"result"}

    def test_another_webhook_goes_on(self, store: Store) -> None:
        """Each waiter may have a webhook of its own."""
        crowd = gather(store)
        left = left_of(crowd, begin(store))
        again = store.deliver(left[-1], "j1", b"result", NOW + 6, NOW + 66)
        assert (again.verdict, again.claims[0].id) == (Verdict.REPEATED, left[-1])
        assert len(again.claims) > 1
        other = store.deliver(None, "j1", b"other", NOW + 6, NOW + 66)
        assert other.verdict is Verdict.CONTRADICTING
        woken = [claim.id for claim in (*again.claims, *other.claims, *go_on(store))]
        assert sorted(woken) == sorted(left)
        assert {start(store, id_) for id_ in crowd} == {b"result"}
        assert deliver(store, "c0", "j1") == (Verdict.REPEATED, [])

    def test_the_result_stays_for_those_that_are_left(self, store: Store) -> None:
        crowd = gather(store, shared=False)
        delivery = begin(store)
        for claim in delivery.claims:
            start(store, claim.id)
            finish(store, claim.id)
        for id_ in left_of(crowd, delivery):
            assert store.start(id_, "too early", NOW + 7, lease=None).outcome is StartOutcome.WAITING
        go_on(store)
        for id_ in left_of(crowd, delivery):
            assert start(store, id_) == b"result"
            finish(store, id_)
        assert store.counts().unclaimed == 0
        store.suspend(park("late", task_id="late", run_id="late"), ROOM)
        assert store.bind("late", "j1", NOW) is State.SUBMITTED  # the last one has dropped it

    def test_a_shared_result_is_unclaimed_once_the_last_has_ended(self, store: Store) -> None:
        crowd = gather(store)
        begin(store)
        go_on(store)
        for id_ in crowd:
            start(store, id_)
        for id_ in crowd[1:]:
            finish(store, id_)
        assert store.counts().unclaimed == 0
        finish(store, crowd[0])
        assert store.counts().unclaimed == 1

    def test_who_comes_in_between(self, store: Store) -> None:
        gather(store)
        begin(store)
        store.suspend(park("late", task_id="late", run_id="late", shared=True), ROOM)
        assert store.bind("late", "j1", NOW) is State.DELIVERED
        assert start(store, "late") == b"result"
        assert "late" not in {claim.id for claim in go_on(store)}

    def test_who_leaves_in_between(self, store: Store) -> None:
        crowd = gather(store)
        left = left_of(crowd, begin(store))
        cancelled, settled, elsewhere, *others = left
        assert store.cancel(f"t{cancelled[1:]}", b"revoked", NOW + 6) == cancelled
        assert store.settle(settled, b"unknown", NOW + 6)  # a sweep, when its deadline is over
        assert deliver(store, elsewhere, "j2", b"another result")[1] == [elsewhere]
        assert start(store, cancelled) == b"revoked"
        assert start(store, settled) == b"result"  # which is there, and better than none
        assert start(store, elsewhere) == b"another result"
        for id_ in (cancelled, settled, elsewhere):
            finish(store, id_)
        assert sorted(claim.id for claim in go_on(store)) == sorted(others)
        assert state_of(store, f"t{others[0][1:]}") is State.DELIVERED

    def test_nobody_is_left_when_the_rest_has_left(self, store: Store, bench: Bench) -> None:
        crowd = gather(store)
        delivery = begin(store)
        for id_ in left_of(crowd, delivery):
            assert store.cancel(f"t{id_[1:]}", b"revoked", NOW + 6) == id_
        for id_ in crowd:
            start(store, id_)
            finish(store, id_)
        assert store.deliver_rest("j1", NOW + 6, NOW + 66).claims == ()
        assert store.counts().unclaimed == 1
        assert list(store.claim_due(LATER, LATER, 10)) == []
        before = bench.snapshot()
        assert not store.deliver_rest("j1", NOW + 6, NOW + 66).rest
        assert bench.snapshot() == before

    def test_a_delivery_under_an_unknown_version_is_left_alone(self, store: Store, bench: Bench) -> None:
        gather(store)
        begin(store)
        bench.disown("job", "j1")
        before = bench.snapshot()
        assert store.deliver_rest("j1", NOW + 6, NOW + 66).claims == ()
        assert list(store.claim_due(NOW + 6, NOW + 66, 10)) == []
        assert bench.snapshot() == before
