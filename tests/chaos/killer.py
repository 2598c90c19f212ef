"""The killer: every few seconds, by a seeded plan, one blow to something that runs."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable

from .world import World

__all__ = ["Killer"]

EVERY = (1.5, 4.0)  # seconds between blows
STOPPED_FOR = 10.0
#: How often each blow falls, compared with the others.
BLOWS = {
    "kill child": 6, "kill worker": 4, "kill receiver": 3, "kill gateway": 3,
    "kill redis": 2, "kill rabbitmq": 1, "cut redis": 2, "cut broker": 2,
    "stop child": 1, "stop worker": 1, "stop receiver": 1, "stop gateway": 1, "stop redis": 0.5, "stop rabbitmq": 0.5,
}  # fmt: skip


class Killer:
    """Strikes from ``start`` until ``stop``; whatever it has stopped goes on again by then.

    Attributes:
        counts: blows that fell, by name.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self._stopped: list[threading.Thread] = []
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for thread in self._stopped:
            thread.join()

    @property
    def kills(self) -> int:
        return sum(count for blow, count in self.counts.items() if blow.startswith("kill "))

    def _run(self) -> None:
        names = [name for name in BLOWS if self._world.rabbitmq or not name.endswith("rabbitmq")]
        weights = [BLOWS[name] for name in names]
        # The first blows are one of each: a short run shows all of them, as far as it gets.
        first = [name for name in names if name.startswith("kill ")]
        self._chance.shuffle(first)
        while not self._stop.wait(self._chance.uniform(*EVERY)):
            blow = first.pop() if first else self._chance.choices(names, weights)[0]
            worker = self._chance.choice(self._world.workers)
            if self._fall(blow, worker):
                self.counts[blow] += 1

    def _fall(self, blow: str, worker: str) -> bool:
        how, _, victim = blow.partition(" ")
        world = self._world
        if how == "cut":
            world.cut(victim)
            return True
        pids = self._pids(victim, worker)
        if not pids:
            return False
        if how == "stop":
            return self._pause(victim, pids)
        if victim not in {"redis", "rabbitmq"}:
            return bool(world.strike(worker if victim == "worker" else victim, pids))
        server = world.redis if victim == "redis" else world.rabbitmq
        assert server
        with world.calm:
            struck = world.strike(victim, pids)
            server.wait_until_up()
        return bool(struck)

    def _pids(self, victim: str, worker: str) -> list[int]:
        world = self._world
        children = world.pids(f"children of {worker}")
        known: dict[str, Callable[[], list[int]]] = {
            "child": lambda: [self._chance.choice(children)] if children else [],
            "worker": lambda: world.pids(worker),
        }
        return known.get(victim, lambda: world.pids(victim))()

    def _pause(self, victim: str, pids: list[int]) -> bool:
        if any(thread.is_alive() for thread in self._stopped):
            return False  # one at a time
        if not self._world.strike(victim, pids, signal.SIGSTOP):
            return False

        def go_on() -> None:
            self._stop.wait(STOPPED_FOR)
            self._world.strike(victim, pids, signal.SIGCONT)

        self._stopped = [threading.Thread(target=go_on, daemon=True)]
        self._stopped[0].start()
        return True
