"""The state machine of a continuation, by itself."""

from __future__ import annotations

import pytest

from celery_ezthrottle.store.states import PARKED, TRANSITIONS, WAITING, Act, State, Transition, after

PLACES: list[State | None] = [None, *State]


def reachable(start: State | None) -> set[State | None]:
    """Where a continuation may come from ``start``, that included."""
    found, new = {start}, {start}
    while new:
        new = {after(state, act) for state in new for act in Act} - found
        found |= new
    return found


def test_every_state_is_reached() -> None:
    assert reachable(None) == set(PLACES)


@pytest.mark.parametrize("state", [state for state in State if state is not State.DONE])
def test_every_state_leads_to_the_end(state: State) -> None:
    assert State.DONE in reachable(state)


@pytest.mark.parametrize("act", Act)
def test_the_end_is_final(act: Act) -> None:
    assert after(State.DONE, act) is State.DONE


@pytest.mark.parametrize("act", Act)
def test_every_act_is_in_the_table_once(act: Act) -> None:
    assert [transition.act for transition in TRANSITIONS].count(act) == 1


@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.act)
def test_after_is_the_table(transition: Transition) -> None:
    for place in PLACES:
        assert after(place, transition.act) is (transition.target if place in transition.sources else place)
    assert transition.sources
    assert transition.who
    assert transition.dies


def test_what_is_not_there_is_only_suspended() -> None:
    assert {act for act in Act if after(None, act) is not None} == {Act.SUSPEND}


def test_only_a_withdrawal_leaves_nothing() -> None:
    gone = {(state, act) for state in State for act in Act if after(state, act) is None}
    assert gone == {(State.STORED, Act.WITHDRAW)}


def test_nothing_runs_without_an_outcome() -> None:
    """A run starts from DELIVERED or PUBLISHED, and those are reached from WAITING by an outcome."""
    assert {state for state in State if after(state, Act.START) is State.RUNNING} == {
        State.DELIVERED,
        State.PUBLISHED,
        State.RUNNING,
    }
    outcomes = {act for state in WAITING for act in Act if after(state, act) not in WAITING | {None}}
    assert outcomes == {Act.DELIVER, Act.SETTLE, Act.CANCEL}


def test_an_outcome_that_is_there_is_only_overridden_by_cancel() -> None:
    """Nothing that comes from outside changes what is delivered, published, running or done."""
    for state in set(State) - WAITING:
        for act in (Act.DELIVER, Act.SETTLE, Act.BIND, Act.POSTPONE, Act.WITHDRAW):
            assert after(state, act) is state
    assert {state for state in State if after(state, Act.CANCEL) is State.DELIVERED} == PARKED


def test_only_a_run_ends_a_continuation_and_only_a_lease_frees_it() -> None:
    leaving = {act: after(State.RUNNING, act) for act in Act if after(State.RUNNING, act) is not State.RUNNING}
    assert leaving == {Act.LAPSE: State.DELIVERED, Act.FINISH: State.DONE}


def test_what_waits_is_parked() -> None:
    assert WAITING < PARKED
    assert set(State) - PARKED == {State.RUNNING, State.DONE}
