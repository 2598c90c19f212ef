"""Whoever reaches a failpoint is killed there, or somebody else is: at each one, many times, for late and early acks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from celery_ezthrottle._common.failpoints import FAILPOINTS
from tests.support.lab import wait_until
from tests.support.upstream import Answer

from .case import Verdict
from .planned import Planned
from .rig import BLOWS, STOPPED_FOR, Rig
from .watch import Watch

# Celery's result backend uses what newer redis-py deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

MODES = pytest.mark.parametrize("late", [True, False], ids=["late", "early"])
PATIENCE = 90.0
MANY = 10  # rounds, from which on every row is run
#: How many tasks one blow to a worker, or to a server that all need, may take before they have come to the point.
TAKEN_ALONG = 6

#: Points that only steps come to.
OF_STEPS = ("step.taken", "step.sent")
#: Points of batches: see tests/batches.
OF_BATCHES = ("batch.claimed", "batch.sent")
#: Points that only a service which does what it is told leads to, or only steps.
SPECIAL = ("sweep.claimed", "settle.stored", "cancel.stored", *OF_STEPS, *OF_BATCHES)
#: Where stock Celery fails an early-acknowledged task whose process is killed: before it is suspended, after it was resumed.
ON_ITS_OWN = {
    "suspend.begin", "resume.begin", "resume.started", "resume.left", "resume.recorded", "resume.finished", "step.sent",
}  # fmt: skip
#: Points of a thread that submits. Its process may run another task, which stock Celery fails if it is acknowledged early.
BESIDE_A_RUN = {"submit.begin", "submit.answered", "submit.bound"}


def _strike(
    rig: Rig,
    batch: Sequence[Planned],
    point: str,
    times: int,
    act: Callable[[], None],
    blow: str = "",
    *,
    to_the_end: bool = False,
) -> tuple[Verdict, Watch]:
    """Arm, act, wait until all is over, and judge. The blows have fallen, or nothing is proven."""

    def strike(reached: object) -> bool:
        return BLOWS[blow](rig, reached) if blow else rig.kill_who_reaches(reached)  # type: ignore[arg-type]

    rig.striker.arm(point, times, strike)
    act()
    # Whom all the others wait for is stopped once after the other.
    each = 3.0 + (STOPPED_FOR if blow == "stop it" else 0.0)
    watch = rig.wait_until_over(batch, PATIENCE + each * times, times)
    rig.let_go()
    assert len(rig.striker.struck) == times, f"{point} was struck {len(rig.striker.struck)} times instead of {times}"
    rig.striker.disarm()
    if to_the_end:
        rig.wait_until_nothing_is_due()
    return rig.judge(batch, watch), watch


def _by_the_death_of_a_worker(rig: Rig, late: bool) -> set[str]:
    """What happens to the other tasks that it had: its children die with it, and with Redis a message that was being popped."""
    return (set() if late else {"lost_as_stock"}) | (
        {"lost_by_broker"} if rig.world.config.broker == "redis" else set()
    )


def _expect(rig: Rig, verdict: Verdict, batch: Sequence[Planned], *allowed: str) -> None:
    assert verdict.faults == {}, rig.story(verdict)
    elsewhere = {"failed_visibly", "lost_as_stock", "lost_by_broker", "skipped"} - set(allowed)
    assert {name: getattr(verdict, name) for name in elsewhere} == {name: [] for name in elsewhere}
    to_run = sum(not planned.is_spare for planned in batch)
    assert len(verdict.finished) + sum(len(getattr(verdict, name)) for name in allowed) == to_run
    rig.is_spoilt = False


@MODES
@pytest.mark.parametrize("point", [point for point in FAILPOINTS if point not in SPECIAL])
def test_who_reaches_it_is_killed(rig: Rig, rounds: int, point: str, late: bool) -> None:
    # With the worker, whatever else it runs dies.
    batch = rig.batch(rounds * (TAKEN_ALONG if point == "suspend.left" else 2) + 4, late=late)
    verdict, _ = _strike(rig, batch, point, rounds, lambda: rig.send(batch, "strict", "limited"), to_the_end=True)
    # Most are reached by a worker's main process too: it submits and publishes in the place of who was killed.
    allowed = _by_the_death_of_a_worker(rig, late) if rig.a_worker_died else set()
    if not late and point in ON_ITS_OWN | BESIDE_A_RUN:
        allowed.add("failed_visibly")
    _expect(rig, verdict, batch, *allowed)


#: Where a tree of steps can break: also between two of its steps, which are tasks of their own.
POINTS_OF_TREES = (
    *OF_STEPS, "suspend.stored", "submit.answered", "deliver.stored", "resume.left", "resume.recorded", "gateway.ended",
)  # fmt: skip
IN_TREES = [
    (point, late)
    for point in POINTS_OF_TREES
    for late in (True, False)
    if late or point != "step.taken"  # an early-acknowledged step sends once what follows it
]


@pytest.mark.parametrize(
    ("point", "late"), IN_TREES, ids=[f"{point}-{'late' if late else 'early'}" for point, late in IN_TREES]
)
def test_who_reaches_it_in_a_tree_is_killed(rig: Rig, rounds: int, point: str, late: bool) -> None:
    batch = rig.trees(rounds * 2 + 8, late=late)
    verdict, _ = _strike(rig, batch, point, rounds, lambda: rig.send(batch, "", ""), to_the_end=True)
    allowed = _by_the_death_of_a_worker(rig, late) | {"skipped"} if rig.a_worker_died else set()
    if not late and point in ON_ITS_OWN | BESIDE_A_RUN:
        allowed |= {"failed_visibly", "skipped"}
    _expect(rig, verdict, batch, *allowed)


@MODES
def test_the_sweeper_is_killed_when_it_submits(fake_rig: Rig, rounds: int, late: bool) -> None:
    rig, batch = fake_rig, fake_rig.batch(rounds * TAKEN_ALONG + 4, late=late)
    assert rig.service
    for planned in batch:
        rig.service.refuse(f"/limited/{planned.payments[0]}", Answer(429))  # not now
    verdict, _ = _strike(rig, batch, "sweep.claimed", rounds, lambda: rig.send(batch, "strict", "limited"))
    _expect(rig, verdict, batch, *_by_the_death_of_a_worker(rig, late))


@MODES
@pytest.mark.parametrize("why", ["never taken", "no result"])
def test_the_sweeper_is_killed_when_it_settles(fake_rig: Rig, rounds: int, late: bool, why: str) -> None:
    rig, batch = fake_rig, fake_rig.batch(rounds * TAKEN_ALONG + 4, late=late)
    assert rig.service
    for planned in batch:
        path = f"/limited/{planned.payments[0]}"
        if why == "never taken":
            rig.service.refuse(path, *[Answer(429)] * 50)
        else:
            rig.service.hold(path)
    verdict, _ = _strike(rig, batch, "settle.stored", rounds, lambda: rig.send(batch, "hasty", "limited"))
    # One that dies with its worker before that runs anew, and is not limited any more.
    assert not set(verdict.suspended) & set(verdict.finished)
    _expect(rig, verdict, batch, "failed_visibly", *_by_the_death_of_a_worker(rig, late))


@MODES
@pytest.mark.parametrize("how", ["cancel", "revoke"])
def test_who_cancels_is_killed(fake_rig: Rig, rounds: int, late: bool, how: str) -> None:
    rig, batch = fake_rig, fake_rig.batch(rounds, late=late)
    assert rig.service
    for planned in batch:
        rig.service.hold(f"/limited/{planned.payments[0]}")

    def act() -> None:
        ids = [planned.id for planned in batch]
        watch = Watch(rig.world.client)
        rig.send(batch, "strict", "limited")

        def suspended() -> bool:
            watch.look(ids)
            return set(watch.states(ids)) == {"FORWARDED"} and all(
                rig.service.jobs(f"/limited/{planned.payments[0]}") for planned in batch if rig.service
            )

        wait_until(suspended, "all to be suspended", PATIENCE)
        for number, task in enumerate(ids, start=1):
            # Celery's broadcast is lost on a worker that is down: once it is up again, the next.
            rig.world.wait_until_ready()
            if how == "cancel":
                rig.world.zygote.call("cancel", [task])
            else:
                # And on one that is ready, but has not come to subscribe.
                wait_until(lambda: rig.world.app.control.ping(timeout=1.0), "a worker that hears", PATIENCE)
                rig.world.app.control.revoke(task)
            wait_until(lambda number=number: len(rig.striker.struck) == number, f"{task} to be cancelled")  # type: ignore[misc]

    verdict, watch = _strike(rig, batch, "cancel.stored", rounds, act)
    assert set(watch.states(planned.id for planned in batch)) == {"REVOKED"}
    assert verdict.resumed == 0
    _expect(rig, verdict, batch, "failed_visibly")


@MODES
@pytest.mark.parametrize("point", ["suspend.stored", "submit.begin", "settle.stored"])
def test_a_job_that_is_refused(fake_rig: Rig, rounds: int, point: str, late: bool) -> None:
    """The process dies before it hears of the refusal, and a sweep hears it; or before it can resume the task with its error."""
    rig, batch = fake_rig, fake_rig.batch(rounds + 4, late=late)
    assert rig.service
    for planned in batch:
        rig.service.refuse(f"/limited/{planned.payments[0]}", *[Answer(400)] * 20)
    verdict, _ = _strike(rig, batch, point, rounds, lambda: rig.send(batch, "strict", "limited"))
    # Who dies may run another task meanwhile: one that was not suspended yet runs anew, and is not limited any more.
    assert not set(verdict.suspended) & set(verdict.finished)
    _expect(rig, verdict, batch, "failed_visibly", *(_by_the_death_of_a_worker(rig, late) if rig.a_worker_died else ()))


#: What happens to others when a process reaches a point.
ELSEWHERE = [
    ("suspend.stored", "kill worker"),
    ("submit.begin", "kill gateway"),
    ("suspend.left", "kill rabbitmq"),
    ("submit.answered", "kill worker"),
    ("submit.answered", "kill receiver"),
    ("submit.answered", "kill gateway"),
    ("submit.answered", "kill redis"),
    ("submit.answered", "kill rabbitmq"),
    ("deliver.begin", "kill gateway"),
    ("deliver.begin", "kill redis"),
    ("deliver.stored", "kill worker"),
    ("deliver.stored", "kill gateway"),
    ("deliver.stored", "kill rabbitmq"),
    ("publish.sent", "kill redis"),
    ("publish.sent", "kill rabbitmq"),
    ("publish.noted", "kill gateway"),
    ("resume.started", "kill worker"),
    ("resume.started", "kill rabbitmq"),
    ("resume.left", "kill redis"),
    ("resume.recorded", "kill worker"),
    ("resume.recorded", "kill rabbitmq"),
    ("resume.finished", "kill rabbitmq"),
    ("gateway.taken", "kill receiver"),
    ("gateway.called", "kill receiver"),
    ("gateway.called", "kill redis"),
    ("gateway.delivered", "kill receiver"),
    ("gateway.delivered", "kill redis"),
    ("suspend.stored", "stop it"),
    ("suspend.left", "stop it"),
    ("submit.begin", "stop it"),
    ("deliver.stored", "stop it"),
    ("resume.started", "stop it"),
    ("resume.left", "stop it"),
    ("gateway.called", "stop it"),
    ("suspend.stored", "cut redis"),
    ("submit.begin", "cut redis"),
    ("suspend.left", "cut broker"),
    ("deliver.begin", "cut redis"),
    ("deliver.stored", "cut broker"),
    ("resume.started", "cut redis"),
    ("resume.left", "cut redis"),
]


@MODES
@pytest.mark.parametrize(("point", "blow"), ELSEWHERE, ids=[f"{point}, {blow}" for point, blow in ELSEWHERE])
def test_others_are_struck_meanwhile(rig: Rig, rounds: int, point: str, blow: str, late: bool) -> None:
    if not late and rounds < MANY:
        rig.is_spoilt = False
        pytest.skip(f"What early acknowledgement loses with others is Celery's own: --rounds {MANY} or more shows it.")
    if blow == "kill rabbitmq" and rig.world.rabbitmq is None:
        rig.is_spoilt = False
        pytest.skip("Redis is the broker.")
    batch = rig.batch(rounds * (TAKEN_ALONG if blow.startswith("kill ") else 1) + 4, late=late)
    verdict, _ = _strike(rig, batch, point, rounds, lambda: rig.send(batch, "strict", "limited"), blow)
    allowed: set[str] = set()
    if blow == "kill worker":
        allowed |= _by_the_death_of_a_worker(rig, late)
    if blow in {"kill redis", "cut redis", "cut broker"}:
        # A message that was popped and not taken is gone with the connection: kombu's way with Redis. And with the store or
        # the result backend away a task that is not suspended yet ends with its own error.
        allowed |= {"lost_by_broker", "failed_visibly"}
    _expect(rig, verdict, batch, *sorted(allowed))
