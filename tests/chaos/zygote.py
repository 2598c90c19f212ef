"""A process that has imported everything, and forks workers, receivers and gateways: ``python -m tests.chaos.zygote``.

A restart costs a fork instead of a second of imports, so that a process can be killed hundreds of times. Its arguments are
a folder for logs and the roles as JSON: by name the command line of ``celery``. Commands come on stdin, one JSON line
each: ``{"start": role}``, ``{"call": [name, argument]}``; what happens is told on stdout: ``{"started": role, "pid": …}``,
``{"ended": role, "pid": …}``. When stdin ends, so does every process that it started, and every orphan of theirs.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["children_of", "main"]

PR_SET_CHILD_SUBREAPER = 36
IMPORTED = (
    "celery.apps.worker", "celery.concurrency.prefork", "kombu.transport.pyamqp", "kombu.transport.redis",
    "httpx2", "uvicorn.lifespan.on", "uvicorn.protocols.http.auto",
    "celery_ezthrottle.gateway.app", "celery_ezthrottle.receiver.asgi",
)  # fmt: skip


def children_of(pid: int) -> list[int]:
    """The pids of the children of a process; none when it is gone. Linux only."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:
        pass
    return found


class Zygote:
    def __init__(self, folder: Path, roles: dict[str, list[str]]) -> None:
        self._folder, self._roles = folder, roles
        self._running: dict[int, str] = {}
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        rest = b""
        while True:
            ready, _, _ = select.select([0, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if 0 in ready:
                read = os.read(0, 65536)
                if not read:
                    return
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def end(self) -> None:
        """End every process there is below this one."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for _ in range(100):  # what is killed may leave orphans, which become ours
            pids = children_of(os.getpid())
            if not pids:
                return
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                os.waitpid(pid, 0)

    def _obey(self, command: dict[str, Any]) -> None:
        if "start" in command:
            role = command["start"]
            self._fork(role, lambda: _celery(self._roles[role]))
        else:
            name, argument = command["call"]
            self._fork(f"call {name}", lambda: _call(name, argument))

    def _fork(self, role: str, run: Callable[[], Any]) -> None:
        pid = os.fork()
        if not pid:
            self._become(role, run)
        self._running[pid] = role
        _tell(started=role, pid=pid)

    def _become(self, role: str, run: Callable[[], Any]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            log = os.open(self._folder / f"{role.split()[0]}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            for source, target in ((nothing, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            os.environ["CHAOS_ROLE"] = role
            run()
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 1
        except BaseException:  # noqa: BLE001 -- told, and the process ends
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            role = self._running.pop(pid, None)
            if role is not None:  # else an orphan
                _tell(ended=role, pid=pid)


def _tell(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _celery(arguments: list[str]) -> None:
    from celery.bin.celery import main as celery

    sys.argv = ["celery", "-A", "tests.chaos.app", *arguments]
    celery()


def _call(name: str, argument: Any) -> None:
    from . import calls

    getattr(calls, name)(argument)


def main() -> None:
    folder, roles = Path(sys.argv[1]), json.loads(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Everything that the roles import, and nothing that connects.
    for name in IMPORTED:
        importlib.import_module(name)
    from .app import app

    app.finalize()
    gc.freeze()
    zygote = Zygote(folder, roles)
    try:
        zygote.serve()
    finally:
        zygote.end()


if __name__ == "__main__":
    main()
