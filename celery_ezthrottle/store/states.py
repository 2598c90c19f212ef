"""The state machine of a continuation: every state, every act, and the new state after each act. No I/O.

A store does each act as one atomic step and must agree with :func:`after`. ``docs/reliability.md`` has the same table and says
what holds when a process dies between two acts. Two acts of a resumed run also change the continuation that the run was resumed
from: it becomes DONE when the run suspends the task again, and RUNNING again when the new continuation is withdrawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["PARKED", "TRANSITIONS", "WAITING", "Act", "State", "Transition", "after"]


class State(StrEnum):
    """The state of a continuation."""

    STORED = "stored"  # the task is suspended; as far as we know, the service has not taken the job
    SUBMITTED = "submitted"  # the service took the job
    DELIVERED = "delivered"  # an outcome is there; the parked message must be published
    PUBLISHED = "published"  # the parked message was published; the resumed run has not started
    RUNNING = "running"  # a resumed run holds it
    DONE = "done"  # the resumed run has ended, or has suspended the task again


class Act(StrEnum):
    """What changes the state of a continuation."""

    SUSPEND = "suspend"
    WITHDRAW = "withdraw"
    POSTPONE = "postpone"
    BIND = "bind"
    DELIVER = "deliver"
    SETTLE = "settle"
    CANCEL = "cancel"
    PUBLISHED = "published"
    START = "start"
    HOLD = "hold"
    LAPSE = "lapse"
    FINISH = "finish"


#: States without an outcome.
WAITING = frozenset({State.STORED, State.SUBMITTED})
#: States in which no run holds the continuation, and it has not ended.
PARKED = WAITING | {State.DELIVERED, State.PUBLISHED}


@dataclass(frozen=True)
class Transition:
    """The states that an act changes, and the new state. The act changes no other state.

    Attributes:
        sources: None in it means that the continuation does not exist yet.
        target: None means that the continuation is deleted.
        who: who does the act, in the words of the documentation.
        dies: what happens when that process dies right after the act.
    """

    act: Act
    sources: frozenset[State | None]
    target: State | None
    who: str
    dies: str


def _transition(
    act: Act, sources: set[State | None] | frozenset[State], target: State | None, who: str, dies: str
) -> Transition:
    return Transition(act, frozenset(sources), target, who, dies)


TRANSITIONS = (
    _transition(
        Act.SUSPEND, {None}, State.STORED, "the run that suspends",
        "a sweep submits the job, under the same key",
    ),
    _transition(
        Act.WITHDRAW, {State.STORED}, None,
        "a run that has failed its task, because the store did not say that it is suspended",
        "acknowledged late: the message comes again, or the lease lapses; early: as with any Celery task",
    ),
    _transition(
        Act.POSTPONE, {State.STORED}, State.STORED, "whoever submits",
        "a sweep submits again at the time that was set",
    ),
    _transition(
        Act.BIND, {State.STORED}, State.SUBMITTED, "whoever submits",
        "the webhook resumes the task; a redelivered message finds it suspended",
    ),
    _transition(
        Act.DELIVER, WAITING, State.DELIVERED, "the receiver, or whoever binds a job whose result is there already",
        "a sweep publishes the message",
    ),
    _transition(
        Act.SETTLE, WAITING, State.DELIVERED,
        "whoever submits: refused; the sweeper: its turn, never taken, or no result by the deadline",
        "a sweep publishes the message",
    ),
    _transition(
        Act.CANCEL, PARKED, State.DELIVERED, "cancel(), or the workers' commands revoke and terminate",
        "a sweep publishes the message; the run that starts only announces that the task was revoked",
    ),
    _transition(
        Act.PUBLISHED, {State.DELIVERED, State.PUBLISHED}, State.PUBLISHED, "whoever published",
        "the message is in the broker; if it is lost, a sweep publishes it again",
    ),
    _transition(
        Act.START, {State.DELIVERED, State.PUBLISHED}, State.RUNNING, "the resumed run",
        "acknowledged late: the lease lapses; early: as with any Celery task",
    ),
    _transition(
        Act.HOLD, {State.RUNNING}, State.RUNNING, "the worker of the resumed run, and the run before its result is stored",
        "acknowledged late: the lease lapses",
    ),
    _transition(
        Act.LAPSE, {State.RUNNING}, State.DELIVERED, "the sweeper, once the lease of a late-acknowledged run is over",
        "a sweep publishes the message",
    ),
    _transition(
        Act.FINISH, {State.RUNNING}, State.DONE, "the resumed run: its result is stored and its callbacks are out",
        "a message that comes again does nothing",
    ),
)  # fmt: skip

_AFTER = {(source, transition.act): transition.target for transition in TRANSITIONS for source in transition.sources}


def after(state: State | None, act: Act) -> State | None:
    """The state after ``act``. If the act does not apply to ``state``, the state stays the same."""
    return _AFTER.get((state, act), state)
