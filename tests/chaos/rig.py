"""What the failpoint tests work with: a world with one worker, whose processes are struck where they stand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path

from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.gateway.background import pause_after
from celery_ezthrottle.gateway.delivery import LONGEST_PAUSE
from tests.support.fake_service import FakeService
from tests.support.lab import wait_until
from tests.support.upstream import running

from .case import Evidence, Verdict
from .history import Event, read_history
from .judges import judge
from .ledger import Entry, read_ledger
from .load import send, tree
from .planned import Planned
from .progress import Progress
from .striker import Reached, Striker
from .trees import KEYS, SHAPES
from .watch import Watch, left_in_broker
from .world import Config, World, running_world

__all__ = ["BLOWS", "STOPPED_FOR", "Rig", "rigged"]

STOPPED_FOR = 10.0
#: Seconds in which nothing happens before nothing will: longer than five leases, after which a lost message is sent again, and
#: than the half minute that a worker may take to end which could not bear the loss of its connection.
QUIET = 45.0
#: Deadlines that no test comes to, however often it kills: a worker that dies each second sweeps little.
SETTINGS = {
    "lease": 3.0, "sweep_interval": 0.2, "lost_wait": 0.3, "visibility": 13.0, "deadline": 3000.0, "submit_deadline": 2500.0,
}  # fmt: skip

_numbers = count(1)


@dataclass
class Rig:
    """One world, which several tests use one after the other."""

    world: World
    striker: Striker
    service: FakeService | None
    is_spoilt: bool = False
    #: Who was killed since the last test began: "child", or a role.
    victims: list[str] = field(default_factory=list)
    #: What was judged last.
    evidence: Evidence | None = None
    _timers: list[threading.Timer] = field(default_factory=list)

    def batch(self, size: int, *, late: bool) -> list[Planned]:
        """Plain tasks that no other test has."""
        name = f"batch{next(_numbers)}"
        return [Planned(f"{name}-{number}", "plain", late) for number in range(size)]

    def trees(self, size: int, *, late: bool) -> list[Planned]:
        """The steps of so many trees of all shapes, that no other test has."""
        name = f"trees{next(_numbers)}"
        given = zip(range(size), cycle(SHAPES), cycle(KEYS), strict=False)
        return [
            planned for number, shape, key in given for planned in tree(shape, f"{name}-{number}", late=late, key=key)
        ]

    def send(self, batch: Sequence[Planned], family: str, path: str) -> None:
        for planned in batch:
            if planned.needs:
                continue  # the step before it sends it
            with self.world.calm:
                for sent in send(self.world.app, (planned,), family, path, upstream=self.world.settings.upstream):
                    self.world.history.note("sent", task=sent.id)

    def wait_until_over(self, batch: Sequence[Planned], patience: float, times: int) -> Watch:
        """Until each has an outcome, or, some being lost, until nothing happens any more or ``patience`` runs out."""
        longest = QUIET + pause_after(times, LONGEST_PAUSE)  # of a gateway, if each blow cost it an attempt
        watch, pause = Watch(self.world.client), threading.Event()
        progress = Progress(batch, watch, self.world.ledger_path)
        size, quiet = -1, 0
        for _ in range(int(patience * 5)):
            progress.look()
            size, quiet = self.world.history.size(), quiet + 1 if self.world.history.size() == size else 0
            if not any(progress.open()) or quiet > longest * 5:
                break
            pause.wait(0.2)
        return watch

    def wait_until_nothing_is_due(self) -> None:
        """Whatever may still be published has been: a task that has failed must not come again."""
        due = f"{Continuations.of(self.world.app).settings.key_prefix}due"
        wait_until(lambda: not self.world.client.zcard(due), "nothing to be due", QUIET)

    def judge(self, batch: Sequence[Planned], watch: Watch) -> Verdict:
        """What became of these. Everything rests, so what somebody may still do would be too late."""
        world, ids = self.world, {planned.id for planned in batch}
        watch.look(ids)
        payments = {payment for planned in batch for payment in planned.payments}
        events = [event for event in read_history(world.history.path) if not event.task or event.task in ids]
        self.evidence = Evidence(
            planned=batch,
            events=events,
            ledger=[entry for entry in read_ledger(world.ledger_path) if entry.payment in payments],
            seen=watch.seen,
            in_broker=left_in_broker(world.app, world.client) if world.config.broker == "redis" else set(),
            now=float("inf"),
            changed=watch.changed,
        )
        return judge(self.evidence)

    def story(self, verdict: Verdict) -> str:
        """What has happened to whatever is at fault: of a fault that comes once in a thousand runs, nothing else is left."""
        assert self.evidence
        at_fault = {id_ for found in verdict.faults.values() for id_ in found}
        planned = [each for each in self.evidence.planned if at_fault.intersection((each.id, *each.payments))]
        tasks, payments = {each.id for each in planned}, {payment for each in planned for payment in each.payments}
        lines: list[Event | Entry] = [
            *(event for event in self.evidence.events if event.task in tasks or event.what == "struck"),
            *(entry for entry in self.evidence.ledger if entry.payment in payments),
        ]
        return "\n".join(map(str, [verdict.faults, *sorted(lines, key=lambda line: line.at)]))

    # Blows. Each gives whether it fell.

    def kill_who_reaches(self, reached: Reached) -> bool:
        return self._kill(reached.role, reached.pid)

    def kill_worker(self, reached: Reached) -> bool:
        return self._kill_role(self.world.workers[0])

    def kill_receiver(self, reached: Reached) -> bool:
        return self._kill_role("receiver")

    def kill_gateway(self, reached: Reached) -> bool:
        return self._kill_role("gateway")

    def kill_redis(self, reached: Reached) -> bool:
        return self._kill_server("redis")

    def kill_rabbitmq(self, reached: Reached) -> bool:
        return self._kill_server("rabbitmq")

    def stop_who_reaches(self, reached: Reached) -> bool:
        world, pids = self.world, [reached.pid]
        world.strike(reached.role, pids, signal.SIGSTOP)
        timer = threading.Timer(STOPPED_FOR, lambda: world.strike(reached.role, pids, signal.SIGCONT))
        self._timers.append(timer)
        timer.start()
        return True

    def cut_redis(self, reached: Reached) -> bool:
        self.world.cut("redis")
        return True

    def cut_broker(self, reached: Reached) -> bool:
        self.world.cut("broker")
        return True

    def let_go(self) -> None:
        """Wait until nothing is stopped any more."""
        for timer in self._timers:
            timer.join()
        self._timers.clear()

    def _kill(self, role: str, pid: int) -> bool:
        if not _lives(pid):
            return False  # struck already, and on its way out when it said so
        # A child has the role of its worker; only with the worker its siblings die too.
        victim = role if pid == self.world.zygote_pid(role) else "child"
        self.world.strike(victim, [pid])
        self.victims.append(victim)
        wait_until(lambda: not _lives(pid) and self.world.zygote_pid(role) != pid, f"{pid} to be dead")
        return True

    @property
    def a_worker_died(self) -> bool:
        """Its main process, and with it its children."""
        return self.world.workers[0] in self.victims

    def _kill_role(self, role: str) -> bool:
        pids = self.world.pids(role)
        return bool(pids) and self._kill(role, pids[0])

    def _kill_server(self, name: str) -> bool:
        server = self.world.redis if name == "redis" else self.world.rabbitmq
        assert server
        pid = server.pid
        if not pid:
            return False
        with self.world.calm:
            self.world.strike(name, [pid])
            server.wait_until_up()
        return True


Blow = Callable[[Rig, Reached], bool]

BLOWS: dict[str, Blow] = {
    "kill worker": Rig.kill_worker,
    "kill receiver": Rig.kill_receiver,
    "kill gateway": Rig.kill_gateway,
    "kill redis": Rig.kill_redis,
    "kill rabbitmq": Rig.kill_rabbitmq,
    "stop it": Rig.stop_who_reaches,
    "cut redis": Rig.cut_redis,
    "cut broker": Rig.cut_broker,
}


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def rigged(folder: Path, broker: str, *, fake: bool) -> Iterator[Rig]:
    """A rig; with ``fake`` the service is told by the test what to do, and not killed."""
    with ExitStack() as stack:
        striker = stack.enter_context(Striker().serving())
        service = FakeService() if fake else None
        url = stack.enter_context(running(service.respond)) if service else ""
        config = Config(
            broker=broker,
            workers=1,
            concurrency=4,
            per_second=10_000,
            service=url,
            striker=striker.address,
            give_back=True,
            settings=SETTINGS,
        )
        rig = Rig(stack.enter_context(running_world(folder, config)), striker, service)
        stack.callback(rig.let_go)
        stack.callback(striker.disarm)
        yield rig
