"""Every act in every state: a store does what :func:`celery_ezthrottle.store.states.after` says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.states import Act, State, after

from .bench import EVERY_STATE, LATER, NOW, ROOM, Contract, park, reach, state_of

LEASE = NOW + 100

ACTS: dict[Act, Callable[[Store], object]] = {
    Act.SUSPEND: lambda store: store.suspend(park(), ROOM),
    Act.WITHDRAW: lambda store: store.withdraw("c1"),
    Act.POSTPONE: lambda store: store.postpone("c1", NOW + 40, maybe_accepted=False),
    Act.BIND: lambda store: store.bind("c1", "j1", NOW),
    Act.DELIVER: lambda store: store.deliver("c1", "j1", b"result", NOW, NOW + 60),
    Act.SETTLE: lambda store: store.settle("c1", b"given up", NOW),
    Act.CANCEL: lambda store: store.cancel("t1", b"revoked", NOW),
    Act.PUBLISHED: lambda store: store.published("c1", NOW + 60),
    Act.START: lambda store: store.start("c1", "r2", NOW, lease=LEASE),
    Act.HOLD: lambda store: store.hold("c1", "r2", LEASE + 60),
    Act.LAPSE: lambda store: store.claim_due(LATER, LATER, 10),
    Act.FINISH: lambda store: store.finish("c1", "r2", keep_journal=True),
}


class StatesContract(Contract):
    @pytest.mark.parametrize("act", Act)
    @pytest.mark.parametrize("state", [None, *EVERY_STATE])
    def test_an_act_makes_of_a_state_what_the_table_says(self, store: Store, state: State | None, act: Act) -> None:
        if state is not None:
            reach(store, state, journal=b"", lease=LEASE)
        ACTS[act](store)
        target = after(state, act)
        if target is None:
            assert store.task("t1") is None
            assert store.counts().suspended == 0
        else:
            assert state_of(store) is target

    @pytest.mark.parametrize("state", [None, *EVERY_STATE])
    def test_an_act_of_another_run_makes_nothing_of_any_state(self, store: Store, state: State | None) -> None:
        """Holding and ending are the run's own."""
        if state is not None:
            reach(store, state, lease=LEASE)
        before = store.task("t1")
        assert not store.hold("c1", "r3", LATER)
        assert not store.finish("c1", "r3", keep_journal=False)
        if state is State.RUNNING:
            store.start("c1", "r3", NOW, lease=None)
        assert store.task("t1") == before
