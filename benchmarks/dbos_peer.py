"""DBOS for comparison: a workflow waits in ``recv`` in its own process, and this process calls ``send``, over one SQLite file.

On SQLite, DBOS polls for messages, every second by default. It is measured with the default interval and with a short one. Only
the process whose turn it is has a waiting workflow, so that nobody polls during the turns of others.
"""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from .latency import Latency

__all__ = ["DEFAULT_INTERVAL", "DbosMissing", "DbosPeer", "dbos_peer", "dbos_version"]

DEFAULT_INTERVAL = 1.0  # seconds; DBOSConfig's notification_listener_polling_interval_sec
PATIENCE = 30  # seconds


class DbosMissing(Exception):
    """DBOS cannot run here. The text gives the reason."""


def dbos_version() -> str:
    """Return the version of DBOS.

    Raises:
        DbosMissing: DBOS is not installed, or cannot be imported.
    """
    try:
        importlib.import_module("dbos")
        return version("dbos")
    except ImportError as exc:
        raise DbosMissing(f"dbos cannot be imported: {exc}. It is in the dependency group bench.") from exc


class DbosPeer:
    """Starts workflows that wait, and wakes them one at a time."""

    def __init__(self, client: Any, talk_to: subprocess.Popen[str], interval: float) -> None:
        self._client, self._process, self._interval = client, talk_to, interval

    def one(self) -> Latency:
        workflow = str(uuid4())
        _write(self._process.stdin, workflow)
        self._expect("waiting")
        # Wait for a random time, up to a little longer than the interval, so that the send is not in step with the polling.
        time.sleep(random.uniform(0.05, 0.05 + self._interval))
        sent = time.monotonic()
        self._client.send(workflow, {"order": 1})
        accepted = time.monotonic()
        began = float(self._expect("began"))
        return Latency(sent=(began - sent) * 1e3, accepted=(began - accepted) * 1e3)

    def _expect(self, word: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said, _, rest = line.strip().partition(" ")
            if said == word:
                return rest
        raise DbosMissing(f"the process with DBOS ended with {self._process.wait(PATIENCE)}")


@contextmanager
def dbos_peer(folder: Path, interval: float) -> Iterator[DbosPeer]:
    """Run a process with DBOS on its own SQLite file. The process ends with the ``with`` block.

    Args:
        folder: where the SQLite file and the log go.
        interval: seconds between two polls.

    Raises:
        DbosMissing: DBOS does not start.
    """
    url = f"sqlite:///{folder / f'dbos-{interval:g}.sqlite'}"
    command = [sys.executable, "-m", "benchmarks.dbos_peer", url, str(interval)]
    with (folder / f"dbos-{interval:g}.log").open("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            peer = DbosPeer(None, process, interval)
            try:
                peer._expect("ready")
            except DbosMissing as exc:
                log.seek(0)
                raise DbosMissing(f"{exc}: {' '.join(log.read().split()[-40:])}") from exc
            # Make the client only now, because it needs the tables that the process creates.
            client = importlib.import_module("dbos").DBOSClient(system_database_url=url)
            try:
                yield DbosPeer(client, process, interval)
            finally:
                client.destroy()
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _write(stream: IO[str] | None, line: str) -> None:
    assert stream is not None
    stream.write(f"{line}\n")
    stream.flush()


def _wait_for_message() -> None:
    """The workflow: wait for a message, then print the time."""
    dbos = importlib.import_module("dbos").DBOS
    _write(sys.stdout, "waiting")
    received = dbos.recv(timeout_seconds=PATIENCE)
    began = time.monotonic()
    assert received == {"order": 1}
    _write(sys.stdout, f"began {began!r}")


def _serve(url: str, interval: float) -> None:
    """Run DBOS. Start a workflow for each line on stdin; the line is the id of the workflow."""
    dbos = importlib.import_module("dbos")
    config: dict[str, Any] = {"name": "bench", "system_database_url": url, "console_log_level": "WARNING"}
    if interval != DEFAULT_INTERVAL:
        config["notification_listener_polling_interval_sec"] = interval
    dbos.DBOS(config=config)
    workflow = dbos.DBOS.workflow()(_wait_for_message)
    dbos.DBOS.launch()
    _write(sys.stdout, "ready")
    for line in sys.stdin:
        with dbos.SetWorkflowID(line.strip()):
            dbos.DBOS.start_workflow(workflow)


if __name__ == "__main__":
    _serve(sys.argv[1], float(sys.argv[2]))
