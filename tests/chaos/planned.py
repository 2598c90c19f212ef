"""What is to become of each task of the load."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .watch import TERMINAL, Seen

__all__ = ["Planned", "PlannedStep", "Unit"]


@dataclass(frozen=True)
class PlannedStep:
    """What a step of a tree has besides.

    Attributes:
        payments: of its own request and of its fallbacks: one of them is to be executed.
        fails: it is to fail: all of them are refused for good.
        after: how the step before it has ended when it runs: "SUCCESS" or "FAILURE".
        spare: the step before it is to end otherwise, so that it must not run.
        by: who runs it: a "task" of its own, which may also wait for a job that has it; the "service", inside the job of the step
            before; or "either".
        shape: name of its tree.
        key: the idempotency key of the jobs of its tree: "task" or "unique" as the strategies, or "own".
    """

    payments: tuple[str, ...]
    fails: bool
    after: str
    spare: bool
    by: str
    shape: str
    key: str


@dataclass(frozen=True)
class Planned:
    """A task that is to be run.

    Attributes:
        id: of the task, and of the order that it pays. A step that has no task has one too.
        calls: how many payments it makes.
        threaded: it makes them at once, each in a thread; otherwise one after the other.
        needs: the tasks that must have succeeded before it is sent at all; of a step the one before it.
        step: what a step of a tree has besides; None for other tasks.
    """

    id: str
    kind: str
    late: bool
    calls: int = 1
    threaded: bool = False
    needs: tuple[str, ...] = ()
    step: PlannedStep | None = None

    @property
    def payments(self) -> tuple[str, ...]:
        return self.step.payments if self.step else tuple(f"{self.id}/{number}" for number in range(self.calls))

    @property
    def after(self) -> str:
        """How what it needs has ended when it is sent."""
        return self.step.after if self.step else "SUCCESS"

    @property
    def as_planned(self) -> str:
        """How it is to end."""
        return "FAILURE" if self.step and self.step.fails else "SUCCESS"

    @property
    def is_spare(self) -> bool:
        """Whether it is to run only if something ends otherwise than planned."""
        return self.step is not None and self.step.spare

    def outcome(self, seen: Seen | None, executed: Collection[str], asked: Collection[str]) -> str:
        """How it has ended: "SUCCESS" or "FAILURE"; of a step only what follows from its requests. "" = otherwise, or not yet.

        Args:
            executed: payments that were executed; ``asked``: those that were asked for.
        """
        if seen is not None and self.step is None:
            return seen.state if seen.state in TERMINAL else ""
        if seen is not None:
            told = {"SUCCESS": "SUCCESS", "FAILURE": "FAILURE" if seen.error.startswith("StepFailed:") else ""}
            return told.get(seen.state, "")
        if self.step is None or self.step.by == "task":
            return ""
        if any(payment in executed for payment in self.payments):
            return "SUCCESS"
        return "FAILURE" if self.step.fails and self.payments[-1] in asked else ""


Unit = tuple[Planned, ...]  # what is sent at once
