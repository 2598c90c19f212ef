"""The contract: continuations that wait for their turn."""

from __future__ import annotations

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import StartOutcome, SuspendOutcome, Turns
from celery_ezthrottle.store.states import State

from .bench import DEADLINE, NOW, ROOM, SUBMIT_AT, Bench, Contract, is_due, park, reach, state_of

TURN = NOW + 10


def take(
    store: Store, now: float = TURN, *, until: float = NOW + 60, limit: int = 10
) -> tuple[list[str], float | None]:
    turns = store.take_turns(b"its turn", now, until, limit)
    return [claim.id for claim in turns.claims], turns.next


class TurnsContract(Contract):
    def test_a_turn_comes_at_its_time(self, store: Store) -> None:
        store.suspend(park(turn=TURN), ROOM)
        assert store.take_turns(b"its turn", TURN - 0.001, NOW + 60, 10) == Turns(next=TURN)
        [claim] = store.take_turns(b"its turn", TURN, NOW + 60, 10).claims
        assert (claim.id, claim.state, claim.message) == ("c1", State.DELIVERED, park().message)
        assert claim.envelope == park().envelope
        assert claim.job == b""
        assert is_due(store, NOW + 60)

    def test_the_run_gets_the_outcome(self, store: Store) -> None:
        store.suspend(park(turn=TURN), ROOM)
        take(store)
        found = store.start("c1", "r2", TURN, lease=None)
        assert (found.outcome, found.result, found.journal) == (StartOutcome.STARTED, b"its turn", b"journal")

    def test_a_turn_is_taken_once(self, store: Store) -> None:
        store.suspend(park(turn=TURN), ROOM)
        assert take(store) == (["c1"], None)
        assert take(store) == ([], None)

    def test_turns_come_in_their_order(self, store: Store, bench: Bench) -> None:
        for number, turn in enumerate([TURN + 3, TURN + 1, TURN + 2, TURN + 9]):
            store.suspend(park(f"c{number}", task_id=f"t{number}", run_id=f"r{number}", turn=turn), ROOM)
        assert take(bench.open(), TURN + 5, limit=2) == (["c1", "c2"], TURN + 3)
        assert take(store, TURN + 5, limit=2) == (["c0"], TURN + 9)

    def test_a_continuation_that_waits_for_a_job_has_no_turn(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        assert take(store, DEADLINE) == ([], None)

    def test_a_turn_that_nobody_took_is_due_as_any_continuation(self, store: Store) -> None:
        store.suspend(park(turn=TURN), ROOM)
        assert is_due(store, SUBMIT_AT)

    @pytest.mark.parametrize("meanwhile", ["settled", "cancelled", "withdrawn"])
    def test_who_left_meanwhile_is_passed_over(self, store: Store, meanwhile: str) -> None:
        store.suspend(park(turn=TURN, journal=b"", forward=1), ROOM)
        if meanwhile == "withdrawn":
            assert store.withdraw("c1")
        elif meanwhile == "settled":
            assert store.settle("c1", b"settled", NOW)
        else:
            assert store.cancel("t1", b"cancelled", NOW)
        assert take(store) == ([], None)
        if meanwhile != "withdrawn":
            assert store.start("c1", "r2", NOW, lease=None).result == meanwhile.encode()

    def test_a_run_whose_turn_came_waits_for_another_one(self, store: Store) -> None:
        store.suspend(park(turn=TURN), ROOM)
        take(store)
        store.start("c1", "r2", TURN, lease=None)
        again = park("c2", run_id="r2", resumed_from="c1", forward=2, turn=TURN + 5)
        assert store.suspend(again, ROOM) is SuspendOutcome.SUSPENDED
        assert take(store) == ([], TURN + 5)
        assert take(store, TURN + 5) == (["c2"], None)
        assert state_of(store) is State.DELIVERED

    def test_a_suspension_that_is_repeated_keeps_its_turn(self, store: Store) -> None:
        for _ in range(2):
            assert store.suspend(park(turn=TURN), ROOM) is SuspendOutcome.SUSPENDED
        assert take(store) == (["c1"], None)

    def test_a_record_of_an_unknown_version_is_left_alone(self, store: Store, bench: Bench) -> None:
        store.suspend(park(turn=TURN), ROOM)
        bench.disown("continuation", "c1")
        before = bench.snapshot()
        assert take(store) == ([], None)
        after = bench.snapshot()
        assert take(store) == ([], None)
        assert after == bench.snapshot()
        assert before != after  # only the place in the queue is gone

    def test_the_turn_of_a_task_can_come_earlier(self, store: Store) -> None:
        for number in (1, 2):
            store.suspend(park(f"c{number}", task_id=f"t{number}", run_id=f"r{number}", turn=TURN), ROOM)
        store.suspend(park("c3", task_id="t3", run_id="r3"), ROOM)  # it waits for a job
        claims = store.take_turns_of(["t2", "t3", "t4"], b"its turn", NOW, NOW + 60)
        assert [(claim.id, claim.state, claim.task_id) for claim in claims] == [("c2", State.DELIVERED, "t2")]
        assert store.take_turns_of(["t2"], b"its turn", NOW, NOW + 60) == []
        assert is_due(store, NOW + 60, "c2")
        assert take(store) == (["c1"], None)

    def test_others_are_not_touched(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        assert take(store, DEADLINE) == ([], None)
        assert state_of(store) is State.SUBMITTED
