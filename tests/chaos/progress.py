"""How far the load is: what the client sees of each task, and of steps without a task what is in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .ledger import asked_and_executed, read_ledger
from .planned import Planned
from .watch import Watch

__all__ = ["Progress"]


class Progress:
    def __init__(self, planned: Sequence[Planned], watch: Watch, ledger: Path) -> None:
        self.watch = watch
        self._planned, self._ledger = planned, ledger
        self._has_more = any(task.step and task.step.by != "task" for task in planned)
        self._asked: set[str] = set()
        self._executed: set[str] = set()

    def look(self) -> None:
        """At all that has not ended."""
        self.watch.look([task.id for task in self.open()])
        if self._has_more:
            self._asked, self._executed = asked_and_executed(read_ledger(self._ledger))

    def is_over(self, task: Planned) -> bool:
        return self.watch.is_over(task.id) or bool(self._outcome(task))

    def ended(self) -> int:
        """How many tasks have ended."""
        return sum(map(self.is_over, self._planned))

    def open(self) -> Iterator[Planned]:
        """What has not ended, and may still be run."""
        unreachable: set[str] = set()
        by_id: dict[str, Planned] = {}
        for task in self._planned:  # what a task needs comes before it
            by_id[task.id] = task
            if any(self._is_in_vain(by_id[need], task.after, unreachable) for need in task.needs):
                unreachable.add(task.id)
            elif not self.is_over(task):
                yield task

    def _is_in_vain(self, need: Planned, after: str, unreachable: set[str]) -> bool:
        return need.id in unreachable or (self.is_over(need) and self._outcome(need) != after)

    def _outcome(self, task: Planned) -> str:
        return task.outcome(self.watch.seen.get(task.id), self._executed, self._asked)
