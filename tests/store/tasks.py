"""The contract of what is known of a task: task, end, close_run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import StartOutcome, SuspendOutcome, TaskRecord
from celery_ezthrottle.store.states import State

from .bench import EVERY_STATE, NOW, ROOM, Bench, Contract, park, reach

NOT_DONE = [state for state in EVERY_STATE if state is not State.DONE]


class TaskContract(Contract):
    @pytest.mark.parametrize("state", EVERY_STATE)
    def test_task(self, store: Store, state: State) -> None:
        reach(store, state)
        retried = 0 if state is State.DONE else None
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"journal", state=state, retried=retried)

    def test_no_task(self, store: Store) -> None:
        assert store.task("t1") is None

    def test_a_task_of_an_unknown_version_is_not_there(self, store: Store, bench: Bench) -> None:
        reach(store, State.STORED)
        bench.disown("continuation", "c1")
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"journal", state=None)
        bench.disown("task", "t1")
        assert store.task("t1") is None

    @pytest.mark.parametrize("retries", [0, 3])
    def test_retries_are_those_of_the_newest(self, store: Store, retries: int) -> None:
        reach(store, State.DONE, retries=7)
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"journal", state=State.DONE, retries=0, retried=7)
        store.suspend(park("c2", run_id="r3", forward=2, retries=retries), ROOM)
        assert store.task("t1") == TaskRecord(
            forwards=2, journal=b"journal", state=State.STORED, retries=retries, retried=7
        )

    @pytest.mark.parametrize("id_", ["with a space", " ", "line\nbreak", "ünï"])
    def test_any_id_of_a_task(self, store: Store, id_: str) -> None:
        reach(store, State.DELIVERED, task_id=id_)
        run = store.start("c1", "r2", NOW, lease=None)
        assert (run.task_id, run.journal) == (id_, b"journal")
        assert store.finish("c1", "r2", keep_journal=False)
        assert store.task(id_) == TaskRecord(forwards=1, journal=b"", state=State.DONE, ended=0)


class EndContract(Contract):
    @pytest.mark.parametrize("state", NOT_DONE)
    def test_a_task_that_goes_on_does_not_end(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        store.end("t1", 0)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("retries", [0, 3])
    def test_end(self, store: Store, retries: int) -> None:
        reach(store, State.DONE, forward=5)
        store.end("t1", retries)
        assert store.task("t1") == TaskRecord(forwards=5, journal=b"", state=State.DONE, ended=retries)
        assert not store.save_journal("t1", "r3", None, b"journal")

    def test_end_twice(self, store: Store) -> None:
        reach(store, State.DONE)
        store.end("t1", 1)
        store.end("t1", 2)
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"", state=State.DONE, ended=2)

    def test_end_of_a_withdrawn_one(self, store: Store) -> None:
        store.suspend(park(forward=2), ROOM)
        store.withdraw("c1")
        store.end("t1", 0)
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"", state=None, ended=0)

    def test_no_record_no_end(self, store: Store, bench: Bench) -> None:
        before = bench.snapshot()
        store.end("t1", 0)
        assert bench.snapshot() == before
        assert store.task("t1") is None

    def test_end_leaves_unknown_versions(self, store: Store, bench: Bench) -> None:
        reach(store, State.DONE)
        bench.disown("task", "t1")
        before = bench.snapshot()
        store.end("t1", 0)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("finish", [False, True])
    def test_a_task_that_had_ended_is_alive_again(self, store: Store, finish: bool) -> None:
        reach(store, State.RUNNING)
        store.finish("c1", "r2", keep_journal=not finish)
        store.end("t1", 2)
        again = park("c2", run_id="r3", forward=2, journal=b"anew")
        assert store.suspend(again, ROOM) is SuspendOutcome.SUSPENDED
        assert store.task("t1") == TaskRecord(forwards=2, journal=b"anew", state=State.STORED)
        store.withdraw("c2")
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"anew", state=State.DONE)
        assert store.save_journal("t1", "r4", None, b"longer")


class CloseRunContract(Contract):
    @pytest.mark.parametrize("state", EVERY_STATE)
    def test_the_run_that_suspended(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        task = store.task("t1")
        assert store.close_run("r1")
        before = bench.snapshot()
        assert store.close_run("r1")
        assert bench.snapshot() == before
        assert store.task("t1") == task

    def test_it_stays_so_when_the_task_has_ended(self, store: Store) -> None:
        reach(store, State.RUNNING)
        assert store.finish("c1", "r2", keep_journal=False)
        assert store.close_run("r1")
        store.end("t1", 0)
        assert store.close_run("r1")

    def test_it_stays_so_when_a_later_one_is_withdrawn(self, store: Store) -> None:
        reach(store, State.RUNNING)
        store.suspend(park("c2", run_id="r2", resumed_from="c1", forward=2), ROOM)
        store.withdraw("c2")
        assert store.close_run("r1")
        assert not store.close_run("r2")

    def test_a_run_that_did_not_suspend(self, store: Store) -> None:
        assert not store.close_run("r1")
        assert not store.close_run("r1")
        assert store.suspend(park(), ROOM) is SuspendOutcome.STALE
        assert store.suspend(park(run_id="r2"), ROOM) is SuspendOutcome.SUSPENDED

    def test_a_run_that_suspended_earlier(self, store: Store) -> None:
        reach(store, State.RUNNING)
        store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM)
        assert store.close_run("r1")
        assert store.close_run("r2")

    def test_a_run_that_was_withdrawn(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        store.withdraw("c1")
        assert not store.close_run("r1")

    def test_a_resumed_run_is_closed(self, store: Store) -> None:
        reach(store, State.RUNNING)
        assert not store.close_run("r2")
        assert store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM) is SuspendOutcome.STALE
        assert not store.save_journal("t1", "r2", "c1", b"longer")
        assert not store.hold("c1", "r2", NOW)
        assert store.start("c1", "r2", NOW, lease=None).outcome is StartOutcome.TAKEN
        assert store.finish("c1", "r2", keep_journal=False)

    def test_suspend_or_close_but_not_both(self, bench: Bench) -> None:
        stores = [bench.open() for _ in range(2)]
        for number in range(20):
            task, run, barrier = f"t{number}", f"r{number}", Barrier(2)

            def suspend(barrier: Barrier = barrier, task: str = task, run: str = run) -> bool:
                barrier.wait(30)
                return stores[0].suspend(park(f"c-{task}", task_id=task, run_id=run), ROOM) is SuspendOutcome.SUSPENDED

            def close(barrier: Barrier = barrier, task: str = task, run: str = run) -> bool:
                barrier.wait(30)
                return stores[1].close_run(run)

            with ThreadPoolExecutor(2) as pool:
                suspended, closed = pool.submit(suspend), pool.submit(close)
            assert suspended.result() is closed.result()
