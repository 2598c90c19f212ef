"""``python -m tests.chaos --tasks N --minutes M --seed S [--broker redis|rabbitmq] [--route workers] [--no-limits]
[--stock]``.

Proof by killing. Runs workers, receiver, gateway, Redis and RabbitMQ on loopback, sends N payment tasks, half of them in
chains, a tenth in chords and a tenth steps of trees, some acknowledged late and some early, while a seeded killer strikes for M
minutes (or until all has ended), by SIGKILL, SIGSTOP and cut connections. Webhooks are duplicated and overtaken. Then
everything is left alone until it rests, and judged from a history and a ledger that no Redis keeps; :mod:`.judges` says what
each word of the last line means. Exit code 0 only if lost, duplicate_resumes, stuck, duplicate_executions, answered_repeats,
contradictions, leaked_leases, left_waiting and overruns are 0; otherwise the folder with logs and histories stays, and its name
is on stderr.

On the route "workers" the workers also keep limits together, for the payments of plain tasks and for those of chords, with a
rate and a concurrency; and some answers are slow, so that who is killed holds leases. ``--limits`` has that on the other route
too, ``--no-limits`` on none.

``--stock`` puts the same load, kills and judges on Celery alone: every task acknowledged late, with autoretry and backoff, and
plain tasks in the place of the trees. Its tasks take a new Idempotency-Key for each attempt, as naive code does; ``--keys
stable`` gives them the careful keys that the plugin's tasks have, and ``--keys fresh`` gives the plugin's tasks the naive ones.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .battle import Battle, Orders
from .case import Verdict

FAULTS = Verdict.fault_words


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Proof by killing.")
    parser.add_argument("--tasks", type=int, required=True, help="how many tasks are sent")
    parser.add_argument("--minutes", type=float, required=True, help="how long the killer strikes at most")
    parser.add_argument("--seed", type=int, default=1, help="of the load, the upstream's fates and the blows")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--stock", action="store_true", help="without the plugin")
    parser.add_argument("--keys", choices=["stable", "fresh"], help="Idempotency-Keys; fresh with --stock")
    parser.add_argument("--folder", type=Path, help="where logs and histories stay; otherwise only those of faults do")
    parser.add_argument("--route", choices=["service", "workers"], default="service", help="of all tasks but the steps")
    parser.add_argument(
        "--limits",
        action=argparse.BooleanOptionalAction,
        help="the workers keep limits of the upstream together; by default on the route workers",
    )
    given = parser.parse_args(words)
    if given.limits and given.stock:
        parser.error("--limits: stock Celery keeps no limits.")
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    keys = given.keys or ("fresh" if given.stock else "stable")
    orders = Orders(
        tasks=given.tasks,
        minutes=given.minutes,
        seed=given.seed,
        broker=given.broker,
        stock=given.stock,
        fresh_keys=keys == "fresh",
        route=given.route,
        limits=given.route == "workers" and not given.stock if given.limits is None else given.limits,
    )
    folder: Path = given.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    code = 1  # unless it gets to its end
    try:
        report = Battle(orders, folder).fight()
        code = int(any(report[name] for name in FAULTS))
    finally:
        if code:
            sys.stderr.write(f"Logs and histories are in {folder}\n")
        elif given.folder is None:
            shutil.rmtree(folder)
    sys.stdout.write(json.dumps(report) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
