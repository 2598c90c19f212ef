"""What became of a batch. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["BatchOutcome", "BatchStatus", "MemberFailure"]


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch is. Each member counts once in ``waiting``, ``in_flight`` or ``ended``.

    Attributes:
        id: id of the batch, and of its ``GroupResult``.
        name: its name.
        total: number of members.
        waiting: members that are not released.
        in_flight: members that are released and have not ended: in a queue, in a worker, or suspended.
        ended: members that have ended, in whatever way.
        failed: those of them that have failed.
        revoked: those of them that were revoked or withdrawn.
    """

    id: str
    name: str
    total: int
    waiting: int
    in_flight: int
    ended: int
    failed: int
    revoked: int

    @property
    def pending(self) -> int:
        """Members that have not ended."""
        return self.total - self.ended

    @property
    def succeeded(self) -> int:
        return self.ended - self.failed - self.revoked


@dataclass(frozen=True)
class MemberFailure:
    """A member that has not succeeded.

    Attributes:
        index: the number of the member, from 0, in the order of ``add()``.
        task: name of the task of its signature; of a chain, of the last one.
        task_id: id of that task.
        error: the exception of the task; ``TaskRevokedError`` for a member that was revoked or withdrawn.
    """

    index: int
    task: str
    task_id: str
    error: BaseException = field(repr=False)

    def __str__(self) -> str:
        return f"member {self.index} ({self.task}) ended with {type(self.error).__name__}"


@dataclass(frozen=True)
class BatchOutcome:
    """What the members of a batch have given.

    Attributes:
        results: one value for each member, in the order of ``add()``. None in the place of a failure, and where the task ignores
            its result.
        failures: the members that have not succeeded, in the same order.
    """

    results: list[Any] = field(repr=False)
    failures: tuple[MemberFailure, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether each member has succeeded."""
        return not self.failures

    def raise_failures(self) -> None:
        """Do nothing if each member has succeeded.

        Raises:
            ExceptionGroup: the errors of the members that have not.
        """
        if self.failures:
            shown = "; ".join(map(str, self.failures[:3])) + ("; ..." if len(self.failures) > 3 else "")
            text = f"{len(self.failures)} of {len(self.results)} members have failed: {shown}"
            raise BaseExceptionGroup(text, [failure.error for failure in self.failures])
