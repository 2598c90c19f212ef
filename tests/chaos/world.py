"""Everything that runs: started on loopback, struck by role, ended by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.utils.functional import retry_over_time

from tests.support.fake_service import API_KEY, SECRET
from tests.support.lab import wait_until
from tests.support.servers import free_port

from .history import History, read_history
from .kept import ROOT, KeptServer, Zygote, listens, rabbitmq, redis_server
from .project import Settings, build
from .wires import CUTS, Wires
from .zygote import children_of

__all__ = ["Config", "World", "running_world"]

PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to start.

    Attributes:
        per_second: how many requests the upstream lets through.
        rate: how many requests the gateway sends in a second.
        limits: by kinds of tasks, for the payments that their workers make, as text. With any, some answers of the upstream are
            slow.
        service: URL of another service than the gateway.
        give_back: what a dead worker had not acknowledged is given back to the broker before it is started again: only for
            one worker, and then ``visibility`` may be long.
        settings: of the project, by name.
    """

    broker: str = "redis"
    workers: int = 2
    concurrency: int = 2
    seed: int = 1
    per_second: int = 150
    rate: float = 200.0
    limits: dict[str, str] = field(default_factory=dict)
    service: str = ""
    striker: str = ""
    give_back: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


class World:
    """What runs, and how to strike it.

    Attributes:
        app: of the client, which sends and is never struck.
        client: of the Redis with the results.
        calm: held by who sends, and by who strikes what is sent to: a client's own troubles are not what is looked at.
    """

    def __init__(self, folder: Path, config: Config, stack: ExitStack) -> None:
        self.folder, self.config = folder, config
        self.history = History(folder / "history")
        self.ledger_path = folder / "ledger"
        self.calm = threading.Lock()
        ports = {name: free_port() for name in ("redis", "amqp", "upstream", "gateway", "receiver", "r", "b", "w")}
        self._ports = ports
        self.redis = redis_server(folder, self.history, ports["redis"])
        stack.callback(self.redis.end)
        self.rabbitmq: KeptServer | None = None
        if config.broker == "rabbitmq":
            self.rabbitmq = rabbitmq(folder, self.history, ports["amqp"], stack)
            stack.callback(self.rabbitmq.end)
        settings = Settings(
            broker=self._broker_url(ports["b"]),
            redis=f"redis://127.0.0.1:{ports['r']}/0",
            upstream=f"http://127.0.0.1:{ports['upstream']}",
            history=str(self.history.path),
            striker=config.striker,
            limits=",".join(
                f"127.0.0.1:{ports['upstream']}/pay/{kind}-*={limit}" for kind, limit in config.limits.items()
            ),
            **config.settings,
        )
        self.settings = settings
        own = replace(
            settings, broker=self._broker_url(self._broker_port), redis=f"redis://127.0.0.1:{ports['redis']}/0"
        )
        self.app: Celery = build(own, self.history)
        self.client = redis.Redis.from_url(own.redis)
        stack.callback(self.app.close)
        stack.callback(self.client.close)
        self._start_outside(stack)
        wires = Wires(
            redis=(ports["r"], ports["redis"]),
            broker=(ports["b"], self._broker_port),
            webhooks=(ports["w"], ports["receiver"]),
            history=str(self.history.path),
            seed=config.seed,
        )
        self._wires = _until_stdin_ends(stack, wires.command(), folder / "wires.log")
        for port in (ports["r"], ports["b"], ports["w"], ports["upstream"]):
            wait_until(lambda port=port: listens(port), "the wires and the upstream", PATIENCE)  # type: ignore[misc]
        self.workers = [f"worker{number}" for number in range(config.workers)]
        self.zygote = Zygote(folder, self.history, self._roles(), self._environment(), self._before_restart)
        stack.callback(self.zygote.end)
        for role in self._roles():
            self.zygote.start(role)
        self.wait_until_ready()

    # What it is

    @property
    def _broker_port(self) -> int:
        return self._ports["amqp" if self.config.broker == "rabbitmq" else "redis"]

    def _broker_url(self, port: int) -> str:
        if self.config.broker == "rabbitmq":
            return f"amqp://guest:guest@127.0.0.1:{port}//"
        return f"redis://127.0.0.1:{port}/1"

    def _roles(self) -> dict[str, list[str]]:
        quiet = (
            "--without-mingle",
            "--without-gossip",
            "--pool",
            "prefork",
            "--concurrency",
            str(self.config.concurrency),
        )
        roles = {name: ["worker", "-n", f"{name}@chaos", "-l", "INFO", *quiet] for name in self.workers}
        ports = self._ports
        roles["receiver"] = ["ezthrottle", "webhook", "--bind", f"127.0.0.1:{ports['receiver']}"]
        if not self.config.service:
            roles["gateway"] = [
                *("ezthrottle", "gateway", "--bind", f"127.0.0.1:{ports['gateway']}"),
                *("--rate", f"127.0.0.1:{ports['upstream']}={self.config.rate:g}"),
                *("--database", str(self.folder / "gateway.sqlite3")),
            ]
        return roles

    def _environment(self) -> dict[str, str]:
        service = self.config.service or f"http://127.0.0.1:{self._ports['gateway']}"
        return {
            **os.environ,
            **self.settings.environment(),
            "EZTHROTTLE_API_KEY": API_KEY,
            "EZTHROTTLE_URL": service,
            "EZTHROTTLE_TRACKTAGS_URL": service,
            "EZTHROTTLE_WEBHOOK_URL": f"http://127.0.0.1:{self._ports['w']}/ezthrottle/webhook",
            "EZTHROTTLE_WEBHOOK_SECRET": SECRET,
        }

    def _start_outside(self, stack: ExitStack) -> None:
        config = self.config
        words = (self.ledger_path, self._ports["upstream"], config.seed, config.per_second)
        slow = ["slow"] if config.limits else []
        command = [sys.executable, "-m", "tests.chaos.upstream", *map(str, words), *slow]
        _until_stdin_ends(stack, command, self.folder / "upstream.log")

    # What is done to it

    def wait_until_ready(self) -> None:
        """Every process serves."""
        self.redis.wait_until_up()
        if self.rabbitmq:
            self.rabbitmq.wait_until_up()
        for role in self._roles():
            wait_until(lambda role=role: self._is_ready(role), f"{role} to be ready", PATIENCE)  # type: ignore[misc]

    def _is_ready(self, role: str) -> bool:
        if role in {"receiver", "gateway"}:
            return listens(self._ports[role])
        pid = self.zygote.pid(role)
        return any(
            event.what == "up" and event.pid == pid and event.state == "ready"
            for event in read_history(self.history.path)
        )

    def zygote_pid(self, role: str) -> int:
        """Of a role that a zygote has forked; 0 for any other, and while it is down."""
        return self.zygote.pid(role) if role in self._roles() else 0

    def pids(self, victim: str) -> list[int]:
        """The pids of a role; ``children of`` a worker are those of its pool. Empty while it is down."""
        if victim == "redis":
            found = [self.redis.pid]
        elif victim == "rabbitmq":
            found = [self.rabbitmq.pid if self.rabbitmq else 0]
        elif victim.startswith("children of "):
            return children_of(self.zygote.pid(victim.removeprefix("children of ")) or 0)
        else:
            found = [self.zygote.pid(victim)]
        return [pid for pid in found if pid]

    def strike(self, victim: str, pids: Sequence[int], how: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send a signal to these processes; gives those that got it. It is in the history before it falls."""
        dying = list(pids)
        if how is signal.SIGKILL and victim in self.workers:
            # The kernel kills the children of a worker with it: Celery has asked for that (PR_SET_PDEATHSIG).
            dying += [child for pid in pids for child in children_of(pid)]
        self.history.note("struck", victim=victim, signal=how.name, pids=tuple(dying))
        struck = []
        for pid in pids:
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                continue
            struck.append(pid)
        return struck

    def cut(self, wire: str) -> None:
        """Cut every connection to "redis" as store and result backend, or to the "broker"."""
        self.history.note("struck", victim=f"connections to {wire}", signal="cut")
        self._wires.send_signal(CUTS[wire])

    def _before_restart(self, role: str) -> None:
        if self.config.give_back and role in self.workers and self.config.broker == "redis":
            away = (OperationalError, redis.RedisError, OSError)  # it may have been killed too, and be loading its data
            retry_over_time(self._give_back, away, interval_start=0.1, interval_step=0.0, timeout=PATIENCE)

    def _give_back(self) -> None:
        """The only worker is dead: nothing that is not acknowledged is in anybody's hands."""
        with Connection(self.app.conf.broker_url, transport_options={"visibility_timeout": 0}) as connection:
            channel: Any = connection.default_channel
            channel.client.delete("unacked_mutex")
            channel.qos.restore_visible(num=None, interval=1)


def _until_stdin_ends(stack: ExitStack, command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A process that ends when its stdin does: also when this one is killed."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=output, stderr=output)

    def end() -> None:
        assert process.stdin
        process.stdin.close()
        process.wait(PATIENCE)

    stack.callback(end)
    return process


@contextmanager
def running_world(folder: Path, config: Config) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(folder, config, stack)
