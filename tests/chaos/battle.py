"""One run of the command: send the load while the killer strikes, let it come to rest, and judge."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .case import Evidence, Verdict
from .grants import LimitLeft, wait_until_free
from .history import read_history
from .judges import judge
from .killer import Killer
from .ledger import read_ledger
from .load import plan, send
from .planned import Planned
from .progress import Progress
from .watch import Watch, left_in_broker
from .world import Config, World, running_world

__all__ = ["Battle", "Orders"]

MOST_AT_ONCE = 600  # tasks that are on their way; more would only wait
LOOK_EVERY = 1.0
#: Seconds without a line in the history after which nothing more is to come: longer than the visibility timeout, the lease,
#: and the time until a message is published again.
QUIET = 45.0
#: With limits: that of the calls of the workers for each of these kinds of tasks, and for how long a call of a dead process
#: counts. That is longer than a call takes, and shorter than the time in which so many are killed that nobody may call any more.
LIMIT, LIMITED, LIMIT_LEASE = "40/s;burst=5;concurrency=5", ("plain", "chord"), 5.0
SLOTS = 4  # of each worker then: some are held by slow calls
#: Leases after which nothing may be left of the calls of the dead: that of a call, and that of who is called when it is over.
LEASES = 3


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Of the command line."""

    tasks: int
    minutes: float
    seed: int
    broker: str = "redis"
    stock: bool = False
    fresh_keys: bool = False
    route: str = "service"
    limits: bool = False
    patience: float = 240.0


class Battle:
    def __init__(self, orders: Orders, folder: Path) -> None:
        self._orders, self._folder = orders, folder
        self._units = plan(orders.tasks, orders.seed, late=True if orders.stock else None, trees=not orders.stock)
        self.planned: list[Planned] = [planned for unit in self._units for planned in unit]
        self._sent = threading.Event()
        self._enough = threading.Event()

    def fight(self) -> dict[str, Any]:
        """Gives the line that the command prints."""
        orders, started = self._orders, time.monotonic()
        of_tasks = {"fresh_keys": orders.fresh_keys, "route": orders.route, "limit_lease": LIMIT_LEASE}
        of_limits: dict[str, Any] = (
            {"limits": dict.fromkeys(LIMITED, LIMIT), "concurrency": SLOTS} if orders.limits else {}
        )
        config = Config(broker=orders.broker, seed=orders.seed, settings=of_tasks, **of_limits)
        with running_world(self._folder, config) as world:
            watch, killer = Watch(world.client), Killer(world, orders.seed)
            progress = Progress(self.planned, watch, world.ledger_path)
            begun = time.monotonic()
            sender = threading.Thread(target=self._send, args=(world, progress), daemon=True)
            sender.start()
            killer.start()
            try:
                self._wait_for_the_end_of_killing(progress, begun + 60 * orders.minutes)
            finally:
                killer.stop()
            self._let_rest(world, progress, begun)
            seconds = time.monotonic() - begun
            self._enough.set()
            sender.join(30)
            left = wait_until_free(world.app, LEASES * LIMIT_LEASE)
            world.zygote.end()
            world.redis.wait_until_up()
            watch.look(planned.id for planned in self.planned)
            verdict = self._judge(world, watch, left)
        return self._report(verdict, killer, watch, seconds, started)

    def _send(self, world: World, progress: Progress) -> None:
        family = "stock" if self._orders.stock else "frugal"
        # Over nine tenths of the time, so that blows fall on all of it.
        pause = 0.9 * 60 * self._orders.minutes / len(self._units)
        sent, next_at = 0, time.monotonic()
        for unit in self._units:
            while sent - progress.ended() > MOST_AT_ONCE:
                if self._enough.wait(LOOK_EVERY):
                    return
            with world.calm:
                for planned in send(world.app, unit, family, upstream=world.settings.upstream):
                    world.history.note("sent", task=planned.id)
            sent += sum(not planned.is_spare for planned in unit)
            next_at += pause
            if self._enough.wait(max(0.0, next_at - time.monotonic())):
                return
        self._sent.set()

    def _wait_for_the_end_of_killing(self, progress: Progress, until: float) -> None:
        while time.monotonic() < until:
            progress.look()
            if self._sent.is_set() and not any(progress.open()):
                return
            self._enough.wait(LOOK_EVERY)

    def _let_rest(self, world: World, progress: Progress, begun: float) -> None:
        """Until everything has come to its end, or nothing has happened for long."""
        until = max(time.monotonic(), begun + 60 * self._orders.minutes) + self._orders.patience
        size, quiet_since = -1, time.monotonic()
        while time.monotonic() < until:
            progress.look()
            if world.history.size() != size or not self._sent.is_set():
                size, quiet_since = world.history.size(), time.monotonic()
            # What is suspended waits for its deadline.
            waits = any(
                seen.state == "FORWARDED" and seen.deadline > time.time() - 15 for seen in progress.watch.seen.values()
            )
            if self._sent.is_set() and (
                not any(progress.open()) or (time.monotonic() > quiet_since + QUIET and not waits)
            ):
                return
            self._enough.wait(LOOK_EVERY)

    def _judge(self, world: World, watch: Watch, limits: list[LimitLeft]) -> Verdict:
        return judge(
            Evidence(
                planned=self.planned,
                events=list(read_history(world.history.path)),
                ledger=list(read_ledger(world.ledger_path)),
                seen=watch.seen,
                in_broker=left_in_broker(world.app, world.client),
                now=time.time(),
                changed=watch.changed,
                limits=limits,
            )
        )

    def _report(self, verdict: Verdict, killer: Killer, watch: Watch, seconds: float, started: float) -> dict[str, Any]:
        orders = self._orders
        counted = (
            "finished", "failed_visibly", "lost", "duplicate_resumes", "stuck", "duplicate_executions", "raw_repeats",
        )  # fmt: skip
        steps = {planned.id for planned in self.planned if planned.step is not None}
        also = (
            "skipped", "lost_as_stock", "lost_by_broker", "answered_repeats", "contradictions", "copies",
            "leaked_leases", "left_waiting", "overruns", "killed_holding",
        )  # fmt: skip
        return {
            "tasks": orders.tasks,
            **{name: len(getattr(verdict, name)) for name in counted},
            "kills": killer.kills,
            "seed": orders.seed,
            **{name: len(getattr(verdict, name)) for name in also},
            "state_changes": len(watch.changed),
            "finished_steps": len(steps.intersection(verdict.finished)),
            "forwarded": verdict.forwarded,
            "resumed": verdict.resumed,
            "broker": orders.broker,
            "stock": orders.stock,
            "route": orders.route,
            "limits": orders.limits,
            "keys": "fresh" if orders.fresh_keys else "stable",
            "seconds": round(seconds, 1),
            "seconds_in_all": round(time.monotonic() - started, 1),
            "failures": dict(Counter(seen.error.partition(":")[0] for seen in watch.seen.values() if seen.error)),
            "kills_by_victim": dict(sorted(killer.counts.items())),
            "faults": {name: sorted(found)[:10] for name, found in verdict.faults.items()},
        }
