"""What a walk says is to be done now, and how an attempt ended: the values between :class:`.walk.Walk` and its caller. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .spec import StepSpec

__all__ = ["Call", "Child", "Ended", "Mode", "Outcome", "Submit", "Watch"]

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
            leads it. None when ``on_failure_timeout_ms`` was over.
        outcome: of that attempt; without a status when ``on_failure_timeout_ms`` was over.
        due: the steps to run now. What EZThrottle runs by itself is not among them.
    """

    succeeded: bool
    by: str | None
    outcome: Outcome
    due: tuple[Child, ...]
