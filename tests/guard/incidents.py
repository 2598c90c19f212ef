"""What may happen to the process of a run: each strikes several runs at once, one of each kind of task."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from celery.result import AsyncResult
from kombu import Connection

from tests.support import project
from tests.support.lab import PATIENCE, Lab, Process, wait_until
from tests.support.project import on_error, on_result

from .proxy import Proxy
from .tasks import TASKS, release

__all__ = ["INCIDENTS", "Incident", "Moment", "Scene", "Victim"]


class Moment(Enum):
    """When the incident finds the process: the run has ended and its job is being submitted, or the other way round."""

    DURING = "during the submit"
    AFTER = "after the submit"


@dataclass
class Victim:
    """A run, and what a test needs to follow it."""

    path: str
    result: AsyncResult[Any]
    answer: threading.Event | None  # lets the service answer the submission

    def let_go(self, lab: Lab) -> None:
        """Let the run go on, if it is still there."""
        if self.answer is not None:
            self.answer.set()
        release(lab.client, self.path)


@dataclass
class Scene:
    """A worker of the incident's own, with a suspended run of each kind in it."""

    lab: Lab
    queue: str
    worker: Process
    proxy: Proxy
    victims: dict[str, Victim] = field(default_factory=dict)

    def begin(self, moment: Moment, path: str, options: dict[str, Any]) -> None:
        """Send each task, and wait until its run is where the incident shall find it."""
        lab = self.lab
        for number, (kind, sender) in enumerate(TASKS.items()):
            of_task = f"{path}-{number}"
            lab.upstream.plan(of_task, 429)
            lab.service.hold(of_task)
            answer = lab.service.answer_late(of_task) if moment is Moment.DURING else None
            if moment is Moment.AFTER:
                lab.client.set(f"hold:{of_task}", 1)
            callback, errback = (task.s(path=of_task).set(queue=self.queue) for task in (on_result, on_error))
            result = sender.apply_async((of_task,), queue=self.queue, link=callback, link_error=errback, **options)
            self.victims[kind] = Victim(of_task, result, answer)
        for victim in self.victims.values():
            wait_until(lambda victim=victim: self._is_reached(victim, moment), f"{victim.path} to be suspended")  # type: ignore[misc]

    def _is_reached(self, victim: Victim, moment: Moment) -> bool:
        if moment is Moment.DURING:
            return bool(self.lab.service.jobs(victim.path))
        return bool(self.lab.effects(f"{victim.path}/held") and self.lab.service.jobs(victim.path))

    def pids(self) -> list[int]:
        return [int(self.lab.effects(f"{victim.path}/pid")[-1]) for victim in self.victims.values()]

    def wait_until_none_is_active(self) -> None:
        name = self.worker.log.stem
        inspect = project.app.control.inspect(destination=[f"{name}@test"], timeout=1)

        def idle() -> bool:
            active = inspect.active()
            return active is not None and active[f"{name}@test"] == []

        wait_until(idle, "the worker to be done with every run")

    def let_go(self) -> None:
        for victim in self.victims.values():
            victim.let_go(self.lab)


@dataclass(frozen=True)
class Incident:
    """One row.

    Attributes:
        strike: does it, and returns when the worker has dealt with it.
        options: of the tasks' messages.
        settings: of the worker.
        revokes: it says that the tasks shall not go on, suspended or not.
    """

    strike: Callable[[Scene], None]
    options: dict[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    revokes: bool = False


def kill_the_children(scene: Scene) -> None:
    for pid in scene.pids():
        os.kill(pid, signal.SIGKILL)
    scene.wait_until_none_is_active()


def let_the_time_limit_pass(scene: Scene) -> None:
    scene.wait_until_none_is_active()


def terminate(scene: Scene) -> None:
    for victim in scene.victims.values():
        project.app.control.terminate(victim.result.id)
    scene.wait_until_none_is_active()


def terminate_by_kill(scene: Scene) -> None:
    ids = [victim.result.id for victim in scene.victims.values()]
    project.app.control.revoke(ids, terminate=True, signal="SIGKILL")
    scene.wait_until_none_is_active()


def shut_down(scene: Scene) -> None:
    scene.worker.popen.send_signal(signal.SIGQUIT)
    scene.worker.popen.wait(PATIENCE)


def shut_down_while_runs_end(scene: Scene) -> None:
    scene.worker.popen.send_signal(signal.SIGQUIT)
    scene.worker.wait_for("Initiating Soft Shutdown")
    scene.let_go()
    scene.worker.popen.wait(PATIENCE)


def kill_the_worker(scene: Scene) -> None:
    for pid in (scene.worker.popen.pid, *scene.pids()):
        os.kill(pid, signal.SIGKILL)
    scene.worker.popen.wait()
    deliver_again(scene)


def lose_the_broker(scene: Scene) -> None:
    scene.proxy.cut()
    scene.worker.wait_for("onnection to broker lost")
    wait_until(lambda: scene.worker.output.count("Connected to") > 1, "the worker to be connected again")
    scene.let_go()
    scene.wait_until_none_is_active()


def deliver_again_meanwhile(scene: Scene) -> None:
    """What Redis does when the visibility timeout has passed; RabbitMQ does it only when a connection is lost."""
    deliver_again(scene)
    late = sum("late" in kind for kind in scene.victims)
    wait_until(
        lambda: scene.worker.output.count("received") >= len(scene.victims) + late, "the late ones to come again", 5
    )
    scene.let_go()
    scene.wait_until_none_is_active()


def deliver_again(scene: Scene) -> None:
    url = scene.lab.environment["TEST_BROKER"]
    if url.startswith("redis"):
        with Connection(url, transport_options={"visibility_timeout": 0}) as connection:
            channel: Any = connection.default_channel
            channel.qos.restore_visible(num=100)


CANCEL = (".cancel_long_running_tasks_on_connection_loss=true",)

INCIDENTS = {
    "SIGKILL of the child": Incident(kill_the_children),
    "soft time limit": Incident(let_the_time_limit_pass, {"soft_time_limit": 3}),
    "hard time limit": Incident(let_the_time_limit_pass, {"time_limit": 3}),
    "terminate": Incident(terminate, revokes=True),
    "revoke with SIGKILL": Incident(terminate_by_kill, revokes=True),
    "cold shutdown": Incident(shut_down),
    "soft shutdown that runs out": Incident(shut_down, settings=(".soft_shutdown_timeout=0.5",)),
    "soft shutdown": Incident(shut_down_while_runs_end, settings=(".soft_shutdown_timeout=3",)),
    "SIGKILL of the worker": Incident(kill_the_worker),
    "connection loss": Incident(lose_the_broker, settings=CANCEL),
    "redelivery meanwhile": Incident(deliver_again_meanwhile),
}


@contextmanager
def scene_of(lab: Lab, incident: Incident, queue: str, proxy: Proxy, broker: str) -> Iterator[Scene]:
    settings = ("--", *incident.settings) if incident.settings else ()
    options = ("-P", "prefork", "-c", "12", "-Q", queue, "-I", "tests.guard.tasks", *settings)
    with lab.worker(f"struck-{queue}", *options, TEST_BROKER=broker) as worker:
        scene = Scene(lab, queue, worker, proxy)
        try:
            yield scene
        finally:
            scene.let_go()
