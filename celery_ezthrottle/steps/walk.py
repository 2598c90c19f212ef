"""Run one step in the client: what to do now, and what follows from what has happened. No I/O, no clock.

A :class:`Walk` runs the paths of one step: its own request and its fallbacks. The steps after it (``on_success``, ``on_failure``)
are walks of their own; :class:`Ended` names those that are due. The caller asks :meth:`Walk.next` what to do, does it, and tells
what came of it with :meth:`Walk.called` or :meth:`Walk.job_ended`. Between two runs of a task it keeps :meth:`Walk.dump`.
"""

from __future__ import annotations

import math
from typing import Any

from celery_ezthrottle.service.job import Trigger

from . import cut as cuts
from .actions import Call, Child, Ended, Mode, Outcome, Submit, Watch
from .spec import StepSpec
from .turns import children_due

__all__ = ["Walk"]


class Walk:
    """The state of one step that is run in the client."""

    def __init__(self, spec: StepSpec, state: dict[str, Any]) -> None:
        self._spec = spec
        self._attempts = cuts.attempts(spec)
        self._state = state

    @classmethod
    def begin(cls, spec: StepSpec, now: float, mode: Mode = "start") -> Walk:
        """Begin to run ``spec``.

        Args:
            now: Unix seconds. ``on_failure_timeout_ms`` counts from here.
            mode: "watch" when its first job is nested in another one, which has started it.
        """
        if mode == "watch" and not cuts.nests(spec):
            raise ValueError("only a step that can be nested in a job can be watched")
        # "out": whether the job of this attempt is submitted, as far as we know. "tried": fallbacks that have failed.
        return cls(
            spec, {"mode": mode, "began": now, "at": 0, "out": mode == "watch", "tried": [], "last": None, "end": None}
        )

    def dump(self) -> dict[str, Any]:
        """Return the state as a small JSON object, without the step."""
        return {**self._state, "tried": [*self._state["tried"]]}

    @classmethod
    def load(cls, spec: StepSpec, data: dict[str, Any]) -> Walk:
        """Go on with what :meth:`dump` returned, with the same step."""
        return cls(spec, {**data, "tried": [*data["tried"]]})

    def next(self, now: float) -> Call | Submit | Watch | Ended:
        """Return what to do now. Asked again, it says the same until something has happened, or the time of the step is over.

        After :class:`Submit`, :meth:`dump` differs: keep the new one.

        Args:
            now: Unix seconds.
        """
        rest = self._rest_ms(now)
        # Clocks are not exact: a call that was ended in time may leave a little.
        if self._state["end"] is None and rest is not None and rest < 1 and self._ends_by_itself():
            self._time_is_over(now)
        if self._state["end"] is not None:
            return self._ended()
        attempt = self._attempts[self._state["at"]]
        if attempt.local:
            return Call(attempt.path, attempt.step, self._call_timeout(rest))
        cut = self._cut()
        rest_ms = None if rest is None else math.ceil(rest)
        timeout_ms = rest_ms if cut.client_watches else None
        if self._state["mode"] == "watch" and self._state["at"] == 0:
            return Watch(timeout_ms)
        self._state["out"] = True
        return Submit(
            path=attempt.path,
            fallbacks=tuple(each.path for each in cut.fallbacks),
            on_success=cut.on_success,
            on_failure=cut.on_failure,
            watched=cuts.watched(self._spec, cut),
            timeout_ms=timeout_ms,
            on_failure_timeout_ms=None if rest_ms is None else max(rest_ms, 1),
        )

    def called(self, outcome: Outcome) -> None:
        """Tell how the call ended."""
        attempt = self._attempts[self._expect(local=True)]
        status = outcome.status_code
        if outcome.error is None and status is not None and 200 <= status < 300:
            self._record(outcome)
            self._end(succeeded=True)
        elif not attempt.path and status is not None and status >= 300 and status not in self._spec.fallback_on_error:
            self._record(outcome)
            self._end(succeeded=False)
        else:
            self._failed(outcome, nested=0, by_job=False)

    def job_ended(self, outcome: Outcome) -> None:
        """Tell how the job ended, or the nested job that is watched."""
        self._expect(local=False)
        status = outcome.status_code
        if outcome.error is None and (status is None or 200 <= status < 400):
            self._record(outcome)
            self._end(succeeded=True, by_job=True)
        else:
            self._failed(outcome, nested=len(self._cut().fallbacks), by_job=True)

    def not_taken(self, outcome: Outcome) -> None:
        """Tell that EZThrottle has not taken the job: neither its request nor anything that is nested in it will be executed.

        Args:
            outcome: of the attempt before, as far as there was one, with what was wrong as its error.
        """
        self._expect(local=False)
        self._failed(outcome, nested=0, by_job=False)

    @property
    def is_waiting(self) -> bool:
        """Whether a job is under way, as far as we know, or a nested job is watched."""
        return bool(self._state["out"]) and self._state["end"] is None

    def leaves_all(self, submit: Submit) -> bool:
        """Whether nothing is left to the client after the job of ``submit``, whatever its outcome."""
        at = self._state["at"]
        lead = self._attempts[at]
        children = {name for name, _ in self._spec.after()}
        if lead.path:
            children |= {f"{lead.path}.{name}" for name, _ in lead.step.after()}
        is_last = len(self._attempts) == at + 1 + len(submit.fallbacks)
        tried = (self._attempts[each].step for each in self._state["tried"])
        return (
            is_last
            and not submit.watched
            and children <= {submit.on_success, submit.on_failure}
            and all(step.on_failure is None for step in tried)
        )

    def _expect(self, *, local: bool) -> int:
        at: int = self._state["at"]
        if self._state["end"] is not None or self._attempts[at].local != local or not (local or self._state["out"]):
            raise ValueError("the walk does not wait for this: ask next() what it waits for")
        return at

    def _failed(self, outcome: Outcome, *, nested: int, by_job: bool) -> None:
        """Note a failure, and go to the first attempt behind it, and behind what was nested in its job, that it triggers."""
        at = self._state["at"]
        self._record(outcome)
        if self._attempts[at].path:
            self._state["tried"].append(at)
        for later in range(at + 1 + nested, len(self._attempts)):
            if _triggers(self._attempts[later].trigger, outcome):
                self._state.update(at=later, out=False)
                return
        self._end(succeeded=False, by_job=by_job)

    def _record(self, outcome: Outcome) -> None:
        path = self._attempts[self._state["at"]].path
        self._state["last"] = [path, outcome.status_code, outcome.error, outcome.elapsed]

    def _end(self, *, succeeded: bool, by_job: bool = False) -> None:
        self._state["end"] = [succeeded, by_job]

    def _time_is_over(self, now: float) -> None:
        at = self._state["at"]
        if self._attempts[at].path and self._state["out"]:
            self._state["tried"].append(at)
        error = f"The step has not succeeded within {self._spec.on_failure_timeout_ms} ms."
        self._state["last"] = [None, None, error, now - self._state["began"]]
        self._end(succeeded=False)

    def _rest_ms(self, now: float) -> float | None:
        limit = self._spec.on_failure_timeout_ms
        return None if limit is None else limit - (now - self._state["began"]) * 1000

    def _ends_by_itself(self) -> bool:
        """Whether nobody else ends the current attempt when the time of the step is over."""
        return not self._state["out"] or self._cut().client_watches

    def _call_timeout(self, rest: float | None) -> float:
        at = self._state["at"]
        limits: list[float] = [self._attempts[at].step.local_timeout]
        for later in self._attempts[at + 1 :]:
            if later.trigger is None:
                break
            if later.trigger.timeout_ms is not None:
                limits.append(later.trigger.timeout_ms / 1000)
                break
        return min(limits if rest is None else [*limits, rest / 1000])

    def _cut(self) -> cuts.Cut:
        return cuts.cut(self._spec, self._state["at"])

    def _ended(self) -> Ended:
        succeeded, by_job = self._state["end"]
        path, status_code, error, elapsed = self._state["last"]
        fallbacks = [self._state["at"]] if succeeded else self._state["tried"]
        due = children_due(self._spec, fallbacks, self._cut() if by_job else None, succeeded=succeeded)
        children = tuple(
            Child(each.path, each.spec, "watch" if each.nested else "start")
            for each in due
            if not (each.nested and each.spec.in_service)
        )
        return Ended(succeeded, path, Outcome(status_code, error, elapsed), children)


def _triggers(trigger: Trigger | None, failure: Outcome) -> bool:
    if trigger is None:
        return True
    if trigger.timeout_ms is not None:
        return round(failure.elapsed * 1000) >= trigger.timeout_ms
    return failure.status_code in trigger.codes
