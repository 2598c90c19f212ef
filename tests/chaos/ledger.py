"""The payments ledger: what the upstream did, one line each, on disk before it answers. The upstream is never killed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Entry", "Ledger", "asked_and_executed", "read_ledger"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One request.

    Attributes:
        payment: what is paid, ``<task id>/<number of the call>``: to be executed once.
        key: the Idempotency-Key.
        what: was done: ``executed``; ``repeated`` (this key was executed before: the same answer again, and nothing else);
            or ``refused`` (nothing was executed).
        status: of the answer; 0: the connection was closed without one.
        run: which run of the task made this request, or had it forwarded; "" for the job of a step.
        direct: made by the worker itself, not by the service.
    """

    at: float
    payment: str
    key: str
    what: str
    status: int
    run: str
    direct: bool


class Ledger:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._executed: set[str] = set()

    def request(self, payment: str, key: str, run: str, *, direct: bool, refuse: int | None, silent: bool) -> Entry:
        """Do what is asked, once for each key, and keep that.

        Args:
            refuse: the status to refuse it with (0: by closing the connection); None: execute it.
            silent: close the connection instead of answering.
        """
        with self._lock:
            if refuse is not None:
                what, status = "refused", refuse
            else:
                what, status = ("repeated" if key in self._executed else "executed"), 0 if silent else 200
                self._executed.add(key)
            entry = Entry(
                at=time.monotonic(), payment=payment, key=key, what=what, status=status, run=run, direct=direct
            )
            os.write(self._file, json.dumps(asdict(entry)).encode() + b"\n")
            if what == "executed":
                os.fdatasync(self._file)
            return entry

    def close(self) -> None:
        os.close(self._file)


def asked_and_executed(ledger: Iterable[Entry]) -> tuple[set[str], set[str]]:
    """The payments that were asked for, and those that were executed."""
    asked: set[str] = set()
    executed: set[str] = set()
    for entry in ledger:
        asked.add(entry.payment)
        if entry.what != "refused":
            executed.add(entry.payment)
    return asked, executed


def read_ledger(path: Path) -> Iterator[Entry]:
    with path.open() as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            yield Entry(**json.loads(line))
