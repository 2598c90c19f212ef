"""Run one step in the client: what to do now, and what follows from what has happened. No I/O, no clock.

A :class:`Walk` runs the paths of one step: its own request and its fallbacks. The steps after it (``on_success``, ``on_failure``)
are walks of their own; :class:`Ended` names those that are due. The caller asks :meth:`Walk.next` what to do, does it, and tells
what came of it with :meth:`Walk.called` or :meth:`Walk.job_ended`. Between two runs of a task it keeps :meth:`Walk.dump`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from . import cut as cuts
from .spec import FRUGAL, StepSpec

__all__ = ["Call", "Child", "Ended", "Mode", "Outcome", "Submit", "Walk", "Watch"]

Mode = Literal["start", "watch"]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        status_code: the HTTP status, or None when no response came.
        error: why there is no usable response, or why the service calls the job failed; None when there is nothing to say. It
            must hold no secret. An attempt with an error has never succeeded.
        elapsed: seconds from its begin to its end.
    """

    status_code: int | None = None
    error: str | None = field(default=None, repr=False)
    elapsed: float = 0.0


@dataclass(frozen=True, eq=False)
class Call:
    """Send this request now, from here. Then tell :meth:`Walk.called`.

    Attributes:
        path: "" for the step's own request, "fallback[0]", "fallback[0].fallback[1]" and so on.
        spec: whose request it is. It may still have to be made of the previous result (:func:`.previous.fill`).
        timeout_s: seconds after which the attempt has to end, as a whole, with an outcome without a status.
    """

    path: str
    spec: StepSpec
    timeout_s: float


@dataclass(frozen=True)
class Submit:
    """Submit a job (:func:`.wire.job_of`), wait for its webhook, and tell :meth:`Walk.job_ended`.

    Attributes:
        path: whose request leads the job.
        fallbacks: paths of the fallbacks that are nested in it.
        on_success: path of the child that is nested as ``on_success``, or None.
        on_failure: path of the child that is nested as ``on_failure``, or None.
        watched: paths of the nested children, at any depth, that need a webhook of ours.
        timeout_ms: after so many milliseconds stop waiting, and ask :meth:`Walk.next` again: the step has failed. None = the
            job always ends by its webhook.
        on_failure_timeout_ms: what the job says on the wire: milliseconds after which EZThrottle ends it; None = no limit.
    """

    path: str
    fallbacks: tuple[str, ...] = ()
    on_success: str | None = None
    on_failure: str | None = None
    watched: tuple[str, ...] = ()
    timeout_ms: int | None = None
    on_failure_timeout_ms: int | None = None


@dataclass(frozen=True)
class Watch:
    """Wait for the webhook of the job that is nested in the job of the step before, and tell :meth:`Walk.job_ended`.

    Attributes:
        timeout_ms: as in :class:`Submit`.
    """

    timeout_ms: int | None = None


@dataclass(frozen=True, eq=False)
class Child:
    """A step that is due.

    Attributes:
        path: "on_success", "on_failure", or the same of a fallback: "fallback[0].on_success".
        spec: what to run.
        mode: "start" it, or "watch" the nested job that EZThrottle has started.
    """

    path: str
    spec: StepSpec
    mode: Mode


@dataclass(frozen=True, eq=False)
class Ended:
    """The step has ended.

    Attributes:
        succeeded: whether one path has succeeded.
        by: the path that was tried last: the one that succeeded, or whose failure was the last one. For a job, the path that
            leads it. None when ``on_failure_timeout_ms`` was over before anything was tried to its end.
        outcome: of that attempt.
        due: the steps to run now. What EZThrottle runs by itself is not among them.
    """

    succeeded: bool
    by: str | None
    outcome: Outcome
    due: tuple[Child, ...]


class Walk:
    """The state of one step that is run in the client."""

    def __init__(self, step: StepSpec, began: float, mode: Mode) -> None:
        self._step = step
        self._attempts = cuts.attempts(step)
        self._began = began
        self._mode = mode
        self._at = 0
        self._out = mode == "watch"  # whether the job of this attempt is submitted, as far as we know
        self._tried: list[int] = []
        self._last: tuple[int, Outcome] | None = None
        self._succeeded: bool | None = None
        self._by_job = False

    @classmethod
    def begin(cls, step: StepSpec, now: float, mode: Mode = "start") -> Walk:
        """Begin to run ``step``.

        Args:
            now: Unix seconds. ``on_failure_timeout_ms`` counts from here.
            mode: "watch" when its first job is nested in another one, which has started it.
        """
        if mode == "watch" and (step.kind == FRUGAL or step.takes_result):
            raise ValueError("only a step that can be nested in a job is watched")
        return cls(step, now, mode)

    def next(self, now: float) -> Call | Submit | Watch | Ended:
        """Return what to do now. Asked again, it says the same until something has happened, or the time of the step is over.

        After :class:`Submit` keep a new :meth:`dump`.
        """
        raise NotImplementedError

    def called(self, outcome: Outcome) -> None:
        """Tell how the call ended."""
        raise NotImplementedError

    def job_ended(self, outcome: Outcome) -> None:
        """Tell how the job ended, or the nested job that is watched."""
        raise NotImplementedError

    def dump(self) -> dict[str, Any]:
        """Return the state as a small JSON object, without the step."""
        raise NotImplementedError

    @classmethod
    def load(cls, step: StepSpec, data: dict[str, Any]) -> Walk:
        """Go on with what :meth:`dump` returned, with the same step."""
        raise NotImplementedError
