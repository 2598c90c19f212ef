"""The contract of what is known of a task: task, forget, close_run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from celery_ezthrottle.stores.base import StartOutcome, State, Store, SuspendOutcome, TaskRecord

from .bench import EVERY_STATE, NOW, Bench, Contract, park, reach

NOT_DONE = [state for state in EVERY_STATE if state is not State.DONE]


class TaskContract(Contract):
    @pytest.mark.parametrize("state", EVERY_STATE)
    def test_task(self, store: Store, state: State) -> None:
        reach(store, state)
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"journal", state=state)

    def test_no_task(self, store: Store) -> None:
        assert store.task("t1") is None

    def test_a_task_of_an_unknown_version_is_not_there(self, store: Store, bench: Bench) -> None:
        reach(store, State.STORED)
        bench.disown("continuation", "c1")
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"journal", state=None)
        bench.disown("task", "t1")
        assert store.task("t1") is None

    @pytest.mark.parametrize("state", NOT_DONE)
    def test_forget_spares_a_task_that_goes_on(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        store.forget("t1")
        assert bench.snapshot() == before

    def test_forget(self, store: Store) -> None:
        reach(store, State.DONE)
        store.forget("t1")
        assert store.task("t1") is None
        store.forget("t1")
        assert store.suspend(park("c2", run="r3")) is SuspendOutcome.SUSPENDED

    def test_forget_a_withdrawn_one(self, store: Store) -> None:
        store.suspend(park())
        store.withdraw("c1")
        store.forget("t1")
        assert store.task("t1") is None

    def test_forget_leaves_unknown_versions(self, store: Store, bench: Bench) -> None:
        reach(store, State.DONE)
        bench.disown("task", "t1")
        before = bench.snapshot()
        store.forget("t1")
        assert bench.snapshot() == before


class CloseRunContract(Contract):
    @pytest.mark.parametrize("state", EVERY_STATE)
    def test_the_run_that_suspended(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert store.close_run("r1")
        assert store.close_run("r1")
        assert bench.snapshot() == before

    @pytest.mark.parametrize("forget", [False, True])
    def test_it_stays_so_when_the_task_has_ended(self, store: Store, forget: bool) -> None:
        reach(store, State.RUNNING)
        assert store.finish("c1", "r2", keep_journal=forget)
        if forget:
            store.forget("t1")
        assert store.task("t1") is None
        assert store.close_run("r1")

    def test_it_stays_so_when_a_later_one_is_withdrawn(self, store: Store) -> None:
        reach(store, State.RUNNING)
        store.suspend(park("c2", run="r2", resumed_from="c1", forward=2))
        store.withdraw("c2")
        assert store.close_run("r1")
        assert not store.close_run("r2")

    def test_a_run_that_did_not_suspend(self, store: Store) -> None:
        assert not store.close_run("r1")
        assert not store.close_run("r1")
        assert store.suspend(park()) is SuspendOutcome.STALE
        assert store.suspend(park(run="r2")) is SuspendOutcome.SUSPENDED

    def test_a_run_that_suspended_earlier(self, store: Store) -> None:
        reach(store, State.RUNNING)
        store.suspend(park("c2", run="r2", resumed_from="c1"))
        assert store.close_run("r1")
        assert store.close_run("r2")

    def test_a_run_that_was_withdrawn(self, store: Store) -> None:
        store.suspend(park())
        store.withdraw("c1")
        assert not store.close_run("r1")

    def test_a_resumed_run_is_closed(self, store: Store) -> None:
        reach(store, State.RUNNING)
        assert not store.close_run("r2")
        assert store.suspend(park("c2", run="r2", resumed_from="c1")) is SuspendOutcome.STALE
        assert store.start("c1", "r3", NOW, take_over=True).outcome is StartOutcome.STARTED

    def test_suspend_or_close_but_not_both(self, bench: Bench) -> None:
        stores = [bench.open() for _ in range(2)]
        for number in range(20):
            task, run, barrier = f"t{number}", f"r{number}", Barrier(2)

            def suspend(barrier: Barrier = barrier, task: str = task, run: str = run) -> bool:
                barrier.wait(30)
                return stores[0].suspend(park(f"c-{task}", task_id=task, run=run)) is SuspendOutcome.SUSPENDED

            def close(barrier: Barrier = barrier, task: str = task, run: str = run) -> bool:
                barrier.wait(30)
                return stores[1].close_run(run)

            with ThreadPoolExecutor(2) as pool:
                suspended, closed = pool.submit(suspend), pool.submit(close)
            assert suspended.result() is closed.result()
