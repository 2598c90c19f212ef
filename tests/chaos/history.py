"""The history: what every process did, one line each in a file that only grows. No database that may be killed keeps it.

A line shorter than PIPE_BUF that is written at once to a file opened with O_APPEND is whole, whatever dies meanwhile.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["Event", "History", "read_history"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line.

    Attributes:
        at: of the monotonic clock, which all processes of a machine share.
        what: happened:

            * ``sent``: a task's message was handed to the broker;
            * ``received``: a worker's main process has it (``resumed``: the continuation it resumes);
            * ``acked``: that process acknowledges it, or rejects it for good (``state`` says which);
            * ``body``, ``ended``: the task's function began, ended (``state``: how it left). That of a step begins when it may go
              on; its ``state`` says then whether its message was "redelivered";
            * ``left``: Celery is through with the run: result, callbacks and chain are out (``state`` is Celery's);
            * ``reached``: a failpoint (``point``);
            * ``webhook``: one was passed on (``resumed``: its continuation, ``state``: the status of the answer);
            * ``granted``, ``given back``: a call (``run``: its ticket) has, has not used its turn (``state``: when, by the store)
              under limits (``point``: their keys); ``released``: it has ended;
            * ``up``: a process of that name (``victim``) has started;
            * ``struck``: ``signal`` was sent to ``pids``, or connections were cut.
        pid: of the process that wrote it.
        run: one execution of the function.
        victim: what was struck, or started.
    """

    at: float
    what: str
    pid: int
    task: str = ""
    run: str = ""
    resumed: str = ""
    state: str = ""
    point: str = ""
    victim: str = ""
    signal: str = ""
    pids: tuple[int, ...] = ()


class History:
    """Appends. Safe across fork: each line is one write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, **fields: Any) -> Event:
        event = Event(at=time.monotonic(), what=what, pid=os.getpid(), **fields)
        line = json.dumps({name: value for name, value in asdict(event).items() if value}).encode() + b"\n"
        assert len(line) < select.PIPE_BUF, f"a line of the history is too long: {line[:200]!r}"
        os.write(self._file, line)
        return event

    def size(self) -> int:
        return os.fstat(self._file).st_size

    def close(self) -> None:
        os.close(self._file)


_NAMES = {field.name for field in fields(Event)}


def read_history(path: Path) -> Iterator[Event]:
    """Every event, in the order in which they were written; a line that is still being written is left out."""
    with path.open() as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            found = json.loads(line)
            found["pids"] = tuple(found.get("pids", ()))
            yield Event(**{name: value for name, value in found.items() if name in _NAMES})
