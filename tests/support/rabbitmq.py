"""A real RabbitMQ for tests: a node of its own on loopback, ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .servers import end_process, free_port

__all__ = ["find_rabbitmq", "rabbitmq_server"]

PATIENCE = 60.0  # seconds; a node starts in about 4
#: Debian's wrapper in /usr/sbin changes the user; this one runs as whoever runs the tests.
SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def find_rabbitmq() -> Path | None:
    return SCRIPT if SCRIPT.exists() and shutil.which("epmd") else None


@contextmanager
def rabbitmq_server() -> Iterator[str]:
    """Yields its URL, amqp://guest:guest@127.0.0.1:PORT//."""
    with tempfile.TemporaryDirectory(prefix="rabbitmq-") as name:
        folder = Path(name)
        port, epmd_port = free_port(), free_port()
        # Erlang's port mapper would be started as a daemon that outlives the node.
        epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(epmd_port)], stdin=subprocess.DEVNULL)
        environment = {
            **os.environ,
            "HOME": name,
            "RABBITMQ_NODENAME": f"test{port}@localhost",
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
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        log = folder / "server.log"
        with log.open("wb") as output:
            script = subprocess.Popen(
                [str(SCRIPT)], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            _wait_until_started(script, log)
            yield f"amqp://guest:guest@127.0.0.1:{port}//"
        finally:
            _end_node(script, folder / "pid")
            end_process(epmd)


def _wait_until_started(script: subprocess.Popen[bytes], log: Path) -> None:
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while "Server startup complete" not in log.read_text(errors="replace"):
        if script.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"RabbitMQ does not start:\n{log.read_text(errors='replace')}")
        pause.wait(0.05)


def _end_node(script: subprocess.Popen[bytes], pid_file: Path) -> None:
    # The script waits for the node, whose pid it has written; its own way to stop takes seconds longer.
    if pid_file.exists() and script.poll() is None:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        try:
            script.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
    end_process(script)
