"""The contract of runs: start, save_journal, finish. What leases add is in leasing.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import Resumption, StartOutcome, TaskRecord
from celery_ezthrottle.store.states import State

from .bench import EVERY_STATE, NOW, ROOM, Bench, Contract, Kind, deliver, is_due, is_never_due, park, reach, state_of

NOT_RUNNING = [state for state in EVERY_STATE if state is not State.RUNNING]
DELIVERED = [State.DELIVERED, State.PUBLISHED]
LEASES = [None, NOW + 100.5]


class StartContract(Contract):
    @pytest.mark.parametrize("state", DELIVERED)
    @pytest.mark.parametrize("lease", LEASES)
    def test_start(self, store: Store, state: State, lease: float | None) -> None:
        reach(store, state, forward=4)
        assert store.start("c1", "r2", NOW + 9, lease=lease) == Resumption(
            outcome=StartOutcome.STARTED,
            task_id="t1",
            forward=4,
            job_id="j1",
            journal=b"journal",
            failure=b"failure",
            result=b"result",
            suspended_at=NOW,
            delivered_at=NOW + 5,
        )
        assert state_of(store) is State.RUNNING
        assert is_never_due(store) if lease is None else is_due(store, lease)

    def test_start_again(self, store: Store) -> None:
        reach(store, State.DELIVERED)
        first = store.start("c1", "r2", NOW, lease=None)
        assert store.start("c1", "r2", NOW + 1, lease=None) == first

    def test_another_run_holds_it(self, store: Store, bench: Bench) -> None:
        reach(store, State.RUNNING)
        before = bench.snapshot()
        assert store.start("c1", "r3", NOW, lease=None) == Resumption(outcome=StartOutcome.TAKEN)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", [*DELIVERED, State.RUNNING])
    @pytest.mark.parametrize("lease", LEASES)
    def test_a_closed_run_gets_nothing(self, store: Store, bench: Bench, state: State, lease: float | None) -> None:
        reach(store, state)
        assert not store.close_run("r2")
        before = bench.snapshot()
        assert store.start("c1", "r2", NOW, lease=lease) == Resumption(outcome=StartOutcome.TAKEN)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("lease", LEASES)
    @pytest.mark.parametrize(
        ("state", "outcome"),
        [
            (State.STORED, StartOutcome.WAITING),
            (State.SUBMITTED, StartOutcome.WAITING),
            (State.DONE, StartOutcome.DONE),
        ],
    )
    def test_nothing_to_start(
        self, store: Store, bench: Bench, state: State, outcome: StartOutcome, lease: float | None
    ) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert store.start("c1", "r3", NOW, lease=lease) == Resumption(outcome=outcome)
        assert bench.snapshot() == before

    def test_start_what_is_not_there(self, store: Store) -> None:
        assert store.start("c1", "r2", NOW, lease=None) == Resumption(outcome=StartOutcome.GONE)

    @pytest.mark.parametrize(("kind", "id_"), [("continuation", "c1"), ("task", "t1"), ("job", "j1")])
    def test_start_with_a_record_of_an_unknown_version(self, store: Store, bench: Bench, kind: Kind, id_: str) -> None:
        reach(store, State.DELIVERED)
        bench.disown(kind, id_)
        before = bench.snapshot()
        assert store.start("c1", "r2", NOW, lease=None) == Resumption(outcome=StartOutcome.GONE)
        assert bench.snapshot() == before

    def test_one_of_many_runs_starts(self, bench: Bench) -> None:
        reach(bench.open(), State.PUBLISHED)
        stores = [bench.open() for _ in range(8)]
        barrier = Barrier(8)

        def start(number: int) -> StartOutcome:
            barrier.wait(30)
            return stores[number].start("c1", f"run {number}", NOW, lease=None).outcome

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(start, range(8))) == [StartOutcome.STARTED] + [StartOutcome.TAKEN] * 7


class JournalContract(Contract):
    def test_save_journal(self, store: Store) -> None:
        reach(store, State.RUNNING)
        assert store.save_journal("t1", "r2", "c1", b"longer")
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"longer", state=State.RUNNING)

    def test_a_run_that_was_not_resumed_saves_too(self, store: Store) -> None:
        reach(store, State.DONE)
        assert store.save_journal("t1", "r3", None, b"longer")
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"longer", state=State.DONE, retried=0)

    @pytest.mark.parametrize("state", [state for state in EVERY_STATE if state is not State.DONE])
    @pytest.mark.parametrize("retries", [0, 1])
    def test_a_run_that_was_not_resumed_leaves_the_journal_of_another(
        self, store: Store, bench: Bench, state: State, retries: int
    ) -> None:
        """As when its message was delivered twice, and the other delivery is suspended: the answer belongs into that journal."""
        reach(store, state, retries=1)
        before = bench.snapshot()
        assert not store.save_journal("t1", "r3", None, b"mine", retries=retries)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", EVERY_STATE)
    def test_a_run_that_celery_retried_does_not_keep_the_next_one_from_saving(self, store: Store, state: State) -> None:
        """It may not have said yet that it has ended. One that is suspended has not ended."""
        reach(store, state)
        saves = state in {State.RUNNING, State.DONE}
        assert store.save_journal("t1", "r3", None, b"longer", retries=1) is saves
        record = store.task("t1")
        assert record is not None
        assert record.journal == (b"longer" if saves else b"journal")

    def test_a_task_without_a_record_gets_none(self, store: Store) -> None:
        assert not store.save_journal("t1", "r1", None, b"journal")
        assert store.task("t1") is None

    def test_a_task_that_has_ended_keeps_no_journal(self, store: Store, bench: Bench) -> None:
        reach(store, State.RUNNING)
        store.finish("c1", "r2", keep_journal=False)
        before = bench.snapshot()
        assert not store.save_journal("t1", "r3", None, b"journal")
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", NOT_RUNNING)
    def test_only_a_running_continuation_saves(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert not store.save_journal("t1", "r2", "c1", b"longer")
        assert bench.snapshot() == before

    @pytest.mark.parametrize("id_", ["c1", None])
    def test_a_closed_run_saves_nothing(self, store: Store, bench: Bench, id_: str | None) -> None:
        reach(store, State.RUNNING)
        store.close_run("r2")
        before = bench.snapshot()
        assert not store.save_journal("t1", "r2", id_, b"longer")
        assert bench.snapshot() == before

    def test_another_run_saves_nothing(self, store: Store) -> None:
        reach(store, State.RUNNING)
        assert not store.save_journal("t1", "other", "c1", b"longer")
        assert not store.save_journal("t1", "r2", "unknown", b"longer")

    def test_a_task_of_an_unknown_version_gets_no_journal(self, store: Store, bench: Bench) -> None:
        reach(store, State.RUNNING)
        bench.disown("task", "t1")
        before = bench.snapshot()
        assert not store.save_journal("t1", "r2", "c1", b"longer")
        assert bench.snapshot() == before


class FinishContract(Contract):
    def test_finish_leaves_a_mark(self, store: Store) -> None:
        reach(store, State.RUNNING, retries=4, forward=3)
        assert store.finish("c1", "r2", keep_journal=False)
        assert store.task("t1") == TaskRecord(forwards=3, journal=b"", state=State.DONE, ended=4)
        assert store.start("c1", "r3", NOW, lease=None).outcome is StartOutcome.DONE
        assert is_never_due(store)

    def test_finish_keeps_the_journal(self, store: Store) -> None:
        reach(store, State.RUNNING)
        assert store.finish("c1", "r2", keep_journal=True)
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"journal", state=State.DONE, retried=0)

    def test_which_run_was_retried_is_known_until_the_task_has_ended(self, store: Store) -> None:
        """Whatever becomes of the run that follows."""
        reach(store, State.DONE, retries=2)
        assert retried(store) == 2
        store.suspend(park("c2", run_id="r3", retries=3, forward=2), ROOM)
        assert retried(store) == 2
        store.withdraw("c2")
        assert retried(store) == 2
        reach(store, State.DONE, "c3", job_id="j3", run_id="r4", retries=3, forward=2)
        assert retried(store) == 3
        store.end("t1", 4)
        assert retried(store) is None
        store.suspend(park("c4", run_id="r5", forward=3), ROOM)
        assert retried(store) is None

    def test_a_run_was_retried_when_the_next_one_suspends(self, store: Store) -> None:
        """Before it has said so itself."""
        reach(store, State.RUNNING, retries=2)
        assert retried(store) is None
        store.suspend(park("c2", run_id="r3", retries=3, forward=2), ROOM)
        assert retried(store) == 2
        store.withdraw("c2")
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"journal", state=State.DONE, retried=2)

    def test_a_closed_run_may_finish(self, store: Store) -> None:
        reach(store, State.RUNNING)
        store.close_run("r2")
        assert store.finish("c1", "r2", keep_journal=False)

    def test_finish_twice(self, store: Store, bench: Bench) -> None:
        reach(store, State.RUNNING)
        assert store.finish("c1", "r2", keep_journal=True)
        before = bench.snapshot()
        assert not store.finish("c1", "r2", keep_journal=False)
        assert bench.snapshot() == before

    def test_finish_all_is_finish_for_each(self, store: Store) -> None:
        ended = [(f"c{number}", f"r2{number}") for number in range(3)]
        for number, (id_, run) in enumerate(ended):
            task: dict[str, Any] = {"task_id": f"t{number}", "run_id": f"r1{number}", "retries": number}
            reach(store, State.PUBLISHED, id_, job_id=f"j{number}", shared=number == 2, **task)
            store.start(id_, run, NOW, lease=None)
        store.finish_all(ended)
        for number, (id_, _) in enumerate(ended):
            assert store.task(f"t{number}") == TaskRecord(forwards=1, journal=b"", state=State.DONE, ended=number)
            assert store.start(id_, "r3", NOW, lease=None).outcome is StartOutcome.DONE
        assert store.counts().unclaimed == 1  # the shared one

    def test_finish_all_passes_over_what_the_run_does_not_hold(self, store: Store, bench: Bench) -> None:
        reach(store, State.RUNNING)
        before = bench.snapshot()
        store.finish_all([("c1", "other"), ("unknown", "r2")])
        assert bench.snapshot() == before
        store.finish_all([("c1", "other"), ("unknown", "r2"), ("c1", "r2"), ("c1", "r2")])
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"", state=State.DONE, ended=0)

    def test_finish_all_of_none(self, store: Store, bench: Bench) -> None:
        before = bench.snapshot()
        store.finish_all([])
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", EVERY_STATE)
    def test_finish_of_another_run(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert not store.finish("c1", "other", keep_journal=False)
        assert bench.snapshot() == before

    def test_finish_what_is_not_there(self, store: Store) -> None:
        assert not store.finish("c1", "r2", keep_journal=False)

    @pytest.mark.parametrize("again", [False, True])
    def test_the_payload_is_dropped(self, store: Store, bench: Bench, again: bool) -> None:
        reach(
            store,
            State.RUNNING,
            message=b"<payload>",
            envelope=b"<payload>",
            failure=b"<payload>",
            journal=b"<payload>",
        )
        if again:
            store.suspend(park("c2", run_id="r2", resumed_from="c1", journal=b""), ROOM)
            store.bind("c2", "j2", NOW)
        else:
            store.finish("c1", "r2", keep_journal=False)
        assert "<payload>" not in str(bench.snapshot())
        assert "result'" not in str(bench.snapshot())

    def test_a_settled_result_is_dropped(self, store: Store, bench: Bench) -> None:
        store.suspend(park(shared=True), ROOM)
        store.settle("c1", b"<given up>", NOW)
        store.start("c1", "r2", NOW, lease=None)
        store.finish("c1", "r2", keep_journal=True)
        assert "<given up>" not in str(bench.snapshot())

    def test_a_shared_result_stays(self, store: Store) -> None:
        reach(store, State.RUNNING, shared=True)
        store.finish("c1", "r2", keep_journal=False)
        assert deliver(store, None, "j1", b"another") == ("contradicting", [])
        assert store.counts().unclaimed == 1


def retried(store: Store) -> int | None:
    record = store.task("t1")
    assert record is not None
    return record.retried
