"""The table: incident × moment × kind of task. A suspended run is never failed, retried or run again; nothing fires twice."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.support.lab import PATIENCE, Lab
from tests.support.project import collect

from .incidents import INCIDENTS, Moment, Scene, Victim, scene_of
from .proxy import proxy_to


@dataclass(frozen=True)
class Seen:
    """Everything that a run has done to the world."""

    state: str
    effects: tuple[str, ...]
    requests_of_worker: int
    requests_of_service: int
    submissions: tuple[int, ...]


#: What needs a run that is still there: during the submit it has ended.
OF_LIVING_RUNS = {"redelivery meanwhile", "soft shutdown"}
ROWS = [
    pytest.param(name, moment, id=f"{name}-{moment.value}")
    for name in INCIDENTS
    for moment in Moment
    if moment is Moment.AFTER or name not in OF_LIVING_RUNS
]


@pytest.mark.parametrize(("name", "moment"), ROWS)
def test_a_suspended_run_stays_suspended(lab: Lab, path: str, name: str, moment: Moment) -> None:
    broker = urlsplit(lab.environment["TEST_BROKER"])
    if name == "redelivery meanwhile" and broker.scheme != "redis":
        pytest.skip("RabbitMQ delivers again only when a connection is lost, which is a row of its own.")
    incident, queue = INCIDENTS[name], path.strip("/")
    assert broker.hostname
    assert broker.port
    with proxy_to(broker.hostname, broker.port) as proxy:
        through_proxy = broker._replace(netloc=broker.netloc.replace(str(broker.port), str(proxy.port))).geturl()
        with scene_of(lab, incident, queue, proxy, through_proxy) as scene:
            scene.begin(moment, path, incident.options)
            incident.strike(scene)
    if incident.revokes:
        _are_revoked(scene)
    else:
        _stay_suspended_and_are_resumed(scene)


def _are_revoked(scene: Scene) -> None:
    """As a task that is revoked before it runs: once, with neither callback nor errback; a webhook changes nothing."""
    lab, victims = scene.lab, scene.victims
    with lab.worker(f"afterwards-{scene.queue}", "-P", "solo", "-Q", scene.queue, "-I", "tests.guard.tasks"):
        for _ in range(2):
            _let_the_queue_run_empty(scene)
            assert {kind: _seen(lab, victim) for kind, victim in victims.items()} == {
                kind: Seen("REVOKED", ("run", "task_revoked"), 1, 0, (1,)) for kind in victims
            }
            for victim in victims.values():
                (job,) = lab.service.jobs(victim.path)
                lab.service.deliver(job, {"job_id": job.id, "status": "failed", "response": None})


def _stay_suspended_and_are_resumed(scene: Scene) -> None:
    lab, victims = scene.lab, scene.victims
    options = ("-P", "solo", "-Q", scene.queue, "-I", "tests.guard.tasks")
    with lab.worker(f"afterwards-{scene.queue}", *options):
        _let_the_queue_run_empty(scene)
        assert {kind: _seen(lab, victim) for kind, victim in victims.items()} == {
            kind: Seen("FORWARDED", ("run",), 1, 0, (1,)) for kind in victims
        }

        for victim in victims.values():
            (job,) = lab.service.jobs(victim.path)
            lab.service.deliver(job)
        for victim in victims.values():
            assert victim.result.get(timeout=PATIENCE) == victim.path
        _let_the_queue_run_empty(scene)
        assert {kind: _seen(lab, victim) for kind, victim in victims.items()} == {
            kind: Seen("SUCCESS", ("run", "run", f"callback {victim.path}"), 1, 1, (1,))
            for kind, victim in victims.items()
        }


def _let_the_queue_run_empty(scene: Scene) -> None:
    # The worker takes one message at a time, in order. Twice: what is in the queue may publish something.
    for _ in range(2):
        collect.apply_async(([],), queue=scene.queue).get(timeout=PATIENCE)


def _seen(lab: Lab, victim: Victim) -> Seen:
    return Seen(
        state=victim.result.state,
        effects=tuple(lab.effects(victim.path)),
        requests_of_worker=lab.upstream.by_worker(victim.path),
        requests_of_service=lab.upstream.by_service(victim.path),
        submissions=tuple(job.submissions for job in lab.service.jobs(victim.path)),
    )
